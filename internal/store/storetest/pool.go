package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/store"
)

func testLeases(t *testing.T, factory Factory) {
	t.Run("the leases of a counter are consecutive, and counters are independent", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		for _, lease := range []struct {
			counter store.Counter
			n       int
			want    int64
		}{
			{counter: store.CounterEntries, n: 10, want: 0},
			{counter: store.CounterEntries, n: 1, want: 10},
			{counter: store.CounterExits, n: 5, want: 0},
			{counter: store.CounterEntries, n: 1 << 30, want: 11},
			{counter: store.CounterEntries, n: 1 << 30, want: 11 + 1<<30},
			{counter: store.CounterExits, n: 5, want: 5},
		} {
			got, err := f.Lease(t.Context(), lease.counter, lease.n)
			if err != nil || got != lease.want {
				t.Fatalf("Lease(%s, %d) = %d, %v; want %d", lease.counter, lease.n, got, err, lease.want)
			}
		}
	})
	t.Run("a lease of less than one position is rejected", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		for _, n := range []int{0, -1} {
			if got, err := f.Lease(t.Context(), store.CounterExits, n); err == nil {
				t.Errorf("Lease of %d positions returned %d; want an error", n, got)
			}
		}
	})
}

func testConfirmations(t *testing.T, factory Factory) {
	t.Run("a confirmation without events registers the generator run", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0), 0)
		f.confirm(entered(0), 0)
		f.wantRuns(store.Run{Run: entryRun, Type: event.TypeEntry})
		f.wantPool(0)
	})
	t.Run("a confirmation advances the watermark, adds the plates of entries to the pool, and counts exits by intent", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-1", "AA-2"), 2)
		f.confirm(entered(2, "AA-3"), 3)
		f.confirm(store.Confirmation{Run: exitRun, Type: event.TypeExit, Events: []store.Published{
			{Plate: "AA-1", At: noon(), Intent: event.IntentMatched},
			{Plate: "ZZ-1", At: noon(), Intent: event.IntentUnmatched},
			{Plate: "ZZ-2", At: noon(), Intent: event.IntentUnmatched},
		}}, 3)
		f.wantPool(3)
		f.wantRuns(
			store.Run{Run: entryRun, Type: event.TypeEntry, Confirmed: 3},
			store.Run{Run: exitRun, Type: event.TypeExit, Confirmed: 3, Matched: 1, Unmatched: 2},
		)
	})
	t.Run("events below the watermark are skipped", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-1", "AA-2"), 2)
		f.claim(claimAt(1, noon().Add(time.Minute), 10), "AA-1", "AA-2")
		f.confirm(entered(0, "AA-1", "AA-2"), 2)
		f.confirm(entered(1, "AA-2"), 2)
		f.confirm(entered(0), 2)
		f.wantPool(0)
		f.confirm(entered(0, "AA-1", "AA-2", "AA-3"), 3)
		f.wantPool(1)
		f.claim(claimAt(2, noon().Add(time.Minute), 10), "AA-3")

		exits := store.Confirmation{Run: exitRun, Type: event.TypeExit, Events: []store.Published{
			{Plate: "AA-1", Intent: event.IntentMatched}, {Plate: "ZZ-1", Intent: event.IntentUnmatched},
		}}
		f.confirm(exits, 2)
		f.confirm(exits, 2)
		exits.From, exits.Events = 1, exits.Events[1:]
		exits.Events = append(exits.Events, store.Published{Plate: "AA-2", Intent: event.IntentMatched})
		f.confirm(exits, 3)
		f.wantRuns(
			store.Run{Run: entryRun, Type: event.TypeEntry, Confirmed: 3},
			store.Run{Run: exitRun, Type: event.TypeExit, Confirmed: 3, Matched: 2, Unmatched: 1},
		)
	})
	t.Run("a confirmation that begins above the watermark changes nothing and returns the watermark", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(5, "AA-6"), 0)
		f.wantRuns([]store.Run(nil)...)
		f.confirm(entered(0, "AA-1"), 1)
		f.confirm(entered(2, "AA-3"), 1)
		f.confirm(entered(2), 1)
		f.wantPool(1)
		f.wantRuns(store.Run{Run: entryRun, Type: event.TypeEntry, Confirmed: 1})
	})
	t.Run("overlapping confirmations of many events add each plate once", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		plates := plateNames(4321)
		f.confirm(entered(0, plates[:10]...), 10)
		f.confirm(entered(0, plates...), 4321)
		f.confirm(entered(4000, plates[4000:]...), 4321)
		f.wantPool(int64(countWithin(published(plates...), maxStay)))
	})
	t.Run("when an entry is confirmed, plates that entered at least MaxStay earlier leave the pool", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-1"), 1)
		late := entered(1, "AA-2")
		late.Events[0].At = noon().Add(maxStay - time.Second)
		f.confirm(late, 2)
		f.wantPool(2)
		later := entered(2, "AA-3")
		later.Events[0].At = noon().Add(maxStay)
		f.confirm(later, 3)
		f.wantPool(2)
		f.claim(claimAt(1, noon().Add(maxStay+time.Second), 10), "AA-2", "AA-3")
	})
}

