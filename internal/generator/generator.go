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

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/sequence"
	"github.com/parking-operator/parking-operator/internal/store"
)

// DefaultShutdownTimeout leaves some of the 30 seconds that a pod has to shut down.
const DefaultShutdownTimeout = 25 * time.Second

// Options are what a generator is made of.
type Options struct {
	// Plan says what to generate. Update replaces it while the generator runs.
	Plan *plan.Plan
	// Publisher and Store must outlive Run. They may be shared.
	Publisher broker.Publisher
	Store     Store
	// Logger is where the generator logs; nil discards.
	Logger *slog.Logger
	// Registerer takes the metrics of at most one generator of each type; nil means no metrics.
	Registerer prometheus.Registerer
	// ExitAtEnd makes Run return when the schedule is over. Otherwise it waits for an update that prolongs
	// the schedule, until its context ends.
	ExitAtEnd bool
	// ShutdownTimeout bounds the time that Run takes to return when its context has ended; 0 means
	// DefaultShutdownTimeout.
	ShutdownTimeout time.Duration

	// run names the run instead of event.NewRun, for tests.
	run string
}

// Generator generates the events of one type, as one of the processes that share the plan's schedule.
type Generator struct {
	eventType  event.Type
	run        string
	seed       uint64
	partitions int
	publisher  broker.Publisher
	log        *slog.Logger
	exitAtEnd  bool
	shutdown   time.Duration
	// pacing and encode are what differs between the types, apart from the source.
	pacing func(*plan.Plan) pacing
	encode func(b []byte, id, plate string, at time.Time) []byte

	plan       atomic.Pointer[plan.Plan]
	steps      *steps
	pacer      *pacer
	positions  *leaser
	source     source
	trackers   []*tracker
	committers []*committer
	metrics    *instruments

	// epoch is when Run was called.
	epoch time.Time
	// published counts the events that the publisher took, the last of them lastSent after epoch.
	published, lastSent atomic.Int64
	// confirmed counts the events that the broker confirmed, matched those of them with that intent.
	confirmed, matched atomic.Int64
}

// NewEntry returns a generator of entries. It fails when the metrics cannot be registered.
func NewEntry(o Options) (*Generator, error) {
	g := newGenerator(o, event.TypeEntry, store.CounterEntries, entryPacing)
	g.encode = func(b []byte, id, plate string, at time.Time) []byte {
		return event.AppendEntry(b, event.Entry{ID: id, Plate: plate, At: at})
	}
	g.source = &entries{sequence: sequence.New(g.seed), partitions: g.partitions}
	return g, g.metrics.register(o.Registerer, g.eventType, g.pacer)
}

// NewExit returns a generator of exits. It fails as NewEntry does.
func NewExit(o Options) (*Generator, error) {
	g := newGenerator(o, event.TypeExit, store.CounterExits, exitPacing)
	g.encode = func(b []byte, id, plate string, at time.Time) []byte {
		return event.AppendExit(b, event.Exit{ID: id, Plate: plate, At: at})
	}
	g.source = &exits{
		sequence:   sequence.New(g.seed),
		partitions: g.partitions,
		plan:       &g.plan,
		claims:     newClaims(g.steps, g.log, g.run, g.partitions, g.stay, g.matchedRate),
		store:      o.Store,
		log:        g.log,
		run:        g.run,
		metrics:    g.metrics,
	}
	return g, g.metrics.register(o.Registerer, g.eventType, g.pacer)
}

