// Package simulate runs a whole simulation in one process: two generators, a processor, and the audit at the
// end. The caller provides the broker, the store and the summary API.
package simulate

import (
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
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// DefaultDrainTimeout is the default of Config.DrainTimeout.
const DefaultDrainTimeout = 2 * time.Minute

const (
	// overrun is how long the generators may continue after the end of their schedule. They give up overdue
	// events by themselves, unless the broker or the store blocks them.
	overrun = 2 * time.Second
	// maxClosing bounds the share of the drain timeout that is reserved for stopping the processor, and that
	// for the audit. Each share is at most an eighth.
	maxClosing = 5 * time.Second
	// minAudit is the time that the audit has in any case. Without an audit there is no result.
	minAudit = 5 * time.Second
	// recordTimeout bounds how long the rest of the timeline may take to be stored.
	recordTimeout = time.Second
)

// Config describes a simulation.
type Config struct {
	// Plan describes the simulation. One generator of each type replaces all replicas of the plan, unless a fault hits
	// them.
	Plan plan.Plan
	// Processors is the number of processors if a fault hits them. Otherwise there is one.
	Processors int
	// DepthsHoldInFlight means that the broker also counts the messages that processors hold as ready.
	DepthsHoldInFlight bool
	// DrainTimeout bounds the time from the end of the schedule, or of the context, to the result. In this
	// time the simulation comes to rest and is audited. The audit has a few seconds in any case. 0 means
	// DefaultDrainTimeout.
	DrainTimeout time.Duration
}

// closingTime is how long the processor may take to stop if the simulation has not come to rest.
func (c *Config) closingTime() time.Duration { return min(c.DrainTimeout/8, maxClosing) }

// restTime is how long the simulation may take to come to rest.
func (c *Config) restTime() time.Duration { return c.DrainTimeout - 2*c.closingTime() }

// Dependencies are what a simulation works with. All are required, except SummariesHeld. Simulation closes
// none of them.
type Dependencies struct {
	Broker broker.Broker
	Store  store.Store
	Poster processor.Poster
	// SummariesHeld returns the number of summaries of this simulation that the summary API holds. It is nil
	// if the API has no such number.
	SummariesHeld func(context.Context) (int64, error)
	Registerer    prometheus.Registerer
	Logger        *slog.Logger
	// Targets are the servers that faults can hit.
	Targets Targets
}

// Simulation is one simulation in this process.
type Simulation struct {
	config    Config
	deps      Dependencies
	processor *group[*processor.Processor, processor.Stats]
	entries   *group[*generator.Generator, generator.Stats]
	exits     *group[*generator.Generator, generator.Stats]
	instances *fault.Instances
	recorder  *timeline.Recorder

	started  atomic.Pointer[time.Time]
	faults   atomic.Pointer[fault.Runner]
	phase    atomic.Int32
	observed observed
	live     live
	// aborted says why the run was ended early. It is nil if it was not.
	aborted atomic.Pointer[string]
}

// New returns a simulation that has not started. It fails if metrics cannot be registered, or if the plan has a fault that
// cannot be injected.
func New(c Config, d Dependencies) (*Simulation, error) {
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	c.Plan.Entry.Replicas = instancesOf(&c.Plan, plan.TargetEntryGenerator, c.Plan.Entry.Replicas)
	c.Plan.Exit.Replicas = instancesOf(&c.Plan, plan.TargetExitGenerator, c.Plan.Exit.Replicas)
	s := &Simulation{config: c, deps: d}
	hasFaults := len(c.Plan.Faults) > 0
	processors := instancesOf(&c.Plan, plan.TargetProcessor, c.Processors)
	// All series of a metric have the same labels.
	labeled := max(processors, c.Plan.Entry.Replicas, c.Plan.Exit.Replicas) > 1
	s.processor = newGroup(processors, labeled, mergeProcessors, component[*processor.Processor, processor.Stats]{
		name: processorName, create: s.newProcessor, registerer: d.Registerer, hasFaults: hasFaults, merge: mergeProcessors,
	})
	newGenerators := func(n int, name string, create createGenerator) *group[*generator.Generator, generator.Stats] {
		return newGroup(n, labeled, sumGenerators, component[*generator.Generator, generator.Stats]{
			name: name, registerer: d.Registerer, hasFaults: hasFaults, merge: mergeGenerators,
			create: func(l *life) (*generator.Generator, error) { return s.newGenerator(create, l) },
		})
	}
	s.entries = newGenerators(c.Plan.Entry.Replicas, entryGeneratorName, generator.NewEntry)
	s.exits = newGenerators(c.Plan.Exit.Replicas, exitGeneratorName, generator.NewExit)
	s.live.auditor, s.live.reader = ledger.NewAuditor(d.Store), ledger.NewTimelineReader(d.Store)
	s.recorder = timeline.NewRecorder("simulate", s.totals, d.Store, d.Logger)
	var refused error
	s.instances, refused = s.injector()
	return s, errors.Join(refused, s.processor.begin(), s.entries.begin(), s.exits.begin())
}

// instancesOf returns the number of instances of a component that has a number of replicas in a cluster.
func instancesOf(p *plan.Plan, target plan.FaultTarget, replicas int) int {
	if slices.ContainsFunc(p.Faults, func(f plan.Fault) bool { return f.Target == target }) {
		return max(replicas, 1)
	}
	return 1
}

func (s *Simulation) newProcessor(l *life) (*processor.Processor, error) {
	c, d := s.config, s.deps.behind(l)
	p := c.Plan
	config := processor.Config{
		Partitions:  p.Partitions,
		Concurrency: p.Processor.Concurrency,
		// The processor is stopped after the simulation has come to rest, or has failed to.
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

// newGenerator creates a generator. One that replaces another continues the schedule.
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

// Run simulates until the duration of the plan is over or ctx ends. Then it waits until the simulation is at
// rest, and audits the ledger. Errors are reasons in the result. The queues must have been declared. Run
// must be called once.
func (s *Simulation) Run(ctx context.Context) report.Run {
	start := time.Now()
	s.started.Store(&start)
	generating, over := s.schedule(ctx)
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
	background.Go(func() { s.abortOnFailure(generating, over) })
	recording := s.startRecorder(auditing)

	scheduled := make(chan time.Time, 1)
	context.AfterFunc(generating, func() { scheduled <- time.Now() })
	processing := s.startProcessor(working)
	faults := s.rehearse(ctx, start)
	failures := s.generate(generating, processing.stopped)
	faults.finish(s.endedEarly(start))
	over()
	end := s.end(start, <-scheduled)

	s.enter(Draining)
	rest := s.comeToRest(draining, processing.stopped)
	drainTime := time.Since(end)
	failures = append(failures, processing.stop())
	recording.stop()

	s.enter(Auditing)
	result := s.result(start, end.Sub(start), drainTime)
	s.conclude(auditing, &result, rest, failures, end)
	s.live.finish(result)
	return result
}

// schedule returns a context that ends with ctx, or shortly after the duration of the plan. The second case
// stops generators that a failed broker or store blocks.
func (s *Simulation) schedule(ctx context.Context) (context.Context, context.CancelFunc) {
	if d := s.config.Plan.Duration.D(); d > 0 {
		return context.WithTimeout(ctx, d+overrun)
	}
	return context.WithCancel(ctx)
}

// endedEarly reports whether the schedule is not over.
func (s *Simulation) endedEarly(start time.Time) bool {
	d := s.config.Plan.Duration.D()
	return d == 0 || time.Since(start) < d
}

// end returns when the schedule ended. The generators may have stopped later, to publish overdue events.
// That time belongs to the drain.
func (s *Simulation) end(start, stopped time.Time) time.Time {
	if d := s.config.Plan.Duration.D(); d > 0 && stopped.Sub(start) > d {
		return start.Add(d)
	}
	return stopped
}

// processing is a running processor.
type processing struct {
	// stopped is closed when the processor has stopped, which it may do on its own.
	stopped <-chan struct{}
	// stop stops the processor after it has settled its deliveries, and returns its error.
	stop func() error
}

func (s *Simulation) startProcessor(ctx context.Context) processing {
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	var err error
	go func() {
		defer close(stopped)
		err = s.processor.Run(ctx)
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

// totals returns the measurements of the generators, the processor and the polls so far, for the timeline.
func (s *Simulation) totals() timeline.Row {
	total := timeline.Sum(s.entries.Totals(), s.exits.Totals(), s.processor.Totals())
	depths, pool := s.observed.latest()
	total.Gauges = timeline.Gauges{Pool: pool}
	if depths != nil {
		total.Ready, total.Retrying, total.DeadLetters = &depths.Ready, &depths.Retry, &depths.Dead
	}
	return total
}

// recording is a running recorder.
type recording struct {
	// stop stops the recorder after it has handed over everything.
	stop func()
}

func (s *Simulation) startRecorder(ctx context.Context) recording {
	ctx, cancel := context.WithCancel(ctx)
	closing, closed := async.Outlive(ctx, recordTimeout)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		defer closed()
		if err := s.recorder.Run(ctx, closing); err != nil {
			s.deps.Logger.Warn("the timeline is incomplete", "error", err)
		}
	}()
	return recording{stop: func() {
		cancel()
		<-stopped
	}}
}

// generate runs both generators until their schedule is over, ctx ends, one of them fails, or failed is
// closed. It returns the error of each generator, or nil.
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
				errs[i] = fmt.Errorf("the %s generator failed: %w", g.Stats().Type, err)
				cancel()
			}
		})
	}
	running.Wait()
	return errs
}

