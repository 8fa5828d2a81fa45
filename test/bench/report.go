package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	reports "github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/test/aim"
)

// report contains the results of all rounds.
type report struct {
	Time   time.Time `json:"time"`
	CPUs   int       `json:"cpus"`
	Broker string    `json:"broker"`
	Store  string    `json:"store"`
	// Aims contains the performance targets of the project, and the values measured for them.
	Aims []aim.Aim `json:"aims"`

	Ceiling   []ceilingResult  `json:"ceiling"`
	Saturated []pipelineResult `json:"saturated"`
	Drain     []drainResult    `json:"drain"`
	Crash     []crashResult    `json:"crash"`
	// Memory contains, for each round, the events per second of a simulation whose broker and store are in memory.
	Memory []float64 `json:"memoryEventsPerSecond"`
	// Disk contains, for each round of measurements, the time that a write with fsync takes.
	Disk []quantiles `json:"diskSyncSeconds"`
	// Bare contains the results of RabbitMQ alone, and Offered those of the whole pipeline, at the same fixed rates.
	Bare    []ceilingResult  `json:"bare"`
	Offered []pipelineResult `json:"offered"`
}

// aimRate is the offered rate, in events per second, for which the project has performance targets.
const aimRate = 500

// computeAims compares the results with the performance targets. It skips a target if its measurements were not taken.
func (r *report) computeAims() {
	at := func(results []pipelineResult) []pipelineResult {
		return slices.DeleteFunc(slices.Clone(results), func(p pipelineResult) bool { return p.OfferedPerSecond != aimRate })
	}
	bare := slices.DeleteFunc(slices.Clone(r.Bare), func(c ceilingResult) bool { return c.OfferedPerSecond != aimRate })
	offered := at(r.Offered)
	own := valuesOf(offered, pipelineResult.ownMicros)
	r.Aims = aim.Taken(
		aim.AtLeast(.75, "saturated pipeline / bare broker, events/s",
			ratios(valuesOf(r.Saturated, processed), valuesOf(r.Ceiling, perSecond))...),
		aim.AtMost(.32, "own CPU per event when saturated, relative to the CPU per message of the bare broker and clients",
			ratios(valuesOf(r.Saturated, pipelineResult.ownMicros), valuesOf(r.Ceiling, ceilingResult.total))...),
		aim.AtMost(350, "own CPU per event at 500/s, µs", own...),
		aim.AtMost(1.5, "own CPU per event at 500/s, relative to the CPU per message of the bare clients",
			ratios(own, valuesOf(bare, func(c ceilingResult) float64 { return c.PerMessage[clientsName][cpuMicros] }))...),
		aim.AtMost(1.5, "ProcessMessage p99 at 500/s, relative to the fsync p99 of the disk",
			ratios(valuesOf(offered, processingP99), valuesOf(r.Disk, func(q quantiles) float64 { return q.P99 }))...),
		aim.AtLeast(300_000, "simulation in memory, events/s", r.Memory...),
	)
}

func processed(p pipelineResult) float64     { return p.ProcessedPerSecond }
func processingP99(p pipelineResult) float64 { return p.Processing.P99 }
func perSecond(c ceilingResult) float64      { return c.PerSecond }

// publish prints the results as tables, and writes them to the files of the flags -json and -benchfmt.
func (r *report) publish(out io.Writer, o options) error {
	r.computeAims()
	if err := r.printTables(out); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(o.jsonPath), 0o750); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(o.jsonPath, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	fmt.Fprintln(out, "All results:", o.jsonPath)
	if o.benchPath == "" {
		return nil
	}
	file, err := os.OpenFile(o.benchPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("write the results for benchstat: %w", err)
	}
	r.printBenchmarks(file)
	return file.Close()
}

// printBenchmarks prints the results as if they came from Go benchmarks.
func (r *report) printBenchmarks(out io.Writer) {
	fmt.Fprint(out, "Unit events/s better=higher\n")
	for _, c := range r.Ceiling {
		fmt.Fprintf(out, "BenchmarkBareBroker 1 %f events/s %e cpu-sec/event\n", c.PerSecond, c.total()/1e6)
	}
	for _, p := range r.Saturated {
		fmt.Fprintf(out, "BenchmarkSaturated 1 %f events/s%s\n", p.ProcessedPerSecond, benchUnits(p.own(), p.PerEvent[redisName]))
	}
	for _, d := range r.Drain {
		fmt.Fprintf(out, "BenchmarkDrain 1 %f events/s%s\n", d.EventsPerSecond, benchUnits(d.PerEvent, d.PerEvent))
	}
	for _, m := range r.Memory {
		fmt.Fprintf(out, "BenchmarkMemory 1 %f events/s\n", m)
	}
	for _, p := range r.Offered {
		fmt.Fprintf(out, "BenchmarkOffered/rate=%d 1 %e p99-sec%s\n", p.OfferedPerSecond, p.Processing.P99, benchUnits(p.own(), p.PerEvent[redisName]))
	}
}

