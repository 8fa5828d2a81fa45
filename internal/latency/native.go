package latency

import (
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// FromNative returns the durations that a Prometheus native histogram of seconds has counted. A histogram
// without native buckets yields an empty snapshot. With a growth factor of 1.1, as internal/metrics sets, a
// quantile is within 5 % of an observed value.
func FromNative(h *dto.Histogram) Snapshot {
	var s Snapshot
	s.add(Bucket{Upper: seconds(h.GetZeroThreshold()), Count: h.GetZeroCount()})
	exponent := math.Exp2(-float64(h.GetSchema()))
	var index int32
	var count int64
	deltas := h.GetPositiveDelta()
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range min(int(span.GetLength()), len(deltas)) {
			count += deltas[0]
			deltas = deltas[1:]
			s.add(Bucket{
				Lower: seconds(math.Exp2(float64(index-1) * exponent)),
				Upper: seconds(math.Exp2(float64(index) * exponent)),
				Count: uint64(max(count, 0)),
			})
			index++
		}
	}
	if s.total > 0 {
		s.sum = seconds(h.GetSampleSum())
	}
	return s
}

// seconds converts a number of seconds; it saturates instead of overflowing.
func seconds(s float64) time.Duration {
	const most = float64(math.MaxInt64) / 2 // so that a sum of two bounds does not overflow
	return time.Duration(min(s*float64(time.Second), most))
}
