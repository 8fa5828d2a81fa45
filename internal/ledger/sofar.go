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

// ForeseesFromTimeline reports whether the timeline of a running simulation can show that it is certain to
// fail. If not, the timeline does not need to be read before the end.
func ForeseesFromTimeline(p *plan.Plan) bool { return len(p.Faults) > 0 || p.Objectives.MaxLag > 0 }

// EvidenceSoFar returns the evidence about a running simulation: the audit of its ledger, its timeline or the
// error of reading it, and the accounts of its faults so far. The depths of the queues are unknown. A caller
// that knows them sets them.
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
	// lateTime is the age from which a row of the timeline is expected not to change any more.
	lateTime = 5 * time.Minute
	// rereadTime is the interval at which the whole timeline is read again. A process that could not reach the
	// store writes its rows late, and the store merges old rows.
	rereadTime = 10 * time.Minute
)

// TimelineReader reads the timeline of one simulation repeatedly. It keeps the rows that are expected not to
// change, and reads only later ones. For a verdict, use ReadTimeline. A TimelineReader is not safe for
// concurrent use.
type TimelineReader struct {
	source Timeline
	// settled are the rows that end before until. readAt is when they were read.
	settled []timeline.Row
	until   time.Time
	readAt  time.Time
}

// NewTimelineReader returns a reader. Its first Read reads the whole timeline.
func NewTimelineReader(t Timeline) *TimelineReader { return &TimelineReader{source: t} }

// Read returns the timeline so far. The caller must not change the rows.
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
	later, err := t.source.ReadTimeline(ctx, t.until, now.Add(time.Hour)) // the clocks of two machines may differ
	if err != nil {
		return nil, err
	}
	// The result may include earlier rows: late ones, and rows that the store has merged with later ones.
	kept := t.settled
	for len(kept) > 0 && len(later) > 0 && kept[len(kept)-1].End().After(later[0].Start()) {
		kept = kept[:len(kept)-1]
	}
	rows := slices.Concat(kept, later)
	t.settle(rows, now)
	return rows, nil
}

// settle keeps the rows that are older than lateTime.
func (t *TimelineReader) settle(rows []timeline.Row, now time.Time) {
	t.until = now.Add(-lateTime).Truncate(time.Second)
	n := len(rows)
	for n > 0 && rows[n-1].End().After(t.until) {
		n--
	}
	t.settled = rows[:n:n]
}
