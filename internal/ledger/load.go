package ledger

import (
	"math"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Load describes which events were due according to the plan of a run. It is needed because a generator counts only the
// events that are due while it runs: Load also covers the time in which no generator was running.
type Load struct {
	entry, exit schedule
	// from is the time by which all generators should be running. end is the time by which they should have stopped.
	from, end time.Time
}

// schedule is a plan.Schedule that began at the time start.
type schedule struct {
	plan.Schedule

	start time.Time
}

// LoadOf returns the load of a plan. start is when the schedules began, and end is when the generators stopped. late is
// the maximum delay with which generators may start. During that time, and during an incomplete last second, only the
// events that the generators counted are due.
func LoadOf(p *plan.Plan, start, end time.Time, late time.Duration) *Load {
	return &Load{
		entry: schedule{p.Entry.Schedule, start}, exit: schedule{p.Exit.Schedule, start.Add(p.Exit.Delay())},
		from: start.Add(late), end: end.Truncate(time.Second),
	}
}

func (l *Load) of(t event.Type) schedule {
	if t == event.TypeEntry {
		return l.entry
	}
	return l.exit
}

// events returns the number of events that are due in [from, to). If the schedule has no generators, no events are due.
func (s schedule) events(from, to time.Time) int64 {
	if s.Replicas == 0 {
		return 0
	}
	return s.Events(max(to.Sub(s.start), 0)) - s.Events(max(from.Sub(s.start), 0))
}

// demand describes the events of one type that were due in one phase.
type demand struct {
	// due is the number of events that were due. missed is the number of those that were never published.
	due, missed int64
	// gap is the longest time in which events were due while no generator counted them.
	gap time.Duration
}

const (
	// deviations is how many standard deviations the number of random arrivals may be below its mean.
	deviations = 5
	// certainEvents is how many events must be planned for a period so that, with random arrivals, at least one is
	// practically certain to be due in it.
	certainEvents = 20
)

// demand returns the demand in a phase. covers reports whether a row belongs to the phase. unrecorded is the number of
// events that were published but are in no row, because a process that is killed loses its latest rows. l may be nil:
// then only the events that generators counted are due. The rows must be in the order of time and without gaps.
func (l *Load) demand(rows []timeline.Row, t event.Type, unrecorded int64, covers func(*timeline.Row) bool) demand {
	skipped := make([]int64, len(rows)) // events that were never published, although a generator counted them
	shortfall := make([]int64, len(rows))
	for i := range rows {
		e := rows[i].Of(t)
		shortfall[i] = e.Due - e.Published
	}
	addLasting(skipped, shortfall)
	gaps := l.gaps(rows, t, unrecorded)

	var d demand
	var counted, planned, uncounted int64
	for i := range rows {
		row := &rows[i]
		if !covers(row) {
			continue
		}
		due := row.Of(t).Due
		d.due += due
		d.missed += skipped[i]
		if l.plans(row) {
			counted += due
			planned += l.of(t).events(row.Start(), row.End())
		}
	}
	for _, g := range gaps {
		if covers(&rows[g.row]) {
			uncounted += g.events
			d.gap = max(d.gap, g.length)
		}
	}
	if l != nil && l.of(t).Arrivals == plan.ArrivalsPoisson {
		// Some generators may have been absent while others ran.
		slack := deviations*int64(math.Sqrt(float64(planned))) + unrecorded
		uncounted = max(uncounted, planned-counted-slack)
	}
	d.due += uncounted
	d.missed += uncounted
	return d
}

// plans reports whether the plan says which events were due in a row.
func (l *Load) plans(row *timeline.Row) bool {
	return l != nil && !row.Start().Before(l.from) && !row.End().After(l.end)
}

// gap is a period in which events were due while no generator counted them.
type gap struct {
	row    int // the index of its first row
	events int64
	length time.Duration
}

// absences holds, for each row, how many events were planned, and how many of these no generator has counted.
type absences struct {
	planned, absent []int64
	// The plan is known for the rows in [first, last].
	first, last int
}

// absences compares the rows with the plan.
func (l *Load) absences(rows []timeline.Row, t event.Type) absences {
	a := absences{planned: make([]int64, len(rows)), absent: make([]int64, len(rows)), first: len(rows), last: -1}
	s := l.of(t)
	for i := range rows {
		if l.plans(&rows[i]) {
			a.planned[i] = s.events(rows[i].Start(), rows[i].End())
			a.first, a.last = min(a.first, i), i
		}
	}
	var shortfall []int64
	for i := a.first; i <= a.last; i++ {
		due := rows[i].Of(t).Due
		shortfall = append(shortfall, a.planned[i]-due)
		if due == 0 && (s.Arrivals == plan.ArrivalsPoisson || i == a.last) {
			a.absent[i] = a.planned[i]
		}
	}
	if s.Arrivals != plan.ArrivalsPoisson && a.first < a.last {
		// A process may write a row a little late, and then counts events of the next row in it. So the shortfall of the last
		// row is not known exactly.
		addLasting(a.absent[a.first:a.last], shortfall)
	}
	return a
}

// gaps returns the gaps according to the plan.
func (l *Load) gaps(rows []timeline.Row, t event.Type, unrecorded int64) []gap {
	if l == nil {
		return nil
	}
	var all []gap
	isPoisson := l.of(t).Arrivals == plan.ArrivalsPoisson
	a := l.absences(rows, t)
	for i := a.first; i <= a.last; {
		if a.absent[i] == 0 {
			i++
			continue
		}
		g := gap{row: i}
		for ; i <= a.last && (a.absent[i] > 0 || a.planned[i] == 0); i++ {
			if g.events += a.absent[i]; a.absent[i] > 0 {
				g.length = rows[i].End().Sub(rows[g.row].Start())
			}
		}
		total := g.events
		switch {
		case isPoisson && g.events < certainEvents:
			continue
		case isPoisson && i <= a.last: // a paused process counts these events when it continues
			g.events -= max(0, rows[i].Of(t).Due-a.planned[i])
		case !isPoisson: // each process may count its next event a little earlier or later than planned
			g.events -= int64(l.of(t).Replicas)
		}
		recorded := max(0, g.events)
		g.events = max(0, recorded-unrecorded)
		unrecorded -= recorded - g.events
		if !isPoisson {
			g.length = longest(rows[g.row:i], a.absent[g.row:i], a.planned[g.row:i], total-g.events)
		}
		all = append(all, g)
	}
	return all
}

// longest returns the longest time in which all planned events were absent. The rows follow each other, and in each of
// them events were absent. If only some of the events of a row were absent, the time begins or ends in this row.
// ignored is the number of absent events to ignore.
func longest(rows []timeline.Row, absent, planned []int64, ignored int64) time.Duration {
	var most time.Duration
	for i := range rows {
		j, events, during := i, int64(0), int64(0)
		for ; j < len(rows); j++ {
			events += absent[j]
			during += planned[j]
			if j > i && absent[j] < planned[j] {
				j++
				break
			}
		}
		if during > 0 {
			whole := rows[j-1].End().Sub(rows[i].Start())
			most = max(most, time.Duration(float64(whole)*float64(events-ignored)/float64(during)))
		}
	}
	return most
}

// addLasting finds the events of a series that never appeared. shortfall[i] is the number of events that were expected in
// row i minus the number that appeared. A part of the shortfall does not last: in later rows, more events appear than
// were expected. addLasting adds the lasting part to the rows in which it began.
func addLasting(to, shortfall []int64) {
	total := int64(0)
	for _, n := range shortfall {
		total += n
	}
	least := total // the least cumulative shortfall from here to the end
	for i := len(shortfall) - 1; i >= 0; i-- {
		before := total - shortfall[i]
		least = min(least, total)
		if i < len(to) {
			to[i] += max(0, least) - max(0, min(least, before))
		}
		total = before
	}
}
