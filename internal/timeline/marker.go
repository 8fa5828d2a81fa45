package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
)

const (
	// MarkerInterval is the recommended interval between two calls of Marker.Observe.
	MarkerInterval = 500 * time.Millisecond
	// recentStage is the maximum age of a stage that a process marks when it starts. Older stages already have a mark
	// of an earlier process.
	recentStage = 10 * time.Second
)

// Marker marks in the timeline when a stage of a schedule begins. It serves one process, and is not safe for
// concurrent use.
type Marker struct {
	mark      func(Mark)
	schedules []event.Type
	observed  bool               // whether Observe was called before
	next      map[event.Type]int // the index of the next stage that needs a mark
}

// NewMarker returns a Marker that passes its marks to the function mark. Only the stages of the given event types are
// marked.
func NewMarker(mark func(Mark), schedules ...event.Type) *Marker {
	return &Marker{mark: mark, schedules: schedules, next: map[event.Type]int{}}
}

// Observe creates the marks that are due at the time now. The parameter start is the time at which the schedules begin,
// or zero if they have not begun.
func (m *Marker) Observe(p *plan.Plan, start, now time.Time) {
	if start.IsZero() {
		// No other process has marked a stage yet, so this process must mark every stage, even late.
		m.observed = true
		return
	}
	for _, t := range m.schedules {
		m.observeStages(t, p, start, now)
	}
	m.observed = true
}

// observeStages adds a mark to the timeline for each stage of a schedule that has begun.
func (m *Marker) observeStages(t event.Type, p *plan.Plan, start, now time.Time) {
	schedule, subject, begin := p.Entry.Schedule, "entries", start
	if t == event.TypeExit {
		schedule, subject, begin = p.Exit.Schedule, "exits", start.Add(p.ExitDelay())
	}
	for i, stage := range schedule.Stages {
		if begin.After(now) {
			return
		}
		if i >= m.next[t] {
			m.next[t] = i + 1
			if m.observed || now.Sub(begin) <= recentStage {
				m.mark(Mark{
					At: begin, Kind: MarkStage, Subject: subject,
					Message: fmt.Sprintf("stage %d of %d, to %d events/s within %s", i+1, len(schedule.Stages), stage.Rate, stage.Duration),
				})
			}
		}
		begin = begin.Add(stage.Duration.D())
	}
}

// MarksOf returns the marks of all rows. It omits repetitions.
func MarksOf(rows []Row) []Mark {
	var all []Mark
	seen := map[Mark]bool{}
	servers := map[string]MarkKind{} // the latest of the marks "unavailable" and "available" for each server
	for i := range rows {
		for _, m := range rows[i].Marks {
			if m.Kind == MarkUnavailable || m.Kind == MarkAvailable {
				repeated := servers[m.Subject] == m.Kind
				servers[m.Subject] = m.Kind
				if repeated {
					continue
				}
			}
			key := m
			key.At = m.At.UTC()
			// Several processes can report the same missed objective, each with its own measured value. Keep only the
			// first mark of an objective.
			if m.Kind == MarkObjective {
				key = Mark{Kind: m.Kind, Subject: m.Subject}
			}
			if !seen[key] {
				seen[key] = true
				all = append(all, m)
			}
		}
	}
	return all
}

// AddMarks returns a copy of rows with the marks added. If no row covers a mark in [from, to), it adds a row of one
// second. Rows and marks must be chronological.
func AddMarks(rows []Row, from, to time.Time, marks ...Mark) []Row {
	all := slices.Clone(rows)
	var added []Row
	for _, m := range marks {
		second := m.At.Unix()
		i, found := slices.BinarySearchFunc(rows, second, func(r Row, second int64) int {
			if r.Second <= second && second < r.End().Unix() {
				return 0
			}
			return cmp.Compare(r.Second, second)
		})
		last := len(added) - 1
		row := Row{Second: second}
		switch {
		case found:
			all[i].Marks = mergeMarks(all[i].Marks, []Mark{m})
		case last >= 0 && added[last].Second == second:
			added[last].Marks = mergeMarks(added[last].Marks, []Mark{m})
		case row.End().After(from) && row.Start().Before(to):
			if earlier := rows[:i]; len(earlier) > 0 {
				row.Gauges = earlier[len(earlier)-1].Gauges
			}
			row.Marks = []Mark{m}
			added = append(added, row)
		}
	}
	all = append(all, added...)
	slices.SortStableFunc(all, func(a, b Row) int { return cmp.Compare(a.Second, b.Second) })
	return all
}
