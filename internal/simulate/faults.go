package simulate

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/simulate/gate"
)

// behind returns the dependencies of one process. If the process has a gate, all calls to the broker, the store and the
// summary API pass through it.
func (d Dependencies) behind(l *life) Dependencies {
	d.Registerer = l.metrics
	if l.gate != nil {
		d.Broker, d.Store, d.Poster = gate.Broker(d.Broker, l.gate, 0), gate.Store(d.Store, l.gate), gate.Poster(d.Poster, l.gate)
	}
	return d
}

// injector returns an injector for faults of all targets. It returns an error if a fault in the plan cannot be
// injected.
func (s *Simulation) injector() (*fault.Instances, error) {
	instances := make(map[plan.FaultTarget][]fault.Instance)
	maps.Copy(instances, s.deps.Targets.Instances)
	instances[plan.TargetProcessor] = s.processor.targets()
	instances[plan.TargetEntryGenerator] = s.entries.targets()[:s.config.Plan.Entry.Replicas]
	instances[plan.TargetExitGenerator] = s.exits.targets()[:s.config.Plan.Exit.Replicas]
	servers, given := instances[plan.TargetRabbitMQ]
	if _, leaderGiven := instances[plan.TargetRabbitMQLeader]; given && !leaderGiven {
		instances[plan.TargetRabbitMQLeader] = servers
	}
	i := &fault.Instances{Targets: fault.Targets{Instances: instances}}
	return i, i.Check(&s.config.Plan)
}

// rehearsing controls the goroutine that injects the faults of the plan.
type rehearsing struct {
	// finish waits until all faults of the plan have ended. If abort is true, or when ctx ends, it ends the faults in
	// effect and injects no more.
	finish func(ctx context.Context, abort bool)
}

// rehearse injects the faults of the plan in a goroutine. When ctx ends, that goroutine ends the faults that
// are in effect.
func (s *Simulation) rehearse(ctx context.Context, start time.Time) rehearsing {
	if len(s.config.Plan.Faults) == 0 {
		return rehearsing{finish: func(context.Context, bool) {}}
	}
	ctx, cancel := context.WithCancel(ctx)
	runner := fault.NewRunner(
		fault.RunnerConfig{Plan: &s.config.Plan, Start: start, ExitAtEnd: true},
		fault.RunnerDependencies{Injector: s.instances, Mark: s.recorder.Mark, Logger: s.deps.Logger},
	)
	s.faults.Store(runner)
	done := make(chan struct{})
	go func() {
		defer close(done)
		settling, stop := context.WithCancel(ctx)
		var settles sync.WaitGroup
		settles.Go(func() { async.Every(settling, settleInterval, func() { s.settle(settling, runner) }) })
		runner.Run(ctx)
		stop()
		settles.Wait()
	}()
	return rehearsing{finish: func(ctx context.Context, abort bool) {
		if abort {
			cancel()
		}
		select {
		case <-done:
		case <-ctx.Done():
		}
		cancel()
		<-done
	}}
}

// settleInterval is the interval between two calls of the method settle. It must be much shorter than the time for
// which the timeline keeps rows of one second.
const settleInterval = time.Minute

// settle saves each account of a fault once the account can no longer change.
func (s *Simulation) settle(ctx context.Context, runner *fault.Runner) {
	rows, err := s.live.timeline(ctx)
	if err != nil {
		return // ignore the error: the next call of settle reads the timeline again
	}
	runner.Settle(fault.RunSoFar(rows, s.endOfSchedule()))
}

// endOfSchedule returns the time at which the generators stop. It returns the zero time if the simulation has not
// started, or if the plan has no duration.
func (s *Simulation) endOfSchedule() time.Time {
	if start := s.started.Load(); start != nil && s.config.Plan.Duration > 0 {
		return start.Add(s.config.Plan.Duration.D())
	}
	return time.Time{}
}

