package generator

import (
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Stats holds the counts of a generator so far.
type Stats struct {
	Run  string
	Type event.Type

	// Due counts the events that have become due according to the schedule. Each of these events was published, was
	// skipped (see Starved and Missed), or is overdue.
	Due int64
	// Published counts the events that the publisher has accepted.
	Published int64
	// Confirmed counts the events that the broker has confirmed.
	Confirmed int64
	// Matched counts the confirmed exits that were meant to match an entry. Unmatched counts the other confirmed exits.
	Matched, Unmatched int64
	// Outstanding counts the published events whose confirmation is not yet durably recorded in the store.
	Outstanding int64
	// Starved counts the exits that needed the plate of a parked vehicle, but were not published, because no such plate
	// was available.
	Starved int64
	// Missed counts the events that were skipped because they were overdue when the schedule paused or ended, or when the
	// generator stopped.
	Missed int64

	// Lag is how long the next event has been due. It is 0 if the event is not due yet.
	Lag time.Duration
	// Active is the total time in which the rate of the schedule was above 0.
	Active time.Duration
	// Rate is the current rate of the schedule, in events per second. TargetRate is the mean rate of the schedule: Due
	// divided by Active.
	Rate, TargetRate float64
	// AchievedRate is Published divided by Active. AchievedRate/TargetRate is the share of the due events that were
	// published.
	AchievedRate float64

	// Done means that the schedule has ended and that the confirmations of all published events are durably recorded. An
	// update of the plan may still prolong the schedule.
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
	s.AchievedRate = perSecond(float64(s.Published), made.active)
	s.Done = made.over && s.Outstanding == 0
	return s
}

// Totals returns all measurements so far as a row of the timeline. The lag in the row is the longest of the current and
// the previous second.
func (g *Generator) Totals() timeline.Row {
	s, now := g.Stats(), time.Now()
	g.lags.observe(now, s.Lag)
	var row timeline.Row
	*row.Of(g.eventType) = timeline.Events{
		Due:       s.Due,
		Published: s.Published,
		Confirmed: s.Confirmed,
		Matched:   s.Matched,
		Starved:   s.Starved,
		Missed:    s.Missed,
		Lag:       g.lags.longest(now),
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

// lags holds the longest lags of the current and the previous second. A row of the timeline needs both, because the
// current second has just begun when the row is measured.
type lags struct {
	mu           sync.Mutex
	second       int64 // the current second, as a Unix time
	this, before time.Duration
}

// observe records a lag that was measured at the given time.
func (l *lags) observe(now time.Time, lag time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(now)
	l.this = max(l.this, lag)
}

// longest returns the longest lag in the current second and the previous second.
func (l *lags) longest(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(now)
	return max(l.this, l.before)
}

// advance begins a new second if the current second is over.
func (l *lags) advance(now time.Time) {
	second := now.Unix()
	if second == l.second {
		return
	}
	l.before = 0
	if second == l.second+1 {
		l.before = l.this
	}
	l.second, l.this = second, 0
}