// conclude audits the ledger, reads the latencies and adds both to the result, with the verdict.
func (s *Simulation) conclude(ctx context.Context, result *report.Run, r rest, failures []error, end time.Time) {
	evidence := ledger.Evidence{
		Objectives: s.config.Plan.Objectives,
		Depths:     r.depths,
		InFlight:   r.inFlight,
		Entries:    scheduleOf(s.entries.Stats()),
		Exits:      scheduleOf(s.exits.Stats()),
		Failures:   append(r.errs, failures...),
	}
	evidence.Report, evidence.ReportErr = ledger.Audit(ctx, s.deps.Store, ledger.Options{AtRest: r.reached})
	if ctx.Err() != nil {
		evidence.ReportErr = errors.New("the store did not answer in time")
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
	s.account(&evidence, end)
	if reason := s.aborted.Load(); reason != nil {
		evidence.Aborted = *reason
	}
	result.Faults = evidence.Faults
	result.LatencySeconds = report.LatenciesOf(evidence.Latencies)
	result.Verdict = ledger.Evaluate(evidence)
}

func scheduleOf(s generator.Stats) *ledger.Schedule {
	return &ledger.Schedule{Due: s.Due, Missed: s.Missed}
}

// deadReasons returns the reasons of the dead letters. The dead letters themselves are deleted at the end.
func (s *Simulation) deadReasons(ctx context.Context) []broker.ReasonCount {
	reasons, err := s.deps.Broker.DeadLetterReasons(ctx, ledger.MaxDeadReasons)
	if err != nil {
		s.deps.Logger.Warn("Failed to read the dead letters; the verdict does not contain their reasons", "error", err)
	}
	return reasons
}

// summaries asks the summary API for the number of summaries that it holds. It returns nil if the API has
// no such number.
func (s *Simulation) summaries(ctx context.Context) *ledger.SummaryCount {
	if s.deps.SummariesHeld == nil {
		return nil
	}
	held, err := s.deps.SummariesHeld(ctx)
	if err != nil {
		err = fmt.Errorf("count the summaries of the summary API: %w", err)
	}
	return &ledger.SummaryCount{Held: held, Err: err}
}
