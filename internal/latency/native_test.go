package latency

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

// native returns the native histogram of durations in seconds, as a processor exports it.
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

func TestFromNative_QuantilesAreNearThoseOfTheDurations(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Up to some seconds, evenly on a logarithmic scale, as latencies are.
		exponents := rapid.SliceOfN(rapid.Float64Range(-13, 3), 1, 100).Draw(t, "exponents")
		q := rapid.Float64Range(0.01, 1).Draw(t, "q")
		split := rapid.IntRange(0, len(exponents)).Draw(t, "split")
		seconds := make([]float64, len(exponents))
		for i, e := range exponents {
			seconds[i] = math.Exp(e)
		}
		s := Merge(FromNative(native(t, seconds[:split]...)), FromNative(native(t, seconds[split:]...)))
		if s.Count() != uint64(len(seconds)) {
			t.Fatalf("counts %d durations, want %d", s.Count(), len(seconds))
		}
		slices.Sort(seconds)
		want := seconds[max(int(math.Ceil(q*float64(len(seconds)))), 1)-1]
		const tolerance = 0.05
		if got := s.Quantile(q); math.Abs(got.Seconds()-want) > tolerance*want+1e-9 {
			t.Fatalf("the quantile %g is %v, want %gs", q, got, want)
		}
	})
}

func TestFromNative_WithoutNativeBucketsIsEmpty(t *testing.T) {
	t.Parallel()
	classic := &dto.Histogram{SampleCount: new(uint64(1)), Bucket: []*dto.Bucket{{CumulativeCount: new(uint64(1)), UpperBound: new(1.0)}}}
	for _, h := range []*dto.Histogram{nil, classic, {Schema: new(int32(3)), PositiveSpan: []*dto.BucketSpan{{Length: new(uint32(1 << 31))}}}} {
		if s := FromNative(h); s.Count() != 0 || s.Quantile(0.99) != 0 {
			t.Errorf("%v holds %d durations, want none", h, s.Count())
		}
	}
}

func TestSnapshot_RangeHoldsTheQuantileWhateverTheMissingWere(t *testing.T) {
	t.Parallel()
	var all []Snapshot
	for range 100 { // in each hundred, 98 durations of 1 ms and 2 of 1 s
		all = append(all, FromNative(native(t, append(slices.Repeat([]float64{0.001}, 98), 1, 1)...)))
	}
	s := Merge(all...)
	const fast, slow, unknown = time.Millisecond, time.Second, math.MaxInt64
	tests := map[string]struct {
		missing         uint64
		lowest, highest time.Duration
	}{
		"nothing is missing":                            {0, slow, slow},
		"100 more do not change it":                     {100, slow, slow},
		"200 more may all be slower":                    {200, slow, unknown},
		"1,000 more may all be slower":                  {1000, slow, unknown},
		"20,000 more may all be faster":                 {20_000, fast, unknown},
		"far more are missing than there are durations": {1_000_000, 0, unknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lowest, highest := s.Range(0.99, tt.missing)
			for _, got := range []struct{ is, want time.Duration }{{lowest, tt.lowest}, {highest, tt.highest}} {
				if got.want == unknown && got.is != unknown || got.want != unknown && !within5Percent(got.is, got.want) {
					t.Errorf("the range is from %v to %v, want %v to %v", lowest, highest, tt.lowest, tt.highest)
				}
			}
		})
	}
	if lowest, highest := (Snapshot{}).Range(0.99, 0); lowest != 0 || highest != unknown {
		t.Errorf("the range of an empty snapshot is from %v to %v, want everything", lowest, highest)
	}
}

func within5Percent(got, want time.Duration) bool {
	return math.Abs(float64(got-want)) <= 0.05*float64(want)
}
