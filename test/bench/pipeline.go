package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/plan/plantest"
	"github.com/parking-operator/parking-operator/test/stack"
)

// finalOutcomes are the values of the metric label "outcome" for events that took effect.
var finalOutcomes = []string{
	"recorded", "matched", "unmatched_expected", "unmatched_unexpected", "entry_not_found",
}

// environment contains the servers and settings that all measurements share.
type environment struct {
	binary   string
	dir      string
	amqpURI  string
	redisURI string
	// partitions is the number of partitions of a pipeline. A pipeline has one processor per partition.
	partitions int
	// concurrency is the maximum number of messages of one queue that one processor processes at the same time.
	concurrency int
	// If processorAMQPURI is set, the processors use this URI instead of amqpURI. The same applies to processorRedisURI
	// and redisURI.
	processorAMQPURI, processorRedisURI string
}

type pipelineResult struct {
	OfferedPerSecond   int64   `json:"offeredPerSecond,omitempty"`
	ProcessedPerSecond float64 `json:"processedPerSecond"`
	// PerEvent contains the resource usage per event, of each component and server. The key is the name of the process.
	PerEvent   map[string]effort `json:"perEvent"`
	Processing quantiles         `json:"processingSeconds"`
	EndToEnd   quantiles         `json:"endToEndSeconds"`
}

// quantiles contains quantiles of a latency in seconds.
type quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func quantilesOf(s histogram.Snapshot) quantiles {
	return quantiles{P50: s.Quantile(.50).Seconds(), P99: s.Quantile(.99).Seconds()}
}

// pipeline is a running simulation: its processes and its plan.
type pipeline struct {
	env   environment
	stack *stack.Stack
	plan  plan.Plan
	path  string
}

// startPipeline starts one processor per partition, and one process of each other component. Half of the generated
// events are entries, and half are exits.
func startPipeline(ctx context.Context, env environment, name string, offered int64) (*pipeline, error) {
	dir, err := os.MkdirTemp(env.dir, name+"-") // a separate directory for the database of each measurement
	if err != nil {
		return nil, fmt.Errorf("create a directory for %s: %w", name, err)
	}
	p := &pipeline{env: env, path: filepath.Join(dir, "plan.json")}
	processorPath := filepath.Join(dir, "processor-plan.json")
	p.stack, err = stack.New(stack.Options{
		Binary: env.binary, Dir: dir, Plan: p.path, ProcessorPlan: processorPath,
		Processors: env.partitions, EntryGenerators: 1, ExitGenerators: 1,
	})
	if err != nil {
		return nil, err
	}
	schedule := plan.Schedule{Rate: offered / 2, Arrivals: plan.ArrivalsUniform, Replicas: 1}
	p.plan = plan.Plan{
		Simulation: "bench." + name + "-" + event.NewRun(),
		Seed:       1,
		Partitions: env.partitions,
		QueueType:  plan.QueueTypeQuorum,
		Entry:      plan.Entry{Schedule: schedule},
		Exit:       plan.Exit{Schedule: schedule, MatchPercent: matchPercent, MinStay: plan.Duration(time.Second)},
		MaxStay:    plan.Duration(time.Hour),
		Processor:  plan.Processor{Concurrency: env.concurrency},
		RabbitMQ:   plan.BindingRef{URI: env.amqpURI},
		Redis:      plan.BindingRef{URI: env.redisURI},
		SummaryAPI: plan.SummaryAPI{URL: p.stack.Summaries.URL("")},
	}
	if err := plantest.Write(&p.plan, p.path); err != nil {
		return nil, err
	}
	processorPlan := p.plan
	processorPlan.RabbitMQ.URI = cmp.Or(env.processorAMQPURI, env.amqpURI)
	processorPlan.Redis.URI = cmp.Or(env.processorRedisURI, env.redisURI)
	if err := plantest.Write(&processorPlan, processorPath); err != nil {
		return nil, err
	}
	if err := stack.Start(ctx, p.stack.All()...); err != nil {
		return nil, errors.Join(err, p.stack.Kill())
	}
	return p, nil
}

