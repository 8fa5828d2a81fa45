package generator

import (
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Stats holds the counts of a generator so far.
type Stats struct {
	Run  string
	Type event.Type

	// Due counts the events that were due by the schedule. Each of them is published, starved, missed, or still
	// to be published.
	Due int64
	// Published counts the events that the publisher has accepted. Confirmed counts those that the broker has
	// confirmed. Matched and Unmatched count the confirmed exits by intent.
	Published, Confirmed, Matched, Unmatched int64
	// Outstanding counts the published events that the store has not yet durably recorded as confirmed.
	Outstanding int64
	// Starved counts the matched exits that were not published because no plate was available.
	Starved int64
	// Missed counts the due events that were skipped. They were overdue when the schedule paused or ended, or
	// when the generator stopped.
	Missed int64

	// Lag is how long the next event has been due. It is 0 when no event is due.
	Lag time.Duration
	// Active is how long the rate of the schedule was above 0.
	Active time.Duration
	// Rate is the current rate of the schedule, in events per second. TargetRate is the mean rate of the
	// schedule over the time Active.
	Rate, TargetRate float64
	// AchievedRate is the mean rate of publishing, in events per second. It covers Active, and the time after
	// it in which overdue events were published.
	AchievedRate float64

	// Done means that the schedule is over and the store has recorded every confirm durably. A later update
	// may prolong the schedule.
	Done bool
}

// Stats returns the counts so far. It may be called at any time.
func (g *Generator) Stats() Stats {
	now := time.Now()
	made := g.pacer.progress(now)
	s := Stats{
		Run:         g.run,
		Type:        g.eventType,
		Due:         int64(made.due),
		Published:   g.published.Load(),
		Outstanding: g.outstanding(),
		Starved:     g.source.starved(),
		Missed:      made.missed,
		Lag:         g.pacer.lag(now),
		Active:      made.active,
		Rate:        g.pacer.rate(now),
	}
	s.Matched, s.Confirmed = g.matched.Load(), g.confirmed.Load()
	if g.eventType == event.TypeExit {
		s.Unmatched = s.Confirmed - s.Matched
	}
	s.TargetRate = perSecond(made.due, made.active)
	s.AchievedRate = perSecond(float64(s.Published), made.active+max(0, time.Duration(g.lastSent.Load())-made.rest))
	s.Done = made.over && s.Outstanding == 0
	return s
}

// Totals returns the measurements so far, as a process records them in the timeline. It may be called at any
// time.
func (g *Generator) Totals() timeline.Row {
	s := g.Stats()
	var row timeline.Row
	*row.Of(g.eventType) = timeline.Events{
		Due:       s.Due,
		Published: s.Published,
		Confirmed: s.Confirmed,
		Matched:   s.Matched,
		Starved:   s.Starved,
		Missed:    s.Missed,
		Lag:       s.Lag,
	}
	row.Pool = g.source.pool()
	return row
}

func perSecond(n float64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return n / d.Seconds()
}
