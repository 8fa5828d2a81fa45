package report

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/timeline"
)

func TestRatesOf_RowsOfDifferentWidths_ReturnsMeanRatesOverTheSchedule(t *testing.T) {
	t.Parallel()
	got := RatesOf([]timeline.Row{
		{Second: 1, Entry: timeline.Events{Due: 10, Published: 8, Lag: time.Second}},
		{Second: 2, Width: 10, Entry: timeline.Events{Due: 100, Published: 80, Lag: 3 * time.Second, Missed: 5}},
		{Second: 12, Entry: timeline.Events{Published: 22}}, // overdue events, published after the schedule ended
	})
	want := Rates{Entry: Rate{Target: 10, Achieved: 10, Missed: 5, MaxLagSeconds: 3}}
	if got != want {
		t.Errorf("rates are %+v, want %+v", got, want)
	}
	if got := RatesOf(nil); got != (Rates{}) {
		t.Errorf("rates of nothing are %+v", got)
	}
}

func TestRatesOf_GapsBetweenRows_OnlyShortGapsCountTowardsTheDuration(t *testing.T) {
	t.Parallel()
	rows := func(seconds []int64, due int64) []timeline.Row {
		var list []timeline.Row
		for _, second := range seconds {
			list = append(list, timeline.Row{Second: second, Exit: timeline.Events{Due: due, Published: due}})
		}
		return list
	}
	every := func(step, from, to int64) []int64 {
		var list []int64
		for second := from; second < to; second += step {
			list = append(list, second)
		}
		return list
	}
	for name, test := range map[string]struct {
		rows []timeline.Row
		want float64
	}{
		"rate 1 with two replicas, whose events are due in the same second": {rows(every(2, 1, 61), 2), 1},
		"rate 10 with 50 replicas":                                           {rows(every(5, 1, 101), 50), 10},
		"one second without events, because the generator was restarted":     {rows(slices.Concat(every(1, 0, 49), every(1, 50, 100)), 100), 99},
		"a minute without events, because the simulation was suspended":      {rows(slices.Concat(every(1, 0, 50), every(1, 110, 160)), 100), 100},
		"an hour without events between events that are due every 2 seconds": {rows(slices.Concat(every(2, 0, 50), every(2, 3650, 3700)), 2), 1},
		"a single row": {rows([]int64{7}, 3), 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := RatesOf(test.rows).Exit; math.Abs(got.Target/test.want-1) > 0.025 || got.Achieved != got.Target {
				t.Errorf("rates are %+v, want %v", got, test.want)
			}
		})
	}
}
