package generator

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// fakeStore is a store whose server can crash.
type fakeStore struct {
	// These functions run before and after each method takes effect. If one returns an error, the method fails. The
	// functions may be nil, and never run concurrently.
	before, after func(call string) error
	faults        sync.Mutex
	// claimTime is how long the store takes to claim plates.
	claimTime time.Duration
	// durableTime is how often the fake store makes effects durable, as Redis does with appendfsync everysec.
	durableTime time.Duration
	// If volatile is true, a crash loses everything that has changed since the latest call of WaitDurable.
	volatile bool

	mu         sync.Mutex
	epoch      int
	live, kept state
	released   []string
	starved    map[string]int64
	calls      map[string]int
}

type runPartition struct {
	run       string
	partition int
}

type claimKey struct {
	runPartition
	token int64
}

type state struct {
	leased    map[store.Counter]int64
	confirmed map[runPartition][]store.Published
	pools     map[int][]store.Plate
	claims    map[claimKey][]store.Plate
}

func newFakeStore() *fakeStore {
	empty := state{
		leased:    map[store.Counter]int64{},
		confirmed: map[runPartition][]store.Published{},
		pools:     map[int][]store.Plate{},
		claims:    map[claimKey][]store.Plate{},
	}
	return &fakeStore{live: empty, kept: empty.clone(), starved: map[string]int64{}, calls: map[string]int{}}
}

// clone copies the maps but shares the slice elements, which never change. The slices have no spare capacity, so an
// append copies the elements.
func (s state) clone() state {
	return state{
		leased:    maps.Clone(s.leased),
		confirmed: clip(s.confirmed),
		pools:     clip(s.pools),
		claims:    clip(s.claims),
	}
}

func clip[K comparable, V any](m map[K][]V) map[K][]V {
	clone := make(map[K][]V, len(m))
	for k, v := range m {
		clone[k] = slices.Clip(v)
	}
	return clone
}

// crash simulates a crash and a restart of the store's server.
func (s *fakeStore) crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	if s.volatile {
		s.live = s.kept.clone()
	}
}

// lose deletes everything in the store, including durable data.
func (s *fakeStore) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	empty := newFakeStore()
	s.epoch++
	s.live, s.kept = empty.live, empty.kept
}

// call runs s.before, effect and s.after in this order. It stops at the first error.
func (s *fakeStore) call(ctx context.Context, name string, effect func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.fault(s.before, name); err != nil {
		return err
	}
	s.mu.Lock()
	s.calls[name]++
	effect()
	s.mu.Unlock()
	return s.fault(s.after, name)
}

func (s *fakeStore) fault(fault func(string) error, name string) error {
	if fault == nil {
		return nil
	}
	s.faults.Lock()
	defer s.faults.Unlock()
	return fault(name)
}

func (s *fakeStore) Lease(ctx context.Context, counter store.Counter, n int) (first int64, err error) {
	err = s.call(ctx, "lease", func() {
		first = s.live.leased[counter]
		s.live.leased[counter] += int64(n)
	})
	return first, err
}

func (s *fakeStore) Confirm(ctx context.Context, c store.Confirmation) (next int64, err error) {
	err = s.call(ctx, "confirm", func() {
		key := runPartition{c.Run, c.Partition}
		events := s.live.confirmed[key]
		next = int64(len(events))
		if next < c.From {
			return
		}
		added := c.Events[min(next-c.From, int64(len(c.Events))):]
		s.live.confirmed[key] = append(events, added...)
		next += int64(len(added))
		if c.Type == event.TypeExit {
			return
		}
		pool := s.live.pools[c.Partition]
		for _, e := range added {
			pool = append(pool, store.Plate{Plate: e.Plate, EntryAt: e.At.Truncate(time.Millisecond)})
		}
		s.live.pools[c.Partition] = pool
	})
	return next, err
}

func (s *fakeStore) Claim(ctx context.Context, c store.Claim) (plates []store.Plate, err error) {
	time.Sleep(s.claimTime)
	err = s.call(ctx, "claim", func() {
		key := claimKey{runPartition{c.Run, c.Partition}, c.Token}
		if answered, ok := s.live.claims[key]; ok {
			plates = answered
			return
		}
		pool := slices.SortedStableFunc(slices.Values(s.live.pools[c.Partition]),
			func(a, b store.Plate) int { return a.EntryAt.Compare(b.EntryAt) })
		n := 0
		for n < min(len(pool), c.Limit, store.MaxClaim) && !pool[n].EntryAt.After(c.Now.Add(-c.MinStay)) {
			n++
		}
		if plates = pool[:n:n]; n > 0 {
			s.live.claims[key] = plates
			s.live.pools[c.Partition] = pool[n:]
		}
	})
	return plates, err
}

