package controllers

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// oneSimulation is a reader that lists a single simulation.
type oneSimulation struct {
	client.Reader

	sim v1alpha1.ParkingSimulation
}

func (o oneSimulation) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.(*v1alpha1.ParkingSimulationList).Items = []v1alpha1.ParkingSimulation{o.sim}
	return nil
}

// The test converts the measured effects of faults to the status, and the status to metrics.
func TestSimulationMetrics_Faults_HaveTheValuesOfTheStatus(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	account := func(number int, outcome fault.Outcome, recovery *float64) fault.Account {
		a := fault.Account{Fault: "crash", Number: number, Target: plan.TargetRedis, Action: plan.ActionKill, Outcome: outcome, RecoverySeconds: recovery}
		if outcome != fault.OutcomeNotInjected {
			a.InjectedAt = at
		}
		return a
	}
	sim := v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "load", Name: "run"}}
	sim.Status.Faults = faultsStatus([]fault.Account{
		account(0, fault.OutcomeRecovered, new(1.5)), account(1, fault.OutcomeRecovered, new(4.5)),
		account(2, fault.OutcomeNotRecovered, nil), account(3, fault.OutcomeNotInjected, nil),
		account(4, fault.OutcomeAborted, nil), account(5, fault.OutcomeActive, nil), account(6, fault.OutcomeRecovering, nil),
	}, fault.History{})
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(NewSimulationMetrics(oneSimulation{sim: sim}, observer.New(observer.Dependencies{}))); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	const labels = `action="Kill",namespace="load",simulation="run",target="Redis"`
	want := []string{
		`parking_simulation_fault_recovery_max_seconds{` + labels + `} 4.5`,
		`parking_simulation_fault_recovery_seconds_count{` + labels + `} 2`,
		`parking_simulation_fault_recovery_seconds_sum{` + labels + `} 6`,
		`parking_simulation_faults_in_progress{` + labels + `} 2`,
		`parking_simulation_faults_injected{namespace="load",simulation="run"} 6`,
		`parking_simulation_faults{action="Kill",namespace="load",outcome="Aborted",simulation="run",target="Redis"} 1`,
		`parking_simulation_faults{action="Kill",namespace="load",outcome="NotInjected",simulation="run",target="Redis"} 1`,
		`parking_simulation_faults{action="Kill",namespace="load",outcome="NotRecovered",simulation="run",target="Redis"} 1`,
		`parking_simulation_faults{action="Kill",namespace="load",outcome="Recovered",simulation="run",target="Redis"} 2`,
	}
	got := slices.DeleteFunc(strings.Split(strings.TrimSpace(text.String()), "\n"), func(line string) bool { return strings.HasPrefix(line, "#") })
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the metrics (-want +got):\n%s", diff)
	}
}
