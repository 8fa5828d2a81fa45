package generator

import (
	"math"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// A curve is the rate r(t) at which one process generates events, t after the start of the process. The function is
// piecewise linear.
//
// N(t), the integral of r from 0 to t, is the number of events due by t. Each event is due when N(t) reaches the target
// of the event.
type curve struct {
	// pieces are the linear pieces of the curve in chronological order. Each piece ends where the next one begins. The
	// last piece has no end.
	pieces []piece
	// end is the time at which the schedule ends. If the schedule has no end, end equals the constant never.
	end time.Duration
}

// never is a time value which means that something will not happen.
const never = time.Duration(math.MaxInt64)

// piece is a part of a curve in which the rate changes linearly.
type piece struct {
	// start is the time at which the piece begins. Calculations use the time since start, so that rounding errors do
	// not accumulate.
	start time.Duration
	// rate is the rate of events at the time start, per second. slope is the change of the rate per second.
	rate, slope float64
	// due is the number of events that are due by the start of the piece.
	due float64
	// active is the total time before the start of the piece in which the rate was above 0.
	active time.Duration
}

// window is the period in which a schedule determines the rate of events.
type window struct {
	// origin is when the first stage of the schedule begins. end is when the schedule ends. Like all times of the
	// curve, both are measured from pacer.epoch.
	origin, end time.Duration
	// suspended is true while the simulation is suspended: no events are due until the next edit of the schedule.
	suspended bool
}

// idle reports whether the rate is 0 from the start to the end of the piece.
func (p piece) idle() bool { return p.rate == 0 && p.slope == 0 }

func (p piece) rateAt(t time.Duration) float64 {
	return max(0, p.rate+p.slope*(t-p.start).Seconds())
}

// dueAt returns the number of events that are due by the time t.
func (p piece) dueAt(t time.Duration) float64 {
	d := (t - p.start).Seconds()
	return p.due + d*(p.rate+p.slope*d/2)
}

// activeAt returns how long, in total, the rate was above 0 before t.
func (p piece) activeAt(t time.Duration) time.Duration {
	if p.idle() {
		return p.active
	}
	return p.active + t - p.start
}

// when returns the time at which the number of due events reaches the target. The rate of the piece must not be 0 all
// the time.
func (p piece) when(target float64) time.Duration {
	y := target - p.due
	// This d solves p.rate·d + p.slope·d²/2 = y. This form of the quadratic formula avoids cancellation, and a division
	// by a slope of 0.
	d := 2 * y / (p.rate + math.Sqrt(max(0, p.rate*p.rate+2*p.slope*y)))
	return later(p.start, time.Duration(math.Round(min(d, maxSeconds)*float64(time.Second))))
}

// maxSeconds limits the seconds that are converted to a time.Duration. It is 1 s below the maximum, because a float64
// calculation may round up.
const maxSeconds = float64(never/time.Second) - 1

// later returns t+d, or the maximum duration if the sum overflows.
func later(t, d time.Duration) time.Duration {
	if t > 0 && d > never-t {
		return never
	}
	return t + d
}

// replace makes the curve follow the schedule s after the time t. It preserves the number of due events, including the
// fraction of the next event.
func (c *curve) replace(s plan.Schedule, w window, t time.Duration) {
	c.cut(t)
	c.end = w.end
	if w.suspended {
		c.add(t, w.end, t, 0, 0)
		c.add(w.end, never, t, 0, 0)
		return
	}
	share := 1 / float64(max(1, s.Replicas))
	begin, stop := min(w.origin, w.end), w.end
	c.add(t, begin, t, 0, 0)
	at, rate := w.origin, float64(s.Rate)*share
	for _, stage := range s.Stages {
		next, to := later(at, stage.Duration.D()), float64(stage.Rate)*share
		if next > at {
			c.add(at, min(next, stop), t, rate, (to-rate)/(next-at).Seconds())
		}
		at, rate = next, to
	}
	c.add(at, stop, t, rate, 0)
	c.add(stop, never, t, 0, 0)
}

// cut removes the pieces of the curve that begin after the time t.
func (c *curve) cut(t time.Duration) {
	n := len(c.pieces)
	for n > 0 && c.pieces[n-1].start > t {
		n--
	}
	c.pieces = c.pieces[:n]
}

// add appends to the curve a piece from the time start to the time stop, without the part before the time t. The
// parameter rate is the rate at the time start.
func (c *curve) add(start, stop, t time.Duration, rate, slope float64) {
	begin := max(start, t)
	if begin >= stop {
		return
	}
	whole := piece{start: start, rate: rate, slope: slope}
	part := piece{start: begin, rate: whole.rateAt(begin), slope: slope}
	if n := len(c.pieces); n > 0 {
		last := c.pieces[n-1]
		if part.idle() && last.idle() {
			return // the curve already ends with an endless piece of rate 0
		}
		part.due, part.active = last.dueAt(begin), last.activeAt(begin)
	}
	c.pieces = append(c.pieces, part)
}

// trim removes leading pieces of the curve. It removes a piece that ends by the time t if fewer than target events are
// due at its end.
func (c *curve) trim(t time.Duration, target float64) {
	n := 0
	for n+1 < len(c.pieces) && c.pieces[n+1].start <= t && c.pieces[n+1].due < target {
		n++
	}
	c.pieces = append(c.pieces[:0], c.pieces[n:]...)
}

// at returns the piece that contains the time t. The curve must not be empty.
func (c *curve) at(t time.Duration) piece {
	i := len(c.pieces) - 1
	for i > 0 && c.pieces[i].start > t {
		i--
	}
	return c.pieces[i]
}

// when returns the time at which the given number of events is due. If so many events never become due, the result is
// the constant never.
func (c *curve) when(target float64) time.Duration {
	i := 0
	for i+1 < len(c.pieces) && (c.pieces[i].idle() || c.pieces[i+1].due < target) {
		i++
	}
	if p := c.pieces[i]; !p.idle() {
		return p.when(target)
	}
	return never
}