// Faults returns the records of the faults so far. It may be called at any time.
func (s *Simulation) Faults() []fault.Record {
	if runner := s.faults.Load(); runner != nil {
		return runner.Records()
	}
	return nil
}

// account adds the planned faults and the accounts of their occurrences to the evidence for the verdict.
func (s *Simulation) account(e *ledger.Evidence, end time.Time) {
	e.Planned = s.config.Plan.Faults
	run := fault.Run{Rows: e.Timeline, End: end, Ended: true, Aborted: e.Aborted != ""}
	if e.ReportErr == nil && e.Report.AtRest {
		run.Lost = &e.Report.Lost
	}
	e.Faults = fault.Accounts(s.Faults(), run)
}

// mergeGenerators adds the counts of the last generator to the sum of the counts of all earlier generators.
func mergeGenerators(before, last generator.Stats) generator.Stats {
	sum := last
	sum.Run = before.Run // the live page identifies the simulation by the run of the first generator
	sum.Due += before.Due
	sum.Published += before.Published
	sum.Confirmed += before.Confirmed
	sum.Matched += before.Matched
	sum.Unmatched += before.Unmatched
	sum.Starved += before.Starved
	sum.Missed += before.Missed
	sum.Active += before.Active
	sum.TargetRate = rate(float64(sum.Due), sum.Active.Seconds())
	sum.AchievedRate = rate(float64(sum.Published), publishing(before)+publishing(last))
	return sum
}

// sumGenerators adds up the counts of two generators that run at the same time and share a schedule.
func sumGenerators(a, b generator.Stats) generator.Stats {
	sum := a
	sum.Due += b.Due
	sum.Published += b.Published
	sum.Confirmed += b.Confirmed
	sum.Matched += b.Matched
	sum.Unmatched += b.Unmatched
	sum.Outstanding += b.Outstanding
	sum.Starved += b.Starved
	sum.Missed += b.Missed
	sum.Lag, sum.Active = max(a.Lag, b.Lag), max(a.Active, b.Active)
	sum.Rate += b.Rate
	sum.TargetRate += b.TargetRate
	sum.AchievedRate += b.AchievedRate
	sum.Done = a.Done && b.Done
	return sum
}

// inFlight returns the number of deliveries that the processors have received but not yet settled.
func (s *Simulation) inFlight() int64 {
	var n int64
	for _, p := range s.processor.processes() {
		n += p.InFlight()
	}
	return n
}

// publishing returns the number of seconds over which AchievedRate is the mean rate of the published events.
func publishing(s generator.Stats) float64 { return rate(float64(s.Published), s.AchievedRate) }

func rate(dividend, divisor float64) float64 {
	if divisor <= 0 {
		return 0
	}
	return dividend / divisor
}

// mergeProcessors adds the counts of the last processor to the sum of the counts of all earlier processors.
func mergeProcessors(before, last processor.Stats) processor.Stats {
	return processor.Stats{Entry: mergeTypes(before.Entry, last.Entry), Exit: mergeTypes(before.Exit, last.Exit)}
}

func mergeTypes(before, last processor.TypeStats) processor.TypeStats {
	return processor.TypeStats{
		Outcomes:     addCounts(before.Outcomes, last.Outcomes),
		Failures:     addCounts(before.Failures, last.Failures),
		Redeliveries: before.Redeliveries + last.Redeliveries,
		Effects:      before.Effects + last.Effects,
		Processing:   histogram.Merge(before.Processing, last.Processing),
		EndToEnd:     histogram.Merge(before.EndToEnd, last.EndToEnd),
	}
}

func addCounts[K comparable](before, last map[K]uint64) map[K]uint64 {
	sum := maps.Clone(before)
	if sum == nil {
		sum = make(map[K]uint64, len(last))
	}
	for key, n := range last {
		sum[key] += n
	}
	return sum
}

// These constants are the names of the components in the records of faults.
const (
	processorName      = "processor"
	entryGeneratorName = string(event.TypeEntry) + "-generator"
	exitGeneratorName  = string(event.TypeExit) + "-generator"
)
