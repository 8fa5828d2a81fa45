// Package podfailure finds out from the status of pods which processes of a simulation failed, and when.
//
// A Tracker remembers these failures, because Kubernetes keeps only the latest failure of a container, and keeps no
// failures of deleted pods.
package podfailure

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// maxFailures is the maximum number of failures that a Tracker remembers for each simulation. If there are more, the
// Tracker forgets the oldest failures.
const maxFailures = 1000

// Tracker remembers the failures of the pods of simulations. The zero value is ready to use. A Tracker is safe for
// concurrent use.
type Tracker struct {
	mu sync.Mutex
	// marks contains the failures of each simulation, as marks for its timeline, in chronological order.
	marks map[types.NamespacedName][]timeline.Mark
}

// Observe records the failures that the status of a simulation's pods contains. It records each failure only once.
func (t *Tracker) Observe(simulation types.NamespacedName, pods ...*corev1.Pod) {
	for _, pod := range pods {
		t.add(simulation, marksOf(pod)...)
	}
}

// ObserveDeleted records the failures of a pod that was deleted at the given time. A container that still ran has
// failed: Kubernetes killed it without a grace period.
func (t *Tracker) ObserveDeleted(simulation types.NamespacedName, pod *corev1.Pod, at time.Time) {
	t.Observe(simulation, pod)
	_, _, isLost := lossOf(pod)
	running := func(s corev1.ContainerStatus) bool { return s.State.Running != nil }
	if !isLost && slices.ContainsFunc(pod.Status.ContainerStatuses, running) {
		t.add(simulation, markOf(pod, at, "pod "+pod.Name+" was deleted while it was running"))
	}
}

// Marks returns the failures of a simulation in the interval [from, to), in chronological order.
func (t *Tracker) Marks(simulation types.NamespacedName, from, to time.Time) []timeline.Mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(t.marks[simulation]), func(m timeline.Mark) bool {
		return m.At.Before(from) || !m.At.Before(to)
	})
}

// Evict discards the remembered failures of a simulation's pods.
func (t *Tracker) Evict(simulation types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.marks, simulation)
}

func (t *Tracker) add(simulation types.NamespacedName, marks ...timeline.Mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.marks[simulation]
	for _, m := range marks {
		if slices.Contains(known, m) {
			continue
		}
		known = append(known, m)
		slices.SortStableFunc(known, func(a, b timeline.Mark) int { return a.At.Compare(b.At) })
		known = known[max(0, len(known)-maxFailures):]
		if t.marks == nil {
			t.marks = map[types.NamespacedName][]timeline.Mark{}
		}
		t.marks[simulation] = known
	}
}

// marksOf returns a mark for each failure of a container, and a mark if Kubernetes ended the pod. It omits failures
// after the pod ended or its deletion was requested.
func marksOf(pod *corev1.Pod) []timeline.Mark {
	var marks []timeline.Mark
	stop := deletedAt(pod)
	if at, reason, isLost := lossOf(pod); isLost {
		marks = append(marks, markOf(pod, at, "Kubernetes ended pod "+pod.Name+" ("+reason+")"))
		if stop.IsZero() || at.Before(stop) {
			stop = at
		}
	}
	for i := range pod.Status.ContainerStatuses {
		s := &pod.Status.ContainerStatuses[i]
		for _, ended := range []*corev1.ContainerStateTerminated{s.LastTerminationState.Terminated, s.State.Terminated} {
			// FinishedAt is zero if the kubelet does not know how the container ended. Skip such a container.
			if ended == nil || !hasFailed(ended) || ended.FinishedAt.IsZero() {
				continue
			}
			if at := ended.FinishedAt.Time; stop.IsZero() || at.Before(stop) {
				marks = append(marks, markOf(pod, at, describe(pod, s.Name, ended)))
			}
		}
	}
	return marks
}

// markOf returns a mark in the timeline for the failure of a pod. The subject of the mark is the component of the pod.
func markOf(pod *corev1.Pod, at time.Time, message string) timeline.Mark {
	// Remove the monotonic clock reading with Round(0), so that marks with equal times are equal.
	return timeline.Mark{At: at.UTC().Round(0), Kind: timeline.MarkDown, Subject: subjectOf(pod), Message: message}
}

// subjectOf returns the name of a pod's component for a mark in the timeline.
func subjectOf(pod *corev1.Pod) string {
	switch c := resources.Component(pod.Labels[resources.ComponentLabel]); c {
	case resources.ComponentEntry, resources.ComponentExit:
		return string(c) + " generator"
	case resources.ComponentSummaries:
		return "summary API"
	default:
		return string(c)
	}
}

const (
	reasonOOMKilled = "OOMKilled"
	reasonError     = "Error" // the reason for an exit code other than 0 if no other reason is known
)

func hasFailed(ended *corev1.ContainerStateTerminated) bool {
	return ended.ExitCode != 0 || ended.Reason == reasonOOMKilled
}

// describe returns a sentence about a container that failed. It omits the termination message of the container, because
// the process may have written anything there, even a password.
func describe(pod *corev1.Pod, container string, ended *corev1.ContainerStateTerminated) string {
	text := "pod " + pod.Name
	if len(pod.Status.ContainerStatuses) > 1 {
		text = "container " + container + " of " + text
	}
	text += fmt.Sprintf(" failed with exit code %d", ended.ExitCode)
	if ended.Reason != "" && ended.Reason != reasonError {
		text += " (" + ended.Reason + ")"
	}
	return text
}

// lossOf reports whether Kubernetes ended a pod, for example because it evicted the pod or because the node failed. It
// also returns the time and the reason.
func lossOf(pod *corev1.Pod) (at time.Time, reason string, isLost bool) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time, cmp.Or(c.Reason, pod.Status.Reason), true
		}
	}
	// The kubelet ended the pod if the status has a reason. A pod without container statuses was rejected before it
	// ran, and does not count.
	if at = notReadySince(pod); pod.Status.Reason != "" && len(pod.Status.ContainerStatuses) > 0 && !at.IsZero() {
		return at, pod.Status.Reason, true
	}
	return time.Time{}, "", false
}

// notReadySince returns the time since which a pod has not been ready. It returns the zero time if the pod is ready or
// if the time is unknown.
func notReadySince(pod *corev1.Pod) time.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status != corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// deletedAt returns when the deletion of a pod was requested, or the zero time. The deletion timestamp is later: it is
// the end of the grace period.
func deletedAt(pod *corev1.Pod) time.Time {
	if pod.DeletionTimestamp == nil {
		return time.Time{}
	}
	var grace time.Duration
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	return pod.DeletionTimestamp.Add(-grace)
}
