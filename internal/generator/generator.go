package generator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/sequence"
	"github.com/parking-operator/parking-operator/internal/store"
)

// DefaultShutdownTimeout is less than the 30 seconds that Kubernetes by default grants a pod to stop. The
// difference is for the other steps of the shutdown.
const DefaultShutdownTimeout = 25 * time.Second

// Config is the configuration of a generator.
type Config struct {
	// Plan describes the events to generate. The method Update replaces the plan while the generator runs.
	Plan *plan.Plan
	// ExitAtEnd makes Run return when the schedule ends. Otherwise, Run waits until its context ends, because an update of
	// the plan may prolong the schedule.
	ExitAtEnd bool
	// ShutdownTimeout is how long Run may take to return after it has stopped publishing. 0 means DefaultShutdownTimeout.
	ShutdownTimeout time.Duration

	// run identifies the generator process in the identifiers of its events. Only tests set this field. If the field is
	// empty, a random value is generated.
	run string
}

// Dependencies are the dependencies of a generator. Publisher and Store are required, and several generators may share
// them. Do not close a dependency before Run returns.
type Dependencies struct {
	Publisher broker.Publisher
	Store     Store
	// Logger receives the log. nil discards the log.
	Logger *slog.Logger
	// Registerer registers the metrics. Two generators of the same type must not share a Registerer. nil means no
	// metrics.
	Registerer prometheus.Registerer
}

// Generator generates the events of one type. If several processes share the schedule of a plan, each process has its
// own Generator.
type Generator struct {
	eventType  event.Type
	run        string
	seed       uint64
	partitions int
	publisher  broker.Publisher
	log        *slog.Logger
	exitAtEnd  bool
	shutdown   time.Duration
	// pacing, encode and source have different values for entries and exits.
	pacing func(*plan.Plan) pacing
	encode func(b []byte, id, plate string, at time.Time) []byte

	plan       atomic.Pointer[plan.Plan]
	steps      *steps
	pacer      *pacer
	positions  *leaser
	source     source
	trackers   []*tracker
	committers []*committer
	metrics    *metrics

	// epoch is when Run was called.
	epoch time.Time
	// published counts the events that the publisher has accepted.
	published atomic.Int64
	lags      lags
	// confirmed counts the events that the broker has confirmed. matched counts the confirmed exits with the intent
	// "matched".
	confirmed, matched atomic.Int64
}

// NewEntry returns a generator of entries. It returns an error if its metrics cannot be registered.
func NewEntry(c Config, d Dependencies) (*Generator, error) {
	g := newGenerator(c, d, event.TypeEntry, store.CounterEntries, entryPacing)
	g.encode = func(b []byte, id, plate string, at time.Time) []byte {
		return event.AppendEntry(b, event.Entry{ID: id, Plate: plate, At: at})
	}
	g.source = &entries{sequence: sequence.New(g.seed), partitions: g.partitions}
	return g, g.metrics.register(d.Registerer, g.eventType, g.pacer)
}

// NewExit returns a generator of exits. It returns an error if its metrics cannot be registered.
func NewExit(c Config, d Dependencies) (*Generator, error) {
	g := newGenerator(c, d, event.TypeExit, store.CounterExits, exitPacing)
	g.encode = func(b []byte, id, plate string, at time.Time) []byte {
		return event.AppendExit(b, event.Exit{ID: id, Plate: plate, At: at})
	}
	g.source = &exits{
		sequence:   sequence.New(g.seed),
		partitions: g.partitions,
		plan:       &g.plan,
		claims:     newClaims(g.steps, g.log, g.run, g.partitions, g.stay, g.matchedRate),
		store:      d.Store,
		log:        g.log,
		run:        g.run,
		metrics:    g.metrics,
	}
	return g, g.metrics.register(d.Registerer, g.eventType, g.pacer)
}

