package generator

import (
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
)

// Stats is what a generator has done so far.
type Stats struct {
	Run  string
	Type event.Type

	// Due counts the events for which the schedule has asked. They are Published, Starved, Missed, or
	// still to be published.
	Due int64
	// Published counts the events that the publisher took, Confirmed those of them that the broker
	// confirmed, of which Matched and Unmatched carry that intent.
	Published, Confirmed, Matched, Unmatched int64
	// Outstanding counts the published events that the store does not yet durably know to be confirmed.
	Outstanding int64
	// Starved counts the exits drawn to match that found no plate available and were not published.
	Starved int64
	// Missed counts the due events that were never attempted: they were overdue when the schedule paused or
	// ended, or when the generator was stopped.
	Missed int64

	// Lag is how long ago the event was due that is to be published next; 0 when none is due.
	Lag time.Duration
	// Active is the time in which the schedule asked for events.
	Active time.Duration
	// Rate is the schedule's present rate, in events per second; TargetRate is its mean over Active.
	Rate, TargetRate float64
	// AchievedRate is the mean rate of publishing, in events per second, over Active and what time it took
	// thereafter.
	AchievedRate float64

	// Done means that the schedule is over and the store durably knows of everything that was published.
	// A later update may prolong the schedule.
	Done bool
}

// Stats returns what the generator has done so far. It may be called at any time.
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

func perSecond(n float64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return n / d.Seconds()
}
