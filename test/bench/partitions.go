package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"text/tabwriter"
	"time"

	reports "github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/sizing"
)

// clusterNodes is the number of RabbitMQ nodes in the measurement of partitions.
const clusterNodes = 3

// The throughput must depend on the number of partitions, but not on the number of cores. So keep the CPU usage low:
// relays delay the data between processors and servers, and processors process few messages at the same time.
const (
	// distance is the one-way network latency between a processor and a server.
	distance = 50 * time.Millisecond
	// queueConcurrency is the number of messages of one queue that all processors together process at the same time.
	queueConcurrency = 8
	// waitingPerPartition is the number of unprocessed events per partition. It exceeds the processors' prefetch, so
	// that the queues do not run empty.
	waitingPerPartition = 40 * queueConcurrency
)

// partitionCounts returns numbers of partitions that divide queueConcurrency, because the processors share it evenly.
func partitionCounts() []int { return []int{1, 2, 4, 8} }

// measurePartitions measures the throughput with several numbers of partitions, and writes the medians of all rounds to
// a file.
func measurePartitions(ctx context.Context, env environment, r *report, o options) (err error) {
	relays, err := moveAway(ctx, &env)
	defer func() { err = errors.Join(err, relays.close()) }()
	if err != nil {
		return err
	}
	result := sizing.Scaling{
		MeasuredAt: r.Time.Truncate(time.Second), Cores: r.CPUs, Nodes: clusterNodes,
		DelaySeconds: distance.Seconds(), Concurrency: queueConcurrency, Rounds: o.rounds,
	}
	if result.Method, err = describeMethod(r, o); err != nil {
		return err
	}
	measured := map[int][]pipelineResult{}
	for round := range o.rounds {
		for _, n := range partitionCounts() {
			progress("round %d of %d: partitions: %d, for %s", round+1, o.rounds, n, o.warmUp+o.length)
			one, err := measurePartitioned(ctx, env, n, o)
			if err != nil {
				return err
			}
			measured[n] = append(measured[n], one)
		}
	}
	for _, n := range partitionCounts() {
		result.Rows = append(result.Rows, partitioned(n, measured[n]))
	}
	printScaling(&result)
	return writeJSON(o.partitionsPath, result)
}

// measurePartitioned measures the highest throughput with n partitions and n processors.
func measurePartitioned(ctx context.Context, env environment, n int, o options) (pipelineResult, error) {
	env.partitions, env.concurrency = n, queueConcurrency/n
	waiting := int64(n) * waitingPerPartition
	p, err := startPipeline(ctx, env, fmt.Sprintf("partitions-%d", n), waiting/4)
	if err != nil {
		return pipelineResult{}, err
	}
	r, err := p.measure(ctx, o.warmUp, o.length, p.saturate(waiting))
	return r, errors.Join(err, p.stop(ctx))
}

// partitioned returns the medians of the results of all rounds with n partitions.
func partitioned(n int, results []pipelineResult) sizing.Partitioned {
	const micro = 1e-6
	return sizing.Partitioned{
		Partitions: n, Processors: n,
		EventsPerSecond: reports.Median(valuesOf(results, func(r pipelineResult) float64 { return r.ProcessedPerSecond })),
		UsedCores: reports.Median(valuesOf(results, func(r pipelineResult) float64 {
			return sumOf(maps.Values(r.PerEvent))[cpuMicros] * micro * r.ProcessedPerSecond
		})),
	}
}

func printScaling(s *sizing.Scaling) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer func() { _ = w.Flush() }()
	fmt.Fprintln(w, "partitions\tprocessors\tevents/s\trelative to 1 partition\tcores used\t")
	for _, row := range s.Rows {
		fmt.Fprintf(w, "%d\t%d\t%.0f\t%.2f\t%.2f\t\n", row.Partitions, row.Processors, row.EventsPerSecond,
			row.EventsPerSecond/s.Rows[0].EventsPerSecond, row.UsedCores)
	}
}
