package generator

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// patience is how long overdue events are still published after the rate has become 0. Every event is published a
// little late, so without this time the last events would be skipped. A longer time would prolong an overloaded
// simulation.
const patience = time.Second

// pacing is the part of a plan that determines when events of one type are due.
type pacing struct {
	schedule plan.Schedule
	// origin is when the schedule begins. The zero time means that the schedule begins when the process starts.
	origin time.Time
	// delay is the time from the beginning of the schedule to its first stage.
	delay time.Duration
	// duration is the length of the schedule, including the time before its first stage. 0 means that the schedule does
	// not end.
	duration  time.Duration
	suspended bool
}

func entryPacing(p *plan.Plan) pacing {
	return pacing{
		schedule:  p.Entry.Schedule,
		origin:    p.StartTime,
		duration:  p.Duration.D(),
		suspended: p.Suspended,
	}
}

func exitPacing(p *plan.Plan) pacing {
	return pacing{
		schedule:  p.Exit.Schedule,
		origin:    p.StartTime,
		delay:     p.ExitDelay(),
		duration:  p.Duration.D(),
		suspended: p.Suspended,
	}
}

// pacer decides when the next event is due, independently of the speed of the broker (an open model). Only one
// goroutine may call next and advance. All other methods are safe for concurrent use.
type pacer struct {
	// pacer.edited receives a value when the time of the next event may have changed.
	edited chan struct{}

	mu     sync.Mutex
	pacing pacing
	// epoch is time 0 of the curve. All times are measured from epoch with the monotonic clock.
	epoch   time.Time
	stopped time.Duration
	curve   curve
	// The next event is due when the number of due events reaches target.
	target float64
	// The function interval returns a random number from an exponential distribution with mean 1.
	interval func() float64
	missed   int64
}

func newPacer(p pacing) *pacer {
	return &pacer{
		edited:   make(chan struct{}, 1),
		pacing:   p,
		stopped:  never,
		target:   1,
		interval: func() float64 { return 1 },
	}
}

// start sets time 0 of the curve, and skips the events that were due earlier.
func (p *pacer) start(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch = now
	p.reschedule(0)
}

// seed makes the intervals between events random, for Poisson arrivals. Call it before the first event is published.
// Without this call, all intervals are equal.
func (p *pacer) seed(seed, stream uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.interval = rand.New(rand.NewPCG(seed, stream)).ExpFloat64
	p.target += p.gap() - 1
}

// stop counts all overdue events as missed. After this call, the counts of the pacer no longer change.
func (p *pacer) stop(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = now.Sub(p.epoch)
	p.countMissed(p.curve.at(p.stopped).dueAt(p.stopped))
}

// update replaces the pacing, even while the schedule is in progress.
func (p *pacer) update(next pacing, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pacing = next
	if p.running() {
		t := now.Sub(p.epoch)
		p.curve.trim(t, p.target)
		p.reschedule(t)
	}
	async.Notify(p.edited)
}

func (p *pacer) running() bool { return len(p.curve.pieces) > 0 }

// reschedule recomputes p.curve from the time t on, with the settings in p.pacing.
func (p *pacer) reschedule(t time.Duration) {
	w := window{end: never, suspended: p.pacing.suspended}
	origin := time.Duration(0)
	if !p.pacing.origin.IsZero() {
		origin = max(p.pacing.origin.Sub(p.epoch), -never/2)
	}
	w.origin = later(origin, p.pacing.delay)
	if p.pacing.duration > 0 {
		w.end = later(origin, p.pacing.duration)
	}
	p.curve.replace(p.pacing.schedule, w, t)
}

// next returns when the next event is due, how long to wait, and whether the schedule has ended. If there is no further
// event, the due time is zero.
func (p *pacer) next(now time.Time) (due time.Time, wait time.Duration, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := now.Sub(p.epoch)
	if current := p.curve.at(t); current.idle() && t-current.start > patience {
		p.countMissed(current.due)
	}
	at := p.curve.when(p.target)
	switch {
	case at < never:
		// Compute the due time from now, not from p.epoch: the wall clock may have been adjusted. Processors compare
		// the due time with their wall clock.
		return now.Add(at - t), at - t, false // the wait is negative if the event is overdue
	case t < p.curve.end && p.curve.end < never:
		return time.Time{}, p.curve.end - t, false // wait until the schedule ends
	}
	return time.Time{}, never, t >= p.curve.end // an update of the plan may still prolong the schedule
}

// countMissed skips the overdue events and counts them as missed. The parameter due is the total number of events that
// have become due.
func (p *pacer) countMissed(due float64) {
	if p.target <= due {
		overdue := int64(due-p.target) + 1
		p.missed += overdue
		p.target += float64(overdue)
	}
}

// advance finishes the current event. After this call, p.next returns the time of the following event.
func (p *pacer) advance() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target += p.gap()
}

// gap returns the difference between the targets of two successive events. Exponential gaps with mean 1 produce Poisson
// arrivals at the rate of the schedule.
func (p *pacer) gap() float64 {
	if p.pacing.schedule.Arrivals == plan.ArrivalsPoisson {
		return p.interval()
	}
	return 1
}

// rate returns the rate of the schedule at the given time, in events per second.
func (p *pacer) rate(now time.Time) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	t := p.clock(now)
	return p.curve.at(t).rateAt(t)
}

// lag returns how long the next event has been due. It returns 0 if the event is not due yet.
func (p *pacer) lag(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	return max(0, p.clock(now)-p.curve.when(p.target))
}

type progress struct {
	// due is the number of events that have become due, plus the fraction of the next event.
	due float64
	// missed is the number of events that were skipped.
	missed int64
	// active is the total time in which the rate was above 0.
	active time.Duration
	// over means that no more events will be due, unless the schedule is edited.
	over bool
}

func (p *pacer) progress(now time.Time) progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return progress{}
	}
	t := p.clock(now)
	current := p.curve.at(t)
	return progress{
		due:    current.dueAt(t),
		missed: p.missed,
		active: current.activeAt(t),
		over:   t >= p.curve.end && p.curve.when(p.target) == never,
	}
}

// clock converts an instant to the time since p.epoch. It returns at most p.stopped.
func (p *pacer) clock(now time.Time) time.Duration {
	return min(now.Sub(p.epoch), p.stopped)
}
