package report

import (
	"math"
	"time"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// RatesOf computes the mean rates over the time in which events were due, without the time in which the simulation was
// suspended.
func RatesOf(rows []timeline.Row) Rates {
	return Rates{
		Entry: rateOf(rows, func(r *timeline.Row) *timeline.Events { return &r.Entry }),
		Exit:  rateOf(rows, func(r *timeline.Row) *timeline.Events { return &r.Exit }),
	}
}

func rateOf(rows []timeline.Row, of func(*timeline.Row) *timeline.Events) Rate {
	var total Rate
	var published int64
	var lag time.Duration
	var due []*timeline.Row // pointers, because copies of rows would be large
	for i := range rows {
		e := of(&rows[i])
		published += e.Published
		total.Missed += e.Missed
		lag = max(lag, e.Lag)
		if e.Due > 0 {
			due = append(due, &rows[i])
			total.Target += float64(e.Due)
		}
	}
	total.MaxLagSeconds = lag.Seconds()
	if len(due) == 0 {
		return total
	}
	seconds := scheduled(due)
	total.Target, total.Achieved = total.Target/seconds, float64(published)/seconds
	return total
}

// Correct computes the rate from the schedule, which also contains the events that were due while no generator ran. If
// s is nil, Correct changes nothing.
func (r *Rate) Correct(s *ledger.Schedule) {
	if s == nil {
		return
	}
	if s.Due > 0 {
		achieved := r.Target * float64(s.Due-s.Missed-s.Starved) / float64(s.Due)
		r.Achieved = math.Round(achieved*1000) / 1000
	}
	r.Missed = s.Missed
	r.MaxLagSeconds = max(r.MaxLagSeconds, s.Gap.Seconds())
}

// scheduled returns how many seconds of the schedule the rows with due events cover, including the gaps between them.
// It omits long gaps, in which the simulation was probably suspended.
func scheduled(due []*timeline.Row) float64 {
	const pause = 10
	idle := make([]float64, 0, len(due))
	var seconds float64
	for i := range due {
		seconds += width(due[i])
		if i > 0 {
			idle = append(idle, float64(due[i].Second-due[i-1].Second)-width(due[i-1]))
		}
	}
	if len(idle) == 0 {
		return seconds
	}
	usual := Median(idle)
	for _, gap := range idle {
		if gap > 0 && gap <= pause*(1+usual) {
			seconds += gap
		}
	}
	return seconds + usual // the gap after the last row is unknown, so assume the median gap
}
