package podfailure

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// after returns a fixed time plus the given number of seconds.
func after(seconds int) metav1.Time {
	return metav1.NewTime(time.Date(2026, time.March, 1, 8, 0, seconds, 0, time.UTC))
}

// ended returns the state of a container that has terminated.
func ended(seconds int, code int32, reason string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: "redis://:secret@host", FinishedAt: after(seconds)}
}

// podWith returns the pod p-0 of a component with containers of the given states.
func podWith(c resources.Component, statuses ...corev1.ContainerStatus) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Name, pod.Labels = "p-0", map[string]string{resources.ComponentLabel: string(c)}
	pod.Status.ContainerStatuses = statuses
	return pod
}

func failed(now, last *corev1.ContainerStateTerminated) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: "main", State: corev1.ContainerState{Terminated: now}, LastTerminationState: corev1.ContainerState{Terminated: last},
	}
}

func condition(kind corev1.PodConditionType, status corev1.ConditionStatus, seconds int, reason string) corev1.PodCondition {
	return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: after(seconds), Reason: reason}
}

var sim = types.NamespacedName{Namespace: "parking", Name: "rush-hour"}

// texts returns each timeline mark that a Tracker created, in the form "SECOND SUBJECT: MESSAGE".
func texts(t *testing.T, tracker *Tracker) []string {
	t.Helper()
	var all []string
	for _, m := range tracker.Marks(sim, time.Time{}, after(1000).Time) {
		if m.Kind != timeline.MarkDown {
			t.Errorf("the mark %+v has another kind", m)
		}
		all = append(all, fmt.Sprintf("%d %s: %s", m.At.Second(), m.Subject, m.Message))
	}
	return all
}

