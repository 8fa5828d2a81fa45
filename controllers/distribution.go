package controllers

import (
	"cmp"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// distribution is how long things took, as native histograms of Prometheus tell it. The zero value is
// empty.
type distribution struct {
	buckets []bucket
	count   uint64
}

// bucket counts durations above lower and up to upper, in seconds.
type bucket struct {
	lower, upper float64
	count        uint64
}

// add takes in the native buckets of a histogram of seconds. A histogram without any adds nothing.
func (d *distribution) add(h *dto.Histogram) {
	d.put(bucket{upper: h.GetZeroThreshold(), count: h.GetZeroCount()})
	growth := math.Exp2(-float64(h.GetSchema())) // as a power of two
	var index int32
	var count int64
	deltas := h.GetPositiveDelta()
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range min(int(span.GetLength()), len(deltas)) {
			count += deltas[0]
			deltas = deltas[1:]
			d.put(bucket{
				lower: math.Exp2(float64(index-1) * growth), upper: math.Exp2(float64(index) * growth), count: uint64(max(count, 0)),
			})
			index++
		}
	}
}

func (d *distribution) put(b bucket) {
	if b.count > 0 {
		d.buckets = append(d.buckets, b)
		d.count += b.count
	}
}

// quantile returns the duration that the share q of all durations did not exceed, when some more are known
// to have been shorter, and some longer, than all that were measured. It is the middle of a bucket whose
// bounds differ by a tenth; ok is false when it is among those that were longer, or when there is none.
func (d distribution) quantile(q float64, shorter, longer uint64) (at time.Duration, ok bool) {
	total := d.count + shorter + longer
	if total == 0 {
		return 0, false
	}
	rank := max(uint64(math.Ceil(q*float64(total))), 1)
	if rank <= shorter {
		return 0, true
	}
	slices.SortFunc(d.buckets, func(a, b bucket) int { return cmp.Compare(a.upper, b.upper) })
	below := shorter
	for _, b := range d.buckets {
		if below += b.count; below >= rank {
			return time.Duration(math.Sqrt(b.lower*b.upper) * float64(time.Second)), true
		}
	}
	return 0, false
}

// decide returns a 99th percentile that says whether an objective is met, whatever the unmeasured would have
// shown; nil when that depends on them.
func (d distribution) decide(objective time.Duration, unmeasured uint64) *time.Duration {
	if highest, ok := d.quantile(p99, 0, unmeasured); ok && highest <= objective {
		return &highest
	}
	if lowest, ok := d.quantile(p99, unmeasured, 0); ok && lowest > objective {
		return &lowest
	}
	return nil
}

const (
	p50 = 0.5
	p99 = 0.99
)
