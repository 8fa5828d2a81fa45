// Package simulate runs a complete simulation in one process, with the broker, store and summary API of the caller.
package simulate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// DefaultDrainTimeout is the default of Config.DrainTimeout and of spec.drainTimeout.
const DefaultDrainTimeout = 5 * time.Minute

const (
	// overrun is the time from the end of the schedule until the generators are stopped by force. They stop late only
	// if the broker or the store does not respond.
	overrun = 2 * time.Second
	// maxClosing is the maximum of Config.closingTime.
	maxClosing = 5 * time.Second
	// minAudit is the minimum time for the audit, even if the drain timeout is shorter.
	minAudit = 5 * time.Second
	// recordTimeout is the timeout for storing the last rows of the timeline, in addition to the latency of the plan's
	// durability.
	recordTimeout = time.Second
)

// Config is the configuration of a simulation.
type Config struct {
	// Plan is the plan of the simulation. The replicas of a generator run separately only if a fault targets them. A
	// generator with 0 replicas publishes nothing.
	Plan plan.Plan
	// Processors is the number of processors. If no fault targets processors, a single processor does all the work,
	// even if Processors is larger than 1. If Processors is 0, no processor runs.
	Processors int
	// DepthsHoldInFlight is true if the broker counts unsettled deliveries as ready messages. The number of ready
	// messages then includes those that the processors hold.
	DepthsHoldInFlight bool
	// DrainTimeout limits the processing of remaining events and the audit, after the schedule or the context ends. The
	// audit always gets at least 5 s. 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration
}

// closingTime returns how much of the drain timeout is reserved for stopping the processors. The same time is reserved
// for the audit.
func (c *Config) closingTime() time.Duration { return min(c.DrainTimeout/8, maxClosing) }

// restTime returns how long the simulation waits for its events to be processed.
func (c *Config) restTime() time.Duration { return c.DrainTimeout - 2*c.closingTime() }

// Dependencies contains what a simulation uses but does not close. Only SummariesHeld and Targets may be nil.
type Dependencies struct {
	Broker broker.Broker
	Store  store.Store
	Poster processor.Poster
	// SummariesHeld returns how many summaries of this simulation the summary API stores. It is nil if the summary API
	// cannot count summaries.
	SummariesHeld func(context.Context) (int64, error)
	Registerer    prometheus.Registerer
	Logger        *slog.Logger
	Targets       fault.Targets
}

// Simulation is a simulation that runs in this process.
type Simulation struct {
	config    Config
	deps      Dependencies
	processor *group[*processor.Processor, processor.Stats]
	entries   *group[*generator.Generator, generator.Stats]
	exits     *group[*generator.Generator, generator.Stats]
	instances *fault.Instances
	recorder  *timeline.Recorder
	// objectives adds a mark to the timeline when a check of the verdict fails, for example because an objective is
	// missed.
	objectives *ledger.ObjectiveMarker

	started  atomic.Pointer[time.Time]
	faults   atomic.Pointer[fault.Runner]
	phase    atomic.Int32
	observed observed
	live     live
	// aborted says why the run was aborted: it is the message of a failed check (see abortOnFailure). It is nil if the
	// run was not aborted.
	aborted atomic.Pointer[string]
}

// New returns a simulation that has not started. It returns an error if metrics cannot be registered, or if a
// fault in the plan cannot be injected.
func New(c Config, d Dependencies) (*Simulation, error) {
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	c.Plan.Entry.Replicas = instancesOf(&c.Plan, plan.TargetEntryGenerator, c.Plan.Entry.Replicas)
	c.Plan.Exit.Replicas = instancesOf(&c.Plan, plan.TargetExitGenerator, c.Plan.Exit.Replicas)
	for _, schedule := range []*plan.Schedule{&c.Plan.Entry.Schedule, &c.Plan.Exit.Schedule} {
		if schedule.Replicas == 0 { // keep one generator without events, so that the run lasts for the whole duration
			schedule.Rate, schedule.Stages = 0, nil
		}
	}
	s := &Simulation{config: c, deps: d}
	hasFaults := len(c.Plan.Faults) > 0
	processors := instancesOf(&c.Plan, plan.TargetProcessor, c.Processors)
	// All time series of a metric need the same labels. So if any component has several instances, the metrics of all
	// components get a label for the instance.
	labeled := max(processors, c.Plan.Entry.Replicas, c.Plan.Exit.Replicas) > 1
	s.processor = newGroup(processors, labeled, processorName, mergeProcessors, d.Registerer,
		func(name string, r prometheus.Registerer) *component[*processor.Processor, processor.Stats] {
			return &component[*processor.Processor, processor.Stats]{
				name: name, create: s.newProcessor, registerer: r, hasFaults: hasFaults, merge: mergeProcessors,
			}
		})
	newGenerators := func(n int, name string, create createGenerator) *group[*generator.Generator, generator.Stats] {
		return newGroup(max(n, 1), labeled, name, sumGenerators, d.Registerer,
			func(name string, r prometheus.Registerer) *component[*generator.Generator, generator.Stats] {
				return &component[*generator.Generator, generator.Stats]{
					name: name, registerer: r, hasFaults: hasFaults, merge: mergeGenerators,
					create: func(l *life) (*generator.Generator, error) { return s.newGenerator(create, l) },
				}
			})
	}
	s.entries = newGenerators(c.Plan.Entry.Replicas, entryGeneratorName, generator.NewEntry)
	s.exits = newGenerators(c.Plan.Exit.Replicas, exitGeneratorName, generator.NewExit)
	s.live.auditor, s.live.reader = ledger.NewAuditor(d.Store), ledger.NewTimelineReader(d.Store)
	s.recorder = timeline.NewRecorder("simulate", s.totals, d.Store, d.Logger)
	s.objectives = ledger.NewObjectiveMarker(s.recorder.Mark)
	var refused error
	s.instances, refused = s.injector()
	return s, errors.Join(refused, s.registerFaults(), s.processor.begin(), s.entries.begin(), s.exits.begin())
}

