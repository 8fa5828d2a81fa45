package simulate

import (
	"context"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Phase says how far a simulation has progressed.
type Phase int32

// The phases, in chronological order.
const (
	Generating Phase = iota
	Draining
	Auditing
)

// String returns the display name of the phase.
func (p Phase) String() string {
	switch p {
	case Generating:
		return "running"
	case Draining:
		return "draining"
	case Auditing:
		return "auditing"
	}
	return "unknown"
}

// Progress contains the counts and rates of a simulation so far.
type Progress struct {
	Phase Phase
	// At is the time of this snapshot. Elapsed is the time since the start of the simulation.
	At      time.Time
	Elapsed time.Duration
	Entries generator.Stats
	Exits   generator.Stats
	Done    processor.Stats
	// InFlight is the number of deliveries that the processors hold.
	InFlight int64
	// Depths counts the messages in the queues, without those that the processors hold. It is nil if the broker did not
	// respond to the latest poll.
	Depths *broker.Depths
	// Pool is the number of available plates. It is nil if the store did not respond to the latest poll.
	Pool *int64
}

// Progress returns the current counts and rates. It may be called at any time.
func (s *Simulation) Progress() Progress {
	p := Progress{
		Phase:    Phase(s.phase.Load()),
		At:       time.Now(),
		Entries:  s.entries.Stats(),
		Exits:    s.exits.Stats(),
		Done:     s.processor.Stats(),
		InFlight: s.inFlight(),
	}
	if start := s.started.Load(); start != nil {
		p.Elapsed = p.At.Sub(*start)
	}
	p.Depths, p.Pool = s.observed.latest()
	return p
}

func (s *Simulation) enter(p Phase) {
	s.phase.Store(int32(p))
	s.recorder.Mark(timeline.Mark{At: time.Now(), Kind: timeline.MarkPhase, Message: p.String()})
}

const (
	// serverPoll is the interval at which the broker and the store are polled. serverTimeout is the timeout of
	// such a poll.
	serverPoll    = 500 * time.Millisecond
	serverTimeout = 2 * time.Second
)

// observed contains the results of the latest poll of the broker and the store, and the longest lag of each event type
// so far.
type observed struct {
	mu                sync.Mutex
	depths            *broker.Depths
	pool              *int64
	entryLag, exitLag time.Duration
}

func (o *observed) latest() (*broker.Depths, *int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.depths, o.pool
}

func (o *observed) maxLags() (entry, exit time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.entryLag, o.exitLag
}

func (o *observed) recordLags(entry, exit time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.entryLag, o.exitLag = max(o.entryLag, entry), max(o.exitLag, exit)
}

func (o *observed) recordServers(depths *broker.Depths, pool *int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.depths, o.pool = depths, pool
}

// recordDepths stores the queue depths of the latest poll.
func (o *observed) recordDepths(depths broker.Depths) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.depths = &depths
}

// observe polls the generators, the broker and the store periodically until ctx ends.
func (s *Simulation) observe(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		stages, start := timeline.NewMarker(s.recorder.Mark, event.TypeEntry, event.TypeExit), *s.started.Load()
		async.Every(ctx, timeline.MarkerInterval, func() {
			now, totals := time.Now(), s.totals()
			stages.Observe(&s.config.Plan, start, now)
			s.observed.recordLags(totals.Entry.Lag, totals.Exit.Lag)
			s.objectives.Measured(now, &s.config.Plan.Objectives, &totals)
		})
	})
	work.Go(func() { timeline.WatchServer(ctx, timeline.SubjectBroker, s.deps.Broker.Ping, s.recorder.Mark) })
	work.Go(func() { timeline.WatchServer(ctx, timeline.SubjectStore, s.deps.Store.Ping, s.recorder.Mark) })
	async.Every(ctx, serverPoll, func() { s.observeServers(ctx) })
}

func (s *Simulation) observeServers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	depths, depthsErr := s.depths(ctx, s.inFlight())
	pool, poolErr := s.deps.Store.PoolSize(ctx)
	s.observed.recordServers(unlessFailed(depths, depthsErr), unlessFailed(pool, poolErr))
}

// depths returns the numbers of messages in the queues, without the messages that the processors hold.
func (s *Simulation) depths(ctx context.Context, inFlight int64) (broker.Depths, error) {
	depths, err := s.deps.Broker.Depths(ctx)
	if s.config.DepthsHoldInFlight {
		depths.Ready = max(depths.Ready-inFlight, 0)
	}
	return depths, err
}

func unlessFailed[T any](value T, err error) *T {
	if err != nil {
		return nil
	}
	return &value
}
