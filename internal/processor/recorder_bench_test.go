//go:build unix

package processor

import (
	"context"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/pingtest"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/store/memory"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// BenchmarkRecorder_CPUTimePerEvent measures the CPU cost of recording a timeline in memory. All results are medians.
func BenchmarkRecorder_CPUTimePerEvent(b *testing.B) {
	const events = 500_000
	p, process := startPipeline(b)
	plain := func() { process(events) }
	recorded := func() {
		ctx, stop := context.WithCancel(b.Context())
		recorder := timeline.NewRecorder("processor", p.Totals, memory.New(memory.Config{Partitions: 1}), discard())
		done := make(chan error, 1)
		go func() { done <- recorder.Run(ctx, b.Context()) }()
		process(events)
		stop()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	plain() // warm up
	var ratios, noise, costs []float64
	for b.Loop() {
		before, with, after := cpuTimeOf(b, plain), cpuTimeOf(b, recorded), cpuTimeOf(b, plain)
		// The mean of the runs before and after cancels a steady change of the machine's speed.
		ratios = append(ratios, 2*float64(with)/float64(before+after))
		noise = append(noise, float64(after)/float64(before)) // compares two runs without a recorder
		costs = append(costs, float64(before.Nanoseconds())/events)
	}
	b.ReportMetric(report.Median(ratios), "with/without")
	b.ReportMetric(report.Median(noise), "again/without")
	b.ReportMetric(report.Median(costs), "cpu-ns/event")
}

// cpuTimeOf returns the CPU time that this process uses while the function work runs.
func cpuTimeOf(b *testing.B, work func()) time.Duration {
	b.Helper()
	begin := pingtest.CPUTime(b)
	work()
	return pingtest.CPUTime(b) - begin
}
