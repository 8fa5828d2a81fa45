package controllers_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// rehearse creates a simulation with one fault and waits until its generators have stopped.
func (c *cluster) rehearse(name string, f v1alpha1.Fault, prepare func(*v1alpha1.ParkingSimulation)) *v1alpha1.ParkingSimulation {
	c.T.Helper()
	f.At = v1alpha1.NewDuration(time.Second)
	sim := c.Simulate(name, func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration = v1alpha1.NewDuration(15 * time.Second)      // long enough to inject the fault, even on a busy machine
		s.Entry.Rate, s.Exit.Rate = new(int32(0)), new(int32(0)) // the rates are 0, because the fake servers report no events
		s.Processor.Replicas = new(int32(1))
		s.Faults = []v1alpha1.Fault{f}
	})
	if prepare != nil {
		prepare(sim)
	}
	c.Exists(&appsv1.Deployment{}, name+"-processor") // the operator creates this object last
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionFalse, "StoppingGenerators")
	c.Eventually("scale-down of the generators", func() error { return c.hasReplicas(name+"-exit", 0) })
	c.MakeWorkloadsReady()
	return sim
}

func TestRehearse_FaultNotInjected_VerdictIsFail(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.rehearse("nothing", v1alpha1.Fault{Name: "crash", Target: "Redis", Action: "Restart"}, nil)
	c.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	if reasons := strings.Join(sim.Status.Reasons, "; "); sim.Status.Verdict != v1alpha1.VerdictFail || !strings.Contains(reasons, "no pod of Redis was running") {
		t.Errorf("the verdict is %s: %s", sim.Status.Verdict, reasons)
	}
	c.AwaitEvent(sim, "FaultNotInjected", "no pod of Redis was running")
	c.Exists(&corev1.ConfigMap{}, resources.FaultsName(sim))
}

func TestRehearse_ActiveFault_DelaysCompletion(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	ready := func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	var hit *corev1.Pod
	sim := c.rehearse("restarted", v1alpha1.Fault{Name: "restart", Target: "Processor", Action: "Restart"}, func(sim *v1alpha1.ParkingSimulation) {
		hit = c.Pod(sim, resources.ComponentProcessor, ready)
	})
	c.AwaitEvent(sim, "FaultInjected", hit.Name)
	c.Gone(hit)
	c.Expect(sim, "Complete", metav1.ConditionFalse, "Draining")
	c.Pod(sim, resources.ComponentProcessor, ready)
	c.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	c.AwaitEvent(sim, "FaultEnded", "restart/0")
	c.AwaitEvent(sim, "FaultNotRecovered", "restart/0") // without measurements, the fake store cannot prove a recovery
}

func TestRehearse_SuspendedSimulation_InjectsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("suspended", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration = v1alpha1.NewDuration(time.Hour)
		s.Faults = []v1alpha1.Fault{{Name: "restart", Target: "Processor", Action: "Restart", At: v1alpha1.NewDuration(20 * time.Second)}}
	})
	c.Exists(&appsv1.Deployment{}, "suspended-processor")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	pod := c.Pod(sim, resources.ComponentProcessor, nil)
	c.Edit(sim, func() { sim.Spec.Suspend = true })
	c.AwaitEvent(sim, "FaultAborted", "suspended")
	c.Exists(pod, pod.Name)
}

// The edits change the time of the fault, and then make the fault periodic. After each edit, an occurrence is due
// within seconds.
func TestRehearse_EditOfFaultTimes_AppliesDuringTheRun(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim, hit := c.createRunning("edited", v1alpha1.ObjectivesSpec{}, restart(30*time.Minute))
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	// nearFuture returns the duration from the given time to 10 s from now. The edit must arrive within 10 s, because
	// the operator skips faults in the past.
	nearFuture := func(since time.Time) *v1alpha1.Duration {
		return v1alpha1.NewDuration((time.Since(since) + 10*time.Second).Round(time.Second))
	}
	c.Edit(sim, func() { sim.Spec.Faults[0].At = nearFuture(sim.Status.StartTime.Time) })
	c.AwaitEvent(sim, "FaultInjected", "restart/0, Restart of Processor, hit "+hit.Name)
	second := c.Pod(sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	})
	c.AwaitEvent(sim, "FaultEnded", "restart/0")
	c.Edit(sim, func() {
		sim.Spec.Faults[0].Every = nearFuture(sim.Status.StartTime.Add(sim.Spec.Faults[0].At.Value()))
	})
	c.AwaitEvent(sim, "FaultInjected", "restart/1, Restart of Processor, hit "+second.Name)
}

