package report

import (
	"time"

	"github.com/parking-operator/parking-operator/internal/timeline"
)

// RatesOf computes the mean rates of a timeline. Each mean covers only the rows in which events were due.
func RatesOf(rows []timeline.Row) Rates {
	return Rates{
		Entry: rateOf(rows, func(r *timeline.Row) *timeline.Events { return &r.Entry }),
		Exit:  rateOf(rows, func(r *timeline.Row) *timeline.Events { return &r.Exit }),
	}
}

func rateOf(rows []timeline.Row, of func(*timeline.Row) *timeline.Events) Rate {
	var total Rate
	var due, published int64
	var seconds float64
	var lag time.Duration
	for i := range rows {
		e := of(&rows[i])
		due += e.Due
		published += e.Published
		total.Missed += e.Missed
		lag = max(lag, e.Lag)
		if e.Due > 0 {
			seconds += width(&rows[i])
		}
	}
	total.MaxLagSeconds = lag.Seconds()
	if seconds > 0 {
		total.Target, total.Achieved = float64(due)/seconds, float64(published)/seconds
	}
	return total
}