func newGenerator(o Options, t event.Type, counter store.Counter, pacing func(*plan.Plan) pacing) *Generator {
	g := &Generator{
		eventType:  t,
		run:        cmp.Or(o.run, event.NewRun()),
		seed:       o.Plan.Seed,
		partitions: max(1, o.Plan.Partitions),
		publisher:  o.Publisher,
		log:        o.Logger,
		exitAtEnd:  o.ExitAtEnd,
		shutdown:   cmp.Or(o.ShutdownTimeout, DefaultShutdownTimeout),
		pacing:     pacing,
		pacer:      newPacer(pacing(o.Plan)),
		metrics:    newInstruments(t),
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.log = g.log.With("generator", t, "run", g.run)
	g.plan.Store(o.Plan)
	g.steps = &steps{store: o.Store, log: g.log}
	g.positions = newLeaser(g.steps, counter, func() float64 { return g.pacer.rate(time.Now()) })
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

// stay returns for how long a plate has to have been available before it may leave, and may be available.
func (g *Generator) stay() (minStay, maxStay time.Duration) {
	p := g.plan.Load()
	return p.Exit.MinStay.D(), p.MaxStay.D()
}

// matchedRate returns the present rate of exits that are drawn to match, per second.
func (g *Generator) matchedRate() float64 {
	return g.pacer.rate(time.Now()) * float64(g.plan.Load().Exit.MatchPercent) / sequence.Percent
}

// Update makes the generator follow another plan from now on. Nothing that is under way is lost, and what
// was due already stays due. The number of partitions and the seed are those that the generator started
// with: another seed could let two parked cars have the same plate.
func (g *Generator) Update(p *plan.Plan) {
	if p.Seed != g.seed || p.Partitions != g.partitions {
		g.log.Warn("a running generator keeps its seed and partitions; create another simulation to change them",
			"seed", g.seed, "partitions", g.partitions)
	}
	g.plan.Store(p)
	g.pacer.update(g.pacing(p), time.Now())
}

// Run generates events until ctx ends or, with ExitAtEnd, until the schedule is over. Then it waits until
// the broker has confirmed what was published and the store durably knows, and gives back what was claimed
// and not used, but no longer than ShutdownTimeout.
//
// It returns an error when that did not suffice: the events in question are indeterminate to an audit,
// neither lost nor counted twice. It also returns an error when the publisher was closed, and when the
// store lost what was durable. It must be called once.
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
	timeout := time.AfterFunc(g.shutdown, abandon)
	defer timeout.Stop()
	return errors.Join(err, g.finish(finishing, &helpers))
}

// failure returns why ctx was cancelled, if that was for a failure.
func failure(ctx context.Context) error {
	if err := context.Cause(ctx); errors.As(err, new(finalError)) {
		return err
	}
	return nil
}

// finish waits until everything that was published is confirmed, durably, and the helpers are done.
func (g *Generator) finish(ctx context.Context, helpers *sync.WaitGroup) error {
	flushed := g.publisher.Flush(ctx)
	helpers.Wait()
	if n := g.outstanding(); n > 0 {
		unknown := fmt.Errorf("stop within %s: %d published events of run %s are not known to be confirmed", g.shutdown, n, g.run)
		if ctx.Err() != nil {
			return unknown // the time was over, which says it all
		}
		return errors.Join(unknown, flushed)
	}
	return nil
}

// outstanding counts the published events that the store does not yet durably know to be confirmed.
func (g *Generator) outstanding() int64 {
	var sum int64
	for _, t := range g.trackers {
		durable, _, next := t.marks()
		sum += next - durable
	}
	return sum
}

// generate publishes what is due until ctx ends.
func (g *Generator) generate(ctx context.Context) error {
	if err := g.prepare(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(never)
	defer timer.Stop()
	for ended := false; ctx.Err() == nil; {
		due, wait, over := g.pacer.next(time.Now())
		if over && !ended && !g.exitAtEnd {
			g.log.Info("the schedule is over; no event is due unless the plan's duration is prolonged")
		}
		ended = over
		switch {
		case over && g.exitAtEnd:
			return nil
		case wait > 0:
			g.pause(ctx, timer, wait)
		default:
			if err := g.emit(ctx, due); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// prepare registers the run in every partition and waits for the first positions.
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

// pause waits until the next event is due, as far as is known.
func (g *Generator) pause(ctx context.Context, timer *time.Timer, wait time.Duration) {
	timer.Reset(wait)
	select {
	case <-timer.C:
	case <-g.pacer.edited:
	case <-ctx.Done():
	}
}

// emit publishes the event that is due, if its position has one.
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
	g.pacer.take()
	return nil
}

// bodySize is the capacity that holds the body of any generated event.
const bodySize = 128

// publish publishes the event of a draft and waits for room to do so.
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
	g.lastSent.Store(int64(sent))
	return nil
}

func waitForRoom(ctx context.Context, t *tracker) error {
	for t.full() {
		select {
		case <-t.room:
		case <-ctx.Done():
			return fmt.Errorf("wait until the store knows of earlier events: %w", ctx.Err())
		}
	}
	return nil
}

// confirm notes that the broker confirmed an event.
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