// countWithin returns the number of events that happened less than d before the last event, including the last event.
func countWithin(events []store.Published, d time.Duration) int {
	last := events[len(events)-1].At
	n := 0
	for _, e := range events {
		if last.Sub(e.At) < d {
			n++
		}
	}
	return n
}

func testClaims(t *testing.T, factory Factory) {
	t.Run("plates are claimed in the order of their entry times, and each plate only once", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-9", "AA-5", "AA-7"), 3)
		other := entered(0, "AA-1")
		other.Run = "0000000000two"
		other.Events[0].At = noon().Add(500 * time.Millisecond)
		f.confirm(other, 1)
		now := noon().Add(time.Minute)
		plates := f.claim(claimAt(1, now, 2), "AA-9", "AA-1")
		for i, at := range []time.Time{noon(), other.Events[0].At} {
			if want := at.Truncate(time.Millisecond); !plates[i].EntryAt.Equal(want) {
				t.Errorf("the plate %s has the entry time %v; want %v", plates[i].Plate, plates[i].EntryAt, want)
			}
		}
		f.claim(claimAt(2, now, 2), "AA-5", "AA-7")
		f.claim(claimAt(3, now, 2))
		f.wantPool(0)
	})
	t.Run("a claim that is repeated with the same token returns the same plates", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-1", "AA-2", "A\x00\xff3"), 3)
		now := noon().Add(time.Minute)
		f.claim(claimAt(7, now, 1), "AA-1")
		f.claim(claimAt(8, now, 2), "AA-2", "A\x00\xff3")
		f.claim(claimAt(7, now, 1), "AA-1")
		f.claim(claimAt(8, now.Add(time.Hour), 100), "AA-2", "A\x00\xff3")
		f.wantPool(0)
		otherRun := claimAt(7, now, 1)
		otherRun.Run = "0000000000two"
		f.claim(otherRun)
	})
	t.Run("a claim that returned no plates can return plates when it is repeated", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		now := noon().Add(time.Minute)
		f.claim(claimAt(1, now, 1))
		f.confirm(entered(0, "AA-1"), 1)
		f.claim(claimAt(1, now, 1), "AA-1")
	})
	t.Run("the store remembers only the latest claims, up to store.ClaimsRemembered", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		plates := plateNames(store.ClaimsRemembered + 2)
		events := entered(0, plates...)
		f.confirm(events, int64(len(plates)))
		now := noon().Add(30 * time.Minute)
		for i := range store.ClaimsRemembered + 1 {
			f.claim(claimAt(int64(1000-7*i), now, 1), plates[i])
		}
		for i := range store.ClaimsRemembered {
			f.claim(claimAt(int64(1000-7*(i+1)), now, 1), plates[i+1])
		}
		f.claim(claimAt(1000, now, 1), plates[store.ClaimsRemembered+1]) // the store has forgotten the first claim
	})
	t.Run("only plates that entered at least MinStay and less than MaxStay ago are claimed", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-1", "AA-2", "AA-3"), 3)
		f.claim(claimAt(1, noon().Add(999*time.Millisecond), 10))
		f.claim(claimAt(2, noon().Add(time.Second), 10), "AA-1")
		f.claim(claimAt(3, noon().Add(maxStay+time.Second), 10), "AA-3")
		f.wantPool(0)
	})
	t.Run("a claim with a limit below 1 returns no plates", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-1"), 1)
		for _, limit := range []int{0, -1} {
			f.claim(claimAt(1, noon().Add(time.Minute), limit))
		}
		f.wantPool(1)
	})
	t.Run("a claim returns at most MaxClaim plates, even if its limit is higher", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		plates := plateNames(store.MaxClaim + 1)
		f.confirm(entered(0, plates...), int64(len(plates)))
		f.claim(claimAt(1, noon().Add(maxStay-time.Second), 1<<30), plates[:store.MaxClaim]...)
		f.wantPool(1)
	})
}

