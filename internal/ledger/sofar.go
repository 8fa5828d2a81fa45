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

// ForeseesFromTimeline reports whether the timeline of a running simulation can show that the simulation will fail.
func ForeseesFromTimeline(p *plan.Plan) bool { return len(p.Faults) > 0 || p.Objectives.MaxLag > 0 }

// EvidenceSoFar returns the evidence about a running simulation. err is the error of reading the rows. The depths of
// the queues are Unknown until the caller sets them.
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
	// rereadTime is the interval at which the whole timeline is read again, because old rows can change: processes
	// write late, and the store merges rows.
	rereadTime = 10 * time.Minute
)

// TimelineReader reads the timeline repeatedly, but rarely rereads rows that are unlikely to change. Use ReadTimeline
// for a final verdict. A TimelineReader is not safe for concurrent use.
type TimelineReader struct {
	source Timeline
	// settled contains the rows that are unlikely to change. Most calls of Read do not read them again.
	settled []timeline.Row
	// until is an upper bound for the end times of the settled rows. Later rows are read again each time.
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
	// The store merges old rows into wider rows. A wider row replaces the earlier rows that it overlaps.
	kept := t.settled
	for len(kept) > 0 && len(later) > 0 && kept[len(kept)-1].End().After(later[0].Start()) {
		kept = kept[:len(kept)-1]
	}
	rows := slices.Concat(kept, later)
	t.settle(rows, now)
	return rows, nil
}

// settle keeps the rows that are older than lateTime, so that they are not read again each time.
func (t *TimelineReader) settle(rows []timeline.Row, now time.Time) {
	t.until = now.Add(-lateTime).Truncate(time.Second)
	n := len(rows)
	for n > 0 && rows[n-1].End().After(t.until) {
		n--
	}
	t.settled = rows[:n:n]
}
