// Command bench compares the throughput of the whole pipeline with the throughput of the broker alone. It alternates
// between the two measurements, on private servers that it starts. Because the speed of a machine varies, compare
// ratios, not the absolute numbers of different runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/parking-operator/parking-operator/test/servers"
	"github.com/parking-operator/parking-operator/test/stack"
)

// matchPercent is the percentage of exits whose plate belongs to a parked vehicle. This value is the default of
// simulations.
const matchPercent = 20

// logSize is the size of RabbitMQ's write-ahead log, the same as in the RabbitMQ that the operator runs. With this
// size, RabbitMQ 3.10 may crash when many queues are deleted (see servers.RabbitMQOptions). This is unlikely in the
// benchmark, which deletes only a few queues.
const logSize = 64 << 20

type options struct {
	rounds   int
	warmUp   time.Duration
	length   time.Duration
	jsonPath string
	offered  []int64
}

// report contains the results of all rounds. A round takes each measurement once.
type report struct {
	Broker    string           `json:"broker"`
	Store     string           `json:"store"`
	Ceiling   []ceilingResult  `json:"ceiling"`
	Saturated []pipelineResult `json:"saturated"`
	// Ratio contains, for each round, the maximum rate of the pipeline divided by the rate of the broker alone.
	Ratio []float64     `json:"ratio"`
	Drain []drainResult `json:"drain"`
	// DrainRatio contains, for each round, the rate at which a processor drains the queues, divided by the throughput
	// of the broker alone.
	DrainRatio []float64        `json:"drainRatio"`
	Offered    []pipelineResult `json:"offered"`
}

func main() {
	o := options{offered: []int64{500, 2000, 5000}}
	flag.IntVar(&o.rounds, "rounds", 5, "number of rounds; each measures the ceiling, the saturated pipeline and the drain")
	flag.DurationVar(&o.warmUp, "warm-up", 8*time.Second, "time before each measurement")
	flag.DurationVar(&o.length, "length", 10*time.Second, "duration of each measurement")
	flag.StringVar(&o.jsonPath, "json", "", "`file` to write the report to, as JSON (default: print it after the table)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if flag.Arg(0) == "ceiling" { // the child process of measureCeiling; the URI contains a password, so it is not an argument
		exit(runCeiling(ctx, os.Getenv(ceilingURI)))
	}
	exit(run(ctx, o))
}

// ceilingURI is the environment variable that passes the URI of the broker to the child process.
const ceilingURI = "PARKING_BENCH_CEILING_URI"

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
		return fmt.Errorf("create a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	env, r, stopServers, err := prepare(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopServers()) }()
	for round := range o.rounds {
		progress("round %d of %d", round+1, o.rounds)
		if err := r.measureRound(ctx, env, o); err != nil {
			return err
		}
	}
	for _, offered := range o.offered {
		progress("the pipeline at %d events/s, %s", offered, o.warmUp+o.length)
		result, err := measureOffered(ctx, env, offered, o.warmUp, o.length)
		if err != nil {
			return err
		}
		r.Offered = append(r.Offered, result)
	}
	return r.print(o.jsonPath)
}

// measureRound takes each measurement once. A change of the machine's speed then affects all measurements of a round in
// a similar way.
func (r *report) measureRound(ctx context.Context, env environment, o options) error {
	progress("  the bare broker, %s", o.warmUp/2+o.length)
	ceiling, err := measureCeiling(ctx, env, o.warmUp/2, o.length)
	if err != nil {
		return err
	}
	progress("  the saturated pipeline, %s", 2*o.warmUp+o.length)
	saturated, err := measureSaturated(ctx, env, 2*o.warmUp, o.length)
	if err != nil {
		return err
	}
	progress("  the drain, about 20 s")
	drain, err := measureDrain(ctx, env)
	if err != nil {
		return err
	}
	r.Ceiling = append(r.Ceiling, ceiling)
	r.Saturated = append(r.Saturated, saturated)
	r.Drain = append(r.Drain, drain)
	r.Ratio = append(r.Ratio, saturated.ProcessedPerSecond/ceiling.PerSecond)
	r.DrainRatio = append(r.DrainRatio, drain.EventsPerSecond/ceiling.PerSecond)
	return nil
}

// prepare starts the private servers and builds the parking binary.
func prepare(ctx context.Context, dir string) (environment, *report, func() error, error) {
	progress("start RabbitMQ and Redis, build parking")
	rabbit, err := servers.StartRabbitMQ(ctx, filepath.Join(dir, "rabbitmq"), servers.RabbitMQOptions{LogSize: logSize})
	if err != nil {
		return environment{}, nil, nil, err
	}
	redis, err := servers.StartRedis(ctx, filepath.Join(dir, "redis"), servers.RedisOptions{})
	if err != nil {
		return environment{}, nil, nil, errors.Join(err, rabbit.Close())
	}
	stopServers := func() error { return errors.Join(redis.Close(), rabbit.Close()) }
	binary, err := stack.Build(ctx, dir)
	if err != nil {
		return environment{}, nil, nil, errors.Join(err, stopServers())
	}
	env := environment{binary: binary, dir: dir, amqpURI: rabbit.URI(), redisURI: redis.URI()}
	return env, &report{Broker: rabbit.Version(), Store: redis.Version()}, stopServers, nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
