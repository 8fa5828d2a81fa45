package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

func testLedger(t *testing.T, factory Factory) {
	t.Run("counts, pool size, outbox size and runs cover all partitions", func(t *testing.T) {
		t.Parallel()
		const partitions = 3
		f := fixture{Store: factory(t, partitions), t: t}
		for p := range partitions {
			fillPartition(f, p)
		}
		f.wantCounts(store.Counts{
			EntriesRecorded: 2 * partitions, Matched: partitions, UnmatchedExpected: partitions,
			UnmatchedUnexpected: partitions, SummariesStored: partitions, DuplicatesSuppressed: partitions,
			DeadLettered: partitions, ExternalEntries: partitions, ExternalMatched: partitions,
			EntryNotFound: partitions,
		})
		f.wantPool(2 * partitions)
		f.wantOutbox(partitions)
		var want []store.Run
		for p := range partitions {
			want = append(want, store.Run{Run: entryRun, Type: event.TypeEntry, Partition: p, Confirmed: 2})
		}
		f.wantRuns(want...)
		for p := range partitions {
			chunk, err := f.Chunk(t.Context(), store.Run{Run: exitRun, Partition: p}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]int64{0, 1, 2}, bits(chunk.Seen, 0)); diff != "" {
				t.Errorf("the set of events that took effect in partition %d differs (-want +got):\n%s", p, diff)
			}
			if diff := cmp.Diff([]int64{0, 2}, bits(chunk.Matched, 0)); diff != "" {
				t.Errorf("the set of matched events in partition %d differs (-want +got):\n%s", p, diff)
			}
		}
	})
	t.Run("Counts.Starved adds up the highest total of each generator run", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		for _, count := range []struct {
			run   string
			total int64
		}{{run: "a", total: 3}, {run: "b", total: 5}, {run: "a", total: 3}, {run: "a", total: 10}, {run: "b", total: 4}} {
			if err := f.CountStarved(t.Context(), count.run, count.total); err != nil {
				t.Fatal(err)
			}
		}
		f.wantCounts(store.Counts{Starved: 15})
	})
	t.Run("the first call of Mark records the number of partitions", func(t *testing.T) {
		t.Parallel()
		const partitions = 3
		f := fixture{Store: factory(t, partitions), t: t}
		if _, err := f.Mark(t.Context(), partitions-1); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Mark(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		got, err := f.Dataset(t.Context())
		if diff := cmp.Diff(store.Dataset{Partitions: partitions}, got); diff != "" || err != nil {
			t.Errorf("Dataset returned the error %v or a wrong result (-want +got):\n%s", err, diff)
		}
		f.wantCounts(store.Counts{})
	})
	t.Run("an empty store answers every query", func(t *testing.T) {
		t.Parallel()
		f := fixture{Store: factory(t, 2), t: t}
		if err := f.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if version, err := f.Version(t.Context()); err != nil || version == "" {
			t.Errorf("Version returned %q, %v, want a name and a version", version, err)
		}
		f.wantCounts(store.Counts{})
		f.wantPool(0)
		f.wantOutbox(0)
		f.wantRuns([]store.Run(nil)...)
	})
}

// fillPartition increments every counter of a partition except Counts.Starved.
func fillPartition(f fixture, partition int) {
	f.t.Helper()
	enter := func(o store.Origin, plate string, want store.Result) {
		f.t.Helper()
		f.enter(store.EntryStep{Origin: o, Partition: partition, Plate: plate, At: noon(), MaxStay: maxStay}, want)
	}
	leave := func(o store.Origin, plate string, intent event.Intent, want store.Result) {
		f.t.Helper()
		f.leave(store.ExitStep{
			Origin: o, Partition: partition, Plate: plate, At: noon(), Intent: intent, LastAttempt: true,
		}, want)
	}
	enter(origin(entryRun, 0), "AA-1", store.ResultRecorded)
	enter(origin(entryRun, 1), "AA-2", store.ResultRecorded)
	enter(origin(entryRun, 1), "AA-2", store.ResultDuplicate)
	enter(external("in"), "AA-3", store.ResultRecorded)
	leave(origin(exitRun, 0), "AA-1", event.IntentMatched, store.ResultMatched)
	leave(origin(exitRun, 1), "AA-1", event.IntentUnmatched, store.ResultUnmatchedExpected)
	leave(origin(exitRun, 2), "AA-1", event.IntentMatched, store.ResultUnmatchedUnexpected)
	leave(external("out"), "AA-3", event.IntentNone, store.ResultMatched)
	leave(external("out too"), "AA-3", event.IntentNone, store.ResultEntryNotFound)
	if _, err := f.SettleSummary(f.t.Context(), partition, "out"); err != nil {
		f.t.Fatal(err)
	}
	if err := f.RecordDeadLetter(f.t.Context(), partition, "letter"); err != nil {
		f.t.Fatal(err)
	}
	confirmation := entered(0, "AA-1", "AA-2")
	confirmation.Partition = partition
	f.confirm(confirmation, 2)
}

