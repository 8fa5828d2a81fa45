package controllers

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/metrics"
)

// native is what a processor exports of durations.
func native(t rapid.TB, seconds ...float64) *dto.Histogram {
	t.Helper()
	h := prometheus.NewHistogram(metrics.Latency("test", "test"))
	for _, s := range seconds {
		h.Observe(s)
	}
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetHistogram()
}

func TestQuantilesOfSeveralHistogramsAreNearThoseOfTheirDurations(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Up to some seconds in the logarithm, as latencies are.
		exponents := rapid.SliceOfN(rapid.Float64Range(-13, 3), 1, 100).Draw(t, "exponents")
		q := rapid.Float64Range(0.01, 1).Draw(t, "q")
		split := rapid.IntRange(0, len(exponents)).Draw(t, "split")
		seconds := make([]float64, len(exponents))
		for i, e := range exponents {
			seconds[i] = math.Exp(e)
		}
		var d distribution
		d.add(native(t, seconds[:split]...))
		d.add(native(t, seconds[split:]...))
		if d.count != uint64(len(seconds)) {
			t.Fatalf("counts %d durations, want %d", d.count, len(seconds))
		}
		slices.Sort(seconds)
		want := seconds[max(int(math.Ceil(q*float64(len(seconds)))), 1)-1]
		got, ok := d.quantile(q, 0, 0)
		const tolerance = 0.05
		if !ok || math.Abs(got.Seconds()-want) > tolerance*want+1e-9 {
			t.Fatalf("the quantile %g is %v (%t), want %gs", q, got, ok, want)
		}
	})
}

func TestAHistogramWithoutNativeBucketsAddsNothing(t *testing.T) {
	t.Parallel()
	classic := &dto.Histogram{SampleCount: new(uint64(1)), Bucket: []*dto.Bucket{{CumulativeCount: new(uint64(1)), UpperBound: new(1.0)}}}
	var d distribution
	for _, h := range []*dto.Histogram{nil, classic, {Schema: new(int32(3)), PositiveSpan: []*dto.BucketSpan{{Length: new(uint32(1 << 31))}}}} {
		d.add(h)
	}
	if _, ok := d.quantile(p99, 0, 0); ok || d.count != 0 {
		t.Errorf("%d durations were found, want none", d.count)
	}
}

func TestAnObjectiveIsDecidedOnlyWhenTheUnmeasuredCannotChangeIt(t *testing.T) {
	t.Parallel()
	var d distribution
	for range 100 { // 99 at 1 ms, 1 at 1 s in each hundred
		d.add(native(t, append(slices.Repeat([]float64{0.001}, 98), 1, 1)...))
	}
	const met, missed, open = "met", "missed", "open"
	tests := map[string]struct {
		objective  time.Duration
		unmeasured uint64
		want       string
	}{
		"all were measured, and 2 of 100 were slow":            {100 * time.Millisecond, 0, missed},
		"all were measured, and none was slower":               {2 * time.Second, 0, met},
		"few are missing, even if all of them were slow":       {2 * time.Second, 100, met},
		"few are missing, even if none of them was slow":       {100 * time.Millisecond, 1000, missed},
		"so many are missing that they may have been fast":     {100 * time.Millisecond, 20_000, open},
		"so many are missing that they may have been slow":     {2 * time.Second, 200, open},
		"far more are missing than were measured, nothing new": {2 * time.Second, 1_000_000, open},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := distribution{buckets: slices.Clone(d.buckets), count: d.count}
			got := open
			if at := d.decide(tt.objective, tt.unmeasured); at != nil {
				got = missed
				if *at <= tt.objective {
					got = met
				}
			}
			if got != tt.want {
				t.Errorf("the objective of %v is %s, want it %s", tt.objective, got, tt.want)
			}
		})
	}
	if at := (distribution{}).decide(time.Second, 0); at != nil {
		t.Errorf("without any duration the objective is decided by %v", *at)
	}
}
