package latency

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// tolerance is the relative error that the package documents for quantiles.
const tolerance = 0.032

func TestSnapshot_EmptyReturnsZeros(t *testing.T) {
	t.Parallel()
	var h Histogram
	s := h.Snapshot()
	if s.Count() != 0 || s.Mean() != 0 || s.Quantile(0.99) != 0 {
		t.Errorf("count %d, mean %v, p99 %v; want zeros", s.Count(), s.Mean(), s.Quantile(0.99))
	}
}

func TestBucketOf_MiddleIsNearTheDuration(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{0, 1, 15, 16, 17, 31, 32, 33, 999, time.Microsecond, time.Second, time.Hour, math.MaxInt64} {
		bucket := bucketOf(d)
		if bucket < 0 || bucket >= buckets {
			t.Fatalf("bucket of %d is %d, outside of [0, %d)", d, bucket, buckets)
		}
		lower, upper := boundsOf(bucket)
		if d < lower || d > upper {
			t.Errorf("%v falls into the bucket from %v to %v", d, lower, upper)
		}
		if middle := (Bucket{Lower: lower, Upper: upper}).middle(); !near(middle, d) {
			t.Errorf("%v falls into the bucket around %v", d, middle)
		}
	}
}

func TestHistogram_NegativeDurationCountsAsZero(t *testing.T) {
	t.Parallel()
	var h Histogram
	h.Observe(-time.Second)
	if s := h.Snapshot(); s.Count() != 1 || s.Mean() != 0 || s.Quantile(1) != 0 {
		t.Errorf("count %d, mean %v, maximum %v; want 1, 0, 0", s.Count(), s.Mean(), s.Quantile(1))
	}
}

func TestSnapshot_QuantilesAndMeanMatchObservations(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		durations := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Hour)), 1, 200).Draw(t, "durations")
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		split := rapid.IntRange(0, len(durations)).Draw(t, "split")

		var a, b Histogram
		var sum float64
		for i, d := range durations {
			sum += float64(d)
			if i < split {
				a.Observe(time.Duration(d))
			} else {
				b.Observe(time.Duration(d))
			}
		}
		s := Merge(a.Snapshot(), b.Snapshot())

		if got := s.Count(); got != uint64(len(durations)) {
			t.Fatalf("count %d, want %d", got, len(durations))
		}
		if want := time.Duration(sum / float64(len(durations))); (s.Mean() - want).Abs() > time.Microsecond {
			t.Fatalf("mean %v, want %v", s.Mean(), want)
		}
		slices.Sort(durations)
		rank := max(int(math.Ceil(q*float64(len(durations)))), 1)
		if got, want := s.Quantile(q), time.Duration(durations[rank-1]); !near(got, want) {
			t.Fatalf("quantile %v is %v, want about %v", q, got, want)
		}
	})
}

func TestHistogram_CountsConcurrentObservations(t *testing.T) {
	t.Parallel()
	const observers, each = 8, 1000
	var (
		h  Histogram
		wg sync.WaitGroup
	)
	for range observers {
		wg.Go(func() {
			for i := range each {
				h.Observe(time.Duration(i) * time.Microsecond)
			}
		})
	}
	wg.Wait()
	if got := h.Snapshot().Count(); got != observers*each {
		t.Errorf("count %d, want %d", got, observers*each)
	}
}

func near(got, want time.Duration) bool {
	return math.Abs(float64(got)-float64(want)) <= tolerance*float64(want)+1
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for d := time.Duration(1); pb.Next(); d = d*7%1_000_003 + 1 {
			h.Observe(d)
		}
	})
}
