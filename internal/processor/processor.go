package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// DefaultDrainTimeout is the default of Config.DrainTimeout. It leaves 10 s of the default termination grace
	// period of a pod (30 s) for the rest of the shutdown.
	DefaultDrainTimeout = 20 * time.Second

	// prefetchFactor is the number of unsettled deliveries per worker, unless Config.Latency is high. It suffices for 256
	// workers at 5,000 events/s.
	prefetchFactor = 8
	// maxPrefetch limits the memory of unsettled deliveries: half a gigabyte if all bodies have the maximum size, a
	// few megabytes for generated events.
	maxPrefetch = 8192
	// prefetchWait is the longest wait for durability for which prefetchFactor suffices.
	prefetchWait = 400 * time.Millisecond
	// maxGrown limits the sum of the prefetch counts of all queues if Config.Latency is high. 6,144 deliveries whose
	// bodies have the maximum size use 384 MiB, 3/4 of a pod's default memory limit.
	maxGrown = 6144
)

// ErrUnfinished is returned by Run if the drain timeout expires before all deliveries are settled. The unsettled
// deliveries are requeued, so no event is lost.
var ErrUnfinished = errors.New("deliveries were requeued because the drain timeout expired")

// Config is the configuration of a processor.
type Config struct {
	// Partitions is the number of partitions. Each has an entry queue, an exit queue and a part of the store. The
	// processor consumes all queues.
	Partitions int
	// Concurrency is the number of messages of each queue that are processed concurrently.
	Concurrency int
	// Latency is how long it may take until an effect is durable, or 0 if this time is negligible. See
	// plan.Durability.Latency.
	Latency time.Duration
	// DrainTimeout limits how long Run settles deliveries after its context ends; 0 means DefaultDrainTimeout. If the
	// context's cause is async.ErrKilled, Run does not wait.
	DrainTimeout time.Duration
}

// Dependencies are the interfaces and services that a processor uses. All are required.
type Dependencies struct {
	Consumer Consumer
	// Entries processes the messages of the entry queues, Exits those of the exit queues.
	Entries, Exits Handler
	DeadLetters    DeadLetters
	Durability     Durability
	Registerer     prometheus.Registerer
	Logger         *slog.Logger
}

// Processor consumes the entry and exit queues of a simulation and settles their messages.
type Processor struct {
	config    Config
	consumer  Consumer
	pipelines map[event.Type]*pipeline
	flight    *flight
	reporter  *reporter

	mu         sync.Mutex
	deliveries []<-chan broker.Delivery
}

// New returns a processor and registers its metrics.
func New(config Config, deps Dependencies) (*Processor, error) {
	if config.Partitions < 1 || config.Concurrency < 1 {
		return nil, fmt.Errorf("create a processor: partitions and concurrency must be at least 1, got %d and %d", config.Partitions, config.Concurrency)
	}
	if config.DrainTimeout == 0 {
		config.DrainTimeout = DefaultDrainTimeout
	}
	p := &Processor{
		config:    config,
		consumer:  deps.Consumer,
		pipelines: make(map[event.Type]*pipeline),
		flight:    new(flight),
		reporter:  newReporter(deps.Logger),
	}
	byType, err := newMetrics(deps.Registerer, p.InFlight)
	if err != nil {
		return nil, err
	}
	handlers := map[event.Type]Handler{event.TypeEntry: deps.Entries, event.TypeExit: deps.Exits}
	for _, t := range event.Types() {
		pl := &pipeline{
			eventType:   t,
			handler:     handlers[t],
			concurrency: config.Concurrency,
			deadLetters: deps.DeadLetters,
			durability:  deps.Durability,
			flight:      p.flight,
			metrics:     byType[t],
			reporter:    p.reporter,
			log:         deps.Logger,
		}
		for partition := range config.Partitions {
			pl.settlers = append(pl.settlers, newSettler(pl, partition))
		}
		p.pipelines[t] = pl
	}
	return p, nil
}

// prefetch returns the maximum number of unsettled deliveries of a queue.
func (c Config) prefetch() int {
	usual := max(min(c.Concurrency*prefetchFactor, maxPrefetch), c.Concurrency)
	queues := c.Partitions * len(event.Types())
	return max(usual, min(usual*int(c.Latency/prefetchWait), maxGrown/queues))
}

// Stats returns the counts since the start. It may be called at any time.
func (p *Processor) Stats() Stats {
	return Stats{
		Entry: p.pipelines[event.TypeEntry].metrics.stats(),
		Exit:  p.pipelines[event.TypeExit].metrics.stats(),
	}
}

// Totals returns the measurements since the start as a row of a timeline. It may be called at any time.
func (p *Processor) Totals() timeline.Row {
	s := p.Stats()
	return timeline.Row{Entry: s.Entry.events(), Exit: s.Exit.events()}
}

// InFlight returns the approximate number of unsettled deliveries. It is safe for concurrent use.
func (p *Processor) InFlight() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.flight.count.Load()
	for _, deliveries := range p.deliveries {
		n += int64(len(deliveries))
	}
	return n
}

// Run consumes the queues until ctx ends or the consumer fails, then settles all deliveries. Call Run only once. The
// error contains ErrUnfinished if the drain timeout expires; the end of ctx is not an error.
func (p *Processor) Run(ctx context.Context) error {
	consuming, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	working, release := async.Outlive(consuming, p.config.DrainTimeout)
	defer release()

	var background sync.WaitGroup
	background.Go(func() { p.reporter.run(working) })
	for _, pl := range p.pipelines {
		for _, s := range pl.settlers {
			background.Go(func() { s.run(working) })
		}
	}

	p.consume(consuming, working, stop)
	p.flight.empty.Wait()
	for _, pl := range p.pipelines {
		for _, s := range pl.settlers {
			s.close()
		}
	}
	release()
	background.Wait()
	return p.result(ctx, consuming)
}

// consume consumes every queue until consuming ends, and processes deliveries until working ends. It calls stop if the
// consumption of a queue fails.
func (p *Processor) consume(consuming, working context.Context, stop context.CancelCauseFunc) {
	var consumers sync.WaitGroup
	defer consumers.Wait()
	for partition := range p.config.Partitions {
		for _, t := range event.Types() {
			q := broker.Queue{Type: t, Partition: partition}
			deliveries, err := p.consumer.Consume(consuming, q, p.config.prefetch())
			if err != nil {
				stop(fmt.Errorf("consume the %s queue of partition %d: %w", t, partition, err))
				return
			}
			p.mu.Lock()
			p.deliveries = append(p.deliveries, deliveries)
			p.mu.Unlock()
			consumers.Go(func() {
				p.pipelines[t].consume(working, deliveries)
				stop(fmt.Errorf("consume the %s queue of partition %d: the broker closed the channel of deliveries", t, partition))
			})
		}
	}
}

func (p *Processor) result(ctx, consuming context.Context) error {
	var errs []error
	if ctx.Err() == nil {
		errs = append(errs, context.Cause(consuming))
	}
	if n := p.flight.requeued.Load(); n > 0 {
		errs = append(errs, fmt.Errorf("%d %w", n, ErrUnfinished))
	}
	return errors.Join(errs...)
}
