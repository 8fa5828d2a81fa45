package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

func testExits(t *testing.T, factory Factory) {
	t.Run("an exit ends its visit and puts a summary into the outbox", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(0, "Ä \x00\r\n\xff", noon()), store.ResultRecorded)
		exit := exitOf(0, "Ä \x00\r\n\xff", noon().Add(90*time.Minute+time.Nanosecond))
		want := event.Summary{ID: exit.Origin.ID, Plate: exit.Plate, EntryAt: noon(), ExitAt: exit.At}
		if diff := cmp.Diff(want, f.leave(exit, store.ResultMatched)); diff != "" {
			t.Errorf("the summary differs (-want +got):\n%s", diff)
		}
		f.wantOutbox(1)
		f.wantCounts(store.Counts{EntriesRecorded: 1, Matched: 1})
		f.wantBits(exitRun, 0, []int64{0}, []int64{0})
	})
	t.Run("if a matched exit is redelivered, the result is ResultPending until its summary is settled", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		exit := exitOf(0, "AA-1", noon().Add(time.Minute))
		first := f.leave(exit, store.ResultMatched)
		again := f.leave(exit, store.ResultPending)
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("the summary of the second delivery differs (-first +second):\n%s", diff)
		}
		f.settle(exit.Origin.ID)
		f.leave(exit, store.ResultDuplicate)
		f.wantCounts(store.Counts{EntriesRecorded: 1, Matched: 1, SummariesStored: 1, DuplicatesSuppressed: 1})
	})
	t.Run("a redelivered exit that already took effect does not end a later visit of its plate", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		exit := exitOf(0, "AA-1", noon().Add(time.Minute))
		f.leave(exit, store.ResultMatched)
		f.settle(exit.Origin.ID)
		f.enter(entryOf(1, "AA-1", noon().Add(time.Second)), store.ResultRecorded)
		f.leave(exit, store.ResultDuplicate)
		exit.LastAttempt = true
		f.leave(exit, store.ResultDuplicate)
		f.leave(exitOf(1, "AA-1", noon().Add(time.Minute)), store.ResultMatched)
	})
	t.Run("an exit that arrives before its entry gets ResultEarly, and is matched once the entry is recorded", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		exit := exitOf(0, "AA-1", noon().Add(time.Minute))
		f.leave(exit, store.ResultEarly)
		f.leave(exit, store.ResultEarly)
		f.wantCounts(store.Counts{})
		f.wantBits(exitRun, 0, nil, nil)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		f.leave(exit, store.ResultMatched)
	})
	t.Run(`an exit with the intent "matched" is counted as unexpectedly unmatched if its last attempt finds no visit`, func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		exit := exitOf(9, "AA-1", noon())
		exit.LastAttempt = true
		f.leave(exit, store.ResultUnmatchedUnexpected)
		f.leave(exit, store.ResultDuplicate)
		f.wantCounts(store.Counts{UnmatchedUnexpected: 1, DuplicatesSuppressed: 1})
		f.wantBits(exitRun, 0, []int64{9}, []int64{9})
	})
	t.Run(`a generated exit without an intent is treated like an exit with the intent "matched"`, func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		exit := exitOf(0, "AA-1", noon().Add(time.Minute))
		exit.Intent = event.IntentNone
		f.leave(exit, store.ResultEarly)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		f.leave(exit, store.ResultMatched)
		f.wantBits(exitRun, 0, []int64{0}, []int64{0})
	})
	t.Run(`an exit with the intent "unmatched" ignores a visit of its plate`, func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		exit := exitOf(4, "AA-1", noon().Add(time.Minute))
		exit.Intent = event.IntentUnmatched
		f.leave(exit, store.ResultUnmatchedExpected)
		f.leave(exit, store.ResultDuplicate)
		f.wantCounts(store.Counts{EntriesRecorded: 1, UnmatchedExpected: 1, DuplicatesSuppressed: 1})
		f.wantBits(exitRun, 0, []int64{4}, nil)
		f.leave(exitOf(0, "AA-1", noon().Add(time.Minute)), store.ResultMatched)
	})
	t.Run("an external exit ends a visit, whatever the intent of the exit", func(t *testing.T) {
		t.Parallel()
		for _, intent := range []event.Intent{event.IntentNone, event.IntentMatched, event.IntentUnmatched} {
			f := open(t, factory)
			f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
			exit := exitOf(0, "AA-1", noon().Add(time.Minute))
			exit.Origin, exit.Intent = external("gate 17"), intent
			got := f.leave(exit, store.ResultMatched)
			if got.ID != "gate 17" {
				t.Errorf("the summary has the ID %q; want the ID of the external exit", got.ID)
			}
			f.leave(exit, store.ResultPending)
			f.settle(exit.Origin.ID)
			f.leave(exit, store.ResultDuplicate)
			f.wantCounts(store.Counts{EntriesRecorded: 1, ExternalMatched: 1, SummariesStored: 1, DuplicatesSuppressed: 1})
		}
	})
	t.Run("the ID of an external event is remembered only in the partition of the event", func(t *testing.T) {
		t.Parallel()
		const partitions = 2
		f := fixture{Store: factory(t, partitions), t: t}
		for partition := range partitions {
			plate := fmt.Sprint("AA-", partition)
			entry, exit := entryOf(0, plate, noon()), exitOf(0, plate, noon().Add(time.Minute))
			entry.Origin, exit.Origin = external("in 17"), external("out 17")
			entry.Partition, exit.Partition = partition, partition
			f.enter(entry, store.ResultRecorded)
			f.enter(entry, store.ResultDuplicate)
			if got := f.leave(exit, store.ResultMatched); got.ID != "out 17" || got.Plate != plate {
				t.Errorf("the summary in partition %d is %+v; want the summary of the plate %s", partition, got, plate)
			}
			if _, err := f.SettleSummary(t.Context(), partition, exit.Origin.ID); err != nil {
				t.Fatal(err)
			}
			f.leave(exit, store.ResultDuplicate)
		}
		f.wantCounts(store.Counts{
			ExternalEntries: partitions, ExternalMatched: partitions, SummariesStored: partitions, DuplicatesSuppressed: 2 * partitions,
		})
	})
	t.Run("an external exit without a visit gets ResultEarly, and its last attempt gets ResultEntryNotFound", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		exit := exitOf(0, "AA-1", noon())
		exit.Origin, exit.Intent = external("17"), event.IntentNone
		f.leave(exit, store.ResultEarly)
		exit.LastAttempt = true
		f.leave(exit, store.ResultEntryNotFound)
		f.leave(exit, store.ResultDuplicate)
		exit.LastAttempt = false
		f.leave(exit, store.ResultDuplicate)
		f.wantCounts(store.Counts{EntryNotFound: 1, DuplicatesSuppressed: 2})
	})
	t.Run("an exit dated before its entry changes nothing", func(t *testing.T) {
		t.Parallel()
		for _, o := range []store.Origin{origin(exitRun, 0), external("17")} {
			f := open(t, factory)
			f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
			exit := exitOf(0, "AA-1", noon().Add(-time.Nanosecond))
			exit.Origin, exit.LastAttempt = o, true
			f.leave(exit, store.ResultPrecedesEntry)
			f.leave(exit, store.ResultPrecedesEntry)
			f.wantCounts(store.Counts{EntriesRecorded: 1})
			f.wantBits(exitRun, 0, nil, nil)
			exit.At = noon()
			f.leave(exit, store.ResultMatched)
		}
	})
	t.Run("the times of entries and exits keep their nanoseconds in any year", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		years := []time.Time{
			time.Date(0, time.January, 1, 0, 0, 0, 0, time.UTC),
			time.Date(0, time.January, 1, 0, 0, 0, 1, time.UTC),
			time.Unix(-1, 999_999_999).UTC(),
			time.Unix(0, 0).UTC(),
			time.Unix(1<<53/1_000_000_000, 1).UTC(),
			time.Date(9999, time.December, 31, 23, 59, 59, 999_999_998, time.UTC),
			time.Date(9999, time.December, 31, 23, 59, 59, 999_999_999, time.UTC),
		}
		seq := int64(0)
		for i, entry := range years {
			for j, exit := range years {
				seq++
				f.enter(entryOf(seq, "AA-1", entry), store.ResultRecorded)
				if j < i {
					f.leave(exitOf(seq, "AA-1", exit), store.ResultPrecedesEntry)
					continue
				}
				got := f.leave(exitOf(seq, "AA-1", exit), store.ResultMatched)
				if !got.EntryAt.Equal(entry) || !got.ExitAt.Equal(exit) {
					t.Errorf("the visit lasted from %v to %v; want %v to %v", got.EntryAt, got.ExitAt, entry, exit)
				}
			}
		}
	})
	t.Run("the ledger records the largest possible sequence number", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		exit := exitOf(event.MaxSeq, "AA-1", noon())
		exit.LastAttempt = true
		f.leave(exit, store.ResultUnmatchedUnexpected)
		f.leave(exit, store.ResultDuplicate)
		f.wantBits(exitRun, event.MaxSeq/store.ChunkBits, []int64{event.MaxSeq}, []int64{event.MaxSeq})
	})
}

