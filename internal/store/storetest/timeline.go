package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

func testTimeline(t *testing.T, open Factory) {
	t.Run("adds up the rows of all processes in each second", func(t *testing.T) { timelineMerges(t, open) })
	t.Run("counts a repeated row once", func(t *testing.T) { timelineRepeats(t, open) })
	t.Run("widens rows as they grow old", func(t *testing.T) { timelineWidens(t, open) })
	t.Run("adds up exactly whatever is repeated, late or compacted", func(t *testing.T) { timelineIsExact(t, open) })
	t.Run("forgets everything when purged", func(t *testing.T) { timelinePurges(t, open) })
}

// longAgo and farAhead are times before and after all rows of the tests.
func longAgo() time.Time  { return noon().Add(-30 * 24 * time.Hour) }
func farAhead() time.Time { return noon().Add(30 * 24 * time.Hour) }

// measured returns a row in which n events took effect, each after a processing time of n milliseconds.
func measured(second, n int64) timeline.Row {
	var h histogram.Histogram
	for range n {
		h.Observe(time.Duration(n) * time.Millisecond)
	}
	ready := n
	return timeline.Row{
		Second: second,
		Entry: timeline.Events{
			Published: n, Confirmed: n, Effects: n, Lag: time.Duration(n),
			Outcomes: map[string]int64{"recorded": n}, Processing: h.Snapshot(),
		},
		Gauges: timeline.Gauges{Ready: &ready},
	}
}

func (f fixture) appendTimeline(process string, rows ...timeline.Row) {
	f.t.Helper()
	if err := f.AppendTimeline(f.t.Context(), process, rows); err != nil {
		f.t.Fatal(err)
	}
}

func (f fixture) compactTimeline(now time.Time) {
	f.t.Helper()
	if err := f.CompactTimeline(f.t.Context(), now); err != nil {
		f.t.Fatal(err)
	}
}

func (f fixture) timeline(from, to time.Time) []timeline.Row {
	f.t.Helper()
	rows, err := f.ReadTimeline(f.t.Context(), from, to)
	if err != nil {
		f.t.Fatal(err)
	}
	return rows
}

// recorded returns the total number of effects in the rows. It checks that the histograms of the rows contain the
// same number of durations.
func (f fixture) recorded(rows []timeline.Row) int64 {
	f.t.Helper()
	total := timeline.Sum(rows...).Entry
	if int64(total.Processing.Count()) != total.Effects || total.Outcomes["recorded"] != total.Effects {
		f.t.Errorf("the rows count %d effects, but %d durations and %v outcomes; want equal counts", total.Effects, total.Processing.Count(), total.Outcomes)
	}
	return total.Effects
}

func timelineMerges(t *testing.T, open Factory) {
	f := fixture{Store: open(t, 2), t: t}
	at := noon().Unix()
	f.appendTimeline("a", measured(at, 3), measured(at+1, 4))
	f.appendTimeline("b", measured(at, 5))
	f.appendTimeline("c:d", measured(at+2, 1)) // a process name may be any text

	rows := f.timeline(longAgo(), farAhead())
	want := []timeline.Row{
		timeline.Merge(1, measured(at, 3), measured(at, 5))[0],
		timeline.Merge(1, measured(at+1, 4))[0],
		timeline.Merge(1, measured(at+2, 1))[0],
	}
	if diff := cmp.Diff(want, rows, cmp.Comparer(equalSnapshots)); diff != "" {
		t.Errorf("the rows differ (-want +got):\n%s", diff)
	}
	if rows[0].Entry.Lag != 5 || *rows[0].Ready != 5 {
		t.Errorf("the merged row has lag %d and backlog %d; want 5 for each, the maximum of the two rows", rows[0].Entry.Lag, *rows[0].Ready)
	}
	if got := f.timeline(time.Unix(at+1, 0), time.Unix(at+2, 0)); len(got) != 1 || got[0].Second != at+1 {
		t.Errorf("ReadTimeline for an interval of one second returned the rows %v", got)
	}
}

func equalSnapshots(a, b histogram.Snapshot) bool {
	return a.Mean() == b.Mean() && slices.Equal(a.Buckets(), b.Buckets())
}

