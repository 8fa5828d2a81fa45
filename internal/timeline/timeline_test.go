package timeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/histogram"
)

// fakeSink stores rows in memory, by second. While the field broken is true, AppendTimeline stores the rows but returns
// an error.
type fakeSink struct {
	mu     sync.Mutex
	broken bool
	rows   map[int64]Row
}

func (s *fakeSink) AppendTimeline(_ context.Context, _ string, rows []Row) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range rows {
		s.rows[row.Second] = row
	}
	if s.broken {
		return errors.New("the answer is lost")
	}
	return nil
}

func (s *fakeSink) CompactTimeline(context.Context, time.Time) error { return nil }

func (s *fakeSink) setBroken(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

func (s *fakeSink) total() Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Row
	for _, row := range s.rows {
		all = append(all, row)
	}
	return Sum(all...)
}

// counter is a fake process that measures one event every 100 ms.
type counter struct {
	mu      sync.Mutex
	n       int64
	elapsed histogram.Histogram
}

func (c *counter) run(ctx context.Context) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.mu.Lock()
			c.n++
			c.mu.Unlock()
			c.elapsed.Observe(time.Millisecond)
		}
	}
}

func (c *counter) totals() Row {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Row{Exit: Events{
		Effects: c.n, Outcomes: map[string]int64{"matched": c.n}, Processing: c.elapsed.Snapshot(),
	}}
}

func TestRecorder_SinkFailsForSomeTime_CountsEachEventOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, process := &fakeSink{rows: map[int64]Row{}}, &counter{}
		recorder := NewRecorder("p", process.totals, sink, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { process.run(ctx) })
		work.Go(func() {
			if err := recorder.Run(ctx, t.Context()); err != nil {
				t.Error(err)
			}
		})
		recorder.Mark(Mark{Kind: MarkStarted, At: time.Now()})

		time.Sleep(30*time.Second + 50*time.Millisecond)
		if total := sink.total(); total.Exit.Effects < 295 || total.seconds() != 30 || len(total.Marks) != 1 {
			t.Errorf("after 30 s the sink has %d events in %d s, and the marks %v", total.Exit.Effects, total.seconds(), total.Marks)
		}
		sink.setBroken(true)
		time.Sleep(5 * time.Minute)
		sink.setBroken(false)
		time.Sleep(10 * time.Second)
		cancel()
		work.Wait()
		total := sink.total().Exit
		if total.Effects != process.n || total.Outcomes["matched"] != process.n || int64(total.Processing.Count()) != process.n {
			t.Errorf("the sink has %+v, want %d events", total, process.n)
		}
	})
}

func TestRecorder_StartsInTheMiddleOfASecond_CountsEachEventInItsSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(600 * time.Millisecond)
		sink, begin := &fakeSink{rows: map[int64]Row{}}, time.Now().Unix()
		// totals returns the number of events so far. The first second has 1 event, the next second has 2 events, and
		// so on.
		totals := func() Row {
			var n int64
			for second := begin; second <= time.Now().Add(-time.Nanosecond).Unix(); second++ {
				n += second - begin + 1
			}
			return Row{Entry: Events{Effects: n}}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := NewRecorder("p", totals, sink, slog.New(slog.DiscardHandler)).Run(ctx, t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range int64(5) {
			if got := sink.rows[begin+i].Entry.Effects; got != i+1 {
				t.Errorf("the row of second %d has %d events, want %d", i, got, i+1)
			}
		}
	})
}

func TestRecorder_IdleSecond_StoresNoRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, pool := &fakeSink{rows: map[int64]Row{}}, int64(7)
		totals := func() Row { return Row{Entry: Events{Effects: 3}, Gauges: Gauges{Pool: &pool}} }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := NewRecorder("p", totals, sink, slog.New(slog.DiscardHandler)).Run(ctx, t.Context()); err != nil {
			t.Fatal(err)
		}
		if total := sink.total(); len(sink.rows) != 1 || total.Entry.Effects != 3 || *total.Pool != 7 {
			t.Errorf("a process that is idle after its first second has %d rows with the sum %+v", len(sink.rows), total)
		}
	})
}