func testOutbox(t *testing.T, factory Factory) {
	t.Run("the first settlement of a summary counts the summary as stored, and a repeated settlement counts a duplicate", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		exit := exitOf(0, "AA-1", noon())
		f.leave(exit, store.ResultMatched)
		f.leave(exit, store.ResultPending)
		f.leave(exit, store.ResultPending)
		f.leave(exit, store.ResultPending)
		f.wantCounts(store.Counts{EntriesRecorded: 1, Matched: 1})
		f.settle(exit.Origin.ID)
		f.settle(exit.Origin.ID)
		f.leave(exit, store.ResultDuplicate)
		f.wantCounts(store.Counts{EntriesRecorded: 1, Matched: 1, SummariesStored: 1, DuplicatesSuppressed: 2})
	})
	t.Run("repeated settlements of a summary do not affect other summaries", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		f.enter(entryOf(1, "AA-2", noon()), store.ResultRecorded)
		first, second := exitOf(0, "AA-1", noon()), exitOf(1, "AA-2", noon())
		f.leave(first, store.ResultMatched)
		f.leave(second, store.ResultMatched)
		f.wantOutbox(2)
		f.settle(first.Origin.ID)
		f.settle(first.Origin.ID)
		f.wantOutbox(1)
		f.leave(second, store.ResultPending)
		f.wantCounts(store.Counts{EntriesRecorded: 2, Matched: 2, SummariesStored: 1, DuplicatesSuppressed: 1})
	})
	t.Run("the settlement of an unknown summary is counted as a duplicate", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.settle("unknown")
		f.wantCounts(store.Counts{DuplicatesSuppressed: 1})
	})
}

func testDeadLetters(t *testing.T, factory Factory) {
	t.Run("dead letters with the same key are counted once", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		for _, key := range []string{"a", "b", "a", "", "", "\x00\xff*?[", "b"} {
			if err := f.RecordDeadLetter(t.Context(), 0, key); err != nil {
				t.Fatal(err)
			}
		}
		f.wantCounts(store.Counts{DeadLettered: 4})
	})
}
