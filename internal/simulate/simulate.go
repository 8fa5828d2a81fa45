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

// auditTimeout bounds the final audit.
const auditTimeout = time.Minute

// Options are what a simulation is made of.
type Options struct {
	// Plan says what to simulate. Its replicas are simulated by one generator of each type.
	Plan plan.Plan
	// Broker, Store and Poster outlive the simulation; it closes none of them.
	Broker broker.Broker
	Store  store.Store
	Poster processor.Poster
	// SummariesHeld counts the summaries of this simulation that the API holds; nil means that it cannot be
	// asked.
	SummariesHeld func(context.Context) (int64, error)
	// DrainTimeout bounds the way to rest; 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration
	Registerer   prometheus.Registerer
	Logger       *slog.Logger
}

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
	config := processor.Config{Partitions: p.Partitions, Concurrency: p.Processor.Concurrency, DrainTimeout: o.DrainTimeout}
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
		Plan:       &o.Plan,
		Publisher:  o.Broker,
		Store:      o.Store,
		Logger:     o.Logger,
		Registerer: o.Registerer,
		ExitAtEnd:  true,
	}
}

// Run simulates until the plan's duration is over or ctx ends, then waits until everything is at rest and
// audits the ledger. An error means that it could not be told what happened; whatever is wrong with the
// simulation itself is in the result. It is called once.
func (s *Simulation) Run(ctx context.Context) (Result, error) {
	if err := s.options.Broker.Declare(ctx); err != nil {
		return Result{}, fmt.Errorf("declare the queues: %w", err)
	}
	start := time.Now()
	s.started.Store(&start)
	working, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	var background sync.WaitGroup
	defer background.Wait()
	defer finish()
	background.Go(func() { s.observe(working) })

	processing := s.startProcessor(working)
	generatorsFailed := s.generate(ctx, processing.stopped)
	elapsed := time.Since(start)

	s.enter(Draining)
	rest := s.comeToRest(working, processing.stopped)
	processorFailed := processing.stop()

	s.enter(Auditing)
	return s.conclude(working, elapsed, rest, errors.Join(generatorsFailed, processorFailed))
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
// the processor, which closes failed, gives up.
func (s *Simulation) generate(ctx context.Context, failed <-chan struct{}) error {
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
	var errs [2]error
	for i, g := range []*generator.Generator{s.entries, s.exits} {
		running.Go(func() {
			if err := g.Run(ctx); err != nil {
				errs[i] = fmt.Errorf("the %s generator: %w", g.Stats().Type, err)
				cancel()
			}
		})
	}
	running.Wait()
	return errors.Join(errs[:]...)
}

// conclude audits the ledger and judges the simulation.
func (s *Simulation) conclude(ctx context.Context, elapsed time.Duration, r rest, failed error) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	report, err := ledger.Audit(ctx, s.options.Store, ledger.Options{AtRest: r.reached})
	if err != nil {
		return Result{}, fmt.Errorf("audit the simulation: %w", err)
	}
	input := ledger.Input{Report: report, Objectives: s.options.Plan.Objectives, Depths: r.depths, InFlight: r.inFlight}
	done := s.processor.Stats()
	if processing := done.Processing(); processing.Count() > 0 {
		p99 := processing.Quantile(.99)
		input.ProcessingP99 = &p99
	}
	if endToEnd := done.EndToEnd(); endToEnd.Count() > 0 {
		p99 := endToEnd.Quantile(.99)
		input.EndToEndP99 = &p99
	}
	if input.SummariesHeld, err = s.summariesHeld(ctx); err != nil {
		return Result{}, err
	}
	result := s.result(elapsed, report)
	result.Verdict = ledger.Judge(input)
	for _, err := range []error{r.err, failed} {
		if err != nil {
			result.Outcome = ledger.Fail
			result.Reasons = append(result.Reasons, err.Error())
		}
	}
	return result, nil
}

func (s *Simulation) summariesHeld(ctx context.Context) (*int64, error) {
	if s.options.SummariesHeld == nil {
		return nil, nil
	}
	n, err := s.options.SummariesHeld(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the summary API what it holds: %w", err)
	}
	return &n, nil
}