func newGenerator(c Config, d Dependencies, t event.Type, counter store.Counter, pacing func(*plan.Plan) pacing) *Generator {
	g := &Generator{
		eventType:  t,
		run:        cmp.Or(c.run, event.NewRun()),
		seed:       c.Plan.Seed,
		partitions: max(1, c.Plan.Partitions),
		publisher:  d.Publisher,
		log:        d.Logger,
		exitAtEnd:  c.ExitAtEnd,
		shutdown:   cmp.Or(c.ShutdownTimeout, DefaultShutdownTimeout),
		pacing:     pacing,
		pacer:      newPacer(pacing(c.Plan)),
		metrics:    newMetrics(t),
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.log = g.log.With("generator", t, "run", g.run)
	g.plan.Store(c.Plan)
	g.steps = &steps{store: d.Store, log: g.log, latency: c.Plan.Durability.Latency()}
	g.positions = newLeaser(g.steps, counter, g.leaseRate)
	for partition := range g.partitions {
		tracker := newTracker()
		g.trackers = append(g.trackers, tracker)
		g.committers = append(g.committers, &committer{
			steps:     g.steps,
			run:       g.run,
			eventType: t,
			partition: partition,
			maxStay:   func() time.Duration { return g.plan.Load().MaxStay.D() },
			tracker:   tracker,
		})
	}
	return g
}

// stay returns the minimum time and the maximum time between the entry and the exit of a vehicle.
func (g *Generator) stay() (minStay, maxStay time.Duration) {
	p := g.plan.Load()
	return p.Exit.MinStay.D(), p.MaxStay.D()
}

// leaseRate returns the rate, in events per second, at which positions are leased. If a lease is not durable at once,
// leaseRate returns the peak rate of the schedule, because the rate may rise before the lease is durable.
func (g *Generator) leaseRate() float64 {
	if g.steps.latency == 0 {
		return g.pacer.rate(time.Now())
	}
	schedule := g.pacing(g.plan.Load()).schedule
	return float64(schedule.PeakRate()) / float64(max(1, schedule.Replicas))
}

// matchedRate returns the number of matched exits per second, now or after the latency of a claim, whichever is higher.
// Claims must precede a rise of the rate.
func (g *Generator) matchedRate() float64 {
	now := time.Now()
	rate := max(g.pacer.rate(now), g.pacer.rate(now.Add(g.steps.latency)))
	return rate * float64(g.plan.Load().Exit.MatchPercent) / sequence.Percent
}

// Update replaces the plan. Events that are already due do not change, and the generator keeps its seed and its number
// of partitions.
func (g *Generator) Update(p *plan.Plan) {
	if p.Seed != g.seed || p.Partitions != g.partitions {
		// With another seed, two parked vehicles could have the same plate. With other partitions, the entry and the
		// exit of a vehicle could be separated.
		g.log.Warn("A running generator keeps its seed and partitions; create a new simulation to change them",
			"seed", g.seed, "partitions", g.partitions)
	}
	g.plan.Store(p)
	g.pacer.update(g.pacing(p), time.Now())
}

// Run generates events until ctx ends or, if ExitAtEnd is set, the schedule ends. It then waits until all confirmations
// are durably recorded, for at most ShutdownTimeout. It does not wait if async.Killed(ctx) is true.
//
// Run fails if confirmations are missing, the publisher is closed, or the store has lost data. It must be called only
// once.
func (g *Generator) Run(ctx context.Context) error {
	generating, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	finishing, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	stopping := make(chan struct{})

	g.epoch = time.Now()
	g.pacer.start(g.epoch)
	var helpers sync.WaitGroup
	helpers.Go(func() { g.positions.run(generating) })
	helpers.Go(func() { g.source.serve(finishing, stopping) })
	for _, c := range g.committers {
		helpers.Go(func() {
			if err := c.commit(finishing, stopping); errors.As(err, new(finalError)) {
				fail(err)
			}
		})
	}

	err := g.generate(generating)
	if generating.Err() != nil {
		err = failure(generating)
	}
	g.pacer.stop(time.Now())
	fail(nil)
	close(stopping)
	if async.Killed(ctx) {
		abandon()
	}
	timeout := time.AfterFunc(g.shutdown, abandon)
	defer timeout.Stop()
	return errors.Join(err, g.finish(finishing, &helpers))
}

// failure returns the finalError that has ended ctx, or nil if no such error has.
func failure(ctx context.Context) error {
	if err := context.Cause(ctx); errors.As(err, new(finalError)) {
		return err
	}
	return nil
}

// finish waits until the confirmations of all published events are durably recorded, and until the background
// goroutines have returned.
func (g *Generator) finish(ctx context.Context, helpers *sync.WaitGroup) error {
	flushed := g.publisher.Flush(ctx)
	helpers.Wait()
	// An audit counts events without a recorded confirmation as indeterminate: neither as lost nor as duplicated.
	if n := g.outstanding(); n > 0 {
		unknown := fmt.Errorf("the generator did not stop within %s: %d published events of run %s may or may not be confirmed", g.shutdown, n, g.run)
		if ctx.Err() != nil {
			return unknown // omit the error of Flush, which says only that ctx has ended
		}
		return errors.Join(unknown, flushed)
	}
	return nil
}

// outstanding returns the number of published events whose confirmation is not yet durably recorded in the store.
func (g *Generator) outstanding() int64 {
	var sum int64
	for _, t := range g.trackers {
		durable, _, next := t.marks()
		sum += next - durable
	}
	return sum
}

// generate publishes each event when it is due. It returns when ctx ends, or, if exitAtEnd is set, when the
// schedule ends.
func (g *Generator) generate(ctx context.Context) error {
	if err := g.prepare(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(never)
	defer timer.Stop()
	for ended := false; ctx.Err() == nil; {
		now := time.Now()
		due, wait, over := g.pacer.next(now)
		if over && !ended && !g.exitAtEnd {
			g.log.Info("The schedule has ended; no more events are due unless an update of the plan prolongs it")
		}
		ended = over
		switch {
		case over && g.exitAtEnd:
			return nil
		case wait > 0:
			g.sleep(ctx, timer, wait)
		default:
			g.lags.observe(now, -wait)
			if err := g.emit(ctx, due); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// prepare registers this process in every partition of the store, and waits until the leaser has reserved the first
// event numbers.
func (g *Generator) prepare(ctx context.Context) error {
	failures := make([]error, len(g.committers))
	var registering sync.WaitGroup
	for i, c := range g.committers {
		registering.Go(func() { failures[i] = c.register(ctx) })
	}
	registering.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	first, err := g.positions.peek(ctx)
	if err != nil {
		return err
	}
	g.pacer.seed(g.seed, uint64(first))
	return nil
}

// sleep waits for the given time. It returns early if the schedule is edited or ctx ends.
func (g *Generator) sleep(ctx context.Context, timer *time.Timer, wait time.Duration) {
	timer.Reset(wait)
	select {
	case <-timer.C:
	case <-g.pacer.edited:
	case <-ctx.Done():
	}
}

// emit publishes the next event. It skips an exit that needs a plate if no plate is available.
func (g *Generator) emit(ctx context.Context, due time.Time) error {
	position, err := g.positions.next(ctx)
	if err != nil {
		return err
	}
	d, ok, err := g.source.draft(ctx, position)
	if err != nil {
		return err
	}
	if ok {
		if err := g.publish(ctx, d, due); err != nil {
			g.source.withdrawn(d)
			return err
		}
	}
	g.pacer.advance()
	return nil
}

// bodySize is large enough for the body of every generated event.
const bodySize = 128

// publish gives the event a sequence number and publishes the event. If the tracker of the event's partition is full,
// publish first waits until the tracker has room.
func (g *Generator) publish(ctx context.Context, d draft, due time.Time) error {
	tracker := g.trackers[d.partition]
	if err := waitForRoom(ctx, tracker); err != nil {
		return err
	}
	now := time.Now()
	at := now
	if at.Before(d.earliest) {
		at = d.earliest
	}
	sent := now.Sub(g.epoch)
	seq := tracker.add(record{plate: d.plate, at: at.UnixNano(), sent: sent, intent: d.intent})
	id := event.ID{Run: g.run, Partition: d.partition, Seq: seq}.String()
	message := broker.Message{
		ID:          id,
		Type:        g.eventType,
		AppID:       event.AppID,
		ContentType: event.ContentType,
		Timestamp:   now,
		Intent:      d.intent,
		Scheduled:   due,
		Body:        g.encode(make([]byte, 0, bodySize), id, d.plate, at),
	}
	queue := broker.Queue{Type: g.eventType, Partition: d.partition}
	err := g.publisher.Publish(ctx, queue, message, func() { g.confirm(tracker, seq) })
	if err != nil {
		tracker.retract()
		return fmt.Errorf("publish event %s: %w", id, err)
	}
	g.published.Add(1)
	return nil
}

func waitForRoom(ctx context.Context, t *tracker) error {
	for t.full() {
		select {
		case <-t.room:
		case <-ctx.Done():
			return fmt.Errorf("wait until the store has recorded earlier events: %w", ctx.Err())
		}
	}
	return nil
}

// confirm counts an event that the broker has confirmed.
func (g *Generator) confirm(t *tracker, seq int64) {
	r, ok := t.confirm(seq)
	if !ok {
		return
	}
	g.confirmed.Add(1)
	if r.intent == event.IntentMatched {
		g.matched.Add(1)
	}
	g.metrics.published[r.intent].Inc()
	g.metrics.confirm.Observe((time.Since(g.epoch) - r.sent).Seconds())
}
