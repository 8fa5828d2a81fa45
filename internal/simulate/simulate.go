// Package simulate runs a whole simulation inside one process: generators, processors and the audit at the
// end, on whatever broker, store and summary API it is given.
package simulate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/store"
)

// DefaultDrainTimeout is how long a simulation may take to come to rest once its generators have stopped.
const DefaultDrainTimeout = 2 * time.Minute

const (
	// overdue is how long after its schedule a generator may still be busy with it. It gives up what it
	// cannot publish, but not while broker or store keep it waiting.
	overdue = 2 * time.Second
	// maxClosing bounds what of the drain timeout is kept for the end of the processor, and for the audit: an
	// eighth each if that is less.
	maxClosing = 5 * time.Second
	// minAudit is what the audit may take even so: without it all else would have been for nothing.
	minAudit = 5 * time.Second
)

// Options are what a simulation is made of.
type Options struct {
	// Plan says what to simulate. Its replicas are simulated by one generator of each type.
	Plan plan.Plan
	// Broker, Store and Poster outlive the simulation; it closes none of them.
	Broker broker.Broker
	Store  store.Store
	Poster processor.Poster
	// DepthsHoldInFlight says that the broker counts as ready also what processors hold.
	DepthsHoldInFlight bool
	// SummariesHeld counts the summaries of this simulation that the API holds; nil means that it cannot be
	// asked.
	SummariesHeld func(context.Context) (int64, error)
	// DrainTimeout bounds the time from the end of the schedule, or of the context, to the result: the way to
	// rest and the audit, which has a few seconds in any case. 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration
	Registerer   prometheus.Registerer
	Logger       *slog.Logger
}

// closingTime is how long the processor has to end when the simulation has not come to rest.
func (o *Options) closingTime() time.Duration { return min(o.DrainTimeout/8, maxClosing) }

// restTime is how long the simulation has to come to rest.
func (o *Options) restTime() time.Duration { return o.DrainTimeout - 2*o.closingTime() }

// Simulation is one simulation in this process.
type Simulation struct {
	options   Options
	processor *processor.Processor
	entries   *generator.Generator
	exits     *generator.Generator

	started  atomic.Pointer[time.Time]
	phase    atomic.Int32
	observed observed
}

// New puts a simulation together.
func New(o Options) (*Simulation, error) {
	if o.DrainTimeout == 0 {
		o.DrainTimeout = DefaultDrainTimeout
	}
	o.Plan.Entry.Replicas, o.Plan.Exit.Replicas = 1, 1
	s := &Simulation{options: o}
	var errs [3]error
	s.processor, errs[0] = newProcessor(o)
	s.entries, errs[1] = generator.NewEntry(generatorOptions(o))
	s.exits, errs[2] = generator.NewExit(generatorOptions(o))
	return s, errors.Join(errs[:]...)
}

func newProcessor(o Options) (*processor.Processor, error) {
	p := o.Plan
	// When it is stopped it has come to rest already, or will not.
	config := processor.Config{Partitions: p.Partitions, Concurrency: p.Processor.Concurrency, DrainTimeout: o.closingTime()}
	return processor.New(config, processor.Dependencies{
		Consumer:    o.Broker,
		Entries:     processor.NewEntryEventProcessor(o.Store, p.Partitions, p.MaxStay.D(), o.Logger),
		Exits:       processor.NewExitEventProcessor(o.Store, o.Poster, p.Partitions, o.Logger),
		DeadLetters: o.Store,
		Durability:  o.Store,
		Registerer:  o.Registerer,
		Logger:      o.Logger,
	})
}

func generatorOptions(o Options) generator.Options {
	return generator.Options{
		Plan:            &o.Plan,
		Publisher:       o.Broker,
		Store:           o.Store,
		Logger:          o.Logger,
		Registerer:      o.Registerer,
		ExitAtEnd:       true,
		ShutdownTimeout: o.restTime(),
	}
}

// Run simulates until the plan's duration is over or ctx ends, then waits until everything is at rest and
// audits the ledger. Whatever goes wrong is in the result. The queues are declared, and it is called once.
func (s *Simulation) Run(ctx context.Context) Result {
	start := time.Now()
	s.started.Store(&start)
	generating, over := s.schedule(ctx)
	defer over()
	coming, arrived := outlive(generating, s.options.restTime())
	defer arrived()
	working, finish := outlive(coming, s.options.closingTime())
	defer finish()
	auditing, audited := outlive(working, max(s.options.closingTime(), minAudit))
	defer audited()
	var background sync.WaitGroup
	defer background.Wait()
	defer finish()
	background.Go(func() { s.observe(working) })

	scheduled := make(chan time.Time, 1)
	context.AfterFunc(generating, func() { scheduled <- time.Now() })
	processing := s.startProcessor(working)
	failures := s.generate(generating, processing.stopped)
	over()
	end := s.end(start, <-scheduled)

	s.enter(Draining)
	rest := s.comeToRest(coming, processing.stopped)
	drained := time.Since(end)
	failures = append(failures, processing.stop())

	s.enter(Auditing)
	result := s.result(end.Sub(start), drained)
	result.Ledger, result.Verdict = s.conclude(auditing, rest, failures)
	return result
}