// instancesOf returns how many instances of a component to run: all replicas if a fault targets the component, and
// otherwise at most one.
func instancesOf(p *plan.Plan, target plan.FaultTarget, replicas int) int {
	if slices.ContainsFunc(p.Faults, func(f plan.Fault) bool { return f.Target == target }) {
		return replicas
	}
	return min(replicas, 1)
}

func (s *Simulation) newProcessor(l *life) (*processor.Processor, error) {
	c, d := s.config, s.deps.behind(l)
	p := c.Plan
	config := processor.Config{
		Partitions:  p.Partitions,
		Concurrency: p.Processor.Concurrency,
		Latency:     p.Durability.Latency(),
		// The processor is stopped after the drain, so few deliveries are still in progress.
		DrainTimeout: c.closingTime(),
	}
	return processor.New(config, processor.Dependencies{
		Consumer:    d.Broker,
		Entries:     processor.NewEntryEventProcessor(d.Store, p.Partitions, p.MaxStay.D(), d.Logger),
		Exits:       processor.NewExitEventProcessor(d.Store, d.Poster, p.Partitions, d.Logger),
		DeadLetters: d.Store,
		Durability:  d.Store,
		Registerer:  d.Registerer,
		Logger:      d.Logger,
	})
}

// createGenerator is generator.NewEntry or generator.NewExit.
type createGenerator func(generator.Config, generator.Dependencies) (*generator.Generator, error)

// newGenerator creates a generator. If l.restarted is true, the new generator continues the schedule of a generator
// that a fault has ended.
func (s *Simulation) newGenerator(create createGenerator, l *life) (*generator.Generator, error) {
	p, d := s.config.Plan, s.deps.behind(l)
	if l.restarted {
		p.StartTime = *s.started.Load()
	}
	return create(
		generator.Config{Plan: &p, ExitAtEnd: true, ShutdownTimeout: s.config.restTime()},
		generator.Dependencies{Publisher: d.Broker, Store: d.Store, Logger: d.Logger, Registerer: d.Registerer},
	)
}

// Run runs the simulation and returns its result. It must be called only once, after the queues are declared. An
// error becomes a reason for the verdict FAIL.
func (s *Simulation) Run(ctx context.Context) report.Run {
	start := time.Now()
	s.started.Store(&start)
	rehearsing, abort := context.WithCancel(ctx) // canceled when ctx ends or the run is aborted
	defer abort()
	generating, over := s.schedule(rehearsing)
	defer over()
	draining, drained := async.Outlive(generating, s.config.restTime())
	defer drained()
	working, finish := async.Outlive(draining, s.config.closingTime())
	defer finish()
	auditing, audited := async.Outlive(working, max(s.config.closingTime(), minAudit))
	defer audited()
	var background sync.WaitGroup
	defer background.Wait()
	defer finish()
	background.Go(func() { s.observe(working) })
	background.Go(func() { s.watch(working, generating, abort) })
	recording := s.startRecorder(auditing)

	scheduled := make(chan time.Time, 1)
	context.AfterFunc(generating, func() { scheduled <- time.Now() })
	processing := s.startProcessor(working)
	faults := s.rehearse(rehearsing, start)
	failures := s.generate(generating, processing.stopped)
	cutShort := s.cutShort(ctx, start)
	faults.finish(draining, s.endedEarly(start))
	over()
	end := s.end(start, <-scheduled)

	s.enter(Draining)
	rest := s.comeToRest(draining, processing.stopped)
	if rest.reached {
		s.observed.recordDepths(rest.depths) // the report must contain the depths that the verdict uses
	}
	drainTime := time.Since(end)
	failures = append(failures, processing.stop())
	s.enter(Auditing)
	recording.stop()

	result := s.result(start, end.Sub(start), drainTime)
	result.CutShort = cutShort
	s.conclude(auditing, &result, rest, failures, end)
	s.live.finish(result)
	return result
}