// benchUnits formats two results for Go benchmarks: the resources that the project's own processes use per event, and
// the number of Redis commands per event.
func benchUnits(own, redis effort) string {
	var text strings.Builder
	fmt.Fprintf(&text, " %e own-cpu-sec/event", own[cpuMicros]/1e6)
	for _, value := range []struct {
		of   effort
		m    measure
		unit string
	}{{own, switches, "own-switches"}, {own, ioCalls, "own-io-calls"}, {redis, commands, "redis-commands"}} {
		if n, ok := value.of[value.m]; ok {
			fmt.Fprintf(&text, " %f %s/event", n, value.unit)
		}
	}
	return text.String()
}

func (r *report) printTables(out io.Writer) error {
	fmt.Fprintf(out, "\nRabbitMQ %s, Redis %s, %d CPUs, %s; medians of all rounds\n\n", r.Broker, r.Store, r.CPUs, r.Time.Format(time.DateOnly))
	for _, table := range []func(io.Writer){r.printAims, r.printRates, r.printCrashes, r.printLatencies, r.printCPU, r.printCounts, r.printProcessors} {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		table(w)
		if err := w.Flush(); err != nil {
			return fmt.Errorf("print the results: %w", err)
		}
	}
	return nil
}

func (r *report) printAims(w io.Writer) { aim.Print(w, r.Aims) }

// originalDrain is the best result of measureDrain, in events per second, for the system that this project replaces.
// That system only appended summaries to a list.
const originalDrain = 1949

func (r *report) printRates(w io.Writer) {
	fmt.Fprint(w, "highest rate\tevents/s\tdivided by bare broker\n")
	ceilings := valuesOf(r.Ceiling, perSecond)
	line := func(name string, rates []float64, remark string) {
		if len(rates) > 0 {
			fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%s\n", name, reports.Median(rates), reports.Median(ratios(rates, ceilings)), remark)
		}
	}
	line("bare broker", ceilings, "")
	line("pipeline, saturated", valuesOf(r.Saturated, processed), "")
	drains := valuesOf(r.Drain, func(d drainResult) float64 { return d.EventsPerSecond })
	line("drain", drains, fmt.Sprintf("(%.1f × the %d/s of the original system)", reports.Median(drains)/originalDrain, originalDrain))
	fmt.Fprintln(w)
}