// The edit changes the pod template, and removes the only fault, so that pods need no agent. Either change would
// replace the paused pod too early.
func TestRehearse_PodTemplateEditedDuringAPause_IsAppliedAfterThePause(t *testing.T) {
	t.Parallel()
	const name = "held"
	c := newCluster(t)
	pause := v1alpha1.Fault{
		Name: "stall", Target: "Processor", Action: "Pause", At: v1alpha1.NewDuration(time.Second), For: v1alpha1.NewDuration(30 * time.Minute),
	}
	sim := c.Simulate(name, func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration = v1alpha1.NewDuration(time.Hour)
		s.Processor.Replicas = new(int32(1))
		s.Faults = []v1alpha1.Fault{pause}
	})
	secret := &corev1.Secret{}
	c.Exists(&appsv1.Deployment{}, name+"-processor")
	paused := c.Pod(sim, resources.ComponentProcessor, nil)
	// Store the record of a fault that is in effect. The operator continues this fault, as if an earlier operator
	// process had injected it.
	records, err := json.Marshal(map[string]any{"records": []fault.Record{{
		Occurrence: fault.Occurrence{Fault: "stall", Target: plan.TargetProcessor, Action: plan.ActionPause, At: time.Second, For: 30 * time.Minute},
		Chosen:     []fault.Chosen{{Name: paused.Name, ID: string(paused.UID)}},
		ChosenAt:   time.Now(), InjectedAt: time.Now(), Hit: []string{paused.Name}, Of: 1, State: fault.Active,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	c.Create(resources.FaultsConfigMap(sim, map[string]string{resources.FaultsKey: string(records)}))
	c.MakeWorkloadsReady()
	c.Eventually("the status to show the pause", func() error {
		if err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
			return err
		}
		if f := sim.Status.Faults; f == nil || f.Active != "stall/0" {
			return fmt.Errorf("the faults are %+v", f)
		}
		return nil
	})
	edited := func() bool {
		deployment := &appsv1.Deployment{}
		c.Exists(deployment, name+"-processor")
		return deployment.Spec.Template.Labels["edited"] != "" || len(deployment.Spec.Template.Spec.Containers) == 1
	}
	c.Edit(sim, func() {
		sim.Spec.Faults = nil
		sim.Spec.Processor.Template = &v1alpha1.PodTemplate{Metadata: v1alpha1.PodMetadata{Labels: map[string]v1alpha1.LabelValue{"edited": "true"}}}
	})
	waits := c.Expect(sim, "Reconciling", metav1.ConditionTrue, "FaultInEffect")
	if !strings.Contains(waits.Message, "until fault stall/0 has ended") {
		t.Errorf("the message is %q", waits.Message)
	}
	if edited() {
		t.Error("the template was changed during the pause")
	}
	c.Exists(secret, resources.Name(sim, resources.ComponentAgent))
	c.Delete(paused, paused.Name) // deleting the paused pod ends the pause
	c.AwaitEvent(sim, "FaultAborted", "stall/0")
	c.Eventually("the edit to be applied", func() error {
		if !edited() {
			return errors.New("the template has not changed")
		}
		return nil
	})
	c.Gone(secret)
}

// measured returns a timeline from 30 s before a fault to 5 min after it. From the fault on, latencies are high for
// slowFor, and generators have the given lag.
func measured(at time.Time, slowFor, lag time.Duration) []timeline.Row {
	var rows []timeline.Row
	for second := -30 * time.Second; second < 5*time.Minute; second += time.Second {
		latency := time.Millisecond
		if second >= 0 && second < slowFor {
			latency = time.Second
		}
		var h histogram.Histogram
		for range 50 {
			h.Observe(latency)
		}
		events := timeline.Events{Due: 50, Published: 50, Effects: 50, EndToEnd: h.Snapshot()}
		if second >= 0 {
			events.Lag = lag
		}
		rows = append(rows, timeline.Row{Second: at.Add(second).Unix(), Entry: events, Exit: events})
	}
	return rows
}

// createRunning creates a simulation that lasts an hour and has one fault. It also creates a processor pod,
// which is the target of the fault.
func (c *cluster) createRunning(name string, objectives v1alpha1.ObjectivesSpec, f v1alpha1.Fault) (*v1alpha1.ParkingSimulation, *corev1.Pod) {
	c.T.Helper()
	sim := c.Simulate(name, func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration = v1alpha1.NewDuration(time.Hour)
		s.Processor.Replicas = new(int32(1))
		s.Objectives, s.Faults = objectives, []v1alpha1.Fault{f}
	})
	pod := c.Pod(sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	})
	c.Exists(&appsv1.Deployment{}, name+"-processor")
	c.MakeWorkloadsReady()
	return sim, pod
}

