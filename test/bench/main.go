// Command bench compares the throughput of the pipeline with that of the broker alone, and of simpler processors, on
// private servers. Compare only ratios, because machine speed varies.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/parking-operator/parking-operator/test/servers"
	"github.com/parking-operator/parking-operator/test/stack"
)

// matchPercent is the percentage of exits whose plate belongs to a parked vehicle. This value is the default of
// simulations.
const matchPercent = 20

// logSize is the size of RabbitMQ's write-ahead log, as in the operator. The benchmark deletes too few queues at once to
// crash RabbitMQ 3.10.
const logSize = 64 << 20

// patience is the timeout of each wait for a number of events.
const patience = 10 * time.Minute

type options struct {
	rounds  int
	warmUp  time.Duration
	length  time.Duration
	events  int
	offered []int64
	run     *regexp.Regexp
	// binary is the parking binary to measure. If it is empty, the benchmark builds the binary from the current
	// directory.
	binary              string
	jsonPath, benchPath string
	// The paths are output files. If costsPath or partitionsPath is set, the benchmark skips its usual measurements.
	costsPath      string // the measured costs
	checkPath      string // predictions and measurements; requires costsPath
	partitionsPath string // the throughput with several numbers of partitions
}

// quick returns the values of other flags that the flag -quick sets. Flags that are set explicitly keep their values.
func quick() map[string]string {
	return map[string]string{"rounds": "1", "warm-up": "2s", "length": "4s", "events": "5000"}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if isChild, err := runChild(ctx, os.Args[1:]); isChild {
		exit(err)
	}
	o, err := parseFlags(os.Args[1:])
	if err == nil {
		err = run(ctx, o)
	}
	exit(err)
}

func parseFlags(args []string) (options, error) {
	o := options{offered: []int64{aimRate, 2000, 5000}, run: regexp.MustCompile("")}
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	short := flags.Bool("quick", false, "take only one round of short measurements, in about 2 minutes")
	flags.IntVar(&o.rounds, "rounds", 5, "number of rounds; each takes every measurement once")
	flags.DurationVar(&o.warmUp, "warm-up", 8*time.Second, "warm-up time before each measurement")
	flags.DurationVar(&o.length, "length", 10*time.Second, "duration of each measurement")
	flags.IntVar(&o.events, "events", 20_000, "number of entries, and number of exits, in the measurements drain and crash; in crash, the simpler processors get a twentieth of them")
	flags.Func("run", "take only the measurements whose name matches the `regexp`: ceiling, saturated, drain, crash, memory, disk, offered", func(s string) (err error) {
		o.run, err = regexp.Compile(s)
		return err
	})
	flags.StringVar(&o.binary, "parking", "", "`file` of the parking binary to measure (default: build it)")
	flags.StringVar(&o.jsonPath, "json", "bin/bench.json", "`file` to write the report to, as JSON")
	flags.StringVar(&o.benchPath, "benchfmt", "", "`file` to append the results to, in the format of Go benchmarks, for benchstat")
	flags.StringVar(&o.costsPath, "costs", "", "measure only the costs per component at several rates, and write them to this `file`")
	flags.StringVar(&o.checkPath, "check-sizing", "", "with -costs: also take measurements at rates between those of the costs, and write a comparison of these measurements with predictions to this `file`")
	flags.StringVar(&o.partitionsPath, "partitions", "", "measure only the throughput with 1, 2, 4 and 8 partitions on three RabbitMQ nodes, and write it to this `file`")
	_ = flags.Parse(args) // exits if a flag is invalid
	if *short {
		o.offered = o.offered[:1]
		chosen := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { chosen[f.Name] = true })
		for name, value := range quick() {
			if chosen[name] {
				continue
			}
			if err := flags.Set(name, value); err != nil {
				return o, fmt.Errorf("set -%s: %w", name, err)
			}
		}
	}
	if o.rounds < 1 || o.length <= 0 || o.warmUp < 0 || o.events < 1 {
		return o, errors.New("-rounds, -length and -events must be positive, and -warm-up must not be negative")
	}
	if o.checkPath != "" && o.costsPath == "" {
		return o, errors.New("-check-sizing needs -costs")
	}
	return o, nil
}

