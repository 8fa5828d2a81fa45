//go:build unix

package processor

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/store/memory"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// BenchmarkRecorder compares the pipeline with and without a recorder that stores the timeline in memory. An
// iteration processes many events both ways. The ratio is the median of those of their CPU times, because
// other processes disturb some iterations.
func BenchmarkRecorder(b *testing.B) {
	const events = 300_000
	p, process := startPipeline(b)
	process(events) // warm up
	var plain time.Duration
	var ratios []float64
	for b.Loop() {
		begin := cpuTime(b)
		process(events)
		without := cpuTime(b) - begin
		plain += without

		begin = cpuTime(b)
		ctx, stop := context.WithCancel(b.Context())
		recorder := timeline.NewRecorder("processor", p.Totals, memory.New(1), discard())
		done := make(chan error, 1)
		go func() { done <- recorder.Run(ctx, b.Context()) }()
		process(events)
		stop()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		ratios = append(ratios, float64(cpuTime(b)-begin)/float64(without))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "with/without")
	b.ReportMetric(float64(plain.Nanoseconds())/float64(events)/float64(b.N), "cpu-ns/event")
}

// cpuTime returns the CPU time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