func restart(at time.Duration) v1alpha1.Fault {
	return v1alpha1.Fault{Name: "restart", Target: "Processor", Action: "Restart", At: v1alpha1.NewDuration(at)}
}

func TestRehearse_Recovery_IsReportedWhileTheSimulationRuns(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim, hit := c.createRunning("live", v1alpha1.ObjectivesSpec{}, restart(time.Second))
	c.AwaitEvent(sim, "FaultInjected", hit.Name)
	c.servers.setTimeline(measured(time.Now(), 20*time.Second, 0))
	c.Pod(sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	})
	c.Eventually("the status to show the recovery", func() error {
		if err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
			return err
		}
		f := sim.Status.Faults
		if f == nil || f.Recovered != 1 || f.Latest[0].Recovery.Value() <= 0 || sim.Status.CompletionTime != nil {
			return fmt.Errorf("the faults are %+v", f)
		}
		return nil
	})
	c.AwaitEvent(sim, "FaultRecovered", "restart/0: Latency and backlog returned to their previous level")
}

func TestRehearse_AbortOnFailure_EndsASimulationThatCannotPass(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		objectives v1alpha1.ObjectivesSpec
		want       string
	}{
		"recovery": {v1alpha1.ObjectivesSpec{MaxRecovery: v1alpha1.NewDuration(20 * time.Second)}, "restart/0 had not recovered after"},
		"lag":      {v1alpha1.ObjectivesSpec{PhaseObjectivesSpec: v1alpha1.PhaseObjectivesSpec{MaxLag: v1alpha1.NewDuration(time.Second)}}, "generator lag is 9.00 s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			// measure sets a timeline. From the call on, the latencies are high and the lag is 9 s.
			measure := func() { c.servers.setTimeline(measured(time.Now(), time.Hour, 9*time.Second)) }
			if name == "lag" { // the lag must be 9 s in the whole run
				measure()
			}
			tt.objectives.AbortOnFailure = true
			sim, hit := c.createRunning(name, tt.objectives, restart(time.Second))
			if name == "recovery" { // the latencies before the fault must be normal, for comparison
				c.AwaitEvent(sim, "FaultInjected", hit.Name)
				measure()
			}
			c.Eventually("the simulation to be aborted", func() error {
				if err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
					return err
				}
				if sim.Status.AbortTime == nil || !strings.Contains(sim.Status.AbortReason, tt.want) {
					return fmt.Errorf("the reason is %q, the conditions are %+v", sim.Status.AbortReason, sim.Status.Conditions)
				}
				return nil
			})
			c.AwaitEvent(sim, "ObjectivesNotMet", tt.want)
		})
	}
}

