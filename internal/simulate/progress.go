package simulate

import (
	"context"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/processor"
)

// Phase is how far a simulation has come.
type Phase int32

// The phases, in their order.
const (
	Generating Phase = iota
	Draining
	Auditing
)

// String says what is being done.
func (p Phase) String() string {
	switch p {
	case Generating:
		return "running"
	case Draining:
		return "coming to rest"
	case Auditing:
		return "auditing"
	}
	return "unknown"
}

// Progress is what a simulation has done so far.
type Progress struct {
	Phase Phase
	// At is when this was so, Elapsed the time since the start.
	At      time.Time
	Elapsed time.Duration
	Entries generator.Stats
	Exits   generator.Stats
	Done    processor.Stats
	// InFlight counts the deliveries in processors.
	InFlight int64
	// Depths are the messages in the queues, those in processors not counted, and Pool is the plates
	// available. They are a moment old, and nil when broker or store did not answer.
	Depths *broker.Depths
	Pool   *int64
}

// Progress returns what has been done so far. It may be called at any time.
func (s *Simulation) Progress() Progress {
	p := Progress{
		Phase:    Phase(s.phase.Load()),
		At:       time.Now(),
		Entries:  s.entries.Stats(),
		Exits:    s.exits.Stats(),
		Done:     s.processor.Stats(),
		InFlight: s.processor.InFlight(),
	}
	if start := s.started.Load(); start != nil {
		p.Elapsed = p.At.Sub(*start)
	}
	p.Depths, p.Pool = s.observed.latest()
	return p
}

func (s *Simulation) enter(p Phase) { s.phase.Store(int32(p)) }

const (
	// lagPoll is how often the generators' lag is looked at.
	lagPoll = 100 * time.Millisecond
	// depthPoll is how often broker and store are asked for what only they know.
	depthPoll = 500 * time.Millisecond
	// observeTimeout is how long they have to answer.
	observeTimeout = 2 * time.Second
)

// observed is what is looked at from time to time.
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

func (o *observed) lagged(entry, exit time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.entryLag, o.exitLag = max(o.entryLag, entry), max(o.exitLag, exit)
}

// observe keeps looking until ctx ends.
func (s *Simulation) observe(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		each(ctx, lagPoll, func() { s.observed.lagged(s.entries.Stats().Lag, s.exits.Stats().Lag) })
	})
	each(ctx, depthPoll, func() { s.observeServers(ctx) })
}

// observeServers asks broker and store.
func (s *Simulation) observeServers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	depths, depthsErr := s.depths(ctx, s.processor.InFlight())
	pool, poolErr := s.options.Store.PoolSize(ctx)
	s.observed.answered(known(depths, depthsErr), known(pool, poolErr))
}

// depths counts the messages in the queues, without those that processors hold.
func (s *Simulation) depths(ctx context.Context, inFlight int64) (broker.Depths, error) {
	depths, err := s.options.Broker.Depths(ctx)
	if s.options.DepthsHoldInFlight {
		depths.Ready = max(depths.Ready-inFlight, 0)
	}
	return depths, err
}

// known points to a value, or to nothing when there was an error.
func known[T any](value T, err error) *T {
	if err != nil {
		return nil
	}
	return &value
}

func (o *observed) answered(depths *broker.Depths, pool *int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.depths, o.pool = depths, pool
}

// each calls f at once and then once an interval until ctx ends.
func each(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		f()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