func TestTrackerObserve_PodWithFailures_AddsATimelineMarkForEachFailure(t *testing.T) {
	t.Parallel()
	running := corev1.ContainerStatus{Name: "agent", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	with := func(pod *corev1.Pod, conditions ...corev1.PodCondition) *corev1.Pod {
		pod.Status.Conditions = conditions
		return pod
	}
	deleted := func(pod *corev1.Pod, requested int, grace int64) *corev1.Pod {
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = new(after(requested+int(grace))), &grace
		return pod
	}
	evicted := podWith(resources.ComponentRedis, failed(ended(21, 137, "Error"), nil))
	evicted.Status.Reason = "Evicted"
	rejected := podWith(resources.ComponentRedis)
	rejected.Status.Reason = "OutOfcpu"
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want []string
	}{
		"a running container":        {podWith(resources.ComponentProcessor, running), nil},
		"a container that completed": {podWith(resources.ComponentEntry, failed(nil, ended(5, 0, "Completed"))), nil},
		"a killed container": {
			podWith(resources.ComponentProcessor, failed(ended(5, 137, "Error"), nil)), []string{"5 processor: pod p-0 failed with exit code 137"},
		},
		"a container that exceeded its memory limit and restarted": {
			podWith(resources.ComponentRabbitMQ, failed(nil, ended(5, 137, "OOMKilled"))),
			[]string{"5 rabbitmq: pod p-0 failed with exit code 137 (OOMKilled)"},
		},
		"a container that failed twice": {
			podWith(resources.ComponentEntry, failed(ended(9, 1, "Error"), ended(5, 2, "Error"))),
			[]string{"5 entry generator: pod p-0 failed with exit code 2", "9 entry generator: pod p-0 failed with exit code 1"},
		},
		"one of two containers": {
			podWith(resources.ComponentSummaries, failed(nil, ended(5, 1, "Error")), running),
			[]string{"5 summary API: container main of pod p-0 failed with exit code 1"},
		},
		"a container whose end the kubelet does not know": {
			podWith(resources.ComponentRedis, failed(&corev1.ContainerStateTerminated{ExitCode: 137, Reason: "ContainerStatusUnknown"}, nil)), nil,
		},
		"a deleted pod whose container did not stop in time": {
			deleted(podWith(resources.ComponentRabbitMQ, failed(ended(40, 137, "Error"), nil)), 10, 30), nil,
		},
		"a deleted pod whose container had failed before": {
			deleted(podWith(resources.ComponentRabbitMQ, failed(ended(9, 137, "Error"), nil)), 10, 30),
			[]string{"9 rabbitmq: pod p-0 failed with exit code 137"},
		},
		"an evicted pod": {
			with(deleted(podWith(resources.ComponentExit, failed(ended(12, 143, "Error"), nil)), 11, 30),
				condition(corev1.DisruptionTarget, corev1.ConditionTrue, 10, "EvictionByEvictionAPI")),
			[]string{"10 exit generator: Kubernetes ended pod p-0 (EvictionByEvictionAPI)"},
		},
		"a pod of a node that failed": {
			with(podWith(resources.ComponentRedis, running), condition(corev1.DisruptionTarget, corev1.ConditionTrue, 10, "DeletionByTaintManager")),
			[]string{"10 redis: Kubernetes ended pod p-0 (DeletionByTaintManager)"},
		},
		"a pod whose disruption was given up": {
			with(podWith(resources.ComponentRedis, running), condition(corev1.DisruptionTarget, corev1.ConditionFalse, 10, "")), nil,
		},
		"a pod that an old kubelet evicted": {
			with(evicted, condition(corev1.PodReady, corev1.ConditionFalse, 20, "")),
			[]string{"20 redis: Kubernetes ended pod p-0 (Evicted)"},
		},
		"a pod that the kubelet rejected": {with(rejected, condition(corev1.PodReady, corev1.ConditionFalse, 20, "")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tracker Tracker
			for range 2 {
				tracker.Observe(sim, tt.pod)
			}
			if diff := cmp.Diff(tt.want, texts(t, &tracker)); diff != "" {
				t.Errorf("the marks differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTrackerObserve_RepeatedRestarts_RemembersEachOne(t *testing.T) {
	t.Parallel()
	var tracker Tracker
	tracker.Observe(sim, podWith(resources.ComponentProcessor, failed(ended(5, 137, "OOMKilled"), nil)))
	tracker.Observe(sim, podWith(resources.ComponentProcessor, failed(nil, ended(5, 137, "OOMKilled"))))
	tracker.Observe(sim, podWith(resources.ComponentProcessor, failed(nil, ended(25, 137, "OOMKilled"))))
	tracker.Observe(sim) // the pod no longer exists
	want := []string{"5 processor: pod p-0 failed with exit code 137 (OOMKilled)", "25 processor: pod p-0 failed with exit code 137 (OOMKilled)"}
	if diff := cmp.Diff(want, texts(t, &tracker)); diff != "" {
		t.Errorf("the marks differ (-want +got):\n%s", diff)
	}
	if got := tracker.Marks(sim, after(6).Time, after(25).Time); len(got) != 0 {
		t.Errorf("an interval without failures has the marks %v", got)
	}
	for i := range 2 * maxFailures {
		tracker.Observe(sim, podWith(resources.ComponentProcessor, failed(nil, ended(100+i, 1, ""))))
	}
	got := tracker.Marks(sim, time.Time{}, after(10_000).Time)
	if newest := after(99 + 2*maxFailures); len(got) != maxFailures || !got[maxFailures-1].At.Equal(newest.Time) {
		t.Errorf("%d marks remain, the last one is %v", len(got), got[len(got)-1])
	}
	tracker.Evict(sim)
	if got := texts(t, &tracker); got != nil {
		t.Errorf("after Evict, the marks are %q", got)
	}
}

func TestTrackerObserveDeleted_RunningContainer_AddsATimelineMark(t *testing.T) {
	t.Parallel()
	running := corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	lost := podWith(resources.ComponentRedis, running)
	lost.Status.Conditions = []corev1.PodCondition{condition(corev1.DisruptionTarget, corev1.ConditionTrue, 3, "DeletionByPodGC")}
	var tracker Tracker
	tracker.ObserveDeleted(sim, podWith(resources.ComponentProcessor, running), after(1).Time)
	tracker.ObserveDeleted(sim, podWith(resources.ComponentProcessor, failed(ended(2, 0, "Completed"), nil)), after(2).Time)
	tracker.ObserveDeleted(sim, lost, after(4).Time)
	want := []string{"1 processor: pod p-0 was deleted while it was running", "3 redis: Kubernetes ended pod p-0 (DeletionByPodGC)"}
	if diff := cmp.Diff(want, texts(t, &tracker)); diff != "" {
		t.Errorf("the marks differ (-want +got):\n%s", diff)
	}
}
