package fault

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// slowInstance stops slowly: a stop takes stopTime.
type slowInstance struct{ Instance }

const stopTime = 8 * time.Second

func (slowInstance) Name() string { return "slow" }

func (slowInstance) Stop(context.Context, bool, uint64) (started func(context.Context) error, err error) {
	time.Sleep(stopTime)
	return func(context.Context) error { return nil }, nil
}

func TestInstances_SlowRestart_TakesEffectWhenTheStopBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := Targets{Instances: map[plan.FaultTarget][]Instance{plan.TargetRabbitMQ: {slowInstance{}}}}
		start := time.Now()
		injection, err := (&Instances{Targets: targets}).Inject(t.Context(), Record{
			Occurrence: Occurrence{Target: plan.TargetRabbitMQ, Action: plan.ActionRestart}, Chosen: []Chosen{{Name: "slow"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if !injection.At.Equal(start) {
			t.Errorf("the fault took effect %s after the command to stop, want 0s", injection.At.Sub(start))
		}
		if healed, err := injection.Healed(t.Context()); err != nil || healed.Sub(start) < stopTime {
			t.Errorf("the fault ended %s after the command to stop, error: %v", healed.Sub(start), err)
		}
	})
}
