package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
)

const (
	// DefaultDrainTimeout leaves a third of the 30 s that Kubernetes grants by default for everything else.
	DefaultDrainTimeout = 20 * time.Second

	// prefetchFactor is the number of unsettled deliveries per worker: one being processed, the others on
	// their way or waiting for durability. At 5,000 events/s and 256 workers it covers 400 ms of waiting.
	prefetchFactor = 8
	// maxPrefetch bounds the memory that deliveries take: half a gigabyte if every body were of the
	// largest size, some megabytes with those of the generators.
	maxPrefetch = 8192
)

// ErrUnfinished is returned by Run when the time to drain was over before everything in flight was
// settled. The rest was given back to its queues; nothing is lost.
var ErrUnfinished = errors.New("deliveries were given back to their queues unfinished")

// Config says how much a processor does at a time.
type Config struct {
	// Partitions is the number of entry queues and of exit queues, all of which are consumed, and the
	// number of partitions of the store.
	Partitions int
	// Concurrency bounds the messages that are being processed at a time, per queue.
	Concurrency int
	// DrainTimeout bounds how long Run goes on to finish what is in flight after its context has ended;
	// 0 means DefaultDrainTimeout.
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
		return nil, fmt.Errorf("a processor needs at least one partition and a concurrency of one, not %d and %d", config.Partitions, config.Concurrency)
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
	byType, err := newInstruments(deps.Registerer, p.InFlight)
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
			instruments: byType[t],
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

// prefetch is the number of unsettled deliveries that a queue needs to keep concurrency workers busy
// while finished deliveries wait for durability.
func prefetch(concurrency int) int {
	return max(min(concurrency*prefetchFactor, maxPrefetch), concurrency)
}

// Stats returns what has been done so far. It may be called at any time.
func (p *Processor) Stats() Stats {
	return Stats{
		Entry: p.pipelines[event.TypeEntry].instruments.stats(),
		Exit:  p.pipelines[event.TypeExit].instruments.stats(),
	}
}

// InFlight counts the deliveries that the consumer has handed over and that are not settled yet. One that
// a worker is just taking may be missed. It may be called at any time.
func (p *Processor) InFlight() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.flight.count.Load()
	for _, deliveries := range p.deliveries {
		n += int64(len(deliveries))
	}
	return n
}

// Run consumes the queues until ctx ends, and then finishes and settles every delivery that it was
// handed. It is called once.
//
// It returns nil after such an end; ErrUnfinished if deliveries had to be given back because the drain
// timeout passed; and before ctx ends only an error of the consumer, having drained likewise.
func (p *Processor) Run(ctx context.Context) error {
	consuming, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	working, release := outlive(consuming, p.config.DrainTimeout)
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

// consume consumes every queue until consuming ends and what was delivered has been processed. The end of
// one queue's deliveries before that ends all.
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
				stop(fmt.Errorf("consume the %s queue of partition %d: the deliveries ended", t, partition))
			})
		}
	}
}

// result is what Run returns.
func (p *Processor) result(ctx, consuming context.Context) error {
	var errs []error
	if ctx.Err() == nil {
		errs = append(errs, context.Cause(consuming))
	}
	if n := p.flight.returned.Load(); n > 0 {
		errs = append(errs, fmt.Errorf("%d %w", n, ErrUnfinished))
	}
	return errors.Join(errs...)
}

// outlive returns a context with the values of ctx that ends d after ctx does, or when release is called.
func outlive(ctx context.Context, d time.Duration) (outliving context.Context, release context.CancelFunc) {
	outliving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(d, cancel)
		context.AfterFunc(outliving, func() { timer.Stop() })
	})
	return outliving, cancel
}
