package memory

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/store"
)

// The methods of Store always use the current time. The test simulates many hours, so it calls the data structures of a
// partition directly.
func TestPartition_MemoryIsBounded(t *testing.T) {
	t.Parallel()
	const stay = int64(time.Hour)
	start := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)

	t.Run("claimed and unclaimed visits are removed when they expire", func(t *testing.T) {
		t.Parallel()
		v := newVisits()
		largest := 0
		for minute := range int64(48 * 60) {
			now := start.Add(time.Duration(minute) * time.Minute).UnixNano()
			for i := range 10 {
				v.enter(fmt.Sprint(minute, "-", i), start, now+stay, now)
			}
			v.claim(fmt.Sprint(minute, "-", 0), now+int64(store.ClaimedStay), now)
			v.end(fmt.Sprint(minute, "-", 0))
			v.claim(fmt.Sprint(minute, "-", 1), now+int64(store.ClaimedStay), now)
			largest = max(largest, len(v.unclaimed))
			if held := len(v.claimed); held > 24*60+1 {
				t.Fatalf("minute %d: %d claimed visits are held; want those of a day at most", minute, held)
			}
			if queued := v.expiry.Len(); queued > 10*60 {
				t.Fatalf("minute %d: %d expiries are queued; want those of an hour at most", minute, queued)
			}
		}
		if want := 8 * 60; largest > want {
			t.Errorf("up to %d unclaimed visits were held; want %d at most", largest, want)
		}
	})
	t.Run("an external id is remembered for exactly one hour", func(t *testing.T) {
		t.Parallel()
		e := newExpiring(time.Hour)
		now := start.UnixNano()
		if e.add("a", now) || !e.add("a", now+stay-1) {
			t.Error("the name is not remembered for an hour")
		}
		if e.has("a", now+stay) || e.add("a", now+stay) {
			t.Error("the name is remembered for more than an hour")
		}
		for hour := int64(2); hour < 12; hour++ {
			for i := range 100 {
				e.add(fmt.Sprint(hour, "-", i), now+hour*stay)
			}
			if len(e.expires) > 101 || e.order.Len() > 101 {
				t.Fatalf("%d names are held; want those of an hour", len(e.expires))
			}
		}
	})
	t.Run("evicted claims use no memory", func(t *testing.T) {
		t.Parallel()
		c := newClaims()
		for token := range int64(10 * store.ClaimsRemembered) {
			c.remember(token, []available{{plate: "A"}})
			c.remember(-token, nil)
		}
		if len(c.byToken) != store.ClaimsRemembered || c.tokens.Len() != store.ClaimsRemembered {
			t.Errorf("%d claims are held; want %d", len(c.byToken), store.ClaimsRemembered)
		}
	})
}

func TestPlatePool_PlatesPutInRandomOrder_RemovesEarliestEntriesFirst(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := newPool()
		model := map[string]int64{}
		for range rapid.IntRange(0, 200).Draw(t, "puts") {
			plate := fmt.Sprint(rapid.IntRange(0, 50).Draw(t, "plate"))
			at := rapid.Int64Range(0, 100).Draw(t, "at")
			p.put(plate, at)
			model[plate] = at
		}
		until := rapid.Int64Range(-1, 50).Draw(t, "evicted until")
		p.evict(until)
		var want []available
		for plate, at := range model {
			if at > until {
				want = append(want, available{at: at, plate: plate})
			}
		}
		slices.SortFunc(want, func(a, b available) int {
			if a.less(b) {
				return -1
			}
			return 1
		})
		if p.len() != len(want) {
			t.Fatalf("len = %d; want %d", p.len(), len(want))
		}
		var got []available
		for a, found := p.remove(100); found; a, found = p.remove(100) {
			got = append(got, a)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("took %v; want %v", got, want)
		}
	})
}