// stop terminates the processes and deletes the data of the simulation. The data would slow down each rewrite of the
// append-only file of Redis.
func (p *pipeline) stop(ctx context.Context) error {
	var errs []error
	for _, process := range append(p.stack.Generators(), append(p.stack.Processors, p.stack.Summaries)...) {
		_, err := process.Terminate(ctx)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, p.stack.Kill(), p.purge(ctx))...)
}

func (p *pipeline) purge(ctx context.Context) error {
	purge := exec.CommandContext(ctx, p.env.binary, "purge", "--simulation", p.plan.Simulation)
	purge.Env = append(os.Environ(), "PARKING_RABBITMQ_URI="+p.env.amqpURI, "PARKING_REDIS_URI="+p.env.redisURI)
	if output, err := purge.CombinedOutput(); err != nil {
		return fmt.Errorf("purge %s: %w: %s", p.plan.Simulation, err, output)
	}
	return nil
}

// setRate sets the total rate of entries and exits, in events per second.
func (p *pipeline) setRate(offered int64) error {
	p.plan.Entry.Rate, p.plan.Exit.Rate = offered/2, offered/2
	return plantest.Write(&p.plan, p.path)
}

// state contains the counters of the processes at a point in time.
type state struct {
	at         time.Time
	published  int64
	processed  int64
	processing histogram.Snapshot
	endToEnd   histogram.Snapshot
	used       map[string]effort
}

func (p *pipeline) observe(ctx context.Context) (state, error) {
	s := state{at: time.Now(), used: map[string]effort{}}
	for _, processor := range p.stack.Processors {
		metrics, err := scrape(ctx, processor.URL("/metrics"))
		if err != nil {
			return s, err
		}
		s.processed += metrics.sum("parking_events_processed_total", "outcome", finalOutcomes...)
		s.processing = histogram.Merge(s.processing, metrics.distribution("parking_event_processing_seconds"))
		s.endToEnd = histogram.Merge(s.endToEnd, metrics.distribution("parking_event_end_to_end_seconds"))
	}
	for _, generator := range p.stack.Generators() {
		metrics, err := scrape(ctx, generator.URL("/metrics"))
		if err != nil {
			return s, err
		}
		s.published += metrics.sum("parking_events_published_total", "intent", "none", "matched", "unmatched")
	}
	var err error
	for _, process := range p.stack.All() {
		if s.used[process.Name], err = effortOf(process.Pid()); err != nil {
			return s, err
		}
	}
	for _, server := range []string{brokerName, redisName} {
		if s.used[server], err = effortByName(os.Getpid(), server); err != nil {
			return s, err
		}
	}
	s.used[redisName][commands], err = redisCommands(ctx, p.env)
	return s, err
}

// redisName is the name of the command that runs Redis.
const redisName = "redis-server"

// redisCommands returns the number of commands that Redis has executed so far.
func redisCommands(ctx context.Context, env environment) (float64, error) {
	info, err := redisInfo(ctx, env.redisURI)
	return info["total_commands_processed"], err
}

// own returns the resource usage per event of all processes of this project: generators, processors and summary API.
func (p pipelineResult) own() effort {
	own := maps.Clone(p.PerEvent)
	delete(own, brokerName)
	delete(own, redisName)
	return sumOf(maps.Values(own))
}

func (p pipelineResult) ownMicros() float64 { return p.own()[cpuMicros] }

// result returns the rates, latencies and resource usage of a pipeline between an earlier state and the state s.
func (s state) result(earlier state) pipelineResult {
	events := float64(s.processed - earlier.processed)
	r := pipelineResult{
		ProcessedPerSecond: events / s.at.Sub(earlier.at).Seconds(),
		PerEvent:           map[string]effort{},
		Processing:         quantilesOf(s.processing.Since(earlier.processing)),
		EndToEnd:           quantilesOf(s.endToEnd.Since(earlier.endToEnd)),
	}
	for name, used := range s.used {
		r.PerEvent[name] = used.perEvent(earlier.used[name], events)
	}
	return r
}

