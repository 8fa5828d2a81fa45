package main

import (
	"encoding/json"
	"math"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/goldentest"
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
	want.OtherCores = slow.OtherCores
	want.EndToEnd = histogram.Merge(fast.EndToEnd, slow.EndToEnd)
	if diff := cmp.Diff(want, averageOf([]sizing.Point{fast, slow}), cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("the average differs (-want +got):\n%s", diff)
	}
}

func TestCompare_SeveralRounds_ComparesPredictionsWithMediansAndMeans(t *testing.T) {
	t.Parallel()
	costs, err := sizing.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	const rate = 3000
	point := func(cores float64) sizing.Point {
		var h histogram.Histogram
		h.Observe(10 * time.Millisecond)
		return sizing.Point{
			EntriesPerSecond: rate / 2, ExitsPerSecond: rate / 2, EndToEnd: h.Snapshot(),
			Components: map[sizing.Component]sizing.Usage{sizing.Redis: {Cores: cores}},
		}
	}
	rows := compare(costs, rate, &rateResult{
		points:   []sizing.Point{point(1), point(2), point(3)},
		backlogs: []float64{9000, 100, 9500}, recoveries: []float64{.5, 9, .4},
	})
	measured := map[string]float64{}
	for i := range rows {
		measured[rows[i].Figure] = math.Round(rows[i].Measured*10) / 10
		if rows[i].Predicted <= 0 || rows[i].EventsPerSecond != rate {
			t.Errorf("%+v has no prediction or a wrong rate", rows[i])
		}
	}
	want := map[string]float64{
		"CPU in cores": 2, "end-to-end p50 in ms": 10, "end-to-end p99 in ms": 10, "events in flight": 30,
		"backlog of an outage of 3s": 9000, "recovery from the outage in s": .5,
	}
	// A histogram counts in buckets, so figures from a histogram are approximate.
	approximately := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= .1*math.Abs(a) })
	if diff := cmp.Diff(want, measured, approximately); diff != "" {
		t.Errorf("the measured figures differ (-want +got):\n%s", diff)
	}
}

// If the model or the costs change, the file check.json must get new predictions.
func TestCompare_CurrentModel_MatchesThePredictionsInTheCheckFile(t *testing.T) {
	t.Parallel()
	const path = "../../internal/sizing/testdata/check.json"
	costs, err := sizing.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var check sizing.Check
	if err := json.Unmarshal(text, &check); err != nil {
		t.Fatal(err)
	}
	unmeasured := &rateResult{points: make([]sizing.Point, 1), backlogs: make([]float64, 1), recoveries: make([]float64, 1)}
	var rows []sizing.Compared
	for _, rate := range ratesOf(checkedShares, costs.Points[len(costs.Points)-1].Rate()) {
		rows = append(rows, compare(costs, rate, unmeasured)...)
	}
	if len(rows) != len(check.Rows) {
		t.Fatalf("%s has %d rows, want %d: run make bench-costs", path, len(check.Rows), len(rows))
	}
	const rounding = 1e-3 // the maximum relative difference; the rounding of floating-point numbers depends on the CPU
	for i := range rows {
		row, recorded := &rows[i], &check.Rows[i]
		if row.EventsPerSecond != recorded.EventsPerSecond || row.Figure != recorded.Figure {
			t.Fatalf("row %d of %s is %s at %d events/s, want %s at %d events/s: run make bench-costs",
				i, path, recorded.Figure, recorded.EventsPerSecond, row.Figure, row.EventsPerSecond)
		}
		if goldentest.Updating() {
			recorded.Predicted = row.Predicted
		}
		if math.Abs(row.Predicted-recorded.Predicted) > rounding*row.Predicted {
			t.Errorf("at %d events/s, %s is predicted to be %.3g, but %s has %.3g: run this test and then TestDocs_Sizing with -update",
				row.EventsPerSecond, row.Figure, row.Predicted, path, recorded.Predicted)
		}
	}
	if goldentest.Updating() {
		if err := writeJSON(path, check); err != nil {
			t.Fatal(err)
		}
	}
}
