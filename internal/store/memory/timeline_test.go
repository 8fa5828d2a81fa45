package memory

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/store/storetest"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// dayOfTimeline is the maximum size of a busy day: 7,680 rows of about 1 KiB. Widely varying latencies would need 3
// KiB per row.
const dayOfTimeline = 8 << 20

// size returns the total number of bytes of all encoded rows and blocks.
func (b *timelineBlocks) size() (bytes int) {
	for _, minute := range b.minutes {
		for _, text := range minute {
			bytes += len(text)
		}
	}
	for _, text := range b.blocks {
		bytes += len(text)
	}
	return bytes
}

func TestTimeline_BusyDay_SizeIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a day of events takes 10 s")
	}
	t.Parallel()
	s := New(Config{Partitions: 1})
	start := time.Date(2026, time.May, 17, 0, 0, 0, 0, time.UTC)
	var h histogram.Histogram
	const events = 1000
	for i := range events {
		h.Observe(time.Duration(float64(time.Millisecond) * math.Pow(3, float64(i)/events)))
	}
	busy := timeline.Events{
		Due: events, Published: events, Confirmed: events, Effects: events,
		Outcomes: map[string]int64{"recorded": events}, Processing: h.Snapshot(), EndToEnd: h.Snapshot(),
	}
	const perMinute, minutes = 60, 24 * 60
	largest := 0
	for minute := range minutes {
		rows := make([]timeline.Row, perMinute)
		for second := range rows {
			rows[second] = timeline.Row{Second: start.Unix() + int64(minute*perMinute+second), Entry: busy, Exit: busy}
		}
		if err := s.AppendTimeline(t.Context(), "process", rows); err != nil {
			t.Fatal(err)
		}
		if err := s.CompactTimeline(t.Context(), start.Add(time.Duration(minute+1)*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if largest = max(largest, s.timeline.size()); largest > dayOfTimeline {
			t.Fatalf("after %d minutes the timeline has %d bytes, want at most %d", minute+1, largest, dayOfTimeline)
		}
	}
	rows, err := s.ReadTimeline(t.Context(), start, start.Add(48*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := timeline.Sum(rows...).Entry.Effects, int64(events*perMinute*minutes); got != want {
		t.Errorf("the day has %d events, want %d", got, want)
	}
	t.Logf("a busy day has %d rows and at most %d bytes", len(rows), largest)
}

func TestCompactTimeline_RemovesDataOfProcessesThatEndedLongAgo(t *testing.T) {
	t.Parallel()
	s, start := New(Config{Partitions: 1}), time.Unix(1_800_000_000, 0)
	// On each simulated day, one process starts and stores a row.
	for day := range 30 {
		at := start.Add(time.Duration(day) * 24 * time.Hour)
		if err := s.AppendTimeline(t.Context(), fmt.Sprintf("processor-%d", day), []timeline.Row{{Second: at.Unix(), Entry: timeline.Events{Published: 1}}}); err != nil {
			t.Fatal(err)
		}
		if err := s.CompactTimeline(t.Context(), at.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.timeline.merged); n > 8 {
		t.Errorf("%d processes are remembered, want those of the last 7 days", n)
	}
}

func TestTimelineReplace_RowsWereMergedMeanwhile_ChangesNothing(t *testing.T) {
	t.Parallel()
	storetest.RunTimelineStorage(t, New(Config{Partitions: 1}).timeline)
}
