package ledger

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// minMeasured is the number of latencies from which on the p99 is compared with an objective. With fewer latencies, the
// p99 is the longest latency.
const minMeasured = 100

// ObjectiveMarker creates a mark in the timeline when a check fails for the first time. It is safe for concurrent use.
type ObjectiveMarker struct {
	mark func(timeline.Mark)

	mu     sync.Mutex
	marked map[string]bool // the names of the failed checks that are already noted in the timeline
}

// NewObjectiveMarker returns an ObjectiveMarker that passes each new timeline mark to the function mark.
func NewObjectiveMarker(mark func(timeline.Mark)) *ObjectiveMarker {
	return &ObjectiveMarker{mark: mark, marked: map[string]bool{}}
}

// Failed adds a mark to the timeline for each failed check that has no mark yet.
func (m *ObjectiveMarker) Failed(at time.Time, failed []Check) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range failed {
		m.add(markOf(at, &failed[i]))
	}
}

// Measured adds a mark for each objective that one process misses, unless a mark exists. The parameter totals contains
// all measurements of the process so far.
func (m *ObjectiveMarker) Measured(at time.Time, o *plan.Objectives, totals *timeline.Row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latency(at, CheckProcessing, o.ProcessingP99, totals.Entry.Processing, totals.Exit.Processing)
	m.latency(at, CheckEndToEnd, o.EndToEndP99, totals.Entry.EndToEnd, totals.Exit.EndToEnd)
	m.value(at, CheckLag, o.MaxLag, max(totals.Entry.Lag, totals.Exit.Lag))
}

// latency adds a mark to the timeline if the p99 of the given latencies exceeds its objective.
func (m *ObjectiveMarker) latency(at time.Time, name string, objective plan.Duration, latencies ...histogram.Snapshot) {
	// Merging histograms is expensive, so return early if there is no objective, or if its mark already exists.
	if objective == 0 || m.marked[name] {
		return
	}
	if all := histogram.Merge(latencies...); all.Count() >= minMeasured {
		m.value(at, name, objective, all.Quantile(0.99))
	}
}

// value adds a mark to the timeline if a measured value exceeds its objective.
func (m *ObjectiveMarker) value(at time.Time, name string, objective plan.Duration, value time.Duration) {
	if objective == 0 || value <= objective.D() {
		return
	}
	m.add(timeline.Mark{
		At: at, Kind: timeline.MarkObjective, Subject: name,
		Message: fmt.Sprintf("%s, more than the objective of %s", terminal.Duration(value), limit(objective)),
	})
}

func (m *ObjectiveMarker) add(mark timeline.Mark) {
	if !m.marked[mark.Subject] {
		m.marked[mark.Subject] = true
		m.mark(mark)
	}
}

// markOf returns the mark that records a failed check in the timeline.
func markOf(at time.Time, c *Check) timeline.Mark {
	return timeline.Mark{
		At: at, Kind: timeline.MarkObjective, Subject: c.Name, Message: strings.TrimPrefix(c.Message, c.Name+" is "),
	}
}

// MissingMarks returns a mark for each missed objective that has no mark in e.Timeline, in chronological order. A
// mark is at the beginning of the last violation or, if this time is unknown, at the time end.
func MissingMarks(e *Evidence, v *Verdict, end time.Time) []timeline.Mark {
	marked := map[string]bool{}
	for _, m := range timeline.MarksOf(e.Timeline) {
		if m.Kind == timeline.MarkObjective {
			marked[m.Subject] = true
		}
	}
	var missing []timeline.Mark
	since := map[string]func(*Evidence) time.Time{}
	for _, c := range checks(e) {
		since[c.name] = c.since
	}
	for i := range v.Checks {
		c := &v.Checks[i]
		if c.Kind != Objective || c.Outcome != Failed || marked[c.Name] {
			continue
		}
		mark := markOf(end, c)
		if find := since[c.Name]; find != nil {
			if t := find(e); !t.IsZero() && t.Before(end) {
				mark.At = t
				mark.Message += " (at the end of the run)"
			}
		}
		missing = append(missing, mark)
	}
	slices.SortStableFunc(missing, func(a, b timeline.Mark) int { return a.At.Compare(b.At) })
	return missing
}