func TestRecorderRun_SinkFails_ReturnsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, process := &fakeSink{rows: map[int64]Row{}, broken: true}, &counter{n: 1}
		recorder := NewRecorder("p", process.totals, sink, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		closing, end := context.WithTimeout(t.Context(), 15*time.Second)
		defer end()
		if err := recorder.Run(ctx, closing); err == nil {
			t.Error("Run returned no error, although it could not store the rows")
		}
	})
}

// appended is a Sink that records rows as texts: "p 12: 3" is a row of process p for second 12, with 3 effects.
type appended struct{ rows []string }

func (a *appended) AppendTimeline(_ context.Context, process string, rows []Row) error {
	for _, row := range rows {
		a.rows = append(a.rows, fmt.Sprintf("%s %d: %d", process, row.Second, row.Entry.Effects))
	}
	return nil
}

func (*appended) CompactTimeline(context.Context, time.Time) error { return nil }

func TestRecorder_ClockIsAdjusted_RowsHaveTheNewTime(t *testing.T) {
	t.Parallel()
	var sink appended
	var effects int64
	r := NewRecorder("p", func() Row { return Row{Entry: Events{Effects: effects}} }, &sink, slog.New(slog.DiscardHandler))
	for _, now := range []int64{1000, 1001, 1600, 1601, 1602, 1000, 1001, 1001, 1002} { // the clock is set forward, then back
		effects++
		r.measure(time.Unix(now, 0))
		if now > 1600 {
			continue // simulate an unavailable sink
		}
		if err := r.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	names := map[string]string{}
	for i, row := range sink.rows {
		process, rest, _ := strings.Cut(row, " ")
		if names[process] == "" {
			names[process] = string(rune('a' + len(names)))
		}
		sink.rows[i] = names[process] + " " + rest
	}
	want := []string{"a 999: 1", "a 1000: 1", "a 1599: 1", "a 1600: 1", "a 1601: 1", "b 999: 1", "b 1000: 1", "b 1001: 1", "b 1002: 1"}
	if diff := cmp.Diff(want, sink.rows); diff != "" {
		t.Errorf("rows differ (-want +got):\n%s", diff)
	}
}

func TestMerge_AlignsRowsToMultiplesOfTheWidth(t *testing.T) {
	rows := []Row{{Second: -1}, {Second: 0}, {Second: 9}, {Second: 10, Width: 10}, {Second: 25}}
	for i := range rows {
		rows[i].Entry.Due = 1
	}
	merged := Merge(10, rows...)
	want := []struct{ second, due int64 }{{-10, 1}, {0, 2}, {10, 1}, {20, 1}}
	if len(merged) != len(want) {
		t.Fatalf("%d rows, want %d", len(merged), len(want))
	}
	for i, w := range want {
		if merged[i].Second != w.second || merged[i].Entry.Due != w.due || merged[i].Width != 10 {
			t.Errorf("row %d is %+v, want %+v", i, merged[i], w)
		}
	}
}

func TestSum_MarksDifferOnlyInTime_KeepsTheFirstMark(t *testing.T) {
	at := func(ms int64, subject string) []Mark {
		return []Mark{{At: time.UnixMilli(ms), Kind: MarkUnavailable, Subject: subject}}
	}
	total := Sum(Row{Marks: at(30, "store")}, Row{Marks: at(10, "store")}, Row{Marks: at(20, "broker")})
	if m := total.Marks; len(m) != 2 || m[0].At.UnixMilli() != 10 || m[1].Subject != "broker" {
		t.Errorf("the marks are %v", m)
	}
}

func TestSum_TwoProcessesMarkTheSameOutage_KeepsTheFirstStartAndTheFirstEnd(t *testing.T) {
	mark := func(ms int64, kind MarkKind) []Mark {
		return []Mark{{At: time.UnixMilli(ms), Kind: kind, Subject: "store"}}
	}
	rows := []Row{
		{Marks: mark(10, MarkUnavailable)},
		{Marks: mark(11, MarkUnavailable)}, // another process reports the same outage
		{Marks: mark(20, MarkAvailable)},
		{Marks: mark(30, MarkUnavailable)},
		{Marks: mark(40, MarkAvailable)},
		{Marks: mark(41, MarkAvailable)},
	}
	var got []int64
	for _, m := range Sum(rows...).Marks {
		got = append(got, m.At.UnixMilli())
	}
	if want := []int64{10, 20, 30, 40}; !slices.Equal(got, want) {
		t.Errorf("the marks of two outages are at %v, want %v", got, want)
	}
}

func TestAddMarks_MarksWithAndWithoutARow_AreInExistingOrNewRows(t *testing.T) {
	down := func(second int64, subject string) Mark {
		return Mark{At: time.Unix(second, 0), Kind: MarkDown, Subject: subject}
	}
	rows := []Row{
		{Second: 90, Width: 10, Marks: []Mark{down(95, "redis")}},
		{Second: 100, Gauges: Gauges{Ready: new(int64(7))}},
		{Second: 110},
	}
	marks := []Mark{
		down(80, "before the interval"), down(91, "processor"), down(95, "redis"), down(100, "processor"),
		down(105, "processor"), down(105, "redis"), down(110, "redis"), down(120, "after the interval"),
	}
	got := AddMarks(rows, time.Unix(95, 0), time.Unix(120, 0), marks...)
	want := []Row{
		{Second: 90, Width: 10, Marks: []Mark{down(91, "processor"), down(95, "redis")}},
		{Second: 100, Gauges: Gauges{Ready: new(int64(7))}, Marks: []Mark{down(100, "processor")}},
		{Second: 105, Gauges: Gauges{Ready: new(int64(7))}, Marks: []Mark{down(105, "processor"), down(105, "redis")}},
		{Second: 110, Marks: []Mark{down(110, "redis")}},
	}
	if !reflect.DeepEqual(want, got) {
		t.Errorf("the rows are %+v, want %+v", got, want)
	}
	if len(rows) != 3 || len(rows[0].Marks) != 1 || rows[1].Marks != nil {
		t.Errorf("AddMarks changed its argument to %+v", rows)
	}
	if again := AddMarks(got, time.Unix(95, 0), time.Unix(120, 0), marks...); !reflect.DeepEqual(got, again) {
		t.Errorf("adding the same marks again results in %+v", again)
	}
	for i := range int64(2 * maxMarks) {
		got = AddMarks(got, time.Unix(95, 0), time.Unix(120, 0), down(110, strconv.FormatInt(i, 10)))
	}
	if n := len(got[3].Marks); n != maxMarks {
		t.Errorf("a row has %d marks", n)
	}
}

func TestSum_DoesNotChangeItsArguments(t *testing.T) {
	rows := []Row{
		{Entry: Events{Outcomes: map[string]int64{"recorded": 1}}, Marks: []Mark{{Kind: MarkStarted}}},
		{Entry: Events{Outcomes: map[string]int64{"recorded": 2}}, Marks: []Mark{{Kind: MarkStopped}}},
	}
	if total := Sum(rows...); total.Entry.Outcomes["recorded"] != 3 || len(total.Marks) != 2 {
		t.Errorf("the sum is %+v", total)
	}
	if rows[0].Entry.Outcomes["recorded"] != 1 || len(rows[0].Marks) != 1 {
		t.Errorf("the first row became %+v", rows[0])
	}
}

// BenchmarkRecorder_Row measures the cost of one row of a busy process. The cost includes reading the totals,
// subtracting the previous totals, and sending the row.
func BenchmarkRecorder_Row(b *testing.B) {
	var processing, endToEnd histogram.Histogram
	var events int64
	r := NewRecorder("processor", func() Row {
		measured := Events{
			Effects: events, Outcomes: map[string]int64{"recorded": events},
			Processing: processing.Snapshot(), EndToEnd: endToEnd.Snapshot(),
		}
		return Row{Entry: measured, Exit: measured}
	}, &fakeSink{rows: map[int64]Row{}}, slog.New(slog.DiscardHandler))
	b.ReportAllocs()
	for b.Loop() {
		events++
		// The latencies vary by a factor of 512, so the histograms have more buckets than usual.
		d := time.Millisecond << (events % 10)
		processing.Observe(d)
		endToEnd.Observe(2 * d)
		r.measure(time.Unix(events, 0))
		if err := r.flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
