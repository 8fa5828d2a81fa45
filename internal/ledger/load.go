package ledger

import (
	"math"
	"slices"
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

// peak returns the highest rate of the schedule, in events per second.
func (s schedule) peak() int64 {
	rate := s.Rate
	for _, stage := range s.Stages {
		rate = max(rate, stage.Rate)
	}
	return rate
}

// demand describes the events of one type that were due in one phase.
type demand struct {
	due int64
	// gap is the longest time in which events were due while no generator counted them.
	gap time.Duration
}

const (
	// deviations is how many standard deviations the number of random arrivals may be below its mean. tolerance is how
	// many seconds of events may be missing: a process that is killed loses its latest row of the timeline.
	deviations = 5
	tolerance  = 2
	// certainEvents is how many events must be planned for a period so that, with random arrivals, at least one is
	// practically certain to be due in it.
	certainEvents = 20
)

// demand returns the demand in a phase. covers reports whether a row belongs to the phase. The number of due events is
// the larger of two numbers: what the generators counted, and what was planned minus a tolerance.
func (l *Load) demand(rows []timeline.Row, t event.Type, covers func(*timeline.Row) bool) demand {
	var d demand
	var early, counted, planned, missing int64
	var gap time.Duration
	for i := range rows {
		row := &rows[i]
		due := row.Of(t).Due
		switch {
		case !covers(row):
			gap, missing = 0, 0
			continue
		case row.Start().Before(l.from):
			early += due
			continue
		}
		events := int64(0)
		if row.Start().Before(l.end) {
			events = l.of(t).events(row.Start(), slices.MinFunc([]time.Time{row.End(), l.end}, time.Time.Compare))
		}
		counted += due
		planned += events
		if missing += events; due > 0 || missing == 0 {
			gap, missing = 0, 0
			continue
		}
		if gap += row.End().Sub(row.Start()); missing >= certainEvents {
			d.gap = max(d.gap, gap)
		}
	}
	slack := deviations*int64(math.Sqrt(float64(planned))) + tolerance*l.of(t).peak()
	d.due = early + max(counted, planned-slack)
	return d
}
