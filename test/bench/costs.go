package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/histogram"
	reports "github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/sizing"
	"github.com/parking-operator/parking-operator/test/stack"
)

// Each number is a share of the highest rate, such as .25 for a quarter.
var (
	// costShares determines the rates at which the costs are measured.
	costShares = []float64{.05, .25, .5, .75}
	// checkedShares determines the rates at which predictions are compared with measurements. These rates lie between
	// the rates at which the costs are measured.
	checkedShares = []float64{.15, .4, .65}
)

// measureCosts measures the resource usage of the components, and writes the file of costs. If o.checkPath is set,
// it also compares the predictions of package sizing with measurements.
func measureCosts(ctx context.Context, env environment, r *report, o options) error {
	costs := &sizing.Costs{MeasuredAt: time.Now().UTC().Truncate(time.Second)}
	var err error
	if costs.Machine, err = describeMachine(); err != nil {
		return err
	}
	if costs.Method, err = describeMethod(r, o); err != nil {
		return err
	}
	progress("the highest rate, for %s", 2*o.warmUp+o.length)
	highest, growth, err := measureHighest(ctx, env, o)
	if err != nil {
		return err
	}
	idle, err := measureIdle(ctx, env, o)
	if err != nil {
		return err
	}
	costRates := ratesOf(costShares, highest.Rate())
	if costRates[0] <= 0 {
		return fmt.Errorf("the highest rate, %.0f events/s, is too low to measure %.0f %% of it", highest.Rate(), costShares[0]*100)
	}
	var checkedRates []int64
	if o.checkPath != "" {
		checkedRates = ratesOf(checkedShares, highest.Rate())
	}
	measured, err := measureRates(ctx, env, o, slices.Sorted(slices.Values(slices.Concat(costRates, checkedRates))))
	if err != nil {
		return err
	}
	costs.Growth, costs.Points = growth, []sizing.Point{idle}
	for _, rate := range costRates {
		costs.Points = append(costs.Points, averageOf(measured[rate].points))
	}
	costs.Points = append(costs.Points, highest)
	// Use the highest rate in costRates: the backlog at this rate takes the longest to drain, so the drain is measured
	// most accurately.
	costs.DrainPerSecond = reports.Median(measured[costRates[len(costRates)-1]].drains)
	if err := writeCosts(o.costsPath, costs); err != nil || o.checkPath == "" {
		return err
	}
	return checkSizing(o, costs, checkedRates, measured)
}

// ratesOf returns the given shares of the highest rate, rounded down to multiples of 100 events per second.
func ratesOf(shares []float64, highest float64) []int64 {
	rates := make([]int64, len(shares))
	for i, share := range shares {
		rates[i] = int64(highest*share/100) * 100
	}
	return rates
}

// rateResult contains the measurements at one rate, one element per round.
type rateResult struct {
	points []sizing.Point // the resource usage
	// backlogs are the largest backlogs during an outage of the processor of length checkedOutage.
	backlogs []float64
	// recoveries are the seconds after the outage until the backlog is normal.
	recoveries []float64
	// drains are the processing rates during the recoveries: the offered rate plus the rate at which the backlog
	// shrank.
	drains []float64
}