func testDurability(t *testing.T, factory Factory) {
	t.Run("WaitDurable succeeds as long as the server process is the same", func(t *testing.T) {
		t.Parallel()
		f := fixture{Store: factory(t, 2), t: t}
		for partition := range 2 {
			mark, err := f.Mark(t.Context(), partition)
			if err != nil || mark == (store.Mark{}) {
				t.Fatalf("Mark(%d) = %v, %v; want a mark with an epoch", partition, mark, err)
			}
			for seq := range int64(20) {
				e := entryOf(seq, "AA-1", noon())
				e.Partition = partition
				f.enter(e, store.ResultRecorded)
				if err := f.WaitDurable(t.Context(), partition, mark); err != nil {
					t.Fatalf("WaitDurable(%d): %v", partition, err)
				}
			}
			again, err := f.Mark(t.Context(), partition)
			if err != nil || again != mark {
				t.Errorf("Mark(%d) = %v, %v; want %v, because the server process is the same", partition, again, err, mark)
			}
		}
	})
	t.Run("WaitDurable returns ErrRolledBack if Mark.Epoch is not the epoch of the server process", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		for _, mark := range []store.Mark{{Epoch: "another"}, {}} {
			if err := f.WaitDurable(t.Context(), 0, mark); !errors.Is(err, store.ErrRolledBack) {
				t.Errorf("WaitDurable(%v) = %v; want %v", mark, err, store.ErrRolledBack)
			}
		}
	})
}

func testMisuse(t *testing.T, factory Factory) {
	t.Run("every method rejects an unknown partition", func(t *testing.T) {
		t.Parallel()
		f := fixture{Store: factory(t, 2), t: t}
		for _, partition := range []int{-1, 2} {
			for name, err := range everyStep(t.Context(), f.Store, partition) {
				if err == nil || errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%s in partition %d of a store with two partitions returned %v; want a rejection", name, partition, err)
				}
			}
		}
		f.wantCounts(store.Counts{})
	})
	t.Run("a call with a cancelled context changes nothing", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, err := range everyStep(ctx, f.Store, 0) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v; want %v", name, err, context.Canceled)
			}
			if errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s returned %v; want an error other than ErrUnavailable", name, err)
			}
		}
		f.wantCounts(store.Counts{})
		f.wantPool(0)
	})
	t.Run("the methods of a closed store return ErrUnavailable", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		for range 2 {
			if err := f.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
		}
		steps := everyStep(t.Context(), f.Store, 0)
		steps["Ping"] = f.Ping(t.Context())
		for name, err := range steps {
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %v; want %v", name, err, store.ErrUnavailable)
			}
		}
	})
}

// everyStep calls every method that has a partition argument. It returns the errors by method name.
func everyStep(ctx context.Context, s store.Store, partition int) map[string]error {
	errs := map[string]error{}
	enter, leave := entryOf(0, "AA-1", noon()), exitOf(0, "AA-1", noon())
	enter.Partition, leave.Partition = partition, partition
	_, errs["RecordEntry"] = s.RecordEntry(ctx, enter)
	_, errs["RecordExit"] = s.RecordExit(ctx, leave)
	_, errs["SettleSummary"] = s.SettleSummary(ctx, partition, "x")
	errs["RecordDeadLetter"] = s.RecordDeadLetter(ctx, partition, "x")
	confirmation := entered(0, "AA-1")
	confirmation.Partition = partition
	_, errs["Confirm"] = s.Confirm(ctx, confirmation)
	claim := claimAt(1, noon().Add(time.Minute), 1)
	claim.Partition = partition
	_, errs["Claim"] = s.Claim(ctx, claim)
	errs["Release"] = s.Release(ctx, claim, []store.Plate{{Plate: "AA-1"}})
	_, errs["Mark"] = s.Mark(ctx, partition)
	errs["WaitDurable"] = s.WaitDurable(ctx, partition, store.Mark{Epoch: "x"})
	_, errs["Chunk"] = s.Chunk(ctx, store.Run{Run: entryRun, Partition: partition}, 0)
	return errs
}

func testPurge(t *testing.T, factory Factory) {
	t.Run("a purge removes everything", func(t *testing.T) {
		t.Parallel()
		const partitions = 2
		f := fixture{Store: factory(t, partitions), t: t}
		for range 2 {
			for p := range partitions {
				fillPartition(f, p)
			}
			f.claim(claimAt(1, noon().Add(time.Minute), 1), "AA-1")
			if err := f.CountStarved(t.Context(), "a", 1); err != nil {
				t.Fatal(err)
			}
			if first, err := f.Lease(t.Context(), store.CounterExits, 3); err != nil || first != 0 {
				t.Fatalf("Lease = %d, %v; want 0", first, err)
			}
			if err := f.Purge(t.Context()); err != nil {
				t.Fatalf("Purge: %v", err)
			}
			f.wantCounts(store.Counts{})
			f.wantPool(0)
			f.wantOutbox(0)
			f.wantRuns([]store.Run(nil)...)
			f.wantBits(entryRun, 0, nil, nil)
			f.wantBits(exitRun, 0, nil, nil)
		}
	})
	t.Run("a purge removes thousands of keys", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		for i, plate := range plateNames(3000) {
			f.enter(entryOf(int64(i), plate, noon()), store.ResultRecorded)
		}
		if err := f.Purge(t.Context()); err != nil {
			t.Fatalf("Purge: %v", err)
		}
		for i, plate := range plateNames(3000) {
			f.leave(exitOf(int64(i), plate, noon()), store.ResultEarly)
		}
	})
}