func (r *report) printCrashes(w io.Writer) {
	if len(r.Crash) == 0 {
		return
	}
	fmt.Fprint(w, "one kill -9 while events arrive\tevents/s\tdivided by bare broker\tlost\tposted again\t\n")
	ceilings := valuesOf(r.Ceiling, perSecond)
	for _, processor := range processors() {
		results := r.crashesOf(processor)
		rates := valuesOf(results, func(c crashResult) float64 { return c.EventsPerSecond })
		var lost, again, exits int64
		for _, c := range results {
			lost, again, exits = lost+c.Lost, again+c.PostedAgain, exits+int64(c.Exits)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%d of %d\t%d\t\n", processor, reports.Median(rates), reports.Median(ratios(rates, ceilings)), lost, exits, again)
	}
	fmt.Fprintln(w)
}

func (r *report) printLatencies(w io.Writer) {
	if len(r.byRate()) == 0 && len(r.Disk) == 0 {
		return
	}
	fmt.Fprint(w, "offered/s\tprocessed/s\tProcessMessage p50\tp99\tend to end p50\tp99\t\n")
	for _, results := range r.byRate() {
		of := func(value func(pipelineResult) float64) float64 { return reports.Median(valuesOf(results, value)) }
		fmt.Fprintf(w, "%s\t%.0f\t%.3f ms\t%.3f ms\t%.2f ms\t%.2f ms\t\n", rateLabel(results[0]), of(processed),
			of(func(p pipelineResult) float64 { return p.Processing.P50 * 1e3 }), of(processingP99)*1e3,
			of(func(p pipelineResult) float64 { return p.EndToEnd.P50 * 1e3 }), of(func(p pipelineResult) float64 { return p.EndToEnd.P99 * 1e3 }))
	}
	if len(r.Disk) > 0 {
		fmt.Fprintf(w, "fsync of the disk\t\t%.3f ms\t%.3f ms\t\t\t\n", reports.Median(valuesOf(r.Disk, func(q quantiles) float64 { return q.P50 * 1e3 })),
			reports.Median(valuesOf(r.Disk, func(q quantiles) float64 { return q.P99 * 1e3 })))
	}
	fmt.Fprintln(w)
}

// byRate groups the results of the pipeline by the offered rate. The results of the saturated pipeline, whose rate is
// not limited, come last.
func (r *report) byRate() (groups [][]pipelineResult) {
	byRate := map[int64][]pipelineResult{}
	for _, p := range r.Offered {
		byRate[p.OfferedPerSecond] = append(byRate[p.OfferedPerSecond], p)
	}
	for _, rate := range slices.Sorted(maps.Keys(byRate)) {
		groups = append(groups, byRate[rate])
	}
	if len(r.Saturated) > 0 {
		groups = append(groups, r.Saturated)
	}
	return groups
}

func rateLabel(p pipelineResult) string {
	if p.OfferedPerSecond == 0 {
		return "saturated"
	}
	return strconv.FormatInt(p.OfferedPerSecond, 10)
}

func (r *report) crashesOf(processor string) []crashResult {
	return slices.DeleteFunc(slices.Clone(r.Crash), func(c crashResult) bool { return c.Processor != processor })
}

// printCPU prints the CPU time per event at each rate, for the bare broker and for each process of the pipeline.
func (r *report) printCPU(w io.Writer) {
	if len(r.byRate()) == 0 {
		return
	}
	r.printProcesses(w, "CPU µs per event", func(efforts []effort) string { return medianOf(efforts, cpuMicros, 0) })
	fmt.Fprintln(w)
}

// printCounts prints numbers of operations per event, such as I/O calls. Unlike CPU times, they hardly depend on the
// speed of the machine.
func (r *report) printCounts(w io.Writer) {
	if len(r.byRate()) == 0 {
		return
	}
	r.printProcesses(w, "context switches / I/O calls per event", func(efforts []effort) string {
		return medianOf(efforts, switches, 2) + " / " + medianOf(efforts, ioCalls, 2)
	})
	r.printRow(w, "Redis commands per event", func(results []pipelineResult) string {
		return medianOf(valuesOf(results, func(p pipelineResult) effort { return p.PerEvent[redisName] }), commands, 2)
	})
	fmt.Fprintln(w)
}

// printProcesses prints a row for each process, with a column for each rate.
func (r *report) printProcesses(w io.Writer, title string, cell func([]effort) string) {
	r.printRow(w, title, func(results []pipelineResult) string { return rateLabel(results[0]) })
	names := map[string]bool{}
	for _, results := range r.byRate() {
		for name := range results[0].PerEvent {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r.printRow(w, name, func(results []pipelineResult) string {
			return cell(valuesOf(results, func(p pipelineResult) effort { return p.PerEvent[name] }))
		})
	}
	r.printRow(w, "all except servers", func(results []pipelineResult) string { return cell(valuesOf(results, pipelineResult.own)) })
	for _, name := range []string{clientsName, brokerName} {
		r.printRow(w, "bare broker: "+name, func(results []pipelineResult) string {
			rate := results[0].OfferedPerSecond
			same := slices.DeleteFunc(slices.Concat(r.Ceiling, r.Bare), func(c ceilingResult) bool { return c.OfferedPerSecond != rate })
			return cell(valuesOf(same, func(c ceilingResult) effort { return c.PerMessage[name] }))
		})
	}
}

// printRow prints a row of a table: the name, then one cell for each rate.
func (r *report) printRow(w io.Writer, name string, cell func([]pipelineResult) string) {
	fmt.Fprintf(w, "%s\t", name)
	for _, results := range r.byRate() {
		fmt.Fprintf(w, "%s\t", cell(results))
	}
	fmt.Fprintln(w)
}

// printProcessors prints what each event costs while a processor drains a backlog: the CPU time, context switches and
// I/O calls of the processor, and the commands of Redis.
func (r *report) printProcessors(w io.Writer) {
	if len(r.Drain)+len(r.Crash) == 0 {
		return
	}
	fmt.Fprint(w, "processor, per event\tCPU µs\tswitches\tcalls\tRedis commands\t\n")
	row := func(name string, efforts []effort) {
		if len(efforts) > 0 {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", name, medianOf(efforts, cpuMicros, 0), medianOf(efforts, switches, 2),
				medianOf(efforts, ioCalls, 2), medianOf(efforts, commands, 2))
		}
	}
	row("drain", valuesOf(r.Drain, func(d drainResult) effort { return d.PerEvent }))
	for _, processor := range processors() {
		row(processor+", killed once", valuesOf(r.crashesOf(processor), func(c crashResult) effort { return c.PerEvent }))
	}
	fmt.Fprintln(w)
}

// medianOf returns the median of a measure, such as the CPU time, as text with the given number of decimals. It returns
// "–" if the measure is unknown.
func medianOf(efforts []effort, m measure, decimals int) string {
	var values []float64
	for _, e := range efforts {
		if n, ok := e[m]; ok {
			values = append(values, n)
		}
	}
	if len(values) == 0 {
		return "–"
	}
	return strconv.FormatFloat(reports.Median(values), 'f', decimals, 64)
}

// valuesOf maps each result to the value that the given function returns for it.
func valuesOf[T, V any](results []T, value func(T) V) []V {
	values := make([]V, len(results))
	for i, r := range results {
		values[i] = value(r)
	}
	return values
}

// ratios divides the dividend by the divisor of each round. It skips divisors of 0, such as a CPU time that is too
// short to measure.
func ratios(dividends, divisors []float64) (values []float64) {
	for i := range min(len(dividends), len(divisors)) {
		if divisors[i] > 0 {
			values = append(values, dividends[i]/divisors[i])
		}
	}
	return values
}
