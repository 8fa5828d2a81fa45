package controllers_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// rehearse runs a simulation with one fault until its generators have stopped.
func (c *cluster) rehearse(name string, f v1alpha1.Fault, prepare func(*v1alpha1.ParkingSimulation)) *v1alpha1.ParkingSimulation {
	c.T.Helper()
	f.At = v1alpha1.NewDuration(time.Second)
	sim := c.Simulate(name, func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration = v1alpha1.NewDuration(3 * time.Second)
		s.Entry.Rate, s.Exit.Rate = new(int32(0)), new(int32(0)) // the servers of the test have no events
		s.Processor.Replicas = new(int32(1))
		s.Faults = []v1alpha1.Fault{f}
	})
	if prepare != nil {
		prepare(sim)
	}
	c.Exists(&appsv1.Deployment{}, name+"-processor") // the last of its workloads
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionFalse, "StoppingGenerators")
	c.Eventually("scale-down of the generators", func() error { return c.hasReplicas(name+"-exit", 0) })
	c.MakeWorkloadsReady()
	return sim
}

func TestRehearse_FaultThatIsNotInjectedFailsTheVerdict(t *testing.T) {
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

func TestRehearse_CompletionWaitsForTheEndOfAFault(t *testing.T) {
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
}

func TestRehearse_ASuspendedSimulationInjectsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("suspended", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration = v1alpha1.NewDuration(time.Hour)
		s.Faults = []v1alpha1.Fault{{Name: "restart", Target: "Processor", Action: "Restart", At: v1alpha1.NewDuration(5 * time.Second)}}
	})
	c.Exists(&appsv1.Deployment{}, "suspended-processor")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	pod := c.Pod(sim, resources.ComponentProcessor, nil)
	c.Edit(sim, func() { sim.Spec.Suspend = true })
	c.AwaitEvent(sim, "FaultAborted", "suspended")
	c.Exists(pod, pod.Name)
}