// A child process gets one of these constants as its first argument, which selects what the child measures.
const (
	childCeiling = "ceiling"
	childPeer    = "peer"
)

// ceilingURI is the environment variable with the broker's URI for the child of measureCeiling. An argument would
// reveal the URI's password.
const ceilingURI = "PARKING_BENCH_CEILING_URI"

// runChild does the work of a child process of the benchmark. It returns false if this process is not such a child
// process.
func runChild(ctx context.Context, args []string) (isChild bool, err error) {
	switch {
	case len(args) > 1 && args[0] == childPeer:
		return true, runPeer(ctx, args[1:])
	case len(args) > 1 && args[0] == childCeiling:
		offered, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return true, fmt.Errorf("read the offered rate: %w", err)
		}
		return true, runCeiling(ctx, os.Getenv(ceilingURI), offered)
	default:
		return false, nil
	}
}

func exit(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "parking-bench-")
	if err != nil {
		return fmt.Errorf("create a directory for the benchmark: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	nodes := 1
	if o.partitionsPath != "" {
		nodes = clusterNodes
	}
	env, r, stopServers, err := prepare(ctx, dir, o.binary, nodes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopServers()) }()
	switch {
	case o.costsPath != "":
		return measureCosts(ctx, env, r, o)
	case o.partitionsPath != "":
		return measurePartitions(ctx, env, r, o)
	}
	if err := r.takeAll(ctx, env, o); err != nil {
		return err
	}
	return r.publish(os.Stdout, o)
}

// step is one measurement of the benchmark.
type step struct {
	name  string        // the flag -run selects steps by this name
	what  string        // shown in progress messages
	about time.Duration // the expected duration
	take  func(ctx context.Context) error
}

// takeAll takes all measurements, round by round, so that a change of the machine's speed affects them all in a
// similar way.
func (r *report) takeAll(ctx context.Context, env environment, o options) error {
	var steps []step
	for round := range o.rounds {
		for _, s := range r.round(env, o, round == o.rounds-1) {
			if o.run.MatchString(s.name) {
				s.what = fmt.Sprintf("round %d of %d: %s", round+1, o.rounds, s.what)
				steps = append(steps, s)
			}
		}
	}
	if len(steps) == 0 {
		return fmt.Errorf("no measurement has a name that matches -run %s", o.run)
	}
	start := time.Now()
	for i, s := range steps {
		progress("%s (about %s left)", s.what, remaining(steps, i, time.Since(start)))
		if err := s.take(ctx); err != nil {
			return err
		}
	}
	return nil
}

// remaining estimates how long steps[next:] will take, from their expected durations and the elapsed time.
func remaining(steps []step, next int, elapsed time.Duration) time.Duration {
	var done, left time.Duration
	for i, s := range steps {
		if i < next {
			done += s.about
		} else {
			left += s.about
		}
	}
	if done > 0 {
		left = time.Duration(float64(left) * elapsed.Seconds() / done.Seconds())
	}
	return left.Round(time.Second)
}

