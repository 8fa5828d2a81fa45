package ledger

import (
	"context"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// ForeseesFromTimeline reports whether, with this plan, the timeline of a running simulation can show that the
// simulation is certain to fail. If the result is false, the timeline need not be read before the end of the
// simulation.
func ForeseesFromTimeline(p *plan.Plan) bool { return len(p.Faults) > 0 || p.Objectives.MaxLag > 0 }

// EvidenceSoFar returns the evidence about a running simulation. The parameter r is the latest audit of the ledger. The
// parameter rows contains the timeline, and err is the error of reading the timeline. The parameter faults contains the
// accounts of the faults so far. In the result, the depths of the queues are Unknown. A caller that knows the depths
// can set the fields.
func EvidenceSoFar(p *plan.Plan, r *Report, rows []timeline.Row, err error, faults []fault.Account) Evidence {
	e := Evidence{
		Report: *r, Objectives: p.Objectives, Planned: p.Faults, Running: true, InFlight: Unknown,
		Depths: broker.Depths{Ready: Unknown, Retry: Unknown, Dead: Unknown}, Faults: faults, Timeline: rows,
	}
	if ForeseesFromTimeline(p) {
		e.Latencies = LatenciesOf(rows, err, r)
	}
	return e
}

const (
	// lateTime is the age at which a row of the timeline is unlikely to change any more.
	lateTime = 5 * time.Minute
	// rereadTime is the interval at which the whole timeline is read again. Rows that are older than lateTime can
	// change for two reasons: a process that could not reach the store writes its rows late, and the store merges old
	// rows.
	rereadTime = 10 * time.Minute
)

// TimelineReader reads the timeline of one simulation repeatedly. A TimelineReader remembers the rows that are unlikely
// to change, and reads only the later rows from the store. For a final verdict, use ReadTimeline instead. A
// TimelineReader is not safe for concurrent use.
type TimelineReader struct {
	source Timeline
	// settled contains the rows that the TimelineReader remembers between calls of Read.
	settled []timeline.Row
	// The field until is an upper bound for the end times of the rows in settled. Later rows are read again.
	until time.Time
	// readAt is when the whole timeline was last read.
	readAt time.Time
}

// NewTimelineReader returns a TimelineReader. Its first call of Read reads the whole timeline.
func NewTimelineReader(t Timeline) *TimelineReader { return &TimelineReader{source: t} }

// Read returns the timeline so far. The caller must not modify the rows.
func (t *TimelineReader) Read(ctx context.Context) ([]timeline.Row, error) {
	now := time.Now()
	if t.readAt.IsZero() || now.Sub(t.readAt) >= rereadTime {
		rows, err := ReadTimeline(ctx, t.source)
		if err != nil {
			return nil, err
		}
		t.readAt = now
		t.settle(rows, now)
		return rows, nil
	}
	later, err := t.source.ReadTimeline(ctx, t.until, now.Add(time.Hour)) // the clock of another machine may be fast
	if err != nil {
		return nil, err
	}
	// The store merges old rows into wider rows, so a row from the store can overlap remembered rows. Replace the
	// overlapped rows with the row from the store.
	kept := t.settled
	for len(kept) > 0 && len(later) > 0 && kept[len(kept)-1].End().After(later[0].Start()) {
		kept = kept[:len(kept)-1]
	}
	rows := slices.Concat(kept, later)
	t.settle(rows, now)
	return rows, nil
}

// settle remembers the rows that are older than lateTime.
func (t *TimelineReader) settle(rows []timeline.Row, now time.Time) {
	t.until = now.Add(-lateTime).Truncate(time.Second)
	n := len(rows)
	for n > 0 && rows[n-1].End().After(t.until) {
		n--
	}
	t.settled = rows[:n:n]
}
