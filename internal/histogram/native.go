package histogram

import (
	"time"

	dto "github.com/prometheus/client_model/go"
)

// schema is the schema of the Prometheus native histograms whose buckets this package uses.
const schema = 3

// FromNative converts a Prometheus histogram of durations in seconds to a snapshot. The snapshot is empty if the
// histogram lacks native buckets of schema 3.
func FromNative(h *dto.Histogram) Snapshot {
	var s Snapshot
	if h.GetSchema() != schema {
		return s
	}
	// The zero bucket counts the durations closest to 0. The first bucket of the snapshot includes these durations.
	s.add(first, h.GetZeroCount())
	index, count := 0, int64(0)
	deltas := h.GetPositiveDelta()
	for _, span := range h.GetPositiveSpan() {
		index += int(span.GetOffset())
		for range min(int(span.GetLength()), len(deltas)) {
			count += deltas[0]
			deltas = deltas[1:]
			s.add(min(max(index, first), last), uint64(max(count, 0)))
			index++
		}
	}
	if s.total > 0 {
		s.sum = int64(h.GetSampleSum() * float64(time.Second))
	}
	return s
}
