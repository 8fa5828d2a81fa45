package memory

import (
	"fmt"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// dayOfTimeline bounds the encoded rows of a day: 3,600 rows of 1 s, 3,240 of 10 s and 840 of 1 min, of at most 1 KiB
// each.
const dayOfTimeline = 8 << 20

// size returns the number of bytes of all encoded rows and blocks.
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

func TestTimeline_ADayStaysWithinItsBound(t *testing.T) {
	t.Parallel()
	s := New(1)
	start := time.Date(2026, time.May, 17, 0, 0, 0, 0, time.UTC)
	var latencies histogram.Histogram
	var before, busy timeline.Row
	const perMinute, minutes = 60, 24 * 60
	largest := 0
	for minute := range minutes {
		for process := range 2 {
			var rows []timeline.Row
			for second := range perMinute {
				// Latencies spread over three orders of magnitude, which is about 80 buckets.
				for i := range 40 {
					latencies.Observe(time.Duration(1<<(i%10)) * 100 * time.Microsecond * time.Duration(100+i) / 100)
				}
				snapshot := latencies.Snapshot()
				busy = timeline.Row{Second: start.Unix() + int64(minute*perMinute+second)}
				for _, e := range []*timeline.Events{&busy.Entry, &busy.Exit} {
					*e = timeline.Events{
						Due: 1000, Published: 1000, Confirmed: 1000, Effects: 1000,
						Outcomes: map[string]int64{"recorded": 1000}, Processing: snapshot.Since(before.Entry.Processing),
					}
				}
				before.Entry.Processing = snapshot
				rows = append(rows, busy)
			}
			if err := s.AppendTimeline(t.Context(), fmt.Sprint("process-", process), rows); err != nil {
				t.Fatal(err)
			}
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
	if got, want := timeline.Sum(rows...).Entry.Effects, int64(2*1000*perMinute*minutes); got != want {
		t.Errorf("the day has %d events, want %d", got, want)
	}
	t.Logf("a day of two busy processes has %d rows and at most %d bytes", len(rows), largest)
}