func testReleases(t *testing.T, factory Factory) {
	t.Run("released plates are claimed before plates that entered later", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-1", "AA-2", "AA-3", "AA-4"), 4)
		claim := claimAt(1, noon().Add(time.Minute), 3)
		plates := f.claim(claim, "AA-1", "AA-2", "AA-3")
		f.release(claim, plates[1:])
		f.wantPool(3)
		f.claim(claimAt(2, claim.Now, 10), "AA-2", "AA-3", "AA-4")
	})
	t.Run("a repeated release changes nothing", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-1", "AA-2"), 2)
		claim := claimAt(1, noon().Add(time.Minute), 2)
		plates := f.claim(claim, "AA-1", "AA-2")
		f.release(claim, plates[1:])
		f.claim(claimAt(2, claim.Now, 2), "AA-2")
		f.release(claim, plates[1:])
		f.release(claim, plates)
		f.wantPool(0)
		f.claim(claim)
	})
	t.Run("a release skips plates that are not in the claim", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-1", "AA-2", "AA-3"), 3)
		first := claimAt(1, noon().Add(time.Minute), 1)
		plates := f.claim(first, "AA-1")
		others := f.claim(claimAt(2, first.Now, 1), "AA-2")
		unknown := claimAt(3, first.Now, 1)
		f.release(unknown, slices.Concat(plates, others))
		f.wantPool(1)
		f.release(first, slices.Concat(others, plates, []store.Plate{{Plate: "ZZ-1", EntryAt: noon()}}))
		f.wantPool(2)
		f.claim(claimAt(4, first.Now, 10), "AA-1", "AA-3")
	})
	t.Run("a release without plates leaves the pool unchanged", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		f.confirm(entered(0, "AA-1"), 1)
		claim := claimAt(1, noon().Add(time.Minute), 1)
		f.claim(claim, "AA-1")
		f.release(claim, nil)
		f.wantPool(0)
	})
}

