package main

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/sizing"
)

func TestAverageOf_TwoPoints_HasMeanRatesAndAllLatencies(t *testing.T) {
	t.Parallel()
	latencies := func(d time.Duration) histogram.Snapshot {
		var h histogram.Histogram
		h.Observe(d)
		return h.Snapshot()
	}
	point := func(n float64, d time.Duration) sizing.Point {
		return sizing.Point{
			OfferedPerSecond: 100, EntriesPerSecond: n, ExitsPerSecond: 2 * n, SummariesPerSecond: 3 * n, OtherCores: 4 * n,
			EndToEnd: latencies(d),
			Components: map[sizing.Component]sizing.Usage{
				sizing.Redis: {Cores: n, MemoryBytes: 2 * n, DiskBytes: 3 * n, WriteBytes: 4 * n, NetworkBytes: 5 * n},
			},
		}
	}
	fast, slow := point(10, time.Millisecond), point(30, time.Second)
	want := point(20, time.Hour)
	want.EndToEnd = histogram.Merge(fast.EndToEnd, slow.EndToEnd)
	if diff := cmp.Diff(want, averageOf([]sizing.Point{fast, slow}), cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("the average differs (-want +got):\n%s", diff)
	}
}
