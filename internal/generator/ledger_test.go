package generator

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/broker"
	memorybroker "github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/store"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
)

// The test edits, restarts and kills generators. A killed generator cannot write to the store, but the audit must count
// the same events as the generators.
func TestGeneratorRun_EditedRestartedAndKilled_AuditMatchesTheStatsOfTheGenerators(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const queues = 2
		b, err := memorybroker.New(memorybroker.Config{Partitions: queues})
		if err != nil {
			t.Fatal(err)
		}
		s := memorystore.New(memorystore.Config{Partitions: queues})
		consuming, stopConsuming := context.WithCancel(t.Context())
		var consumers sync.WaitGroup
		for _, eventType := range event.Types() {
			for partition := range queues {
				deliveries, err := b.Consume(consuming, broker.Queue{Type: eventType, Partition: partition}, 100)
				if err != nil {
					t.Fatal(err)
				}
				consumers.Go(func() {
					for d := range deliveries {
						if err := process(s, d); err != nil {
							t.Errorf("process %s: %v", d.Message.ID, err)
						}
					}
				})
			}
		}

		p := testPlan(200, partitions(queues), matchPercent(60), minStay(time.Second), poisson)
		p.StartTime = time.Now()
		killed := &mortalStore{Store: s}
		var want ledger.Report
		for round := range 4 {
			o := options{Plan: p, Publisher: b, Store: s, ShutdownTimeout: 2 * time.Second}
			if round == 2 {
				o.Store = killed
			}
			entry, exit := start(t, build(t, NewEntry, o)), start(t, build(t, NewExit, o))
			pass(5 * time.Second)
			faster := *p
			faster.Entry.Rate, faster.Exit.Rate, faster.Exit.MatchPercent = 1000, 700, 80
			entry.Update(&faster)
			exit.Update(&faster)
			pass(3 * time.Second)
			if round == 2 {
				killed.kill()
				pass(100 * time.Millisecond)
				entry.stop()
				exit.stop()
				if <-entry.done == nil || <-exit.done == nil {
					t.Error("a generator without a store stopped without an error")
				}
				want.IndeterminateEntries = entry.Stats().Outstanding
				want.Indeterminate = want.IndeterminateEntries + exit.Stats().Outstanding
			} else {
				entry.finish(t)
				exit.finish(t)
			}
			e, x := entry.Stats(), exit.Stats()
			want.EntriesRecorded += e.Confirmed
			want.Matched += x.Matched
			want.UnmatchedExpected += x.Unmatched
			if round != 2 {
				want.Starved += x.Starved
			}
		}
		pass(time.Minute)
		stopConsuming()
		consumers.Wait()

		got, err := ledger.Audit(t.Context(), s, ledger.Options{AtRest: true})
		if err != nil {
			t.Fatal(err)
		}
		if got.Lost != 0 || got.TakenTwice != 0 || got.Uncounted != 0 || got.UnmatchedUnexpected != 0 || got.Outbox != 0 {
			t.Errorf("the ledger does not balance: %+v", got)
		}
		if got.Matched == 0 || got.Indeterminate == 0 {
			t.Errorf("the test covers neither matched nor indeterminate events: %+v", got)
		}
		type figures struct{ Entries, Matched, Unmatched, Indeterminate, IndeterminateEntries, Starved int64 }
		diff := cmp.Diff(
			figures{want.EntriesRecorded, want.Matched, want.UnmatchedExpected, want.Indeterminate, want.IndeterminateEntries, want.Starved},
			figures{got.EntriesRecorded, got.Matched, got.UnmatchedExpected, got.Indeterminate, got.IndeterminateEntries, got.Starved})
		if diff != "" {
			t.Errorf("figures of the audit (-generators +audit):\n%s", diff)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// process handles a delivery as a processor would.
func process(s store.Store, d broker.Delivery) error {
	ctx := context.Background()
	id, ok := event.ParseID(d.Message.ID)
	if !ok {
		return errors.New("not the ID of a generated event")
	}
	origin := store.Origin{ID: d.Message.ID, Run: id.Run, Partition: id.Partition, Seq: id.Seq}
	if d.Queue.Type == event.TypeEntry {
		e, err := event.ParseEntry(d.Message.Body)
		if err != nil {
			return err
		}
		step := store.EntryStep{Origin: origin, Partition: d.Queue.Partition, Plate: e.Plate, At: e.At, MaxStay: time.Hour}
		if _, err := s.RecordEntry(ctx, step); err != nil {
			return err
		}
		return d.Settler.Ack()
	}
	e, err := event.ParseExit(d.Message.Body)
	if err != nil {
		return err
	}
	step := store.ExitStep{Origin: origin, Partition: d.Queue.Partition, Plate: e.Plate, At: e.At, Intent: d.Message.Intent}
	taken, err := s.RecordExit(ctx, step)
	switch {
	case err != nil:
		return err
	case taken.Result == store.ResultEarly:
		return d.Settler.Retry(ctx)
	case taken.Result == store.ResultMatched:
		if _, err := s.SettleSummary(ctx, d.Queue.Partition, e.ID); err != nil {
			return err
		}
	}
	return d.Settler.Ack()
}

// mortalStore is a store that rejects the writes of generators after a call of kill. A generator calls Mark before
// every write except CountStarved.
type mortalStore struct {
	Store
	mu   sync.Mutex
	dead bool
}

func (s *mortalStore) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
}

func (s *mortalStore) alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return store.ErrUnavailable
	}
	return nil
}

func (s *mortalStore) Mark(ctx context.Context, partition int) (store.Mark, error) {
	if err := s.alive(); err != nil {
		return store.Mark{}, err
	}
	return s.Store.Mark(ctx, partition)
}

func (s *mortalStore) CountStarved(ctx context.Context, run string, total int64) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.Store.CountStarved(ctx, run, total)
}
