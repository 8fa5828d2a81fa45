package ledger

import (
	"context"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Latencies says how long a simulation took to process its events.
type Latencies struct {
	// Processing contains the durations of all attempts to process an event, including failed attempts.
	Processing histogram.Snapshot
	// EndToEnd contains, for each event, the time from when the event was due until the event took effect.
	EndToEnd histogram.Snapshot
	// Unmeasured counts the generated events that took effect but are missing from EndToEnd. For example, their
	// processor was killed before it stored their latencies, or clock differences made them seem to take effect more
	// than 1 s before they were due.
	Unmeasured uint64
	// Err is the error that occurred when the timeline was read. If Err is set, all events count as unmeasured.
	Err error
}

// Timeline reads the timeline of a simulation.
type Timeline interface {
	ReadTimeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error)
}

// ReadTimeline returns the whole timeline.
func ReadTimeline(ctx context.Context, t Timeline) ([]timeline.Row, error) {
	return t.ReadTimeline(ctx, time.Unix(0, 0), time.Now().Add(time.Hour)) // one hour more: other clocks may be fast
}

// LatenciesOf computes latencies from the whole timeline; err is the error of reading the timeline. Read the ledger for
// r before the timeline: events that take effect in between would otherwise count as unmeasured.
func LatenciesOf(rows []timeline.Row, err error, r *Report) *Latencies {
	total := timeline.Sum(rows...)
	l := latenciesOf(&total)
	l.Unmeasured = missing(r.EntriesRecorded, total.Entry) + missing(r.Matched+r.UnmatchedExpected+r.UnmatchedUnexpected, total.Exit)
	l.Err = err
	return l
}

// latenciesOf returns the latencies of entries and exits together. The parameter total is the sum of rows of the
// timeline.
func latenciesOf(total *timeline.Row) *Latencies {
	return &Latencies{
		Processing: histogram.Merge(total.Entry.Processing, total.Exit.Processing),
		EndToEnd:   histogram.Merge(total.Entry.EndToEnd, total.Exit.EndToEnd),
	}
}

// missing returns the number of events that took effect, but whose latency was not measured.
func missing(effects int64, measured timeline.Events) uint64 {
	return uint64(max(effects-int64(measured.EndToEnd.Count()), 0))
}
