package report

import (
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/timeline"
)

func TestRatesOf_ComputesMeanRatesOverTheSchedule(t *testing.T) {
	t.Parallel()
	got := RatesOf([]timeline.Row{
		{Second: 1, Entry: timeline.Events{Due: 10, Published: 8, Lag: time.Second}},
		{Second: 2, Width: 10, Entry: timeline.Events{Due: 100, Published: 80, Lag: 3 * time.Second, Missed: 5}},
		{Second: 12, Entry: timeline.Events{Published: 22}}, // overdue events, after the end of the schedule
	})
	want := Rates{Entry: Rate{Target: 10, Achieved: 10, Missed: 5, MaxLagSeconds: 3}}
	if got != want {
		t.Errorf("rates are %+v, want %+v", got, want)
	}
	if got := RatesOf(nil); got != (Rates{}) {
		t.Errorf("rates of nothing are %+v", got)
	}
}
