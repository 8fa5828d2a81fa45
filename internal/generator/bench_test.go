package generator

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/store"
)

// idleStore is a store that does nothing, so that a benchmark measures only the generator.
type idleStore struct {
	leased  atomic.Int64
	claimed []store.Plate
}

func newIdleStore() *idleStore {
	return &idleStore{claimed: slices.Repeat([]store.Plate{{Plate: "ABC-1234"}}, maxHeld)}
}

func (s *idleStore) Lease(_ context.Context, _ store.Counter, n int) (int64, error) {
	return s.leased.Add(int64(n)) - int64(n), nil
}

func (s *idleStore) Confirm(_ context.Context, c store.Confirmation) (int64, error) {
	return c.From + int64(len(c.Events)), nil
}

func (s *idleStore) Claim(_ context.Context, c store.Claim) ([]store.Plate, error) {
	return s.claimed[:c.Limit], nil
}

func (s *idleStore) Release(context.Context, store.Claim, []store.Plate) error { return nil }
func (s *idleStore) PoolSize(context.Context) (int64, error)                   { return 0, nil }
func (s *idleStore) CountStarved(context.Context, string, int64) error         { return nil }
func (s *idleStore) Mark(context.Context, int) (store.Mark, error)             { return store.Mark{}, nil }
func (s *idleStore) WaitDurable(context.Context, int, store.Mark) error        { return nil }

// countingPublisher confirms every event immediately. After n events, it calls done.
type countingPublisher struct {
	n    int
	done func()
}

func (p *countingPublisher) Publish(_ context.Context, _ broker.Queue, _ broker.Message, confirmed func()) error {
	if p.n--; p.n == 0 {
		p.done()
	}
	confirmed()
	return nil
}

func (p *countingPublisher) Flush(context.Context) error { return nil }

// BenchmarkGenerator measures all work on an event: from the schedule until the store has recorded that the
// broker confirmed the event.
func BenchmarkGenerator(b *testing.B) {
	for _, bm := range []struct {
		name      string
		construct constructor
		percent   int
		partition int
	}{
		{"entries", NewEntry, 0, 1},
		{"entries to 4 partitions", NewEntry, 0, 4},
		{"unmatched exits", NewExit, 0, 1},
		{"exits of 20 percent", NewExit, 20, 1},
		{"matched exits", NewExit, 100, 1},
	} {
		b.Run(bm.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			p := testPlan(math.MaxInt32, partitions(bm.partition), matchPercent(bm.percent), minStay(-time.Hour))
			p.StartTime = time.Now().Add(-time.Hour)
			g, err := bm.construct.with(options{
				Plan:       p,
				Publisher:  &countingPublisher{n: b.N, done: cancel},
				Store:      newIdleStore(),
				Registerer: prometheus.NewRegistry(),
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			if err := g.Run(ctx); err != nil {
				b.Fatal(err)
			}
		})
	}
}
