package ledger

import (
	"context"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Latencies are the latencies of the generated events that took effect.
type Latencies struct {
	// Processing is the time in ProcessMessage, including failed attempts. EndToEnd is the time from when an
	// event was due to its effect.
	Processing, EndToEnd histogram.Snapshot
	// Unmeasured counts the events that took effect but are missing from EndToEnd: their processor was killed
	// before it could store its latest measurements.
	Unmeasured uint64
	// Err says why the timeline could not be read. All events are then unmeasured.
	Err error
}

// Timeline reads the timeline of a simulation.
type Timeline interface {
	ReadTimeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error)
}

// ReadTimeline returns the whole timeline.
func ReadTimeline(ctx context.Context, t Timeline) ([]timeline.Row, error) {
	return t.ReadTimeline(ctx, time.Unix(0, 0), time.Now().Add(time.Hour)) // the clocks of two machines may differ
}

// LatenciesOf returns the latencies of the whole simulation whose ledger is r, from its timeline or the error of reading
// that. Read the ledger first: an event that takes effect in between then counts as measured, not as unmeasured.
func LatenciesOf(rows []timeline.Row, err error, r *Report) *Latencies {
	total := timeline.Sum(rows...)
	return &Latencies{
		Processing: histogram.Merge(total.Entry.Processing, total.Exit.Processing),
		EndToEnd:   histogram.Merge(total.Entry.EndToEnd, total.Exit.EndToEnd),
		Unmeasured: missing(r.EntriesRecorded, total.Entry) + missing(r.Matched+r.UnmatchedExpected+r.UnmatchedUnexpected, total.Exit),
		Err:        err,
	}
}

// missing returns how many of the events that took effect were not measured.
func missing(effects int64, measured timeline.Events) uint64 {
	return uint64(max(effects-int64(measured.EndToEnd.Count()), 0))
}
