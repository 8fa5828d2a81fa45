package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

func testConcurrency(t *testing.T, factory Factory) {
	t.Run("if an event is delivered several times concurrently, exactly one delivery takes effect", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		for seq := range int64(20) {
			plate := fmt.Sprint("AA-", seq)
			e := entryOf(seq, plate, noon())
			wantOne(t, store.ResultRecorded, store.ResultDuplicate, func() (store.Result, error) {
				return f.RecordEntry(t.Context(), e)
			})
			exit := exitOf(seq, plate, noon().Add(time.Minute))
			wantOne(t, store.ResultMatched, store.ResultPending, func() (store.Result, error) {
				got, err := f.RecordExit(t.Context(), exit)
				return got.Result, err
			})
		}
		f.wantCounts(store.Counts{EntriesRecorded: 20, Matched: 20, DuplicatesSuppressed: 20 * (crowd - 1)})
		f.wantOutbox(20)
	})
	t.Run("a summary that is settled several times concurrently is counted as stored once", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		exit := exitOf(0, "AA-1", noon())
		f.leave(exit, store.ResultMatched)
		wantOne(t, store.ResultSettled, store.ResultDuplicate, func() (store.Result, error) {
			return f.SettleSummary(t.Context(), 0, exit.Origin.ID)
		})
		f.wantCounts(store.Counts{EntriesRecorded: 1, Matched: 1, SummariesStored: 1, DuplicatesSuppressed: crowd - 1})
	})
	t.Run("concurrent leases do not overlap", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		firsts := make([]int64, crowd)
		together(t, func(i int) (err error) {
			firsts[i], err = f.Lease(t.Context(), store.CounterEntries, 10)
			return err
		})
		seen := map[int64]bool{}
		for _, first := range firsts {
			if first%10 != 0 || first < 0 || first >= 10*crowd || seen[first] {
				t.Errorf("the leases %v overlap or leave gaps", firsts)
			}
			seen[first] = true
		}
	})
	t.Run("concurrent claims claim every plate exactly once", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		plates := plateNames(10 * crowd)
		f.confirm(entered(0, plates...), int64(len(plates)))
		var mu sync.Mutex
		claimed := map[string]int{}
		together(t, func(i int) error {
			got, err := f.Claim(t.Context(), claimAt(int64(i), noon().Add(30*time.Minute), 10))
			mu.Lock()
			defer mu.Unlock()
			for _, p := range got {
				claimed[p.Plate]++
			}
			return err
		})
		for _, plate := range plates {
			if claimed[plate] != 1 {
				t.Errorf("the plate %s was claimed %d times", plate, claimed[plate])
			}
		}
	})
	t.Run("a cancelled call does not affect concurrent calls", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		together(t, func(i int) error {
			ctx, cancel := context.WithCancel(t.Context())
			if i%2 == 0 {
				go cancel()
			}
			defer cancel()
			for seq := range int64(200) {
				e := entryOf(int64(i)*200+seq, fmt.Sprint(i, "-", seq), noon())
				_, err := f.RecordEntry(ctx, e)
				if i%2 == 0 && errors.Is(err, context.Canceled) {
					return nil
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		for i := 1; i < crowd; i += 2 {
			for seq := range int64(200) {
				f.enter(entryOf(int64(i)*200+seq, "AA-1", noon()), store.ResultDuplicate)
			}
		}
	})
	t.Run("the ledger is exact after a simulation with redeliveries in random order", func(t *testing.T) {
		t.Parallel()
		simulate(t, factory)
	})
}

// crowd is the number of concurrent callers in the tests.
const crowd = 32

// together calls a function in concurrent goroutines, and waits until all calls have returned.
func together(t *testing.T, do func(i int) error) {
	t.Helper()
	var group errgroup.Group
	for i := range crowd {
		group.Go(func() error { return do(i) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// wantOne calls the function step in concurrent goroutines. One call must return the first given result, and all other
// calls the second.
func wantOne(t *testing.T, effect, otherwise store.Result, step func() (store.Result, error)) {
	t.Helper()
	results := make([]store.Result, crowd)
	together(t, func(i int) (err error) {
		results[i], err = step()
		return err
	})
	count := map[store.Result]int{}
	for _, r := range results {
		count[r]++
	}
	if count[effect] != 1 || count[otherwise] != crowd-1 {
		t.Fatalf("%d concurrent calls returned the results %v; want %s once, and %s otherwise", crowd, count, effect, otherwise)
	}
}

// simulate runs generators and processors concurrently. It delivers each message one to three times, in random order.
// Then it checks that the ledger counts each event exactly once.
func simulate(t *testing.T, factory Factory) {
	const partitions, entries, unmatched = 2, 400, 100
	f := fixture{Store: factory(t, partitions), t: t}
	// Without a timeout, an exit that never finds its entry would be retried forever.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var group errgroup.Group
	var duplicates atomic.Int64
	for p := range partitions {
		group.Go(func() error {
			n, err := simulatePartition(ctx, f.Store, p, entries, unmatched)
			duplicates.Add(int64(n))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	counts, err := f.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.wantPool(0)
	f.wantOutbox(0)
	want := store.Counts{
		EntriesRecorded: partitions * entries, Matched: partitions * entries,
		UnmatchedExpected: partitions * unmatched, SummariesStored: partitions * entries,
		DuplicatesSuppressed: duplicates.Load(),
	}
	if counts != want {
		t.Errorf("Counts = %+v; want %+v", counts, want)
	}
	for p := range partitions {
		wantPopulation(t, f.Store, store.Run{Run: entryRun, Partition: p}, entries, 0)
		wantPopulation(t, f.Store, store.Run{Run: exitRun, Partition: p}, entries+unmatched, entries)
	}
}

// simulatePartition publishes entries, claims every plate for an exit, and processes all events. It returns the
// number of duplicate deliveries.
func simulatePartition(ctx context.Context, s store.Store, partition, entries, unmatched int) (duplicates int, err error) {
	random := rand.New(rand.NewPCG(1, uint64(partition)))
	plates := plateNames(entries)
	now := noon().Add(30 * time.Minute)
	confirmation := entered(0, plates...)
	confirmation.Partition = partition
	var deliveries []func(context.Context) (bool, error)
	for i, plate := range plates {
		e := entryOf(int64(i), plate, noon())
		e.Partition = partition
		deliveries = append(deliveries, func(ctx context.Context) (bool, error) {
			_, err := s.RecordEntry(ctx, e)
			return true, err
		})
	}
	if _, err := s.Confirm(ctx, confirmation); err != nil {
		return 0, err
	}
	for seq := 0; seq < entries; {
		claim := claimAt(int64(seq), now, 1+random.IntN(20))
		claim.Partition = partition
		claimed, err := s.Claim(ctx, claim)
		if err != nil {
			return 0, err
		}
		for _, p := range claimed {
			deliveries = append(deliveries, exitDelivery(s, partition, int64(seq), p.Plate, event.IntentMatched))
			seq++
		}
	}
	for i := range unmatched {
		deliveries = append(deliveries, exitDelivery(s, partition, int64(entries+i), "none", event.IntentUnmatched))
	}
	return deliver(ctx, random, deliveries)
}

// exitDelivery returns a function that processes an exit as a processor does. The result false means that the exit
// must be retried.
func exitDelivery(s store.Store, partition int, seq int64, plate string, intent event.Intent) func(context.Context) (bool, error) {
	e := exitOf(seq, plate, noon().Add(time.Hour))
	e.Partition, e.Intent = partition, intent
	return func(ctx context.Context) (bool, error) {
		got, err := s.RecordExit(ctx, e)
		if err != nil || got.Result == store.ResultEarly {
			return false, err
		}
		if got.Result == store.ResultMatched || got.Result == store.ResultPending {
			_, err = s.SettleSummary(ctx, partition, e.Origin.ID)
		}
		return true, err
	}
}

// deliver delivers each message one to three times, concurrently and in random order. Retries of early exits do not
// count as duplicates.
func deliver(ctx context.Context, random *rand.Rand, messages []func(context.Context) (bool, error)) (duplicates int, err error) {
	queue := make(chan func(context.Context) (bool, error), 4*len(messages))
	var open sync.WaitGroup
	var all []func(context.Context) (bool, error)
	for _, m := range messages {
		for range 1 + random.IntN(3) {
			all = append(all, m)
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	open.Add(len(all))
	for _, m := range all {
		queue <- m
	}
	go func() {
		open.Wait()
		close(queue)
	}()
	var group errgroup.Group
	for range crowd {
		group.Go(func() error {
			var failed error
			for m := range queue {
				done, err := m(ctx)
				if err == nil && !done {
					queue <- m // cannot block, because the channel has room for all deliveries
					continue
				}
				failed = errors.Join(failed, err)
				open.Done()
			}
			return failed
		})
	}
	return len(all) - len(messages), group.Wait()
}

// wantPopulation checks the numbers of set bits in the bitmaps Seen and Matched. It reads only the first chunk of the
// bitmaps of a generator run.
func wantPopulation(t *testing.T, s store.Store, r store.Run, seen, matched int) {
	t.Helper()
	chunk, err := s.Chunk(t.Context(), r, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(bits(chunk.Seen, 0)); got != seen {
		t.Errorf("%d events of run %s in partition %d have taken effect; want %d", got, r.Run, r.Partition, seen)
	}
	if got := len(bits(chunk.Matched, 0)); got != matched {
		t.Errorf("%d events of run %s in partition %d are matched; want %d", got, r.Run, r.Partition, matched)
	}
}
