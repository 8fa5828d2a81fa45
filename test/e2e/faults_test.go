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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// These are the warnings that the injected faults cause.
var (
	// killed is the operator's warning about a process that was killed and has not restarted yet.
	killed = warning{"PodsFailing", "exit code 137"}
	// The kubelet warns when it delays the second restart of a container.
	redisKilledTwice  = warning{"BackOff", "restarting failed container redis in"}
	brokerKilledTwice = warning{"BackOff", "restarting failed container rabbitmq in"}
	// probedDead is the warning about a liveness probe that failed between the kill of a process and its restart.
	probedDead = warning{"Unhealthy", "connect: connection refused"}
	// hookCutShort is the warning about a preStop hook that failed because its pod was deleted without a grace
	// period.
	hookCutShort = warning{"FailedPreStopHook", "PreStopHook failed"}
)

// crashes are two ways to end a pod without a clean shutdown.
var crashes = []crash{
	{name: "deleted by force", kill: (*namespace).deleteByForce},
	{name: "killed", kill: (*namespace).killProcess, onNode: true},
}

type crash struct {
	name string
	kill func(*namespace, ...corev1.Pod)
	// onNode says whether the crash requires a command on the node.
	onNode bool
}

// skipIfImpossible skips the test if the crash requires a command on the node, and E2E_NODE_SHELL is not set.
func (c crash) skipIfImpossible(t *testing.T) {
	t.Helper()
	if c.onNode {
		skipWithoutNode(t, "kill processes")
	}
}

func TestPodCrash_InEachComponent_LosesNoEvents(t *testing.T) {
	t.Parallel()
	for _, crash := range crashes {
		t.Run(crash.name, func(t *testing.T) {
			t.Parallel()
			crash.skipIfImpossible(t)
			ns := newNamespace(t)
			ns.expected = []warning{killed, probedDead, redisKilledTwice, brokerKilledTwice}
			sim := ns.applySample("minimal.yaml", func(sim *v1alpha1.ParkingSimulation) {
				sim.Spec.Exit.MatchPercent = new(int32(80))
				shareNode(sim)
			})
			ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)
			for _, components := range [][]resources.Component{
				{resources.ComponentEntry}, {resources.ComponentExit}, {resources.ComponentProcessor},
				{resources.ComponentSummaries}, {resources.ComponentRedis}, {resources.ComponentRabbitMQ},
				{resources.ComponentRedis, resources.ComponentRabbitMQ},
			} {
				t.Run(fmt.Sprint(components), func(t *testing.T) {
					ns := ns.forSubtest(t)
					before := ns.incarnations()
					count := len(ns.allPods())
					var victims []corev1.Pod
					for _, component := range components {
						victims = append(victims, ns.pods(sim, component)[0])
					}
					crash.kill(ns, victims...)
					ns.awaitProgress(sim, count)
					ns.checkSameBut(victims, before)
				})
			}
			ns.finish(sim)
			ns.remove(sim)
		})
	}
}

func TestPodCrash_OneOfThreeRabbitMQNodes_LosesNoEvents(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	ns.expected = []warning{killed, probedDead, hookCutShort}
	sim := ns.applySample("minimal.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Exit.MatchPercent = new(int32(80))
		sim.Spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Replicas: new(int32(3))}
		shareNode(sim)
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, 2*readyTimeout)
	for _, crash := range crashes {
		t.Run("the leader of a queue is "+crash.name, func(t *testing.T) {
			crash.skipIfImpossible(t)
			ns := ns.forSubtest(t)
			before := ns.incarnations()
			leader := ns.awaitQueues(sim, 3)
			count := len(ns.allPods())
			crash.kill(ns, leader)
			ns.awaitProgress(sim, count)
			ns.awaitQueues(sim, 3)
			ns.checkSameBut([]corev1.Pod{leader}, before)
		})
	}
	ns.finish(sim)
	ns.remove(sim)
}

// awaitQueues waits until every queue is a quorum queue with the given number of online nodes. It returns the pod with
// the leader of the entry queue.
func (ns *namespace) awaitQueues(sim *v1alpha1.ParkingSimulation, nodes int) (leader corev1.Pod) {
	ns.t.Helper()
	ns.eventually(fmt.Sprintf("%d online nodes of every queue", nodes), 2*time.Minute, func() error {
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
			return fmt.Errorf("the entry queue has no leader; there are %d queues", len(queues))
		}
		return nil
	})
	return leader
}

