package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/store"
)

func testEntries(t *testing.T, factory Factory) {
	t.Run("a redelivered entry changes only the count of duplicates", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		f.enter(entryOf(0, "AA-1", noon().Add(time.Hour)), store.ResultDuplicate)
		f.wantCounts(store.Counts{EntriesRecorded: 1, DuplicatesSuppressed: 1})
		f.wantBits(entryRun, 0, []int64{0}, nil)
		got := f.leave(exitOf(0, "AA-1", noon().Add(time.Minute)), store.ResultMatched)
		if !got.EntryAt.Equal(noon()) {
			t.Errorf("the visit has the entry time %v; want %v, as in the first delivery", got.EntryAt, noon())
		}
	})
	t.Run("external entries are counted separately, and their redeliveries are recognized by ID", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		e := entryOf(0, "AA-1", noon())
		e.Origin = external("order no. 7 \x00\xff")
		f.enter(e, store.ResultRecorded)
		f.enter(e, store.ResultDuplicate)
		f.wantCounts(store.Counts{ExternalEntries: 1, DuplicatesSuppressed: 1})
	})
	t.Run("a second entry of a plate replaces the first", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		f.enter(entryOf(1, "AA-1", noon().Add(time.Second)), store.ResultRecorded)
		f.wantCounts(store.Counts{EntriesRecorded: 2})
		got := f.leave(exitOf(0, "AA-1", noon().Add(time.Minute)), store.ResultMatched)
		if want := noon().Add(time.Second); !got.EntryAt.Equal(want) {
			t.Errorf("the visit has the entry time %v; want %v, as in the second entry", got.EntryAt, want)
		}
		f.leave(exitOf(1, "AA-1", noon().Add(time.Minute)), store.ResultEarly)
	})
	t.Run("if a plate has two external entries, the second replaces the first, even if the second has an earlier time", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		for i, at := range []time.Time{noon().Add(time.Hour), noon()} {
			e := entryOf(0, "AA-1", at)
			e.Origin = external(fmt.Sprint("entry ", i))
			f.enter(e, store.ResultRecorded)
		}
		exit := exitOf(0, "AA-1", noon().Add(time.Minute))
		exit.Origin, exit.LastAttempt = external("exit 0"), true
		if got := f.leave(exit, store.ResultMatched); !got.EntryAt.Equal(noon()) {
			t.Errorf("the visit has the entry time %v; want %v, as in the second entry", got.EntryAt, noon())
		}
		exit.Origin = external("exit 1")
		f.leave(exit, store.ResultEntryNotFound)
		f.wantCounts(store.Counts{ExternalEntries: 2, ExternalMatched: 1, EntryNotFound: 1})
		f.wantOutbox(1)
	})
	t.Run("an external entry of a parked vehicle replaces the generated entry", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(0, "AA-1", noon()), store.ResultRecorded)
		e := entryOf(0, "AA-1", noon().Add(time.Second))
		e.Origin = external("entry")
		f.enter(e, store.ResultRecorded)
		if got := f.leave(exitOf(0, "AA-1", noon().Add(time.Minute)), store.ResultMatched); !got.EntryAt.Equal(e.At) {
			t.Errorf("the visit has the entry time %v; want %v, as in the external entry", got.EntryAt, e.At)
		}
		f.wantCounts(store.Counts{EntriesRecorded: 1, ExternalEntries: 1, Matched: 1})
	})
	t.Run("each recorded entry sets the bit of its sequence number in the bitmap Seen", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		for _, seq := range []int64{store.ChunkBits, 7, 8, 0, store.ChunkBits - 1, 2*store.ChunkBits + 5} {
			f.enter(entryOf(seq, "AA-1", noon()), store.ResultRecorded)
		}
		f.wantBits(entryRun, 0, []int64{0, 7, 8, store.ChunkBits - 1}, nil)
		f.wantBits(entryRun, 1, []int64{store.ChunkBits}, nil)
		f.wantBits(entryRun, 2, []int64{2*store.ChunkBits + 5}, nil)
		f.wantBits(entryRun, 3, nil, nil)
		f.wantBits("000000unknown", 0, nil, nil)
	})
	t.Run("events of different generator runs can have the same sequence number", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.enter(entryOf(3, "AA-1", noon()), store.ResultRecorded)
		other := entryOf(3, "AA-2", noon())
		other.Origin = origin("0000000000two", 3)
		f.enter(other, store.ResultRecorded)
		f.wantCounts(store.Counts{EntriesRecorded: 2})
	})
}