// round returns the measurements of one round. Only the last round measures offered rates other than aimRate, because
// these rates have no performance target.
func (r *report) round(env environment, o options, last bool) []step {
	const start = 3 * time.Second // the time to start and stop a pipeline
	steps := []step{
		{"ceiling", "the bare broker", o.warmUp/2 + o.length, func(ctx context.Context) error {
			return add(&r.Ceiling)(measureCeiling(ctx, env, 0, o.warmUp/2, o.length))
		}},
		{"saturated", "the saturated pipeline", 2*o.warmUp + o.length + start, func(ctx context.Context) error {
			return add(&r.Saturated)(measureSaturated(ctx, env, 2*o.warmUp, o.length))
		}},
		{"drain", "the drain", 2*start + time.Duration(o.events)*200*time.Microsecond, func(ctx context.Context) error {
			return add(&r.Drain)(measureDrain(ctx, env, o.events))
		}},
	}
	for _, processor := range processors() {
		events := o.events
		if processor != ours {
			events = max(1, events/20) // the simpler processors in peers.go are about 20 times slower
		}
		steps = append(steps, step{"crash", processor + ", killed once", 2*start + time.Duration(o.events)*200*time.Microsecond, func(ctx context.Context) error {
			return add(&r.Crash)(measureCrash(ctx, env, processor, events))
		}})
	}
	steps = append(steps,
		step{"memory", "a simulation in memory", o.length + 2*time.Second, func(ctx context.Context) error {
			return add(&r.Memory)(measureMemory(ctx, env, o.length))
		}},
		step{"disk", "the disk", o.length, func(ctx context.Context) error {
			return add(&r.Disk)(measureDisk(ctx, env.dir, o.length))
		}})
	for _, offered := range o.offered {
		if offered != aimRate && !last {
			continue
		}
		steps = append(steps,
			step{"offered", fmt.Sprintf("the bare broker at %d messages/s", offered), o.warmUp/2 + o.length, func(ctx context.Context) error {
				return add(&r.Bare)(measureCeiling(ctx, env, offered, o.warmUp/2, o.length))
			}},
			step{"offered", fmt.Sprintf("the pipeline at %d events/s", offered), o.warmUp + o.length + start, func(ctx context.Context) error {
				return add(&r.Offered)(measureOffered(ctx, env, offered, o.warmUp, o.length))
			}})
	}
	return steps
}

// add returns a function that appends a result to a list, unless there is an error.
func add[T any](list *[]T) func(T, error) error {
	return func(result T, err error) error {
		if err == nil {
			*list = append(*list, result)
		}
		return err
	}
}

// These are the directories of the servers, below the directory of the benchmark.
const rabbitMQDir, redisDir = "rabbitmq", "redis"

// prepare starts the private servers, with a RabbitMQ cluster of the given number of nodes. If binary is empty, prepare
// builds the parking binary.
func prepare(ctx context.Context, dir, binary string, nodes int) (environment, *report, func() error, error) {
	progress("start RabbitMQ and Redis, build parking")
	rabbit, err := startCluster(ctx, dir, nodes)
	if err != nil {
		return environment{}, nil, nil, err
	}
	redis, err := servers.StartRedis(ctx, filepath.Join(dir, redisDir), servers.RedisOptions{})
	if err != nil {
		return environment{}, nil, nil, errors.Join(err, rabbit.close())
	}
	stopServers := func() error { return errors.Join(redis.Close(), rabbit.close()) }
	if binary == "" {
		if binary, err = stack.Build(ctx, dir); err != nil {
			return environment{}, nil, nil, errors.Join(err, stopServers())
		}
	}
	env := environment{
		binary: binary, dir: dir, amqpURI: rabbit.uri(), redisURI: redis.URI(),
		partitions: 1, concurrency: 256,
	}
	r := &report{Time: time.Now().UTC(), CPUs: runtime.NumCPU(), Broker: rabbit[0].Version(), Store: redis.Version()}
	return env, r, stopServers, nil
}

// cluster contains the nodes of a RabbitMQ cluster, in the order in which they were started.
type cluster []*servers.RabbitMQ

// startCluster starts the nodes, in directories below dir.
func startCluster(ctx context.Context, dir string, nodes int) (cluster, error) {
	var started cluster
	options := servers.RabbitMQOptions{LogSize: logSize}
	for i := range nodes {
		name := rabbitMQDir
		if i > 0 {
			name += strconv.Itoa(i)
		}
		node, err := servers.StartRabbitMQ(ctx, filepath.Join(dir, name), options)
		if err != nil {
			return nil, errors.Join(err, started.close())
		}
		started = append(started, node)
		options.Join = started[0].RabbitMQ
	}
	return started, nil
}

// uri returns the URIs of all nodes, separated by commas.
func (c cluster) uri() string {
	var uris []string
	for _, node := range c {
		uris = append(uris, node.URI())
	}
	return strings.Join(uris, ",")
}

// close closes the first node last, because the other nodes have joined the first node.
func (c cluster) close() error {
	var errs []error
	for _, node := range slices.Backward(c) {
		errs = append(errs, node.Close())
	}
	return errors.Join(errs...)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