// measureOffered measures the pipeline while the generators publish at a fixed rate.
func measureOffered(ctx context.Context, env environment, offered int64, warmUp, length time.Duration) (pipelineResult, error) {
	p, err := startPipeline(ctx, env, fmt.Sprintf("offered-%d", offered), offered)
	if err != nil {
		return pipelineResult{}, err
	}
	r, err := p.measure(ctx, warmUp, length, p.hold)
	r.OfferedPerSecond = offered
	return r, errors.Join(err, p.stop(ctx))
}

// measureSaturated measures the pipeline at the highest rate at which its backlog stays bounded. See saturate for
// the search.
func measureSaturated(ctx context.Context, env environment, warmUp, length time.Duration) (pipelineResult, error) {
	p, err := startPipeline(ctx, env, "saturated", startRate)
	if err != nil {
		return pipelineResult{}, err
	}
	r, err := p.measure(ctx, warmUp, length, p.saturate(saturatedBacklog))
	return r, errors.Join(err, p.stop(ctx))
}

// startRate is the rate, in events per second, at which the measurement of the highest rate starts.
const startRate = 4000

// saturatedBacklog is the number of waiting events with one partition. The measurement of the broker alone holds the
// same number, so that the two throughputs are comparable.
const saturatedBacklog = 2 * backlog

// saturate returns a function that adjusts the rate of the generators to bring the number of unprocessed events close
// to aim.
func (p *pipeline) saturate(aim int64) func(context.Context) error {
	var earlier []state // the latest observed states of the pipeline, oldest first
	return func(ctx context.Context) error {
		s, err := p.observe(ctx)
		if err != nil {
			return err
		}
		earlier = append(earlier, s)
		if len(earlier) < 2 {
			return nil
		}
		earlier = earlier[max(0, len(earlier)-averagedStates):]
		return p.setRate(nextRate(s.result(earlier[0]).ProcessedPerSecond, s.published-s.processed, aim))
	}
}

// averagedStates is the number of successive measurements over which the processing rate is averaged.
const averagedStates = 5

// nextRate returns a rate that brings the number of waiting events closer to aim.
func nextRate(processed float64, waiting, aim int64) int64 {
	shortfall := float64(aim-waiting) / float64(aim)
	// At the start, the processing rate is 0, so the second argument of max is needed.
	return int64(max(processed*(1+.5*max(-1, shortfall)), float64(aim-waiting)/10))
}

func (p *pipeline) hold(context.Context) error { return nil }

// measure measures the pipeline for the given length of time, after a warm-up. It calls control every half second.
func (p *pipeline) measure(ctx context.Context, warmUp, length time.Duration, control func(context.Context) error) (pipelineResult, error) {
	if _, err := waitProcessed(ctx, p.stack.Processors[0], 1); err != nil {
		return pipelineResult{}, err
	}
	if err := repeat(ctx, warmUp, control); err != nil {
		return pipelineResult{}, err
	}
	before, err := p.observe(ctx)
	if err != nil {
		return pipelineResult{}, err
	}
	if err := repeat(ctx, length, control); err != nil {
		return pipelineResult{}, err
	}
	after, err := p.observe(ctx)
	if err != nil {
		return pipelineResult{}, err
	}
	if after.processed == before.processed {
		return pipelineResult{}, errors.New("measure the pipeline: no event was processed: use a larger -length")
	}
	return after.result(before), nil
}

// repeat calls f every half second until the given time has passed.
func repeat(ctx context.Context, length time.Duration, f func(context.Context) error) error {
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	end := time.After(length)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return nil
		case <-ticker.C:
			if err := f(ctx); err != nil {
				return err
			}
		}
	}
}
