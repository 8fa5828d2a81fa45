//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// rehearsed returns the faults to inject. Faults of the same target are more than 10 s apart, because the kubelet
// delays a second restart by 10 s.
func rehearsed() []v1alpha1.Fault {
	at := func(seconds time.Duration) *v1alpha1.Duration { return v1alpha1.NewDuration(seconds * time.Second) }
	return []v1alpha1.Fault{
		{Name: "redis-crash", Target: "Redis", Action: "Kill", At: at(10)},
		{Name: "processor-freeze", Target: "Processor", Action: "Pause", At: at(15), For: at(5)},
		{Name: "broker-freeze", Target: "RabbitMQ", Action: "Pause", At: at(25), For: at(5)},
		{Name: "entry-restart", Target: "EntryGenerator", Action: "Restart", At: at(30)},
		{Name: "processor-eviction", Target: "Processor", Action: "Evict", At: at(35)},
		{Name: "broker-crash", Target: "RabbitMQLeader", Action: "Kill", At: at(40)},
		{Name: "api-crash", Target: "SummaryAPI", Action: "Kill", At: at(45)},
		{Name: "redis-isolation", Target: "Redis", Action: "Isolate", At: at(55), For: at(5)},
		{Name: "processor-isolation", Target: "Processor", Action: "Isolate", At: at(65), For: at(5)},
	}
}

