package storetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
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
	t.Run("merges old rows without changing their sums, and does not merge recent rows", func(t *testing.T) { timelineWidens(t, open) })
	t.Run("has exact sums even if rows are appended twice, late, or during a compaction", func(t *testing.T) { timelineIsExact(t, open) })
	t.Run("is empty after a purge", func(t *testing.T) { timelinePurges(t, open) })
}

// longAgo is earlier than all rows of the tests, and farAhead is later.
func longAgo() time.Time  { return noon().Add(-30 * 24 * time.Hour) }
func farAhead() time.Time { return noon().Add(30 * 24 * time.Hour) }

// measured returns a row with n entries. The processing of each entry takes n milliseconds.
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

// recorded returns the number of entries that took effect, according to the rows. It checks that each of these entries
// has a processing time and an outcome.
func (f fixture) recorded(rows []timeline.Row) int64 {
	f.t.Helper()
	total := timeline.Sum(rows...).Entry
	if int64(total.Processing.Count()) != total.Effects || total.Outcomes["recorded"] != total.Effects {
		f.t.Errorf("the rows have %d effects, %d processing times and the outcomes %v; want equal numbers", total.Effects, total.Processing.Count(), total.Outcomes)
	}
	return total.Effects
}

func timelineMerges(t *testing.T, open Factory) {
	f := fixture{Store: open(t, 2), t: t}
	at := noon().Unix()
	f.appendTimeline("a", measured(at, 3), measured(at+1, 4))
	f.appendTimeline("b", measured(at, 5))
	f.appendTimeline("c:d", measured(at+2, 1)) // a colon is permitted in the name of a process

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
		t.Errorf("ReadTimeline for an interval of one second returned the rows %v, want one row of this second", got)
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
	// If the reply to an append is lost, the process appends the same rows again, even after a compaction.
	f.appendTimeline("a", rows...)
	f.appendTimeline("a", append(rows, measured(at+2, 2))...)
	if got := f.recorded(f.timeline(longAgo(), farAhead())); got != 9 {
		t.Errorf("the timeline has %d events, want 9", got)
	}
}

// resolution limits the width of rows up to some age. The width of a row is the length of the time that the row covers.
type resolution struct {
	age   time.Duration // the resolution applies to rows that ended less than this time ago
	width int64         // the maximum width of a row, in seconds
}

// resolutions returns the maximum width of a row at each age, in order of increasing age. The first resolution whose
// age exceeds the age of the row applies.
func resolutions() []resolution {
	return []resolution{{time.Hour, 1}, {10 * time.Hour, 10}, {7 * 24 * time.Hour, 60}, {math.MaxInt64, 3600}}
}

// rowsPerBlock is the number of rows in a block. A merge is delayed until the merged rows fill a block.
const rowsPerBlock = 60

// widths returns the smallest and the largest permitted width of a row, in seconds. age is the time since the end of
// the row.
func widths(age time.Duration) (smallest, largest int64) {
	for _, r := range resolutions() {
		if largest = r.width; age < r.age {
			break
		}
	}
	for i, r := range resolutions() {
		due := time.Duration(0)
		if i > 0 {
			due = resolutions()[i-1].age + time.Duration(rowsPerBlock*r.width)*time.Second
		}
		if age >= due {
			smallest = r.width
		}
	}
	return smallest, largest
}

func timelineWidens(t *testing.T, open Factory) {
	f := fixture{Store: open(t, 1), t: t}
	end := noon().Truncate(time.Minute)
	original := f.appendRandomTimeline(end.Add(-14*time.Hour), end)
	for _, after := range []time.Duration{0, 2*time.Minute + 7*time.Second, time.Hour, 4*time.Hour + 1234*time.Second, 20 * time.Hour, 8 * 24 * time.Hour, 20 * 24 * time.Hour} {
		now := end.Add(after)
		f.compactTimeline(now)
		rows := f.timeline(longAgo(), farAhead())
		left := original
		for i := range rows {
			row := &rows[i]
			smallest, largest := widths(now.Sub(row.End()))
			if width := max(row.Width, 1); width < smallest || width > largest {
				t.Fatalf("compaction %s after the last row: a row that began %s ago and ended %s ago is %d s wide; want %d to %d s",
					after, now.Sub(row.Start()), now.Sub(row.End()), width, smallest, largest)
			}
			n := 0
			for n < len(left) && left[n].Start().Before(row.End()) {
				n++
			}
			if n == 0 || left[0].Start().Before(row.Start()) {
				t.Fatalf("compaction %s after the last row: the merged row at %s does not contain the start of the next original row; %d original rows begin before its end", after, row.Start(), n)
			}
			want := timeline.Sum(left[:n]...)
			want.Second, want.Width = row.Second, row.Width
			// Compare the rows as JSON, because cmp.Diff is slow.
			if want, got := f.encoded(want), f.encoded(*row); want != got {
				t.Fatalf("compaction %s after the last row: the merged row at %s differs from the sum of its %d original rows (-want +got):\n%s", after, row.Start(), n, cmp.Diff(want, got))
			}
			left = left[n:]
		}
		if len(left) > 0 {
			t.Fatalf("compaction %s after the last row: the latest %d original rows are missing", after, len(left))
		}
	}
}