// schedule returns the context in which the generators run, and the end of it. A plan's duration ends it
// too, so that generators which wait for a broker or store that has gone do not wait for ever.
func (s *Simulation) schedule(ctx context.Context) (context.Context, context.CancelFunc) {
	if d := s.options.Plan.Duration.D(); d > 0 {
		return context.WithTimeout(ctx, d+overdue)
	}
	return context.WithCancel(ctx)
}

// end is when the schedule of a simulation was over of which the generators were stopped at some time, or had
// nothing more to do: what they take for events that are overdue belongs to the way to rest.
func (s *Simulation) end(start, stopped time.Time) time.Time {
	if d := s.options.Plan.Duration.D(); d > 0 && stopped.Sub(start) > d {
		return start.Add(d)
	}
	return stopped
}

// outlive returns a context with the values of ctx that ends d after ctx does, or with its cancel function.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	outliving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(d, cancel)
		context.AfterFunc(outliving, func() { timer.Stop() })
	})
	return outliving, cancel
}

// processing is a processor at work.
type processing struct {
	stopped <-chan struct{}
	// stop ends it, once everything that it was handed is settled, and returns its error.
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
			return fmt.Errorf("the processor: %w", err)
		}
		return nil
	}}
}

// generate runs both generators until they have nothing more to publish, ctx ends, or either of them or
// the processor, which closes failed, gives up. It returns the error of each, nil for none.
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
	generators := []*generator.Generator{s.entries, s.exits}
	errs := make([]error, len(generators))
	for i, g := range generators {
		running.Go(func() {
			if err := g.Run(ctx); err != nil {
				errs[i] = fmt.Errorf("the %s generator: %w", g.Stats().Type, err)
				cancel()
			}
		})
	}
	running.Wait()
	return errs
}

// conclude audits the ledger and evaluates the evidence. It returns the report of the audit, nil if the
// ledger could not be read, and the verdict.
func (s *Simulation) conclude(ctx context.Context, r rest, failures []error) (*ledger.Report, ledger.Verdict) {
	done := s.processor.Stats()
	evidence := ledger.Evidence{
		Objectives: s.options.Plan.Objectives,
		Depths:     r.depths,
		InFlight:   r.inFlight,
		Latencies:  &ledger.Latencies{Processing: done.Processing(), EndToEnd: done.EndToEnd()},
		Entries:    scheduleOf(s.entries.Stats()),
		Exits:      scheduleOf(s.exits.Stats()),
		Failures:   append(r.errs, failures...),
	}
	evidence.Report, evidence.ReportErr = ledger.Audit(ctx, s.options.Store, ledger.Options{AtRest: r.reached})
	if ctx.Err() != nil {
		evidence.ReportErr = errors.New("the store did not answer in time")
	}
	if evidence.ReportErr != nil {
		return nil, ledger.Evaluate(evidence)
	}
	evidence.Summaries = s.summaries(ctx)
	if max(evidence.Report.DeadLettered, r.depths.Dead) > 0 {
		evidence.DeadReasons = s.deadReasons(ctx)
	}
	return &evidence.Report, ledger.Evaluate(evidence)
}

func scheduleOf(s generator.Stats) *ledger.Schedule {
	return &ledger.Schedule{Due: s.Due, Missed: s.Missed}
}

// deadReasons returns the reasons of the dead letters, which do not outlive the simulation.
func (s *Simulation) deadReasons(ctx context.Context) []broker.ReasonCount {
	reasons, err := s.options.Broker.DeadLetterReasons(ctx, ledger.MaxDeadReasons)
	if err != nil {
		s.options.Logger.Warn("Failed to read the dead letters, so the verdict does not give their reasons", "error", err)
	}
	return reasons
}

// summaries asks the summary API how many summaries it holds. It returns nil if the API has no such count.
func (s *Simulation) summaries(ctx context.Context) *ledger.SummaryCount {
	if s.options.SummariesHeld == nil {
		return nil
	}
	held, err := s.options.SummariesHeld(ctx)
	if err != nil {
		err = fmt.Errorf("count the summaries of the summary API: %w", err)
	}
	return &ledger.SummaryCount{Held: held, Err: err}
}
