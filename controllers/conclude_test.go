package controllers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/observer"
)

// Without an observation, the verdict waits for at most giveUpTime after the drain timeout.
func TestConclude_NoObservation_WaitsUntilGiveUpTime(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	const duration, drain = 10 * time.Minute, 2 * time.Minute
	for name, tt := range map[string]struct {
		after       time.Duration // the time since the start of the simulation
		observation *observer.Observation
		want        bool
		reasons     []string
	}{
		"the drain timeout is not over":     {duration + drain - time.Second, nil, false, nil},
		"giveUpTime has not passed yet":     {duration + drain + giveUpTime - time.Second, nil, false, nil},
		"the servers were never observed":   {duration + drain + giveUpTime, nil, true, []string{"RabbitMQ or Redis could not be observed"}},
		"the servers could not be observed": {duration + drain + giveUpTime, &observer.Observation{StoreErr: errors.New("no route to Redis")}, true, []string{"no route to Redis"}},
		"the observer has a final result": {
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

// The verdict names the Secret whose absence kept the operator from observing a server.
func TestConclude_SecretMissing_VerdictNamesTheSecret(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
	sim.Spec.Duration, sim.Status.StartTime = v1alpha1.NewDuration(time.Minute), &metav1.Time{Time: start}
	s := newScope(sim, start.Add(24*time.Hour))
	s.store.name, s.store.finding = "Redis", found(stalled, reasonSecretMissing, "Secret default/store does not exist")
	if !s.conclude() {
		t.Fatal("the verdict is not due")
	}
	if reasons := strings.Join(s.evaluate(nil).Reasons, "; "); !strings.Contains(reasons, "Redis could not be observed: Secret default/store does not exist") {
		t.Errorf("the reasons are %q, want the Secret", reasons)
	}
}

func TestLedgerFinding_NoObservation_MessageHasTheCauseAndTheTimeOfTheLastRead(t *testing.T) {
	t.Parallel()
	read := metav1.NewTime(time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC))
	known := &binding.Binding{}
	for name, tt := range map[string]struct {
		status        *v1alpha1.LedgerStatus
		broker, store *binding.Binding
		redis         state
		want          string
	}{
		"before the first observation": {nil, known, known, ready, "The ledger has not been read yet"},
		"Redis restarts":               {&v1alpha1.LedgerStatus{ObservedTime: &read}, known, known, progressing, "The ledger was last read at 2026-05-17T12:00:00Z: Redis is not ready"},
		"a Secret is missing": {
			&v1alpha1.LedgerStatus{ObservedTime: &read}, nil, known, ready,
			"The ledger was last read at 2026-05-17T12:00:00Z: the binding of RabbitMQ is unknown: see condition BrokerReady",
		},
	} {
		s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, read.Time)
		s.sim.Status.Ledger, s.store.managed, s.findings.store.state = tt.status, true, tt.redis
		if got := s.notRead(tt.broker, tt.store); got.message != tt.want || got.reason != reasonNotRead {
			t.Errorf("%s: the finding is %+v, want %q", name, got, tt.want)
		}
	}
}

// If the operator lacks a permission, a retry does not help. So the simulation must be Stalled.
func TestRecordError_OperatorLacksPermission_SimulationIsStalled(t *testing.T) {
	t.Parallel()
	s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, time.Now())
	forbidden := apierrors.NewForbidden(schema.GroupResource{Group: "rabbitmq.com", Resource: "rabbitmqclusters"}, "r", errors.New("not in this namespace"))
	s.recordError(fmt.Errorf("read RabbitmqCluster other/r: %w", forbidden))
	if got := s.findings.objects; got.state != stalled || got.reason != reasonForbidden || !strings.Contains(got.message, "other/r") || !strings.Contains(got.message, "role") {
		t.Errorf("the finding is %+v, want Stalled with the reason Forbidden and a remedy", got)
	}
}
