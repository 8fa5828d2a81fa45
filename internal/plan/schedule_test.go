package plan_test

import (
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

func TestScheduleEvents_ReturnsTheNumberOfDueEvents(t *testing.T) {
	t.Parallel()
	const minute = plan.Duration(time.Minute)
	ramps := plan.Schedule{Rate: 10, Stages: []plan.Stage{{Duration: minute, Rate: 20}, {Duration: minute, Rate: 0}}}
	for name, tt := range map[string]struct {
		schedule plan.Schedule
		length   time.Duration
		want     int64
	}{
		"no time":            {ramps, 0, 0},
		"a constant rate":    {plan.Schedule{Rate: 7}, 10 * time.Second, 70},
		"half of a ramp":     {ramps, 30 * time.Second, 375},
		"one ramp":           {ramps, time.Minute, 900},
		"half of the second": {ramps, 90 * time.Second, 1350},
		"both ramps":         {ramps, 2 * time.Minute, 1500},
		"after the ramps":    {ramps, time.Hour, 1500},
	} {
		if got := tt.schedule.Events(tt.length); got != tt.want {
			t.Errorf("%s: %d events are due, want %d", name, got, tt.want)
		}
	}
}