// measureRates measures each rate in o.rounds rounds. A round contains all rates, so a change in machine speed affects
// all of them.
func measureRates(ctx context.Context, env environment, o options, rates []int64) (map[int64]*rateResult, error) {
	results := map[int64]*rateResult{}
	for round := range o.rounds {
		for _, offered := range rates {
			progress("round %d of %d: %d events/s, for %s", round+1, o.rounds, offered, o.warmUp+o.length+2*checkedOutage)
			if results[offered] == nil {
				results[offered] = &rateResult{}
			}
			if err := results[offered].measure(ctx, env, o, fmt.Sprintf("cost-%d-%d", offered, round), offered); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// measure takes one measurement at the offered rate, and adds the results to r.
func (r *rateResult) measure(ctx context.Context, env environment, o options, name string, offered int64) (err error) {
	p, err := startPipeline(ctx, env, name, offered)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop(ctx)) }()
	point, err := p.measureUsage(ctx, o.warmUp, o.length, p.hold)
	if err != nil {
		return err
	}
	point.OfferedPerSecond = offered
	backlog, recovery, err := p.measureOutage(ctx, checkedOutage)
	if err != nil {
		return err
	}
	r.points = append(r.points, point)
	r.backlogs, r.recoveries = append(r.backlogs, backlog), append(r.recoveries, recovery)
	r.drains = append(r.drains, backlog/recovery+float64(offered))
	return nil
}

// averageOf combines measurements at one offered rate. OtherCores is the maximum, because a mean could hide a
// disturbed measurement.
func averageOf(points []sizing.Point) sizing.Point {
	average := sizing.Point{OfferedPerSecond: points[0].OfferedPerSecond, Components: map[sizing.Component]sizing.Usage{}}
	latencies := make([]histogram.Snapshot, len(points))
	share := 1 / float64(len(points))
	for i := range points {
		p := &points[i]
		average.EntriesPerSecond += p.EntriesPerSecond * share
		average.ExitsPerSecond += p.ExitsPerSecond * share
		average.SummariesPerSecond += p.SummariesPerSecond * share
		average.OtherCores = max(average.OtherCores, p.OtherCores)
		latencies[i] = p.EndToEnd
		for component, used := range p.Components {
			sum := average.Components[component]
			sum.Cores += used.Cores * share
			sum.MemoryBytes += used.MemoryBytes * share
			sum.DiskBytes += used.DiskBytes * share
			sum.WriteBytes += used.WriteBytes * share
			sum.NetworkBytes += used.NetworkBytes * share
			average.Components[component] = sum
		}
	}
	average.EndToEnd = histogram.Merge(latencies...)
	return average
}

func measureIdle(ctx context.Context, env environment, o options) (sizing.Point, error) {
	progress("idle processes, %s", (o.warmUp+o.length)/2)
	p, err := startPipeline(ctx, env, "idle", 0)
	if err != nil {
		return sizing.Point{}, err
	}
	point, err := p.measureUsage(ctx, o.warmUp/2, o.length/2, p.hold)
	return point, errors.Join(err, p.stop(ctx))
}

// measureHighest measures the costs at the highest rate, and the growth of Redis and of the database.
func measureHighest(ctx context.Context, env environment, o options) (point sizing.Point, growth sizing.Growth, err error) {
	p, err := startPipeline(ctx, env, "cost-highest", startRate)
	if err != nil {
		return point, growth, err
	}
	defer func() { err = errors.Join(err, p.stop(ctx)) }()
	first, err := p.usage(ctx)
	if err != nil {
		return point, growth, err
	}
	if point, err = p.measureUsage(ctx, 2*o.warmUp, o.length, p.saturate(saturatedBacklog)); err != nil {
		return point, growth, err
	}
	growth, err = p.growth(ctx, first)
	return point, growth, err
}

// writeCosts writes the measured costs to a file. If the costs are incomplete, it writes nothing and returns an
// error.
func writeCosts(path string, costs *sizing.Costs) error {
	text, err := json.Marshal(costs)
	if err != nil {
		return fmt.Errorf("write the costs: %w", err)
	}
	if _, err := sizing.ParseCosts(text); err != nil {
		return err
	}
	return writeJSON(path, costs)
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return fmt.Errorf("write the results to %s: %w", path, err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// measureUsage lets the pipeline warm up, and then measures the resources that its components use.
func (p *pipeline) measureUsage(ctx context.Context, warmUp, length time.Duration, control func(context.Context) error) (sizing.Point, error) {
	if err := repeat(ctx, warmUp, control); err != nil {
		return sizing.Point{}, err
	}
	before, err := p.usage(ctx)
	if err != nil {
		return sizing.Point{}, err
	}
	if err := repeat(ctx, length, control); err != nil {
		return sizing.Point{}, err
	}
	after, err := p.usage(ctx)
	if err != nil {
		return sizing.Point{}, err
	}
	return after.since(before), nil
}

// growth terminates the clients. It returns the memory of Redis per vehicle parked since the first measurement, and the
// disk space of the database per summary.
func (p *pipeline) growth(ctx context.Context, first usage) (sizing.Growth, error) {
	last, err := p.usage(ctx)
	if err != nil {
		return sizing.Growth{}, err
	}
	for _, process := range append(p.stack.Generators(), p.stack.Processors...) {
		if _, err := process.Terminate(ctx); err != nil {
			return sizing.Growth{}, err
		}
	}
	summaries, err := scrape(ctx, p.stack.Summaries.URL("/metrics"))
	if err != nil {
		return sizing.Growth{}, err
	}
	// When the summary API ends, it moves its write-ahead log into the database. So end the summary API first, because
	// the measured size must not include the log.
	if _, err := p.stack.Summaries.Terminate(ctx); err != nil {
		return sizing.Growth{}, err
	}
	database, err := sizeOf(filepath.Dir(p.path), "summaries.db*")
	if err != nil {
		return sizing.Growth{}, err
	}
	parked := (last.entries - last.matched) - (first.entries - first.matched)
	stored := summaries.total("parking_summaries_stored_total")
	return sizing.Growth{
		RedisBytesPerVisit:      (last.redisMemory - first.redisMemory) / float64(parked),
		DatabaseBytesPerSummary: float64(database) / float64(stored),
		Visits:                  parked, Summaries: stored,
	}, nil
}

// usage describes a pipeline at one point in time. All counts are totals since the start.
type usage struct {
	at                                 time.Time
	entries, exits, matched, summaries int64
	endToEnd                           histogram.Snapshot
	redisMemory                        float64
	// busy is the CPU time of all programs on the machine.
	busy       time.Duration
	components map[sizing.Component]counters
}

// counters contains the resource usage of one component.
type counters struct {
	cpu              time.Duration // since the processes started
	memory, disk     int64         // bytes in use now
	written, network int64         // bytes since the processes started
}

func (p *pipeline) usage(ctx context.Context) (usage, error) {
	u := usage{at: time.Now(), components: map[sizing.Component]counters{}}
	processor, err := scrape(ctx, p.stack.Processors[0].URL("/metrics"))
	if err != nil {
		return u, err
	}
	summaries, err := scrape(ctx, p.stack.Summaries.URL("/metrics"))
	if err != nil {
		return u, err
	}
	u.entries = processor.sum("parking_events_processed_total", "outcome", "recorded")
	u.exits = processor.sum("parking_events_processed_total", "outcome", finalOutcomes...) - u.entries
	u.matched = processor.sum("parking_events_processed_total", "outcome", "matched")
	u.summaries = summaries.total("parking_summaries_stored_total")
	u.endToEnd = processor.distribution("parking_event_end_to_end_seconds")
	if u.busy, err = busyTime(); err != nil {
		return u, err
	}
	if err := p.countProcesses(&u); err != nil {
		return u, err
	}
	return u, p.countServers(ctx, &u)
}

// countProcesses adds the resource usage of this project's processes to u.
func (p *pipeline) countProcesses(u *usage) error {
	for component, process := range map[sizing.Component]*stack.Process{
		sizing.SummaryAPI: p.stack.Summaries, sizing.Processor: p.stack.Processors[0],
		sizing.EntryGenerator: p.stack.Entries[0], sizing.ExitGenerator: p.stack.Exits[0],
	} {
		c, err := countersOf(process.Pid())
		if err != nil {
			return err
		}
		u.components[component] = c
	}
	api := u.components[sizing.SummaryAPI]
	size, err := sizeOf(filepath.Dir(p.path), "summaries.db*")
	if err != nil {
		return err
	}
	api.disk = size
	// The processor's counters already include the traffic with the summary API.
	api.network = 0
	u.components[sizing.SummaryAPI] = api
	return nil
}

// countServers adds the resource usage of RabbitMQ and Redis to u.
func (p *pipeline) countServers(ctx context.Context, u *usage) error {
	redisCounters, err := countersByName(os.Getpid(), "redis-server")
	if err != nil {
		return err
	}
	info, err := redisInfo(ctx, p.env.redisURI)
	if err != nil {
		return err
	}
	u.redisMemory = info["used_memory"]
	redisCounters.network = int64(info["total_net_input_bytes"] + info["total_net_output_bytes"])
	broker, err := countersByName(os.Getpid(), "beam.smp")
	if err != nil {
		return err
	}
	// RabbitMQ does not report its network traffic. So estimate it as the traffic of its clients, without their traffic
	// to Redis. The estimate includes the clients' traffic to the summary API, which is little.
	broker.network = -redisCounters.network
	for _, component := range []sizing.Component{sizing.Processor, sizing.EntryGenerator, sizing.ExitGenerator} {
		broker.network += u.components[component].network
	}
	if broker.disk, err = sizeOf(filepath.Join(p.env.dir, rabbitMQDir), ""); err != nil {
		return err
	}
	if redisCounters.disk, err = sizeOf(filepath.Join(p.env.dir, redisDir), ""); err != nil {
		return err
	}
	u.components[sizing.RabbitMQ], u.components[sizing.Redis] = broker, redisCounters
	return nil
}

func (u usage) since(earlier usage) sizing.Point {
	seconds := u.at.Sub(earlier.at).Seconds()
	p := sizing.Point{
		EntriesPerSecond:   float64(u.entries-earlier.entries) / seconds,
		ExitsPerSecond:     float64(u.exits-earlier.exits) / seconds,
		SummariesPerSecond: float64(u.summaries-earlier.summaries) / seconds,
		Components:         map[sizing.Component]sizing.Usage{},
		EndToEnd:           u.endToEnd.Since(earlier.endToEnd),
	}
	for component, c := range u.components {
		before := earlier.components[component]
		p.Components[component] = sizing.Usage{
			Cores:        (c.cpu - before.cpu).Seconds() / seconds,
			MemoryBytes:  float64(c.memory),
			DiskBytes:    float64(c.disk),
			WriteBytes:   float64(c.written-before.written) / seconds,
			NetworkBytes: max(0, float64(c.network-before.network)/seconds),
		}
	}
	p.OtherCores = max(0, (u.busy-earlier.busy).Seconds()/seconds-p.Cores())
	return p
}

// countersByName adds up the counters of all processes that run the given command and descend from the given process.
// It does not set the fields disk and network.
func countersByName(ancestor int, name string) (counters, error) {
	all, err := descendantsByName(ancestor, name)
	if err != nil {
		return counters{}, err
	}
	var sum counters
	for pid := range all {
		c, err := countersOf(pid)
		if err != nil {
			continue // the process has ended, such as a child of Redis that rewrites the append-only file
		}
		sum.cpu += c.cpu
		sum.memory += c.memory
		sum.written += c.written
	}
	return sum, nil
}

// countersOf returns the counters of a process, without the field disk. All bytes that the process reads and writes
// count as network traffic.
func countersOf(pid int) (counters, error) {
	cpu, err := cpuOf(pid)
	if err != nil {
		return counters{}, err
	}
	status, err := readFields(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return counters{}, err
	}
	io, err := readFields(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return counters{}, err
	}
	const kilobyte = 1024
	return counters{
		cpu: cpu, memory: status["VmRSS"] * kilobyte,
		written: io["write_bytes"], network: io["rchar"] + io["wchar"],
	}, nil
}

// readFields reads a file of /proc with lines such as "VmRSS: 123 kB". It ignores lines without a number.
func readFields(path string) (map[string]int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a file of /proc: %w", err)
	}
	fields := map[string]int64{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if words := strings.Fields(rest); len(words) > 0 {
			if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
				fields[name] = n
			}
		}
	}
	return fields, nil
}

// busyTime returns the CPU time used on the machine. Time stolen by other virtual machines counts, because it disturbs
// measurements like another program.
func busyTime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of the machine: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	words := strings.Fields(line)
	var ticks int64
	// These are indexes of fields in proc_stat(5). The fields 9 and 10 are omitted, because "user" and "nice" include
	// them.
	const idle, wait, last = 4, 5, 8
	for i := 1; i <= min(last, len(words)-1); i++ {
		if i == idle || i == wait {
			continue
		}
		n, err := strconv.ParseInt(words[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the CPU time of the machine: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// redisInfo returns the numbers in the reply of Redis to the command INFO, by name.
func redisInfo(ctx context.Context, uri string) (map[string]float64, error) {
	options, err := redis.ParseURL(uri)
	if err != nil {
		return nil, fmt.Errorf("read the URI of Redis: %w", err)
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	text, err := client.Info(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("read the statistics of Redis: %w", err)
	}
	info := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			info[name] = n
		}
	}
	return info, nil
}

// sizeOf returns the total size of the files in a directory tree. If the pattern is not empty, it counts only the files
// whose names match the pattern.
func sizeOf(dir, pattern string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // a server may delete a file at any time
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		if match, _ := filepath.Match(pattern, entry.Name()); pattern != "" && !match {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read the size of %s: %w", dir, err)
	}
	return sum, nil
}

func describeMachine() (sizing.Machine, error) {
	m := sizing.Machine{Cores: runtime.NumCPU()}
	memory, err := readFields("/proc/meminfo")
	if err != nil {
		return m, err
	}
	const kilobyte = 1024
	m.MemoryBytes = memory["MemTotal"] * kilobyte
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, fmt.Errorf("read the name of the CPU: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = "Linux " + strings.TrimSpace(string(kernel))
	return m, err
}

func describeMethod(r *report, o options) (sizing.Method, error) {
	m := sizing.Method{
		Command:       "go run ./test/bench " + strings.Join(os.Args[1:], " "),
		WarmUpSeconds: o.warmUp.Seconds(), LengthSeconds: o.length.Seconds(),
		RabbitMQ: r.Broker, Redis: r.Store,
	}
	priority, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		return m, fmt.Errorf("read the scheduling priority of this process: %w", err)
	}
	const zero = 20 // the system call getpriority returns 20 minus the nice value
	m.Nice = zero - priority
	return m, nil
}