// The latency is normal again after 295 s, but the timeline ends at 300 s, too early to confirm the recovery.
func TestRehearse_AbortOnFailure_AbortsOnlyIfRecoveryIsTooLate(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		maxRecovery time.Duration
		aborted     bool
	}{"in-time": {296 * time.Second, false}, "too-late": {293 * time.Second, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			sim, hit := c.createRunning(name, v1alpha1.ObjectivesSpec{MaxRecovery: v1alpha1.NewDuration(tt.maxRecovery), AbortOnFailure: true}, restart(time.Second))
			c.AwaitEvent(sim, "FaultInjected", hit.Name)
			c.Pod(sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
				s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			})
			fault := func() v1alpha1.FaultStatus {
				if err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil || sim.Status.Faults == nil {
					return v1alpha1.FaultStatus{}
				}
				return sim.Status.Faults.Latest[0]
			}
			c.Eventually("the fault to end", func() error {
				if f := fault(); f.HealedTime == nil {
					return fmt.Errorf("the fault is %+v", f)
				}
				return nil
			})
			c.servers.setTimeline(measured(fault().InjectedTime.Time, 295*time.Second, 0))
			if tt.aborted {
				c.AwaitEvent(sim, "ObjectivesNotMet", "restart/0 had not recovered after")
				return
			}
			const returned = "Latency and backlog returned to their previous level"
			c.Eventually("the status to show the return", func() error {
				if f := fault(); !strings.Contains(f.Message, returned) {
					return fmt.Errorf("the fault is %+v", f)
				}
				return nil
			})
			if sim.Status.AbortTime != nil {
				t.Errorf("the simulation was aborted: the conditions are %+v", sim.Status.Conditions)
			}
		})
	}
}

// spared checks that the simulation has injected no fault: the given pod is not being deleted, and the records contain
// no injection.
func (c *cluster) spared(sim *v1alpha1.ParkingSimulation, pod *corev1.Pod) {
	c.T.Helper()
	if err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(pod), pod); err != nil || pod.DeletionTimestamp != nil {
		c.T.Errorf("a fault was injected into the pod: %v", err)
	}
	journal := &corev1.ConfigMap{}
	err := c.Client.Get(c.T.Context(), client.ObjectKey{Namespace: sim.Namespace, Name: resources.FaultsName(sim)}, journal)
	if err == nil && strings.Contains(journal.Data["journal.json"], "injectedAt") {
		c.T.Errorf("a fault was injected: %s", journal.Data["journal.json"])
	}
}

// awaitFault creates another simulation with a fault that is due after the given duration, and waits until this fault
// is injected. By then, the operator has injected every fault that was due earlier, or will never inject it.
func (c *cluster) awaitFault(later time.Duration) {
	c.T.Helper()
	other, hit := c.createRunning("other", v1alpha1.ObjectivesSpec{}, restart(later))
	c.AwaitEvent(other, "FaultInjected", hit.Name)
}

func TestRehearse_DeletedSimulation_InjectsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	const due = 15 * time.Second // long enough to delete the simulation before the fault is due, even on a busy machine
	sim, pod := c.createRunning("deleted", v1alpha1.ObjectivesSpec{}, restart(due))
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	if err := c.Client.Delete(t.Context(), sim); err != nil {
		t.Fatal(err)
	}
	c.awaitFault(due)
	c.spared(sim, pod)
}

func TestRehearse_EndedSimulation_InjectsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.rehearse("complete", v1alpha1.Fault{Name: "crash", Target: "Redis", Action: "Restart"}, nil) // no pods run in this test, so the fault cannot be injected
	c.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	pod := c.Pod(sim, resources.ComponentProcessor, nil)
	at := time.Since(sim.Status.StartTime.Time) + 3*time.Second
	c.Edit(sim, func() {
		sim.Spec.Duration = v1alpha1.NewDuration(time.Hour)
		sim.Spec.Faults = append(sim.Spec.Faults, restart(at.Round(time.Second)))
	})
	c.awaitFault(4 * time.Second)
	c.spared(sim, pod)
}

// If another object has the name of the ConfigMap with the records of the faults, no fault is injected. The simulation
// nevertheless runs and gets a verdict.
func TestRehearse_NameOfFaultRecordsIsTaken_SimulationGetsAVerdict(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	const name = "blocked"
	c.Create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: name + "-faults"}})
	sim := c.Simulate(name, func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration, s.DrainTimeout = v1alpha1.NewDuration(2*time.Second), v1alpha1.NewDuration(3*time.Second)
		s.Faults = []v1alpha1.Fault{restart(time.Second)}
	})
	c.Exists(&appsv1.Deployment{}, name+"-processor")
	c.MakeWorkloadsReady()
	c.AwaitEvent(sim, "NameTaken", name+"-faults")
	c.Eventually("scale-down of the generators", func() error { return c.hasReplicas(name+"-exit", 0) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	if sim.Status.Verdict != v1alpha1.VerdictFail {
		t.Errorf("the verdict is %q, want %q", sim.Status.Verdict, v1alpha1.VerdictFail)
	}
}