func timelineRepeats(t *testing.T, open Factory) {
	f := fixture{Store: open(t, 1), t: t}
	at := timeline.MinuteOf(noon().Unix())
	rows := []timeline.Row{measured(at, 3), measured(at+1, 4)}
	f.appendTimeline("a", rows...)
	f.appendTimeline("a", rows...)
	f.compactTimeline(noon().Add(time.Hour / 2))
	f.appendTimeline("a", rows...) // its first answer was lost, and the retry came after a compaction
	f.appendTimeline("a", append(rows, measured(at+2, 2))...)
	if got := f.recorded(f.timeline(longAgo(), farAhead())); got != 9 {
		t.Errorf("the timeline has %d events, want 9", got)
	}
}

func timelineWidens(t *testing.T, open Factory) {
	f := fixture{Store: open(t, 1), t: t}
	start := noon().Truncate(time.Hour)
	const seconds = 4 * 3600
	var all []timeline.Row
	for i := int64(0); i < seconds; i += 30 {
		all = append(all, measured(start.Unix()+i, 1))
	}
	f.appendTimeline("a", all...)
	for _, step := range []struct {
		after  time.Duration
		widest int64
	}{
		{after: 4 * time.Hour, widest: 10},
		{after: 20 * time.Hour, widest: 60},
		{after: 20 * 24 * time.Hour, widest: 3600},
	} {
		f.compactTimeline(start.Add(step.after))
		rows := f.timeline(longAgo(), farAhead())
		if rows[0].Width != step.widest {
			t.Errorf("after %v the oldest row is %d s wide, want %d", step.after, rows[0].Width, step.widest)
		}
		if got := f.recorded(rows); got != seconds/30 {
			t.Errorf("after %v there are %d events, want %d", step.after, got, seconds/30)
		}
		for i := 1; i < len(rows); i++ {
			if rows[i].Start().Before(rows[i-1].End()) {
				t.Fatalf("after %v the row at %v overlaps the one before", step.after, rows[i].Start())
			}
		}
	}
}

func timelineIsExact(t *testing.T, open Factory) {
	f := fixture{Store: open(t, 1), t: t}
	r := rand.New(rand.NewPCG(9, 10))
	now := noon().Truncate(time.Hour)
	next := map[string]int64{}
	var want int64
	for round := range 61 {
		var work sync.WaitGroup
		for p := range 3 {
			process := fmt.Sprintf("p%d", p)
			if r.IntN(4) == 0 {
				continue // paused: its rows come late, or not at all
			}
			if next[process] == 0 || r.IntN(10) == 0 {
				next[process] = max(next[process], now.Unix())
			}
			var rows []timeline.Row
			for range 1 + r.IntN(5) {
				rows = append(rows, measured(next[process], int64(1+r.IntN(3))))
				next[process]++
				want += rows[len(rows)-1].Entry.Effects
			}
			repeats := 1 + r.IntN(2)
			work.Go(func() {
				for range repeats {
					if err := f.AppendTimeline(t.Context(), process, rows); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for range r.IntN(3) {
			work.Go(func() {
				if err := f.CompactTimeline(t.Context(), now); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		now = now.Add(time.Duration(r.IntN(300)) * time.Second)
		if r.IntN(15) == 0 {
			now = now.Add(time.Duration(r.IntN(20)) * time.Hour)
		}
		if round%10 != 0 {
			continue
		}
		if got := f.recorded(f.timeline(longAgo(), farAhead())); got != want {
			t.Fatalf("%d events at %v, want %d", got, now, want)
		}
	}
}

func timelinePurges(t *testing.T, open Factory) {
	f := fixture{Store: open(t, 1), t: t}
	f.appendTimeline("a", measured(noon().Unix(), 1), measured(noon().Unix()+100, 1))
	f.compactTimeline(noon().Add(time.Hour))
	if err := f.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rows := f.timeline(longAgo(), farAhead()); len(rows) != 0 {
		t.Errorf("a purged store has %d timeline rows, want none", len(rows))
	}
	f.appendTimeline("a", measured(noon().Unix(), 2))
	if got := f.recorded(f.timeline(longAgo(), farAhead())); got != 2 {
		t.Errorf("the timeline has %d events after a purge, want 2", got)
	}
}
