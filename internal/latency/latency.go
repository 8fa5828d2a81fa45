// Package latency measures durations: many goroutines observe, a snapshot answers with quantiles.
//
// The histogram is log-linear: each power of two of nanoseconds is cut into 16 buckets of equal width.
// A quantile is the middle of its bucket and therefore within 3.2 % of an observed value, whatever the
// range; the mean is exact.
package latency

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// subBits is the binary logarithm of the number of buckets in each power of two.
	subBits    = 4
	subBuckets = 1 << subBits
	// buckets covers every non-negative duration: the values below subBuckets one by one, then
	// subBuckets for each of the powers of two from subBits to 62.
	buckets = subBuckets * (63 - subBits + 1)
)

// Histogram counts durations. The zero value is ready to use; its methods may be called concurrently,
// and none of them takes a lock. It must not be copied.
type Histogram struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Int64 // nanoseconds; overflows after 292 years of latency
}

// Observe counts one duration; a negative one counts as 0.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(d)].Add(1)
	h.sum.Add(int64(d))
}

// Snapshot copies what has been observed so far. Observations made meanwhile may be in it or not.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{sum: h.sum.Load()}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			s.add(i, n)
		}
	}
	return s
}

// Snapshot is what a histogram had observed at one instant. The zero value is empty.
type Snapshot struct {
	counts []uint64 // up to the last bucket that is not empty
	total  uint64
	sum    int64
}

func (s *Snapshot) add(bucket int, n uint64) {
	if missing := bucket + 1 - len(s.counts); missing > 0 {
		s.counts = append(s.counts, make([]uint64, missing)...)
	}
	s.counts[bucket] += n
	s.total += n
}

// Merge returns the snapshot of everything that any of the snapshots holds.
func Merge(snapshots ...Snapshot) Snapshot {
	var merged Snapshot
	for _, s := range snapshots {
		for i, n := range s.counts {
			if n > 0 {
				merged.add(i, n)
			}
		}
		merged.sum += s.sum
	}
	return merged
}

// Count is the number of durations.
func (s Snapshot) Count() uint64 { return s.total }

// Mean is the arithmetic mean, 0 when there is no duration.
func (s Snapshot) Mean() time.Duration {
	if s.total == 0 {
		return 0
	}
	return time.Duration(float64(s.sum) / float64(s.total))
}

// Quantile returns the duration below or at which the share q, in [0, 1], of all durations lie: 0.5 is
// the median. It is within 3.2 % of an observed duration, and 0 when there is none.
func (s Snapshot) Quantile(q float64) time.Duration {
	if s.total == 0 {
		return 0
	}
	rank := uint64(math.Ceil(min(max(q, 0), 1) * float64(s.total)))
	rank = max(rank, 1)
	var below uint64
	for i, n := range s.counts {
		if below += n; below >= rank {
			return middleOf(i)
		}
	}
	return middleOf(len(s.counts) - 1) // the product above may round up beyond the total
}

// bucketOf numbers the bucket of d >= 0. The subBits bits after the leading one select the bucket
// inside the power of two.
func bucketOf(d time.Duration) int {
	v := uint64(d)
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return subBuckets*(shift+1) + int(v>>shift) - subBuckets
}

// middleOf is the middle of a bucket, the inverse of bucketOf.
func middleOf(bucket int) time.Duration {
	if bucket < subBuckets {
		return time.Duration(bucket)
	}
	shift := bucket/subBuckets - 1
	lowest := uint64(bucket%subBuckets+subBuckets) << shift
	width := uint64(1) << shift
	return time.Duration(lowest + width/2)
}