func testExpiry(t *testing.T, factory Factory) {
	const short = 20 * time.Millisecond
	enter := func(f fixture, seq int64, plate string) {
		e := entryOf(seq, plate, noon())
		e.MaxStay = short
		f.enter(e, store.ResultRecorded)
	}
	// parked reports whether the plate has a visit. The exit that it records precedes the entry, so it changes nothing.
	parked := func(f fixture, plate string) bool {
		f.t.Helper()
		got, err := f.RecordExit(f.t.Context(), exitOf(1_000_000, plate, noon().Add(-time.Hour)))
		if err != nil {
			f.t.Fatal(err)
		}
		return got.Result == store.ResultPrecedesEntry
	}
	untilGone := func(f fixture, plate string) {
		f.t.Helper()
		polltest.Until(f.t, "the visit of "+plate+" expires", func() bool { return !parked(f, plate) })
	}
	t.Run("a visit expires after MaxStay unless its plate is claimed", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		stay := claimInTime(f, parked)
		f.confirm(entered(100, "claimed early"), 101)
		f.claim(claimAt(100, noon().Add(time.Minute), 1), "claimed early")
		if parked(f, "claimed early") {
			t.Error("a plate without a recorded entry counts as parked after its claim")
		}
		enter(f, 101, "claimed early")
		e := entryOf(102, "unclaimed", noon())
		e.MaxStay = stay
		f.enter(e, store.ResultRecorded)
		untilGone(f, "unclaimed")
		for _, plate := range []string{"claimed", "claimed early"} {
			if !parked(f, plate) {
				t.Errorf("the visit of the plate %q expired although the plate was claimed", plate)
			}
		}
		f.leave(exitOf(0, "unclaimed", noon()), store.ResultEarly)
		f.leave(exitOf(1, "claimed", noon()), store.ResultMatched)
		f.leave(exitOf(2, "claimed early", noon()), store.ResultMatched)
	})
	t.Run("a second entry of a claimed plate does not shorten the lifetime of the visit", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		enter(f, 0, "claimed")
		f.confirm(entered(0, "claimed"), 1)
		f.claim(claimAt(1, noon().Add(time.Minute), 2), "claimed")
		enter(f, 1, "claimed")
		enter(f, 2, "unclaimed")
		untilGone(f, "unclaimed")
		if !parked(f, "claimed") {
			t.Error("the visit expired although its plate was claimed")
		}
	})
	t.Run("further entries of an unclaimed plate can extend the lifetime of the visit, but not shorten it", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		enter(f, 0, "extended")
		f.enter(entryOf(1, "extended", noon()), store.ResultRecorded)
		enter(f, 2, "extended")
		enter(f, 3, "unclaimed")
		untilGone(f, "unclaimed")
		if !parked(f, "extended") {
			t.Error("the visit expired although the second entry had extended its lifetime")
		}
	})
	t.Run("the visit of a released plate expires after MaxStay", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		enter(f, 0, "released")
		f.confirm(entered(0, "released", "released early"), 2)
		claim := claimAt(1, noon().Add(time.Minute), 2)
		plates := f.claim(claim, "released", "released early")
		claim.MaxStay = short
		f.release(claim, plates)
		enter(f, 1, "released early")
		untilGone(f, "released")
		untilGone(f, "released early")
	})
	t.Run("a vehicle can enter again after its visit has expired", func(t *testing.T) {
		t.Parallel()
		f := open(t, factory)
		enter(f, 0, "again")
		untilGone(f, "again")
		f.enter(entryOf(1, "again", noon()), store.ResultRecorded)
		f.leave(exitOf(0, "again", noon()), store.ResultMatched)
	})
}

// claimInTime records an entry of the plate "claimed", claims the plate from a pool of 100, and returns the entry's
// MaxStay. If the visit expires before the claim, as on a slow machine, claimInTime retries with twice the MaxStay.
func claimInTime(f fixture, parked func(fixture, string) bool) time.Duration {
	f.t.Helper()
	plates := plateNames(100)
	plates[0] = "claimed"
	f.confirm(entered(0, plates...), 100)
	claim := claimAt(1, noon().Add(30*time.Minute), 1)
	stay := 20 * time.Millisecond
	for seq := range int64(10) {
		e := entryOf(seq, "claimed", noon())
		e.MaxStay = stay
		f.enter(e, store.ResultRecorded)
		plates := f.claim(claim, "claimed")
		if parked(f, "claimed") {
			return stay
		}
		f.release(claim, plates)
		claim.Token++
		stay *= 2
	}
	f.t.Fatal("every visit expired before its plate was claimed")
	return 0
}
