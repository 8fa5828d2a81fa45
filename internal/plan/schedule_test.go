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

func TestSchedulePeakRate_ReturnsTheHighestRate(t *testing.T) {
	t.Parallel()
	stages := []plan.Stage{{Rate: 20}, {Rate: 5}}
	for rate, want := range map[int64]int64{10: 20, 30: 30} {
		if got := (plan.Schedule{Rate: rate, Stages: stages}).PeakRate(); got != want {
			t.Errorf("the peak of a schedule that starts at %d is %d, want %d", rate, got, want)
		}
	}
}

func TestPlanExitDelay_DurabilitySynced_IsLongerThanWithDurabilityWritten(t *testing.T) {
	t.Parallel()
	for durability, want := range map[plan.Durability]time.Duration{
		plan.DurabilityWritten: 2500 * time.Millisecond,
		plan.DurabilitySynced:  14500 * time.Millisecond,
	} {
		p := plan.Plan{Exit: plan.Exit{MinStay: plan.Duration(2 * time.Second)}, Durability: durability}
		if got := p.ExitDelay(); got != want {
			t.Errorf("the exit delay with the durability %q is %s, want %s", durability, got, want)
		}
	}
}
