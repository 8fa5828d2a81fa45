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
	// MarkerInterval is the interval at which a process should call Marker.Observe.
	MarkerInterval = 500 * time.Millisecond
	// recentStage is the maximum age of a stage that a process still marks if the process starts during this stage. If
	// the stage is older, an earlier process has marked it.
	recentStage = 10 * time.Second
)

// Marker creates a mark in the timeline when a stage of a schedule begins. It serves one process, and is not safe for
// concurrent use.
type Marker struct {
	mark      func(Mark)
	schedules []event.Type
	observed  bool               // whether Observe was called before
	next      map[event.Type]int // the next stage to mark
}

// NewMarker returns a Marker that passes its marks to the function mark. The Marker marks the stages in the schedules
// of the given event types, which are the types that the process publishes.
func NewMarker(mark func(Mark), schedules ...event.Type) *Marker {
	return &Marker{mark: mark, schedules: schedules, next: map[event.Type]int{}}
}

// Observe creates the marks that are due now. start is when the schedules of the plan begin. It is zero if they have
// not begun.
func (m *Marker) Observe(p *plan.Plan, start, now time.Time) {
	if start.IsZero() {
		// This process started before the first stage, so no earlier process has marked a stage. This process must mark
		// every stage, even a stage that it notices late.
		m.observed = true
		return
	}
	for _, t := range m.schedules {
		m.observeStages(t, p, start, now)
	}
	m.observed = true
}

// observeStages creates a mark for each stage that has begun. All replicas of a generator create the same mark.
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

// MarksOf returns the marks of all rows. It omits repetitions, which occur if several processes create the same mark.
// Marks of the same objective count as repetitions even if their values differ, because each process measures its own
// value. MarksOf also omits a mark that says that a server is unavailable, or available, if the previous mark of that
// server says the same.
func MarksOf(rows []Row) []Mark {
	var all []Mark
	seen := map[Mark]bool{}
	servers := map[string]MarkKind{} // the latest mark of each server
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

// AddMarks returns rows with additional marks. It adds each mark to the row whose interval contains the time of the
// mark. If there is no such row, AddMarks adds a row for the second that contains the mark, but only if the new row
// overlaps the interval [from, to). The rows and the marks must be in chronological order. AddMarks does not change its
// arguments.
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