// schedule returns a context that ends with ctx, and at the latest shortly after the plan's duration.
func (s *Simulation) schedule(ctx context.Context) (context.Context, context.CancelFunc) {
	if d := s.config.Plan.Duration.D(); d > 0 {
		return context.WithTimeout(ctx, d+overrun)
	}
	return context.WithCancel(ctx)
}

// endedEarly reports whether the simulation was stopped before its planned end. It returns true for a plan without a
// duration, which ends only when it is stopped.
func (s *Simulation) endedEarly(start time.Time) bool {
	d := s.config.Plan.Duration.D()
	return d == 0 || time.Since(start) < d
}

// cutShort says when and why ctx ended the simulation before the plan's duration had passed. It returns "" if ctx has
// not ended, if the duration has passed, or if the plan has no duration.
func (s *Simulation) cutShort(ctx context.Context, start time.Time) string {
	d := s.config.Plan.Duration.D()
	if d == 0 || ctx.Err() == nil || !s.endedEarly(start) {
		return ""
	}
	return fmt.Sprintf("the run was cut short after %s of %s (%s)", terminal.Clock(time.Since(start)), terminal.Clock(d), context.Cause(ctx))
}

// end returns the time at which the schedule ended: after the planned duration, or when the generators stopped earlier.
func (s *Simulation) end(start, stopped time.Time) time.Time {
	if d := s.config.Plan.Duration.D(); d > 0 && stopped.Sub(start) > d {
		return start.Add(d)
	}
	return stopped
}

// processing is a handle to the processors, which run in the background.
type processing struct {
	// stopped is closed when the processors have ended, either because of stop or by themselves.
	stopped <-chan struct{}
	// stop tells the processors to settle their deliveries and to end. It waits until the processors have ended, and
	// returns their error.
	stop func() error
}

func (s *Simulation) startProcessor(ctx context.Context) processing {
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	var err error
	go func() {
		defer close(stopped)
		err = s.processor.Run(ctx)
		s.markFailure(ctx, processorName, err)
	}()
	return processing{stopped: stopped, stop: func() error {
		cancel()
		<-stopped
		if err != nil {
			return fmt.Errorf("the processor failed: %w", err)
		}
		return nil
	}}
}

// totals returns all measurements so far.
func (s *Simulation) totals() timeline.Row {
	total := timeline.Sum(s.entries.Totals(), s.exits.Totals(), s.processor.Totals())
	depths, pool := s.observed.latest()
	total.Gauges = timeline.Gauges{Pool: pool}
	if depths != nil {
		total.Ready, total.Retrying, total.DeadLetters = &depths.Ready, &depths.Retry, &depths.Dead
	}
	return total
}

// recording controls the recorder of the timeline, which runs in the background.
type recording struct {
	// stop tells the recorder to store its last rows and to end. It waits until the recorder has ended.
	stop func()
}

func (s *Simulation) startRecorder(ctx context.Context) recording {
	ctx, cancel := context.WithCancel(ctx)
	closing, closed := async.Outlive(ctx, recordTimeout+s.config.Plan.Durability.Latency())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		defer closed()
		if err := s.recorder.Run(ctx, closing); err != nil {
			s.deps.Logger.Warn("The timeline is incomplete", "error", err)
		}
	}()
	return recording{stop: func() {
		cancel()
		<-stopped
	}}
}

// generate runs the generators until they end, one fails, ctx ends or the channel failed is closed. The result has one
// error or nil per event type.
func (s *Simulation) generate(ctx context.Context, failed <-chan struct{}) []error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-failed:
			cancel()
		case <-ctx.Done():
		}
	}()
	var running sync.WaitGroup
	generators := []*group[*generator.Generator, generator.Stats]{s.entries, s.exits}
	errs := make([]error, len(generators))
	for i, g := range generators {
		running.Go(func() {
			if err := g.Run(ctx); err != nil {
				s.markFailure(ctx, string(g.Stats().Type)+" generator", err)
				errs[i] = fmt.Errorf("the %s generator failed: %w", g.Stats().Type, err)
				cancel()
			}
		})
	}
	running.Wait()
	return errs
}