func (s *fakeStore) Release(ctx context.Context, c store.Claim, plates []store.Plate) error {
	return s.call(ctx, "release", func() {
		key := claimKey{runPartition{c.Run, c.Partition}, c.Token}
		for _, plate := range plates {
			if slices.Contains(s.live.claims[key], plate) {
				s.live.pools[c.Partition] = append(s.live.pools[c.Partition], plate)
				s.released = append(s.released, plate.Plate)
			}
		}
		s.live.claims[key] = nil
	})
}

func (s *fakeStore) PoolSize(ctx context.Context) (size int64, err error) {
	err = s.call(ctx, "pool size", func() {
		for _, pool := range s.live.pools {
			size += int64(len(pool))
		}
	})
	return size, err
}

func (s *fakeStore) CountStarved(ctx context.Context, run string, total int64) error {
	return s.call(ctx, "count starved", func() { s.starved[run] = total })
}

func (s *fakeStore) Mark(ctx context.Context, _ int) (mark store.Mark, err error) {
	err = s.call(ctx, "mark", func() { mark.Epoch = strconv.Itoa(s.epoch) })
	return mark, err
}

func (s *fakeStore) WaitDurable(ctx context.Context, _ int, mark store.Mark) (err error) {
	if s.durableTime > 0 {
		// An effect becomes durable with the second flush from now, because the current flush may not include it.
		time.Sleep(time.Until(time.Now().Truncate(s.durableTime / 2).Add(s.durableTime)))
	}
	failed := s.call(ctx, "wait", func() {
		if mark.Epoch != strconv.Itoa(s.epoch) {
			err = fmt.Errorf("wait: %w", store.ErrRolledBack)
		} else if s.volatile {
			s.kept = s.live.clone()
		}
	})
	return cmp.Or(failed, err)
}

// park adds parked vehicles with the given entry time to a partition. They survive a crash of the store.
func (s *fakeStore) park(partition int, at time.Time, plates ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, plate := range plates {
		s.live.pools[partition] = append(s.live.pools[partition], store.Plate{Plate: plate, EntryAt: at})
	}
	s.kept = s.live.clone()
}

func (s *fakeStore) pool(partition int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var plates []string
	for _, plate := range s.live.pools[partition] {
		plates = append(plates, plate.Plate)
	}
	return plates
}

// events returns the confirmed events of a generator process in one partition, as recorded in the store.
func (s *fakeStore) events(run string, partition int) []store.Published {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.confirmed[runPartition{run, partition}]
}

// called returns how many calls with the given name the store has received.
func (s *fakeStore) called(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[name]
}

// sent is a published message, with its queue and the time of publishing.
type sent struct {
	broker.Message
	queue broker.Queue
	at    time.Time
}

// fakePublisher accepts every message and confirms it at once, unless the fields below change this behavior.
type fakePublisher struct {
	mu sync.Mutex
	// If hold is true, messages are not confirmed until release is called. If lazy is also true, Flush confirms them.
	hold, lazy bool
	// If blocked is not nil, Publish waits until this channel is closed.
	blocked chan struct{}
	// failure is the error that Publish returns, or nil.
	failure error
	// fakePublisher.published is called just before Publish accepts a message. It may be nil.
	published func(sent)

	messages []sent
	held     []func()
}

func (p *fakePublisher) Publish(ctx context.Context, q broker.Queue, m broker.Message, confirmed func()) error {
	p.mu.Lock()
	blocked, failure := p.blocked, p.failure
	p.mu.Unlock()
	if blocked != nil {
		select {
		case <-blocked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if failure != nil {
		return failure
	}
	s := sent{Message: m, queue: q, at: time.Now()}
	if p.published != nil {
		p.published(s)
	}
	p.mu.Lock()
	p.messages = append(p.messages, s)
	hold := p.hold
	if hold {
		p.held = append(p.held, confirmed)
	}
	p.mu.Unlock()
	if !hold {
		confirmed()
	}
	return nil
}

// Flush waits until all published messages are confirmed.
func (p *fakePublisher) Flush(ctx context.Context) error {
	if p.lazy {
		for _, confirmed := range p.release() {
			confirmed()
		}
	}
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		p.mu.Lock()
		held := len(p.held)
		p.mu.Unlock()
		if held == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// set changes fields of the publisher while the publisher is locked.
func (p *fakePublisher) set(change func(*fakePublisher)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// release ends the withholding of confirmations. It returns the callbacks of the withheld confirmations.
func (p *fakePublisher) release() []func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = false
	held := p.held
	p.held = nil
	return held
}

func (p *fakePublisher) sent() []sent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.messages)
}