func (f fixture) encoded(row timeline.Row) string {
	f.t.Helper()
	text, err := json.MarshalIndent(row, "", " ")
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

// appendRandomTimeline appends random rows of two processes and returns them in chronological order. Rows are dense
// only in the last 70 minutes.
func (f fixture) appendRandomTimeline(from, to time.Time) []timeline.Row {
	f.t.Helper()
	r := rand.New(rand.NewPCG(11, 12))
	var all []timeline.Row
	byProcess := map[string][]timeline.Row{}
	for second := from.Unix(); second < to.Unix(); {
		for _, process := range [][]string{{"a"}, {"b"}, {"a", "b"}}[r.IntN(3)] {
			row := randomRow(r, second)
			byProcess[process] = append(byProcess[process], row)
			all = append(all, row)
		}
		if dense := to.Add(-70 * time.Minute).Unix(); second < dense {
			second = min(second+1+r.Int64N(120), dense)
		} else {
			second += 1 + r.Int64N(5)
		}
	}
	for process, rows := range byProcess {
		f.appendTimeline(process, rows...)
	}
	return all
}

func randomRow(r *rand.Rand, second int64) timeline.Row {
	events := func() timeline.Events {
		var processing, endToEnd histogram.Histogram
		for range r.IntN(4) {
			processing.Observe(time.Duration(r.ExpFloat64() * float64(time.Millisecond)))
			endToEnd.Observe(time.Duration(r.ExpFloat64() * float64(time.Second)))
		}
		return timeline.Events{
			Due: r.Int64N(9), Published: r.Int64N(9), Confirmed: r.Int64N(9), Matched: r.Int64N(9), Starved: r.Int64N(9), Missed: r.Int64N(9),
			Lag: time.Duration(r.Int64N(1e9)), Redeliveries: r.Int64N(9), Effects: r.Int64N(9),
			Outcomes:   map[string]int64{"recorded": 1 + r.Int64N(9)},
			Errors:     map[string]int64{[]string{"store", "post"}[r.IntN(2)]: 1 + r.Int64N(9)},
			Processing: processing.Snapshot(), EndToEnd: endToEnd.Snapshot(),
		}
	}
	ready, pool := r.Int64N(1000), r.Int64N(1000)
	return timeline.Row{Second: second, Entry: events(), Exit: events(), Gauges: timeline.Gauges{Ready: &ready, Pool: &pool}}
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
				continue // simulates a paused process, which appends its rows late or never
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
			t.Fatalf("the timeline has %d events at %v, want %d", got, now, want)
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

// RunTimelineStorage checks that Replace rejects a minute that was read before a compaction, even if the minute has the
// same version again.
func RunTimelineStorage(t *testing.T, s timeline.Storage) {
	ctx, log := t.Context(), timeline.NewLog(s)
	start := noon().Truncate(24 * time.Hour)
	appendRows := func(process string, effects int64) {
		t.Helper()
		rows := []timeline.Row{measured(start.Unix(), effects), measured(start.Unix()+1, effects)}
		if err := log.Append(ctx, process, rows); err != nil {
			t.Fatal(err)
		}
	}
	appendRows("fast", 1)
	generation, err := s.Generation(ctx)
	if err != nil {
		t.Fatal(err)
	}
	minute, err := s.ReadMinute(ctx, start.Unix())
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Compact(ctx, start.Add(30*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	appendRows("late", 2)
	late, err := s.ReadMinute(ctx, start.Unix())
	if err != nil {
		t.Fatal(err)
	}
	if late.Version != minute.Version {
		t.Fatalf("the minute has the version %s after the compaction, want %s as before the compaction: otherwise the test does not show that Replace checks the generation", late.Version, minute.Version)
	}
	replaced, err := s.Replace(ctx, timeline.Replacement{
		Generation: generation, Minute: &minute,
		Block: timeline.Block{ID: timeline.BlockID{Start: start.Unix()}, Rows: slices.Concat(slices.Collect(maps.Values(minute.Rows))...)},
	})
	if err != nil || replaced {
		t.Errorf("Replace returns %t and the error %v, want false and no error", replaced, err)
	}
	rows, err := log.Read(ctx, longAgo(), farAhead())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := timeline.Sum(rows...).Entry.Effects, int64(2*1+2*2); got != want {
		t.Errorf("the timeline has %d effects, want %d", got, want)
	}
}
