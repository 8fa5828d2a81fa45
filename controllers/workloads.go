package controllers

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/internal/resources"
)

// workload is a Deployment or StatefulSet as wanted and as it is.
type workload struct {
	component resources.Component
	// wanted are the pods that it is to have, pods those that it has, and ready those of the present
	// template that are ready.
	wanted, pods, ready int32
	// current means that its own controller has seen its latest edit.
	current bool
	// failure is the first thing that keeps its pods from running; empty when nothing is known to.
	failure string
}

// wantedWorkload tells the component and size of a built object, if that is a workload.
func wantedWorkload(object any) (workload, bool) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return workload{component: componentOf(o.Labels), wanted: *o.Spec.Replicas}, true
	case *appsv1.StatefulSet:
		return workload{component: componentOf(o.Labels), wanted: *o.Spec.Replicas}, true
	}
	return workload{}, false
}

// observe adds what the live object says of itself; nil when there is none yet.
func (w *workload) observe(live any) {
	switch o := live.(type) {
	case *appsv1.Deployment:
		w.current = o.Status.ObservedGeneration >= o.Generation
		w.pods, w.ready = o.Status.Replicas, o.Status.ReadyReplicas
		if o.Status.Replicas > o.Status.UpdatedReplicas {
			w.ready = min(w.ready, o.Status.UpdatedReplicas)
		}
		w.failure = withRemedy(deploymentFailure(o))
	case *appsv1.StatefulSet:
		w.current = o.Status.ObservedGeneration >= o.Generation
		w.pods, w.ready = o.Status.Replicas, o.Status.ReadyReplicas
		if o.Status.UpdateRevision != o.Status.CurrentRevision {
			w.ready = min(w.ready, o.Status.UpdatedReplicas)
		}
	}
}

// deploymentFailure is why pods could not be created, such as a quota.
func deploymentFailure(d *appsv1.Deployment) string {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return c.Message
		}
	}
	return ""
}

// overQuota is what the API server says when a quota forbids a pod.
const overQuota = "exceeded quota"

// withRemedy adds to the cause of a failure, in the words of Kubernetes, what may be done about it.
func withRemedy(failure string) string {
	for _, known := range []struct{ mark, remedy string }{
		{overQuota, "raise the namespace's quota, or lower replicas or resources"},
		{"violates PodSecurity", "let the namespace's Pod Security Standard allow it, or change the template"},
		{"is forbidden", "let the namespace allow it, or change resources or template"},
		{"ErrImageNeverPull", "load the image onto the node, or change the pull policy"},
		{"Image", "correct the image's name, push it, or name a Secret to pull it with"},
		{"CreateContainerConfigError", "create what it names, or correct the template"},
		{"is not scheduled", "give the cluster a node with room, or lower resources; for a volume, see that its class exists"},
	} {
		if strings.Contains(failure, known.mark) {
			return failure + ": " + known.remedy
		}
	}
	return failure
}

// isReady reports whether the workload has the pods that it is to have. One that is to have none need not
// have been seen by its controller.
func (w workload) isReady() bool {
	return w.wanted == 0 || w.current && w.ready >= w.wanted
}

// lacksPods reports whether the workload's controller has had its say, and pods are still missing.
func (w workload) lacksPods() bool { return w.current && w.pods < w.wanted }

// judge returns what is to be said of a workload under the given name.
func (w workload) judge(name string) finding {
	switch {
	case w.wanted == 0:
		return found(good, reasonReady, "%s: no pods are to run", name)
	case w.isReady():
		return found(good, reasonReady, "%s: %d of %d pods are ready", name, w.ready, w.wanted)
	case strings.Contains(w.failure, overQuota):
		return found(progressing, reasonQuota, "%s: %d of %d pods are ready; %s", name, w.ready, w.wanted, w.failure)
	case w.failure != "":
		return found(progressing, reasonPodsFailing, "%s: %d of %d pods are ready; %s", name, w.ready, w.wanted, w.failure)
	default:
		return found(progressing, reasonProgressing, "%s: %d of %d pods are ready", name, w.ready, w.wanted)
	}
}

// judgeAll makes one finding of those of several workloads.
func judgeAll(all []finding) finding {
	if worst := worstOf(all...); worst.state != good {
		return worst
	}
	messages := make([]string, len(all))
	for i, f := range all {
		messages[i] = f.message
	}
	return found(good, reasonReady, "%s", strings.Join(messages, "; "))
}

// lastingFailure is what keeps a pod from being ready, but for what may be over in a moment: that it is not
// scheduled because two were to be at once, or because its volume is still to come.
func (s *scope) lastingFailure(pod *corev1.Pod) string {
	const moment = 5 * time.Second
	for _, c := range pod.Status.Conditions {
		if left := c.LastTransitionTime.Add(moment).Sub(s.now); c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && left > 0 {
			s.wakeAfter(left)
			return ""
		}
	}
	return podFailure(pod)
}

// podFailure is what keeps a pod from being ready, in the words of whoever stopped it; empty when the pod
// may just need more time.
func podFailure(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return ""
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Message != "" {
			return withRemedy(fmt.Sprintf("pod %s is not scheduled: %s", pod.Name, c.Message))
		}
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			if failure := containerFailure(&statuses[i]); failure != "" {
				return fmt.Sprintf("pod %s, container %s: %s", pod.Name, statuses[i].Name, withRemedy(failure))
			}
		}
	}
	if pod.Status.Phase == corev1.PodFailed {
		return fmt.Sprintf("pod %s failed: %s", pod.Name, orElse(pod.Status.Message, pod.Status.Reason))
	}
	return ""
}

func containerFailure(s *corev1.ContainerStatus) string {
	switch waiting, last := s.State.Waiting, s.LastTerminationState.Terminated; {
	case waiting != nil && waiting.Reason != "" && waiting.Reason != "ContainerCreating" && waiting.Reason != "PodInitializing":
		failure := waiting.Reason
		if waiting.Message != "" {
			failure += ": " + waiting.Message
		}
		if last != nil {
			failure += fmt.Sprintf(" (it ended with exit code %d, %s; see 'kubectl logs --previous')", last.ExitCode, orElse(last.Message, last.Reason))
		}
		return failure
	case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
		ended := s.State.Terminated
		return fmt.Sprintf("it ended with exit code %d, %s", ended.ExitCode, orElse(ended.Message, ended.Reason))
	}
	return ""
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func componentOf(labels map[string]string) resources.Component {
	return resources.Component(labels[resources.ComponentLabel])
}
