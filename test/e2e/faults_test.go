//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// killed is what the operator says while a process that a test killed is not back.
var killed = warning{"PodsFailing", "exit code 137"}

// faults are the two ways in which a pod ends without a word: its object is deleted by force, and its
// process is killed.
var faults = []struct {
	name string
	kill func(*namespace, corev1.Pod)
}{
	{"deleted by force", (*namespace).deleteByForce},
	{"killed", (*namespace).killProcess},
}

func TestEveryComponentMayDieAndNothingIsLost(t *testing.T) {
	ns := newNamespace(t)
	ns.expected = []warning{killed}
	sim := ns.applySample("minimal.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Exit.MatchPercent = new(int32(80))
	})
	ns.untilCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	for _, component := range []resources.Component{
		resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor,
		resources.ComponentSummaries, resources.ComponentRedis, resources.ComponentRabbitMQ,
	} {
		for _, fault := range faults {
			t.Run(fmt.Sprintf("%s %s", component, fault.name), func(t *testing.T) {
				ns := ns.in(t)
				before := ns.allPods()
				fault.kill(ns, ns.pods(sim, component)[0])
				ns.untilWorking(sim, len(before))
			})
		}
	}
	ns.finish(sim)
	ns.remove(sim)
}

func TestClusterOfThreeRabbitMQNodesSurvivesTheLossOfOne(t *testing.T) {
	ns := newNamespace(t)
	ns.expected = []warning{killed}
	sim := ns.applySample("minimal.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Exit.MatchPercent = new(int32(80))
		sim.Spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Replicas: new(int32(3))}
	})
	ns.untilCondition(sim, v1alpha1.ConditionReady, 2*readyTimeout)
	for _, fault := range faults {
		t.Run("the leader of a queue is "+fault.name, func(t *testing.T) {
			ns := ns.in(t)
			before := ns.allPods()
			fault.kill(ns, ns.untilQueuesAreWhole(sim, 3))
			ns.untilWorking(sim, len(before))
			ns.untilQueuesAreWhole(sim, 3)
		})
	}
	ns.finish(sim)
	ns.remove(sim)
}

// untilQueuesAreWhole waits until every queue is a quorum queue with so many nodes online, and returns the
// pod of the node that leads the queue of entries.
func (ns *namespace) untilQueuesAreWhole(sim *v1alpha1.ParkingSimulation, nodes int) (leader corev1.Pod) {
	ns.t.Helper()
	ns.eventually(fmt.Sprintf("every queue has %d nodes online", nodes), 2*time.Minute, func() error {
		pods := ns.pods(sim, resources.ComponentRabbitMQ)
		text, err := ns.exec(pods[0], "rabbitmqctl", "--quiet", "list_queues", "name", "type", "leader", "online", "--formatter", "json")
		if err != nil {
			return err
		}
		var queues []struct {
			Name, Type, Leader string
			Online             []string
		}
		if err := json.Unmarshal(text, &queues); err != nil {
			return err
		}
		leader = corev1.Pod{}
		for _, queue := range queues {
			if queue.Type != "quorum" || len(queue.Online) != nodes {
				return fmt.Errorf("%s is a %s queue with %d nodes online", queue.Name, queue.Type, len(queue.Online))
			}
			if strings.HasSuffix(queue.Name, "."+sim.Name+".entry.0") {
				leader = podOfNode(pods, queue.Leader)
			}
		}
		if leader.Name == "" {
			return fmt.Errorf("nobody leads the queue of entries; there are %d queues", len(queues))
		}
		return nil
	})
	return leader
}

// podOfNode returns the pod that a RabbitMQ node, rabbit@POD.SERVICE.…, runs in.
func podOfNode(pods []corev1.Pod, node string) corev1.Pod {
	for _, pod := range pods {
		if strings.HasPrefix(node, "rabbit@"+pod.Name+".") {
			return pod
		}
	}
	return corev1.Pod{}
}

// deleteByForce makes the API server forget a pod at once.
func (ns *namespace) deleteByForce(pod corev1.Pod) {
	ns.t.Helper()
	if err := ns.Delete(ns.t.Context(), &pod, client.GracePeriodSeconds(0)); err != nil {
		ns.t.Fatal(err)
	}
	ns.untilGone(pod, func(now corev1.Pod) bool { return now.UID == pod.UID })
}

// killProcess sends SIGKILL to the first process of a pod's first container.
func (ns *namespace) killProcess(pod corev1.Pod) {
	ns.t.Helper()
	container := firstContainer(pod)
	_, id, _ := strings.Cut(container.ContainerID, "://")
	onNode(ns.t, "ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id)
	ns.untilGone(pod, func(now corev1.Pod) bool {
		return now.UID == pod.UID && firstContainer(now).RestartCount == container.RestartCount
	})
}

// firstContainer returns the status of the first container that a pod specifies. Statuses come in another
// order.
func firstContainer(pod corev1.Pod) corev1.ContainerStatus {
	i := slices.IndexFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == pod.Spec.Containers[0].Name })
	return pod.Status.ContainerStatuses[i]
}

// untilGone waits until a pod, as it was, is not there any more.
func (ns *namespace) untilGone(pod corev1.Pod, is func(corev1.Pod) bool) {
	ns.t.Helper()
	ns.eventually(pod.Name+" is gone", time.Minute, func() error {
		var now corev1.Pod
		err := ns.Get(ns.t.Context(), client.ObjectKeyFromObject(&pod), &now)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err == nil && is(now) {
			return fmt.Errorf("it is there, %s", now.Status.Phase)
		}
		return nil
	})
}

// untilWorking waits until so many pods are ready, and more events were processed since.
func (ns *namespace) untilWorking(sim *v1alpha1.ParkingSimulation, pods int) {
	ns.t.Helper()
	ns.eventually(fmt.Sprintf("%d pods are ready", pods), 2*time.Minute, func() error {
		return allReady(ns.allPods(), pods)
	})
	ns.untilCondition(sim, v1alpha1.ConditionReady, time.Minute)
	before := ns.processed(sim)
	ns.eventually("more events are processed", time.Minute, func() error {
		if now := ns.processed(sim); now <= before {
			return fmt.Errorf("%d were, and %d before", now, before)
		}
		return nil
	})
}

// finish gives a simulation some more seconds to run, and then waits for its verdict.
func (ns *namespace) finish(sim *v1alpha1.ParkingSimulation) {
	ns.t.Helper()
	started := ns.get(sim).Status.StartTime
	ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) {
		spec.Duration = &metav1.Duration{Duration: (time.Since(started.Time) + 10*time.Second).Round(time.Second)}
	})
	ns.untilVerdict(sim)
}
