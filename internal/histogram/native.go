package histogram

import (
	"time"

	dto "github.com/prometheus/client_model/go"
)

// schema is the schema of the Prometheus native histograms whose buckets this package uses.
const schema = 3

// FromNative converts a Prometheus native histogram of durations in seconds to a snapshot. If the histogram has no
// native buckets, or a schema other than 3, the snapshot is empty. Durations in the zero bucket count in the
// bucket of the shortest durations.
func FromNative(h *dto.Histogram) Snapshot {
	var s Snapshot
	if h.GetSchema() != schema {
		return s
	}
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
