// Package histogram counts durations in the buckets of Prometheus native histograms with schema 3, merges counts
// exactly and estimates quantiles.
//
// Bucket i holds durations in (2^((i-1)/8), 2^(i/8)] seconds. Each bound is 9 % above the previous one. See
// https://prometheus.io/docs/specs/native_histograms/. With these buckets, reports show the same quantiles as PromQL.
package histogram

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// perOctave is the number of buckets for each power of two: 2^schema.
	perOctave = 8
	// The first bucket counts all durations up to 2^-30 s (0.93 ns).
	first = -30 * perOctave
	// The last bucket counts all durations above 2^(199/8) s (356 days).
	last    = 25 * perOctave
	buckets = last - first + 1
)

// fractions are the bucket bounds in the interval [0.5, 1). Each other bound is one of these fractions multiplied by a
// power of two.
var fractions = [perOctave]float64{
	0.5, 0.5452538663326288, 0.5946035575013605, 0.6484197773255048,
	0.7071067811865475, 0.7711054127039704, 0.8408964152537144, 0.9170040432046711,
}

// Histogram counts durations. The zero value is ready to use. A Histogram is safe for concurrent use, and must not be
// copied.
type Histogram struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// Observe counts one duration. A negative duration counts as 0.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	h.counts[indexOf(d)-first].Add(1)
	h.sum.Add(int64(d))
}

// Snapshot returns a copy of the counts. A duration that is observed during the call may be missing.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{sum: h.sum.Load()}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			s.add(first+i, n)
		}
	}
	return s
}

func indexOf(d time.Duration) int {
	if d <= 1 {
		return first
	}
	fraction, exponent := math.Frexp(d.Seconds())
	i := (exponent - 1) * perOctave
	for _, bound := range fractions {
		if fraction <= bound {
			break
		}
		i++
	}
	return min(max(i, first), last)
}

// upperBound returns the upper bound of a bucket in seconds.
func upperBound(index int) float64 { return math.Exp2(float64(index) / perOctave) }
