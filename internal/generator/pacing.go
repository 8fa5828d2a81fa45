package generator

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// patience is how long overdue events are still published after the schedule has paused: at its end, while
// it is suspended, or at a rate of 0. The last events of a schedule are always a little late, so they need
// some time. The bound keeps an overloaded simulation from running much longer than its schedule.
const patience = time.Second

// exitDelay is the time between minStay after the first entry and the first exit. A plate becomes available
// only after the broker and the store have confirmed its entry.
const exitDelay = 500 * time.Millisecond

// pacing is the part of a plan that determines when the events of one type are due.
type pacing struct {
	schedule plan.Schedule
	// origin is when the schedule begins. The zero time means the start of the process.
	origin time.Time
	// delay is the time from origin to the first stage.
	delay time.Duration
	// duration is the time from origin to the end of the schedule. 0 means that it never ends.
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

// exitPacing delays the exits by minStay, because no vehicle can have parked for that long before.
func exitPacing(p *plan.Plan) pacing {
	return pacing{
		schedule:  p.Exit.Schedule,
		origin:    p.StartTime,
		delay:     later(p.Exit.MinStay.D(), exitDelay),
		duration:  p.Duration.D(),
		suspended: p.Suspended,
	}
}

// pacer decides when the next event is due. It is an open model: only the schedule decides. An event that
// could not be published in time remains due. Events that were due before the pacer was started are
// skipped.
//
// Only one goroutine may call next and advance. All other methods may be called at any time.
type pacer struct {
	// edited is signalled when the time of the next event may have changed.
	edited chan struct{}

	mu     sync.Mutex
	pacing pacing
	// epoch is the time 0 of the curve. Times are measured from it with the monotonic clock.
	epoch   time.Time
	stopped time.Duration
	curve   curve
	// target is the number of events at which the next event is due.
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
	p.reschedule(0)
}

// seed seeds the times between Poisson arrivals. It must be called before the first event is published.
// Until then the arrivals are uniform.
func (p *pacer) seed(seed, stream uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.interval = rand.New(rand.NewPCG(seed, stream)).ExpFloat64
	p.target += p.gap() - 1
}

// stop stops the clock of the pacer's figures. Events that are overdue now become missed.
func (p *pacer) stop(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = now.Sub(p.epoch)
	p.countMissed(p.curve.at(p.stopped).dueAt(p.stopped))
}

// update replaces the schedule from now on.
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

// reschedule replaces the curve after t with the pacing.
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

// next returns when the next event is due, and the time until then. The wait is 0 or less when the event is
// due now, and never when the schedule has no more events. over means that the schedule is over. A later
// update may prolong it.
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
		return p.epoch.Add(at), at - t, false
	case t < p.curve.end && p.curve.end < never:
		return time.Time{}, p.curve.end - t, false
	}
	return time.Time{}, never, t >= p.curve.end
}

// countMissed counts all due events that have not been published as missed, and skips them.
func (p *pacer) countMissed(due float64) {
	if p.target <= due {
		overdue := int64(due-p.target) + 1
		p.missed += overdue
		p.target += float64(overdue)
	}
}

// advance moves on to the next event.
func (p *pacer) advance() {
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

// rate returns the rate of the schedule, in events per second.
func (p *pacer) rate(now time.Time) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	t := p.clock(now)
	return p.curve.at(t).rateAt(t)
}

// lag returns how long the next event has been due. It returns 0 when the event is not due.
func (p *pacer) lag(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	return max(0, p.clock(now)-p.curve.when(p.target))
}

// progress describes how far a schedule has advanced.
type progress struct {
	// due is the number of events that have been due, plus the accumulated fraction of the next one.
	due float64
	// missed is how many of them were given up.
	missed int64
	// active is the time in which the rate was not 0.
	active time.Duration
	// rest is when the schedule paused, on the pacer's clock, or never while it is active.
	rest time.Duration
	// over means that no more events will be due, unless an update changes that.
	over bool
}

func (p *pacer) progress(now time.Time) progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return progress{rest: never}
	}
	t := p.clock(now)
	current := p.curve.at(t)
	made := progress{
		due:    current.dueAt(t),
		missed: p.missed,
		active: current.activeAt(t),
		rest:   never,
		over:   t >= p.curve.end && p.curve.when(p.target) == never,
	}
	if current.idle() {
		made.rest = current.start
	}
	return made
}

// clock returns now as a time of the curve. It does not advance after the pacer was stopped.
func (p *pacer) clock(now time.Time) time.Duration {
	return min(now.Sub(p.epoch), p.stopped)
}
