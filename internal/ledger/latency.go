package ledger

import (
	"context"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Latencies contains the latencies of a simulation.
type Latencies struct {
	// Processing contains the durations of all attempts to process an event, including failed attempts. EndToEnd
	// contains, for each event, the time from when the event was due until the event took effect.
	Processing, EndToEnd histogram.Snapshot
	// Unmeasured counts the generated events that took effect but are missing from EndToEnd. An event is missing if its
	// processor was killed before the processor stored its latest measurements, or if the clocks of two machines
	// differed by more than 1 s.
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
	return t.ReadTimeline(ctx, time.Unix(0, 0), time.Now().Add(time.Hour)) // the clock of another machine may be fast
}

// LatenciesOf returns the latencies in rows, the timeline of a whole simulation. The parameter err is the error of
// reading the timeline. The parameter r is the report on the ledger. The ledger must have been read before the
// timeline. Otherwise, events that took effect between the two reads would count as unmeasured.
func LatenciesOf(rows []timeline.Row, err error, r *Report) *Latencies {
	total := timeline.Sum(rows...)
	l := latenciesOf(&total)
	l.Unmeasured = missing(r.EntriesRecorded, total.Entry) + missing(r.Matched+r.UnmatchedExpected+r.UnmatchedUnexpected, total.Exit)
	l.Err = err
	return l
}

// latenciesOf returns the latencies in a row. The parameter total is the sum of the rows of a timeline.
func latenciesOf(total *timeline.Row) *Latencies {
	return &Latencies{
		Processing: histogram.Merge(total.Entry.Processing, total.Exit.Processing),
		EndToEnd:   histogram.Merge(total.Entry.EndToEnd, total.Exit.EndToEnd),
	}
}

// missing returns how many of the events that took effect were not measured.
func missing(effects int64, measured timeline.Events) uint64 {
	return uint64(max(effects-int64(measured.EndToEnd.Count()), 0))
}