// podOfNode returns the pod of the RabbitMQ node with the given name. The name has the form rabbit@POD.SERVICE.….
func podOfNode(pods []corev1.Pod, node string) corev1.Pod {
	for _, pod := range pods {
		if strings.HasPrefix(node, "rabbit@"+pod.Name+".") {
			return pod
		}
	}
	return corev1.Pod{}
}

// deleteByForce deletes pods without a grace period.
func (ns *namespace) deleteByForce(pods ...corev1.Pod) {
	ns.t.Helper()
	for _, pod := range pods {
		if err := ns.Delete(ns.t.Context(), &pod, client.GracePeriodSeconds(0)); err != nil {
			ns.t.Fatal(err)
		}
	}
	for _, pod := range pods {
		ns.awaitGone(pod, func(now corev1.Pod) bool { return now.UID == pod.UID })
	}
}

// killProcess sends SIGKILL to the main process of the first container of each pod.
func (ns *namespace) killProcess(pods ...corev1.Pod) {
	ns.t.Helper()
	for _, pod := range pods {
		_, id, _ := strings.Cut(firstContainer(pod).ContainerID, "://")
		onNode(ns.t, "ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id)
	}
	for _, pod := range pods {
		ns.awaitGone(pod, func(now corev1.Pod) bool {
			return now.UID == pod.UID && firstContainer(now).RestartCount == firstContainer(pod).RestartCount
		})
	}
}

// firstContainer returns the status of the first container in the pod's spec. The statuses can have a different
// order.
func firstContainer(pod corev1.Pod) corev1.ContainerStatus {
	i := slices.IndexFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == pod.Spec.Containers[0].Name })
	return pod.Status.ContainerStatuses[i]
}

// awaitGone waits until a pod is deleted or replaced. The function same reports whether a pod is still the old one.
func (ns *namespace) awaitGone(pod corev1.Pod, same func(corev1.Pod) bool) {
	ns.t.Helper()
	ns.eventually("the end of "+pod.Name, time.Minute, func() error {
		var now corev1.Pod
		err := ns.Get(ns.t.Context(), client.ObjectKeyFromObject(&pod), &now)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err == nil && same(now) {
			return fmt.Errorf("the pod is %s", now.Status.Phase)
		}
		return nil
	})
}

// awaitProgress waits until the simulation and the given number of pods are ready, and then until more events have
// taken effect.
func (ns *namespace) awaitProgress(sim *v1alpha1.ParkingSimulation, pods int) {
	ns.t.Helper()
	ns.eventually(fmt.Sprintf("%d ready pods", pods), 2*time.Minute, func() error {
		return allReady(ns.allPods(), pods)
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, time.Minute)
	var before []float64
	ns.eventually("recorded entries, matched exits, stored summaries", time.Minute, func() error {
		now, err := ns.effects(sim)
		if err != nil {
			return err
		}
		if before == nil {
			before = now
		}
		for i := range now {
			if now[i] <= before[i] {
				return fmt.Errorf("the counts are %v, want each to exceed %v", now, before)
			}
		}
		return nil
	})
}

// effects returns the numbers of recorded entries, matched exits and stored summaries. The numbers come from metrics,
// so they start at zero again when a process restarts.
func (ns *namespace) effects(sim *v1alpha1.ParkingSimulation) ([]float64, error) {
	ns.t.Helper()
	var counts []float64
	for _, counter := range []struct {
		component     resources.Component
		metric, value string
	}{
		{resources.ComponentProcessor, "parking_events_processed_total", "recorded"},
		{resources.ComponentProcessor, "parking_events_processed_total", "matched"},
		{resources.ComponentSummaries, "parking_summaries_stored_total", ""},
	} {
		count, err := ns.metric(sim, counter.component, counter.metric, counter.value)
		if err != nil {
			return nil, err
		}
		counts = append(counts, count)
	}
	return counts, nil
}

// finish lets the simulation run for 10 more seconds and waits for the verdict.
func (ns *namespace) finish(sim *v1alpha1.ParkingSimulation) {
	ns.t.Helper()
	started := ns.get(sim).Status.StartTime
	ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) {
		spec.Duration = v1alpha1.NewDuration((time.Since(started.Time) + 10*time.Second).Round(time.Second))
	})
	ns.awaitPass(sim)
}
