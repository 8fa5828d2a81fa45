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
	// DefaultDrainTimeout leaves a third of the 30 s that Kubernetes grants a pod by default.
	DefaultDrainTimeout = 20 * time.Second

	// prefetchFactor is the number of unsettled deliveries per worker. One of them is being processed. The
	// others are on their way or wait for durability. With 5,000 events/s and 256 workers this covers a wait
	// of 400 ms.
	prefetchFactor = 8
	// maxPrefetch bounds the memory of deliveries. With bodies of the largest size it is half a gigabyte, with
	// generated events a few megabytes.
	maxPrefetch = 8192
)

// ErrUnfinished is returned by Run when the drain timeout was over before all deliveries were settled. The
// others were requeued. No event is lost.
var ErrUnfinished = errors.New("deliveries were requeued because the drain timeout was over")

// Config describes a processor.
type Config struct {
	// Partitions is the number of entry queues, of exit queues, and of partitions of the store. The processor
	// consumes all queues.
	Partitions int
	// Concurrency bounds the messages of each queue that are processed concurrently.
	Concurrency int
	// DrainTimeout bounds how long Run continues after its context has ended, unless that has the cause
	// async.ErrKilled. 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration
}

// Dependencies are what a processor works with. All are required.
type Dependencies struct {
	Consumer Consumer
	// Entries and Exits process the messages of their queues.
	Entries, Exits Handler
	DeadLetters    DeadLetters
	Durability     Durability
	Registerer     prometheus.Registerer
	Logger         *slog.Logger
}

// Processor consumes the queues of a simulation.
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

// prefetch returns the number of unsettled deliveries that keeps all workers busy while finished deliveries
// wait for durability.
func prefetch(concurrency int) int {
	return max(min(concurrency*prefetchFactor, maxPrefetch), concurrency)
}

// Stats returns the counts so far. It may be called at any time.
func (p *Processor) Stats() Stats {
	return Stats{
		Entry: p.pipelines[event.TypeEntry].metrics.stats(),
		Exit:  p.pipelines[event.TypeExit].metrics.stats(),
	}
}

// Totals returns the measurements so far, for a timeline. It may be called at any time.
func (p *Processor) Totals() timeline.Row {
	s := p.Stats()
	return timeline.Row{Entry: s.Entry.events(), Exit: s.Exit.events()}
}

// InFlight returns the number of deliveries that the consumer has delivered and that are not settled. The
// number may lack a delivery that a worker is just receiving. InFlight may be called at any time.
func (p *Processor) InFlight() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.flight.count.Load()
	for _, deliveries := range p.deliveries {
		n += int64(len(deliveries))
	}
	return n
}

// Run consumes the queues until ctx ends, and then finishes and settles all deliveries. It must be called
// once.
//
// Run returns nil after that, or ErrUnfinished if the drain timeout was over first. It returns early with an
// error only if the consumer fails. It then settles all deliveries in the same way.
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

// consume consumes every queue until consuming ends and all deliveries are processed. If the deliveries of
// one queue end earlier, consume stops all queues.
func (p *Processor) consume(consuming, working context.Context, stop context.CancelCauseFunc) {
	var consumers sync.WaitGroup
	defer consumers.Wait()
	for partition := range p.config.Partitions {
		for _, t := range event.Types() {
			q := broker.Queue{Type: t, Partition: partition}
			deliveries, err := p.consumer.Consume(consuming, q, prefetch(p.config.Concurrency))
			if err != nil {
				stop(fmt.Errorf("consume the %s queue of partition %d: %w", t, partition, err))
				return
			}
			p.mu.Lock()
			p.deliveries = append(p.deliveries, deliveries)
			p.mu.Unlock()
			consumers.Go(func() {
				p.pipelines[t].consume(working, deliveries)
				stop(fmt.Errorf("consume the %s queue of partition %d: the broker ended the deliveries", t, partition))
			})
		}
	}
}

// result returns the error of Run.
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
