// Command bench measures the pipeline against the bare broker beneath it, in one run and in turns, on
// private servers that it starts itself. These machines are noisy: compare the ratios, not the absolute
// figures of different runs.
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

// matchPercent is the share of exits that leave with a plate that entered: the default of a simulation.
const matchPercent = 20

// logSize is that of the RabbitMQ that the operator runs. The few queues that a measurement deletes are not enough for
// the crash that tests, which delete many, may meet with it.
const logSize = 64 << 20

// options are the command line.
type options struct {
	rounds   int
	warmUp   time.Duration
	length   time.Duration
	jsonPath string
	offered  []int64
}

// report is what a run of the benchmark prints.
type report struct {
	Broker    string           `json:"broker"`
	Store     string           `json:"store"`
	Ceiling   []ceilingResult  `json:"ceiling"`
	Saturated []pipelineResult `json:"saturated"`
	// Ratio is saturated pipeline over ceiling, round by round.
	Ratio []float64     `json:"ratio"`
	Drain []drainResult `json:"drain"`
	// DrainRatio is drain over ceiling, round by round.
	DrainRatio []float64        `json:"drainRatio"`
	Offered    []pipelineResult `json:"offered"`
}

func main() {
	o := options{offered: []int64{500, 2000, 5000}}
	flag.IntVar(&o.rounds, "rounds", 5, "how often ceiling, saturated pipeline and drain are measured, in turns")
	flag.DurationVar(&o.warmUp, "warm-up", 8*time.Second, "time before each counted stretch")
	flag.DurationVar(&o.length, "length", 10*time.Second, "counted time of each measurement")
	flag.StringVar(&o.jsonPath, "json", "", "also write the report to this file as JSON (default: print it after the table)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if flag.Arg(0) == "ceiling" { // the child that measureCeiling starts; the URI is a secret, hence not an argument
		exit(runCeiling(ctx, os.Getenv(ceilingURI)))
	}
	exit(run(ctx, o))
}

// ceilingURI is the environment variable through which the ceiling's child gets the broker's URI.
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
		return fmt.Errorf("make a folder: %w", err)
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
		progress("%d events/s offered", offered)
		result, err := measureOffered(ctx, env, offered, o.warmUp, o.length)
		if err != nil {
			return err
		}
		r.Offered = append(r.Offered, result)
	}
	return r.print(o.jsonPath)
}

// measureRound measures in turns, so that a drift of the machine's speed touches all alike.
func (r *report) measureRound(ctx context.Context, env environment, o options) error {
	progress("  the bare broker")
	ceiling, err := measureCeiling(ctx, env, o.warmUp/2, o.length)
	if err != nil {
		return err
	}
	progress("  the pipeline, saturated")
	saturated, err := measureSaturated(ctx, env, 2*o.warmUp, o.length)
	if err != nil {
		return err
	}
	progress("  the drain")
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

// prepare starts the servers and builds the binary.
func prepare(ctx context.Context, dir string) (environment, *report, func() error, error) {
	progress("starting RabbitMQ and Redis, building parking")
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
