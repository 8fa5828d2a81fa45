package controllers

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/observer"
)

// After the drain timeout, the simulation still waits for the observer, but only for giveUpTime. Then the verdict is
// given without an observation.
func TestConclude_NoObservation_WaitsUntilGiveUpTime(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	const duration, drain = 10 * time.Minute, 2 * time.Minute
	for name, tt := range map[string]struct {
		after       time.Duration // the time since the start
		observation *observer.Observation
		want        bool
		reasons     []string
	}{
		"the drain timeout is not over":     {duration + drain - time.Second, nil, false, nil},
		"the observer may still conclude":   {duration + drain + giveUpTime - time.Second, nil, false, nil},
		"the servers were never observed":   {duration + drain + giveUpTime, nil, true, []string{"RabbitMQ or Redis could not be observed"}},
		"the servers could not be observed": {duration + drain + giveUpTime, &observer.Observation{StoreErr: errors.New("no route to Redis")}, true, []string{"no route to Redis"}},
		"the observer has given up in time": {
			duration + drain, &observer.Observation{Rest: &observer.Rest{Report: ledger.Report{Outstanding: 7}}}, true,
			[]string{"7 confirmed events have not taken effect"},
		},
	} {
		sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
		sim.Spec.Duration, sim.Spec.DrainTimeout = v1alpha1.NewDuration(duration), v1alpha1.NewDuration(drain)
		sim.Status.StartTime = &metav1.Time{Time: start}
		s := newScope(sim, start.Add(tt.after))
		if s.invalid != nil {
			t.Fatal(s.invalid)
		}
		s.observation = tt.observation
		if got := s.conclude(); got != tt.want {
			t.Errorf("%s: the verdict is due: %t", name, got)
		}
		if !tt.want {
			continue
		}
		verdict := s.evaluate(nil)
		reasons := strings.Join(verdict.Reasons, "\n")
		for _, want := range append(tt.reasons, "did not come to rest within the drain timeout of 2m") {
			if verdict.Outcome != ledger.Fail || !strings.Contains(reasons, want) {
				t.Errorf("%s: the verdict is %s %q, want FAIL with %q", name, verdict.Outcome, verdict.Reasons, want)
			}
		}
	}
}
