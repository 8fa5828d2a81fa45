package histogram

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Snapshot holds the counts of a histogram at one instant, or their growth between two instants. The zero value is
// empty. A Snapshot is immutable.
type Snapshot struct {
	// offset is the index of the first bucket in counts. counts contains the counts of consecutive buckets, of which
	// the first and the last are never 0.
	offset int
	counts []uint64
	total  uint64
	sum    int64 // nanoseconds
}

// add counts n more durations in a bucket. Do not call it after this package has returned the snapshot.
func (s *Snapshot) add(index int, n uint64) {
	switch {
	case n == 0:
		return
	case len(s.counts) == 0:
		s.offset = index
	case index < s.offset:
		s.counts = append(make([]uint64, s.offset-index, s.offset-index+len(s.counts)), s.counts...)
		s.offset = index
	}
	if missing := index - s.offset + 1 - len(s.counts); missing > 0 {
		s.counts = append(s.counts, make([]uint64, missing)...)
	}
	s.counts[index-s.offset] += n
	s.total += n
}

// Merge returns a snapshot that counts the durations of all the given snapshots.
func Merge(snapshots ...Snapshot) Snapshot {
	var merged Snapshot
	for _, s := range snapshots {
		for i, n := range s.counts {
			merged.add(s.offset+i, n)
		}
		merged.sum += s.sum
	}
	return merged
}

// Since returns the durations observed after an earlier snapshot of the same histogram. A count that has decreased is
// treated as unchanged.
func (s Snapshot) Since(earlier Snapshot) Snapshot {
	diff := Snapshot{sum: s.sum - earlier.sum}
	for i, n := range s.counts {
		if before := earlier.count(s.offset + i); n > before {
			diff.add(s.offset+i, n-before)
		}
	}
	return diff
}

func (s Snapshot) count(index int) uint64 {
	if i := index - s.offset; i >= 0 && i < len(s.counts) {
		return s.counts[i]
	}
	return 0
}

// Count returns the number of durations.
func (s Snapshot) Count() uint64 { return s.total }

// Mean returns the exact arithmetic mean of the durations. It returns 0 if the snapshot is empty.
func (s Snapshot) Mean() time.Duration {
	if s.total == 0 {
		return 0
	}
	return time.Duration(float64(s.sum) / float64(s.total))
}

// Quantile estimates the q-quantile of the durations within 9 %, by exponential interpolation as in PromQL. q is from
// 0 to 1. An empty snapshot gives 0.
func (s Snapshot) Quantile(q float64) time.Duration {
	if s.total == 0 {
		return 0
	}
	return s.atRank(min(max(q, 0), 1) * float64(s.total))
}

// Range returns bounds of the q-quantile if the given number of durations is missing in the snapshot. The upper bound
// is math.MaxInt64 if the quantile may be a missing duration.
func (s Snapshot) Range(q float64, missing uint64) (lowest, highest time.Duration) {
	highest = math.MaxInt64
	rank := min(max(q, 0), 1) * float64(s.total+missing)
	// The lower bound assumes that missing durations are 0, the upper bound that they exceed all measured ones.
	if below := rank - float64(missing); below > 0 {
		lowest = s.atRank(below)
	}
	if s.total > 0 && rank <= float64(s.total) {
		highest = s.atRank(rank)
	}
	return lowest, highest
}

// atRank estimates the duration that has the given rank among all durations of the snapshot. The shortest duration has
// rank 1. The rank must be greater than 0 and at most s.total. The snapshot must not be empty.
func (s Snapshot) atRank(rank float64) time.Duration {
	var below float64
	for i, n := range s.counts {
		if n == 0 || below+float64(n) < rank {
			below += float64(n)
			continue
		}
		lower, upper := upperBound(s.offset+i-1), upperBound(s.offset+i)
		share := (rank - below) / float64(n)
		return time.Duration(lower * math.Pow(upper/lower, share) * float64(time.Second))
	}
	return time.Duration(upperBound(s.offset+len(s.counts)-1) * float64(time.Second))
}

// Bucket is one bucket of a Snapshot.
type Bucket struct {
	// Lower and Upper are the bounds of the durations d in the bucket, in seconds: Lower < d <= Upper.
	Lower, Upper float64
	Count        uint64
}

// Buckets returns the buckets that are not empty, in ascending order.
func (s Snapshot) Buckets() []Bucket {
	var all []Bucket
	for i, n := range s.counts {
		if n > 0 {
			all = append(all, Bucket{Lower: upperBound(s.offset + i - 1), Upper: upperBound(s.offset + i), Count: n})
		}
	}
	return all
}

type snapshotJSON struct {
	// Sum is the sum of all durations in nanoseconds.
	Sum int64 `json:"sumNs"`
	// Buckets contains the index and the count of each bucket that is not empty, in ascending order.
	Buckets [][]int64 `json:"buckets"`
}

// IsZero reports whether the snapshot is empty. The JSON option omitzero uses it.
func (s Snapshot) IsZero() bool { return s.total == 0 }

// MarshalJSON writes {"sumNs": nanoseconds, "buckets": [[index, count], ...]}. It omits empty buckets.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	w := snapshotJSON{Sum: s.sum, Buckets: make([][]int64, 0, len(s.counts))}
	for i, n := range s.counts {
		if n > 0 {
			w.Buckets = append(w.Buckets, []int64{int64(s.offset + i), int64(n)})
		}
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON has written. It rejects the indexes of buckets that no histogram has.
func (s *Snapshot) UnmarshalJSON(text []byte) error {
	var w snapshotJSON
	if err := json.Unmarshal(text, &w); err != nil {
		return fmt.Errorf("read a histogram: %w", err)
	}
	*s = Snapshot{sum: w.Sum}
	for _, b := range w.Buckets {
		if len(b) != 2 || b[0] < first || b[0] > last || b[1] < 0 {
			return fmt.Errorf("read a histogram: want [index, count] with an index from %d to %d, got %v", first, last, b)
		}
		s.add(int(b[0]), uint64(b[1]))
	}
	return nil
}
