package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
)

// print prints the results as a table. It then writes the report as JSON to a file. If no file is given, it prints the
// JSON.
func (r *report) print(jsonPath string) error {
	r.printTable()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if jsonPath == "" {
		fmt.Println(string(text))
		return nil
	}
	if err := os.WriteFile(jsonPath, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func (r *report) printTable() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer func() { _ = w.Flush() }()
	fmt.Fprintf(w, "RabbitMQ %s, Redis %s; medians of %d rounds\n\n", r.Broker, r.Store, len(r.Ceiling))
	ceiling := medianOf(r.Ceiling, func(c ceilingResult) float64 { return c.PerSecond })
	saturated := medianOf(r.Saturated, func(p pipelineResult) float64 { return p.ProcessedPerSecond })
	drain := medianOf(r.Drain, func(d drainResult) float64 { return d.EventsPerSecond })
	micros := medianOf(r.Drain, func(d drainResult) float64 { return d.ProcessorMicros })
	fmt.Fprintf(w, "\tevents/s\tratio to ceiling\t\n")
	fmt.Fprintf(w, "bare broker (ceiling)\t%.0f\t1.00\t\n", ceiling)
	fmt.Fprintf(w, "pipeline, saturated\t%.0f\t%.2f\t\n", saturated, median(r.Ratio))
	fmt.Fprintf(w, "drain of %d + %d\t%.0f\t%.2f\t(%.1f × the original's 1,949/s; %.0f µs of processor CPU an event)\n\n",
		drainEach, drainEach, drain, median(r.DrainRatio), drain/originalDrain, micros)
	fmt.Fprintf(w, "offered/s\tprocessed/s\tProcessMessage p50\tp99\tend to end p50\tp99\t\n")
	for _, o := range r.Offered {
		printLatency(w, strconv.FormatInt(o.OfferedPerSecond, 10), o)
	}
	if n := len(r.Saturated); n > 0 {
		printLatency(w, "saturated", r.Saturated[n-1])
	}
	fmt.Fprintln(w)
	r.printCPU(w)
	fmt.Fprintln(w)
}

// originalDrain is the best result of the original system in the measurement that measureDrain makes, in events per
// second. The original system did not store summaries: it only appended them to a list.
const originalDrain = 1949

func printLatency(w *tabwriter.Writer, label string, p pipelineResult) {
	fmt.Fprintf(w, "%s\t%.0f\t%.3f ms\t%.3f ms\t%.2f ms\t%.2f ms\t\n", label, p.ProcessedPerSecond,
		p.Processing.P50*1e3, p.Processing.P99*1e3, p.EndToEnd.P50*1e3, p.EndToEnd.P99*1e3)
}

func (r *report) printCPU(w *tabwriter.Writer) {
	results := slices.Concat(r.Offered, r.Saturated[max(0, len(r.Saturated)-1):])
	if len(results) == 0 {
		return
	}
	if n := len(r.Ceiling); n > 0 {
		micros := r.Ceiling[n-1].CPUMicros
		fmt.Fprintf(w, "bare broker: %.0f µs of CPU per message in RabbitMQ, %.0f in its clients\t\n", micros["beam.smp"], micros["clients"])
	}
	fmt.Fprint(w, "CPU µs per event\t")
	for _, p := range results {
		if p.OfferedPerSecond == 0 {
			fmt.Fprint(w, "saturated\t")
			continue
		}
		fmt.Fprintf(w, "%d/s\t", p.OfferedPerSecond)
	}
	fmt.Fprintln(w)
	for _, name := range slices.Sorted(maps.Keys(results[0].CPUMicrosPerEvent)) {
		fmt.Fprintf(w, "%s\t", name)
		for _, p := range results {
			fmt.Fprintf(w, "%.0f\t", p.CPUMicrosPerEvent[name])
		}
		fmt.Fprintln(w)
	}
}

// medianOf returns the median of the values that a function reads from the results.
func medianOf[T any](results []T, value func(T) float64) float64 {
	values := make([]float64, len(results))
	for i, r := range results {
		values[i] = value(r)
	}
	return median(values)
}

// median returns the median, or 0 if there are no values.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
