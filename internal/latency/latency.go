// Package latency measures durations and computes quantiles of them. It holds the only quantile computation
// of the project: in-process histograms and scraped Prometheus native histograms both become a Snapshot.
//
// The in-process histogram is log-linear: each power of two of nanoseconds is divided into 16 buckets of
// equal width. A quantile is the middle of its bucket and therefore within 3.2 % of an observed value; the
// mean is exact.
package latency

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
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

// Histogram counts durations. The zero value is ready to use. Its methods are safe for concurrent use and
// take no lock. A Histogram must not be copied.
type Histogram struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Int64 // nanoseconds; overflows after 292 years of latency
}

// Observe counts one duration. A negative duration counts as 0.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(d)].Add(1)
	h.sum.Add(int64(d))
}

// Snapshot copies the observations made so far. It may or may not include concurrent ones.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{sum: time.Duration(h.sum.Load())}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			lower, upper := boundsOf(i)
			s.add(Bucket{Lower: lower, Upper: upper, Count: n})
		}
	}
	return s
}

// Bucket counts the durations between Lower and Upper.
type Bucket struct {
	Lower, Upper time.Duration
	Count        uint64
}

// middle is within half of the bucket's width of every duration in it.
func (b Bucket) middle() time.Duration { return b.Lower + (b.Upper-b.Lower)/2 }

// Snapshot is the content of one or more histograms at one instant. The zero value is empty.
type Snapshot struct {
	buckets []Bucket // sorted by bounds; none is empty
	total   uint64
	sum     time.Duration
}

// add appends a bucket that lies above all others.
func (s *Snapshot) add(b Bucket) {
	if b.Count > 0 {
		s.buckets = append(s.buckets, b)
		s.total += b.Count
	}
}

// Merge returns a snapshot of all durations in the given snapshots.
func Merge(snapshots ...Snapshot) Snapshot {
	var all []Bucket
	var merged Snapshot
	for _, s := range snapshots {
		all = append(all, s.buckets...)
		merged.sum += s.sum
	}
	slices.SortFunc(all, func(a, b Bucket) int {
		return cmp.Or(cmp.Compare(a.Upper, b.Upper), cmp.Compare(a.Lower, b.Lower))
	})
	for _, b := range all {
		last := len(merged.buckets) - 1
		if last >= 0 && merged.buckets[last].Upper == b.Upper && merged.buckets[last].Lower == b.Lower {
			merged.buckets[last].Count += b.Count
			merged.total += b.Count
			continue
		}
		merged.add(b)
	}
	return merged
}

// Count is the number of durations.
func (s Snapshot) Count() uint64 { return s.total }

// Mean is the arithmetic mean, or 0 if the snapshot is empty.
func (s Snapshot) Mean() time.Duration {
	if s.total == 0 {
		return 0
	}
	return time.Duration(float64(s.sum) / float64(s.total))
}

// Quantile returns the smallest duration that at least the share q, in [0, 1], of all durations do not
// exceed: 0.5 is the median. It is exact to half the width of a bucket, and 0 if the snapshot is empty.
func (s Snapshot) Quantile(q float64) time.Duration {
	if s.total == 0 {
		return 0
	}
	if at, ok := s.at(rank(q, s.total)); ok {
		return at
	}
	return s.buckets[len(s.buckets)-1].middle() // rank may round up beyond the total
}

// Range returns bounds of the quantile q for the case that more durations exist than were measured.
// Lowest assumes that all missing ones are 0. Highest assumes that they exceed every measured one, and is
// math.MaxInt64 if the quantile is then among them. Both are 0 and MaxInt64 if nothing was measured.
func (s Snapshot) Range(q float64, missing uint64) (lowest, highest time.Duration) {
	highest = math.MaxInt64
	wanted := rank(q, s.total+missing)
	if wanted > missing {
		lowest, _ = s.at(wanted - missing)
	}
	if at, ok := s.at(wanted); ok {
		highest = at
	}
	return lowest, highest
}

// rank is the position, counted from 1, of the quantile q among the given number of durations.
func rank(q float64, total uint64) uint64 {
	return max(uint64(math.Ceil(min(max(q, 0), 1)*float64(total))), 1)
}

// at returns the duration at a position counted from 1. ok is false beyond the last one.
func (s Snapshot) at(position uint64) (d time.Duration, ok bool) {
	var below uint64
	for _, b := range s.buckets {
		if below += b.Count; below >= position {
			return b.middle(), true
		}
	}
	return 0, false
}

// bucketOf returns the index of the bucket of d >= 0. The subBits bits after the leading one select the
// bucket inside the power of two.
func bucketOf(d time.Duration) int {
	v := uint64(d)
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return subBuckets*(shift+1) + int(v>>shift) - subBuckets
}

// boundsOf is the inverse of bucketOf. A bucket of a single value has equal bounds.
func boundsOf(bucket int) (lower, upper time.Duration) {
	if bucket < subBuckets {
		return time.Duration(bucket), time.Duration(bucket)
	}
	shift := bucket/subBuckets - 1
	low := uint64(bucket%subBuckets+subBuckets) << shift
	return time.Duration(low), time.Duration(low + uint64(1)<<shift - 1)
}