// markFailure adds a mark to the timeline if a component failed before its context ended.
func (s *Simulation) markFailure(ctx context.Context, component string, err error) {
	if err != nil && ctx.Err() == nil {
		// The live page shows marks, so the mark omits the error, which may contain the name of a server.
		s.recorder.Mark(timeline.Mark{
			At: time.Now(), Kind: timeline.MarkDown, Subject: component, Message: "the component failed; the verdict says why",
		})
	}
}

// conclude audits the ledger. It adds the ledger, the latencies and the verdict to the result.
func (s *Simulation) conclude(ctx context.Context, result *report.Run, r rest, failures []error, end time.Time) {
	evidence := ledger.Evidence{
		Objectives: s.config.Plan.Objectives,
		Depths:     r.depths,
		InFlight:   r.inFlight,
		Load:       ledger.LoadOf(&s.config.Plan, *s.started.Load(), end, 0),
		Failures:   append(r.errs, failures...),
	}
	if result.CutShort != "" {
		evidence.Interrupted = end
	}
	evidence.Report, evidence.ReportErr = ledger.Audit(ctx, s.deps.Store, ledger.Options{AtRest: r.reached})
	if ctx.Err() != nil {
		evidence.ReportErr = errors.New("the store did not respond in time")
	}
	if evidence.ReportErr == nil {
		result.Ledger = &evidence.Report
		evidence.Summaries = s.summaries(ctx)
		if max(evidence.Report.DeadLettered, r.depths.Dead) > 0 {
			evidence.DeadReasons = s.deadReasons(ctx)
		}
	}
	rows, err := ledger.ReadTimeline(ctx, s.deps.Store)
	evidence.Latencies, evidence.Timeline = ledger.LatenciesOf(rows, err, &evidence.Report), rows
	evidence.Entries = cmp.Or(evidence.ScheduleOf(event.TypeEntry), scheduleOf(s.entries.Stats()))
	evidence.Exits = cmp.Or(evidence.ScheduleOf(event.TypeExit), scheduleOf(s.exits.Stats()))
	if err == nil { // report the same maximum lag as the verdict, which uses the timeline
		rates := report.RatesOf(rows)
		result.Rates.Entry.MaxLagSeconds, result.Rates.Exit.MaxLagSeconds = rates.Entry.MaxLagSeconds, rates.Exit.MaxLagSeconds
	}
	result.Rates.Entry.Correct(evidence.Entries)
	result.Rates.Exit.Correct(evidence.Exits)
	if reason := s.aborted.Load(); reason != nil {
		evidence.Aborted = *reason
		evidence.Entries, evidence.Exits = nil, nil // do not check the schedule, which the abort ended early
	}
	s.account(&evidence, end)
	result.Faults, result.FaultTotals = evidence.Faults, fault.Totals(evidence.FaultHistory, evidence.Faults)
	result.LatencySeconds = report.LatenciesOf(evidence.Latencies)
	result.Verdict = ledger.Evaluate(evidence)
	if err := timeline.Record(ctx, s.deps.Store, timeline.NewProcess("verdict"), ledger.MissingMarks(&evidence, &result.Verdict, result.EndTime)...); err != nil {
		s.deps.Logger.Warn("The timeline lacks the marks of missed objectives", "error", err)
	}
}

// scheduleOf converts the counts of the generators of one event type to a ledger.Schedule.
func scheduleOf(s generator.Stats) *ledger.Schedule {
	return &ledger.Schedule{Due: s.Due, Missed: s.Missed, Starved: s.Starved}
}

// deadReasons returns why messages were dead-lettered. It must be called before the queues are deleted, because the
// queues contain the dead letters.
func (s *Simulation) deadReasons(ctx context.Context) []broker.ReasonCount {
	reasons, err := s.deps.Broker.DeadLetterReasons(ctx, ledger.MaxDeadReasons)
	if err != nil {
		s.deps.Logger.Warn("Failed to read the dead letters; the verdict does not contain their reasons", "error", err)
	}
	return reasons
}

// summaries returns how many summaries the summary API stores. It returns nil if the summary API cannot count
// summaries.
func (s *Simulation) summaries(ctx context.Context) *ledger.SummaryCount {
	if s.deps.SummariesHeld == nil {
		return nil
	}
	held, err := s.deps.SummariesHeld(ctx)
	if err != nil {
		err = fmt.Errorf("count the summaries in the summary API: %w", err)
	}
	return &ledger.SummaryCount{Held: held, Err: err}
}
