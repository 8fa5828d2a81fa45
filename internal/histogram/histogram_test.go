package histogram

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// random generates durations between nanoseconds and hours. All orders of magnitude are equally likely.
func random(r *rand.Rand) time.Duration { return time.Duration(math.Exp(r.Float64() * 31)) }

func TestHistogram_HasTheBucketsOfPrometheus(t *testing.T) {
	reference := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "d", NativeHistogramBucketFactor: 1.1})
	var h Histogram
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		d := max(random(r), 2)
		h.Observe(d)
		reference.Observe(d.Seconds())
	}
	var metric dto.Metric
	if err := reference.Write(&metric); err != nil {
		t.Fatal(err)
	}
	snapshot, want := h.Snapshot(), FromNative(metric.GetHistogram())
	if snapshot.Count() != 20_000 || !slices.Equal(snapshot.Buckets(), want.Buckets()) || !near(snapshot.Mean(), want.Mean()) {
		t.Errorf("the histogram is %+v, but that of Prometheus is %+v", snapshot, want)
	}
}

func TestFromNative_NoNativeBuckets_ReturnsAnEmptySnapshot(t *testing.T) {
	classic := &dto.Histogram{SampleCount: new(uint64(1)), Bucket: []*dto.Bucket{{CumulativeCount: new(uint64(1)), UpperBound: new(1.0)}}}
	for _, h := range []*dto.Histogram{nil, classic, {Schema: new(int32(3)), PositiveSpan: []*dto.BucketSpan{{Length: new(uint32(1 << 31))}}}} {
		if s := FromNative(h); s.Count() != 0 || s.Quantile(0.99) != 0 {
			t.Errorf("%v holds %d durations, want none", h, s.Count())
		}
	}
}

func TestQuantile_IsWithinOneBucketOfTheTrueValue(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		var h Histogram
		all := make([]time.Duration, 1+r.IntN(2_000))
		for i := range all {
			all[i] = max(random(r), 2)
			h.Observe(all[i])
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 1} {
			rank := max(int(math.Ceil(q*float64(len(all)))), 1)
			want := all[rank-1].Seconds()
			got := h.Snapshot().Quantile(q).Seconds()
			const step = 1.0906 // a little more than 2^(1/8), which is the ratio between the bounds of adjacent buckets
			if got > want*step+2e-9 || got < want/step-2e-9 {
				t.Fatalf("quantile %v of %d durations is %v s, want about %v s", q, len(all), got, want)
			}
		}
	}
}

func TestHistogramSnapshot_MergeAndDifference_AreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var one, two, both Histogram
	for range 5_000 {
		d := random(r)
		both.Observe(d)
		if r.IntN(2) == 0 {
			one.Observe(d)
		} else {
			two.Observe(d)
		}
	}
	merged := Merge(one.Snapshot(), two.Snapshot())
	if !equal(merged, both.Snapshot()) {
		t.Error("two merged halves differ from the whole")
	}
	if !equal(merged.Since(one.Snapshot()), two.Snapshot()) {
		t.Error("the whole without one half differs from the other half")
	}
	if !equal(Merge(), Snapshot{}) || merged.Since(merged).Count() != 0 {
		t.Error("a merge of no snapshots, or the difference of equal snapshots, is not empty")
	}
}

func TestSnapshotRange_SomeDurationsAreMissing_ContainsEveryPossibleQuantile(t *testing.T) {
	var h Histogram
	for i := range 10_000 { // 98 % of the durations are 1 ms, 2 % are 1 s
		h.Observe([]time.Duration{time.Millisecond, time.Second}[max(i%50-48, 0)])
	}
	const fast, slow, unknown = time.Millisecond, time.Second, math.MaxInt64
	tests := map[string]struct {
		missing         uint64
		lowest, highest time.Duration
	}{
		"nothing is missing":                               {0, slow, slow},
		"50 are missing, too few to change the quantile":   {50, slow, slow},
		"200 are missing and may all be slower":            {200, slow, unknown},
		"20,000 are missing and may all be faster":         {20_000, fast, unknown},
		"far more durations are missing than are observed": {1_000_000, 0, unknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			lowest, highest := h.Snapshot().Range(0.99, tt.missing)
			if !near(lowest, tt.lowest) || !near(highest, tt.highest) {
				t.Errorf("the range is from %v to %v, want %v to %v", lowest, highest, tt.lowest, tt.highest)
			}
		})
	}
	if lowest, highest := (Snapshot{}).Range(0.99, 0); lowest != 0 || highest != unknown {
		t.Errorf("the range of an empty snapshot is from %v to %v, want from 0 to the maximum", lowest, highest)
	}
	if s := h.Snapshot(); func() time.Duration { _, high := s.Range(0.5, 0); return high }() != s.Quantile(0.5) {
		t.Error("the range of a complete snapshot differs from its quantile")
	}
}

// near reports whether got differs from want by at most the width of a bucket.
func near(got, want time.Duration) bool {
	return math.Abs(float64(got)-float64(want)) <= 0.0906*float64(want)
}

func TestHistogramSnapshot_EncodedAndDecodedAsJSON_IsUnchanged(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var h Histogram
	for range 100 {
		text, err := json.Marshal(h.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		var got Snapshot
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if !equal(got, h.Snapshot()) {
			t.Fatalf("%s is read back as %+v", text, got)
		}
		h.Observe(random(r))
	}
}

func TestUnmarshalJSON_RejectsInvalidBuckets(t *testing.T) {
	for _, text := range []string{`{"buckets":[[-1000,1]]}`, `{"buckets":[[201,1]]}`, `{"buckets":[[1]]}`, `{"buckets":[[1,-1]]}`, `{"buckets":"no"}`, `[]`} {
		var s Snapshot
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s is accepted as %+v", text, s)
		}
	}
}

func TestHistogramObserve_ExtremeDurations_AreInTheOutermostBuckets(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{math.MinInt64, -1, 0, 1, math.MaxInt64} {
		h.Observe(d)
	}
	s := h.Snapshot()
	if s.count(first) != 4 || s.count(last) != 1 || s.Count() != 5 {
		t.Errorf("the extreme durations are counted as %+v", s)
	}
	if (Snapshot{}).Quantile(0.5) != 0 || (Snapshot{}).Mean() != 0 {
		t.Error("an empty snapshot has a quantile or a mean")
	}
}

func FuzzSnapshotUnmarshalJSON_AcceptedSnapshot_IsUnchangedAfterEncodingAndDecoding(f *testing.F) {
	f.Add([]byte(`{"sumNs":5,"buckets":[[-80,1],[-78,2]]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Snapshot
		if json.Unmarshal(text, &s) != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Snapshot
		if err := json.Unmarshal(again, &back); err != nil || !equal(back, s) {
			t.Fatalf("decoding %s again returned the error %v and %+v, want %+v", again, err, back, s)
		}
		_ = s.Quantile(0.99)
	})
}

func BenchmarkHistogram_Observe(b *testing.B) {
	var h Histogram
	b.RunParallel(func(pb *testing.PB) {
		for d := time.Duration(1); pb.Next(); d = d*5/3 + 1 {
			h.Observe(d & (1<<40 - 1))
		}
	})
}

func equal(a, b Snapshot) bool {
	return a.sum == b.sum && a.total == b.total && slices.Equal(a.Buckets(), b.Buckets())
}
