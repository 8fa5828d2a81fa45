package generator

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// patience is how long events that are overdue are still published after the schedule has come to rest:
// at its end, while suspended, or at a rate of 0. It lets the last events of a schedule through, which are
// always a little late, but does not stretch the schedule of an overloaded simulation.
const patience = time.Second

// exitDelay is the time between minStay after the first entry and the first exit. A plate is available
// only once the broker and the store have confirmed its entry.
const exitDelay = 500 * time.Millisecond

// pacing is what a plan says about when events of one type are due.
type pacing struct {
	schedule plan.Schedule
	// origin is the instant of the schedule's beginning. The zero time is the start of the process.
	origin time.Time
	// delay is the time from origin to the first stage.
	delay time.Duration
	// duration is the time from origin to the end of the schedule; 0 means that it never ends.
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

// exitPacing delays the exits by minStay: no car can have parked for long enough before.
func exitPacing(p *plan.Plan) pacing {
	return pacing{
		schedule:  p.Exit.Schedule,
		origin:    p.StartTime,
		delay:     later(p.Exit.MinStay.D(), exitDelay),
		duration:  p.Duration.D(),
		suspended: p.Suspended,
	}
}

// pacer says when the next event is due: an open model, in which the schedule alone decides that. An event
// that could not be published when it was due stays due. What was due before the pacer was started is
// not made up for.
//
// One goroutine takes the events; every method may be called at any time.
type pacer struct {
	// edited is signalled when the instant of the next event may have changed.
	edited chan struct{}

	mu     sync.Mutex
	pacing pacing
	// epoch is the instant 0 of the timeline. Instants are told from it by the monotonic clock.
	epoch    time.Time
	stopped  time.Duration
	timeline timeline
	// target is the number of the next event: it is due when that many events are.
	target float64
	// interval draws an exponentially distributed number with mean 1.
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

// start starts the schedule.
func (p *pacer) start(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch = now
	p.follow(0)
}

// seed determines the times between Poisson arrivals. Until then, and only until the first arrival, they
// are uniform.
func (p *pacer) seed(seed, stream uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.interval = rand.New(rand.NewPCG(seed, stream)).ExpFloat64
	p.target += p.gap() - 1
}

// stop stops the clock of the pacer's figures. Events that are overdue now are missed.
func (p *pacer) stop(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = now.Sub(p.epoch)
	p.giveUp(p.timeline.at(p.stopped).dueAt(p.stopped))
}

// update makes the pacer follow another schedule from now on.
func (p *pacer) update(next pacing, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pacing = next
	if p.running() {
		t := now.Sub(p.epoch)
		p.timeline.forget(t, p.target)
		p.follow(t)
	}
	select {
	case p.edited <- struct{}{}:
	default:
	}
}

func (p *pacer) running() bool { return len(p.timeline.pieces) > 0 }

// follow makes the timeline follow the pacing from t on.
func (p *pacer) follow(t time.Duration) {
	w := window{end: never, suspended: p.pacing.suspended}
	origin := time.Duration(0)
	if !p.pacing.origin.IsZero() {
		origin = max(p.pacing.origin.Sub(p.epoch), -never/2)
	}
	w.origin = later(origin, p.pacing.delay)
	if p.pacing.duration > 0 {
		w.end = later(origin, p.pacing.duration)
	}
	p.timeline.follow(p.pacing.schedule, w, t)
}

// next returns the instant at which the next event is due, and the time until then: 0 or less when it is
// due at now, never when the schedule has no further event. When the schedule is over, which a later
// update may revoke, over is true.
func (p *pacer) next(now time.Time) (due time.Time, wait time.Duration, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := now.Sub(p.epoch)
	if rest := p.timeline.at(t); rest.idle() && t-rest.start > patience {
		p.giveUp(rest.due)
	}
	at := p.timeline.when(p.target)
	switch {
	case at < never:
		return p.epoch.Add(at), at - t, false
	case t < p.timeline.end && p.timeline.end < never:
		return time.Time{}, p.timeline.end - t, false
	}
	return time.Time{}, never, t >= p.timeline.end
}

// giveUp counts the events that have been due but were not taken as missed.
func (p *pacer) giveUp(due float64) {
	if p.target <= due {
		overdue := int64(due-p.target) + 1
		p.missed += overdue
		p.target += float64(overdue)
	}
}

// take takes the event that is due next, so that the one after it is due next.
func (p *pacer) take() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target += p.gap()
}

func (p *pacer) gap() float64 {
	if p.pacing.schedule.Arrivals == plan.ArrivalsPoisson {
		return p.interval()
	}
	return 1
}

// rate returns the rate of the schedule at now, in events per second.
func (p *pacer) rate(now time.Time) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	t := p.clock(now)
	return p.timeline.at(t).rateAt(t)
}

// lag returns how long ago the event that is due next was due, or 0.
func (p *pacer) lag(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	return max(0, p.clock(now)-p.timeline.when(p.target))
}

// progress is how far a pacer's schedule has come.
type progress struct {
	// due is the number of events that have been due, with the fraction that has come of the next.
	due float64
	// missed is how many of these were given up.
	missed int64
	// active is the time in which the rate was not 0.
	active time.Duration
	// rest is when the schedule came to rest, on the pacer's clock, or never while it has not.
	rest time.Duration
	// over means that no further event will be due, unless an update changes that.
	over bool
}

func (p *pacer) progress(now time.Time) progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return progress{rest: never}
	}
	t := p.clock(now)
	current := p.timeline.at(t)
	made := progress{
		due:    current.dueAt(t),
		missed: p.missed,
		active: current.activeAt(t),
		rest:   never,
		over:   t >= p.timeline.end && p.timeline.when(p.target) == never,
	}
	if current.idle() {
		made.rest = current.start
	}
	return made
}

// clock returns now as an instant of the timeline, which stands still once the pacer is stopped.
func (p *pacer) clock(now time.Time) time.Duration {
	return min(now.Sub(p.epoch), p.stopped)
}