func TestFaultInjection_EachFault_LosesNoEvents(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	ns.expected = []warning{
		killed, probedDead,
		{"FaultNotRecovered", ""}, // permitted, because other tests may delay the recovery
	}
	sim := ns.applySample("run-to-completion.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Duration = v1alpha1.NewDuration(90 * time.Second)
		sim.Spec.Objectives = v1alpha1.ObjectivesSpec{}
		lowRates(sim)
		sim.Spec.Faults = rehearsed()
		shareNode(sim)
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	ns.awaitPass(sim)
	ns.checkFaults(sim, len(rehearsed()))
	ns.remove(sim)
}

// checkFaults checks that the given number of faults took effect and ended.
func (ns *namespace) checkFaults(sim *v1alpha1.ParkingSimulation, want int) {
	ns.t.Helper()
	records := ns.faultRecords(sim)
	if got := len(records); got != want {
		ns.t.Errorf("there are %d records, want %d", got, want)
	}
	for _, r := range records {
		if r.State != fault.Healed || len(r.Hit) == 0 {
			ns.t.Errorf("fault %s is %s (%s) and hit %v", r.ID(), r.State, r.Reason, r.Hit)
		}
		ns.t.Logf("%s hit %v, and ended after %s", r.ID(), r.Hit, r.HealedAt.Sub(r.InjectedAt).Round(time.Millisecond))
	}
}

func (ns *namespace) faultRecords(sim *v1alpha1.ParkingSimulation) []fault.Record {
	ns.t.Helper()
	var object corev1.ConfigMap
	if err := ns.Get(ns.t.Context(), client.ObjectKey{Namespace: ns.name, Name: resources.FaultsName(sim)}, &object); err != nil {
		ns.t.Fatal(err)
	}
	var journal struct{ Records []fault.Record }
	if err := json.Unmarshal([]byte(object.Data["journal.json"]), &journal); err != nil {
		ns.t.Fatal(err)
	}
	return journal.Records
}

func TestFaultInjection_EditDuringPause_WaitsUntilThePauseEnds(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	ns.expected = []warning{
		probedDead, hookCutShort,
		// After the pause, the operator replaces the pod of Redis to apply the edited spec, which can delay the
		// recovery.
		{"FaultNotRecovered", ""},
	}
	const pause = time.Minute
	sim := ns.applySample("run-to-completion.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Duration = v1alpha1.NewDuration(2 * time.Minute)
		sim.Spec.Objectives = v1alpha1.ObjectivesSpec{}
		lowRates(sim)
		shareNode(sim)
		sim.Spec.Processor.Replicas = new(int32(1))
		sim.Spec.Faults = []v1alpha1.Fault{{
			Name: "redis-freeze", Target: "Redis", Action: "Pause",
			At: v1alpha1.NewDuration(10 * time.Second), For: v1alpha1.NewDuration(pause),
		}}
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	ns.eventually("the fault is in effect", time.Minute, func() error {
		if faults := ns.get(sim).Status.Faults; faults == nil || faults.Active != "redis-freeze/0" {
			return fmt.Errorf("the faults are %+v", faults)
		}
		return nil
	})
	before := ns.incarnations()
	ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) {
		spec.Redis.Managed.Resources.Limits["memory"] = "320Mi" // replaces the pod of Redis
		spec.Processor.Replicas = new(int32(2))                 // adds a pod
	})
	ns.eventually("the edit of the spec waits for the end of the fault", pause, func() error {
		current := ns.get(sim)
		c := meta.FindStatusCondition(current.Status.Conditions, v1alpha1.ConditionReconciling)
		if c == nil || c.Reason != "FaultInEffect" || c.ObservedGeneration != current.Generation {
			return fmt.Errorf("the condition Reconciling is %+v", c)
		}
		return nil
	})
	ns.eventually("the fault has ended", pause+time.Minute, func() error {
		// Read the pods before the fault records. In the other order, the pause could end between the two reads, and
		// pods replaced after the pause would fail the test.
		now := ns.incarnations()
		records := ns.faultRecords(sim)
		if len(records) != 1 || records[0].State != fault.Healed {
			if diff := cmp.Diff(before, now); diff != "" {
				t.Fatalf("pods were replaced, added or restarted during the pause (-before +after):\n%s", diff)
			}
			return fmt.Errorf("the records are %+v", records)
		}
		if lasted := records[0].HealedAt.Sub(records[0].InjectedAt); lasted < pause {
			t.Errorf("the fault ended after %s, want at least %s", lasted, pause)
		}
		return nil
	})
	ns.awaitPods(sim, resources.ComponentProcessor, 2, 2*time.Minute)
	ns.eventually("a Redis with the new limit", 2*time.Minute, func() error {
		for _, pod := range ns.pods(sim, resources.ComponentRedis) {
			if limit := pod.Spec.Containers[0].Resources.Limits.Memory().String(); limit != "320Mi" {
				return fmt.Errorf("the limit of %s is %s", pod.Name, limit)
			}
		}
		return allReady(ns.pods(sim, resources.ComponentRedis), 1)
	})
	ns.awaitCondition(sim, v1alpha1.ConditionComplete, 5*time.Minute)
	ns.awaitPass(sim)
	ns.checkFaults(sim, 1)
	ns.remove(sim)
}

// The test is not parallel, because the sample limits the recovery time, and other tests would slow down the recovery.
func TestFaultInjection_NodeLossSample_RecoversFromEachFault(t *testing.T) {
	ns := newNamespace(t)
	ns.expected = []warning{killed, probedDead, hookCutShort}
	const faster = 4
	sim := ns.applySample("node-loss.yaml", func(sim *v1alpha1.ParkingSimulation) {
		quarter := func(d *v1alpha1.Duration) *v1alpha1.Duration { return v1alpha1.NewDuration(d.Value() / faster) }
		sim.Spec.Duration = quarter(sim.Spec.Duration)
		for i := range sim.Spec.Faults {
			f := &sim.Spec.Faults[i]
			f.At = quarter(f.At)
			if f.For != nil {
				f.For = quarter(f.For)
			}
		}
		lowRates(sim)
		shareNode(sim)
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, 2*readyTimeout)
	ns.awaitCondition(sim, v1alpha1.ConditionComplete, 10*time.Minute)
	ns.awaitPass(sim)
	ns.checkFaults(sim, len(sim.Spec.Faults))
	if got := ns.get(sim).Status.Faults; got == nil || int(got.Recovered) != len(sim.Spec.Faults) {
		t.Errorf("the faults are %+v, want all of them recovered", got)
	}
	ns.remove(sim)
}
