package controllers

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/internal/resources"
)

// workload contains the desired state of a Deployment or StatefulSet and its actual state.
type workload struct {
	component     resources.Component
	desired, pods int32
	updated       int32 // the number of pods with the current template
	// ready is a lower bound for the number of ready pods with the current template. Kubernetes counts the ready
	// pods of all templates together.
	ready int32
	// ending is the number of pods that have not ended although none is desired. The status of the workload does not
	// count pods that are being deleted.
	ending int32
	// observed is true if the Deployment or StatefulSet controller has acted on the latest change.
	observed bool
	// failure says why pods are not ready, or is "" if this is unknown. stuck is the message about an exceeded progress
	// deadline, or "".
	failure, stuck string
}

// desiredWorkload returns the component and the desired number of pods of a Deployment or a StatefulSet. It returns
// false for other objects.
func desiredWorkload(object any) (workload, bool) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return workload{component: componentOf(o.Labels), desired: *o.Spec.Replicas}, true
	case *appsv1.StatefulSet:
		return workload{component: componentOf(o.Labels), desired: *o.Spec.Replicas}, true
	}
	return workload{}, false
}

// observe copies the state of the live object, a Deployment or a StatefulSet, to w. It does nothing if the object does
// not exist (live is nil).
func (w *workload) observe(live any) {
	switch o := live.(type) {
	case *appsv1.Deployment:
		w.observed = o.Status.ObservedGeneration >= o.Generation
		w.pods, w.updated = o.Status.Replicas, o.Status.UpdatedReplicas
		// Assume that all pods of older templates are ready. A rollout keeps them until new pods are ready, and the
		// status counts ready pods of all templates together.
		w.ready = max(o.Status.ReadyReplicas-w.outdated(), 0)
		w.failure, w.stuck = deploymentFailures(o)
	case *appsv1.StatefulSet:
		w.observed = o.Status.ObservedGeneration >= o.Generation
		w.pods, w.updated = o.Status.Replicas, o.Status.Replicas
		if o.Status.UpdateRevision != o.Status.CurrentRevision {
			w.updated = o.Status.UpdatedReplicas
		}
		w.ready = max(o.Status.ReadyReplicas-w.outdated(), 0)
	}
}

// outdated returns the number of pods that do not have the latest template.
func (w *workload) outdated() int32 { return max(w.pods-w.updated, 0) }

// deploymentFailures returns why pods cannot be created, and the message of a rollout without progress. Both are "" if
// there is no problem.
func deploymentFailures(d *appsv1.Deployment) (failure, stuck string) {
	for _, c := range d.Status.Conditions {
		switch {
		case c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue:
			failure = withRemedy(c.Message)
		case c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse:
			stuck = c.Message + " (see the logs and events of the pods)"
		}
	}
	return failure, stuck
}

// isReady reports whether all desired pods exist, have the current template, and are ready. With 0 desired pods, it is
// true at once.
func (w workload) isReady() bool {
	return w.desired == 0 || w.observed && w.ready >= w.desired && w.outdated() == 0
}

// lacksPods reports whether pods are missing although the Deployment or StatefulSet controller has acted on the latest
// change.
func (w workload) lacksPods() bool { return w.observed && w.pods < w.desired }

// assess returns the finding for a workload. The message begins with the given name, such as "processors" or
// "RabbitMQ".
func (w workload) assess(name string) finding {
	switch {
	case w.ending > 0:
		return found(progressing, reasonProgressing, "%s: 0 pods are desired, %d %s not ended yet", name, w.ending, plural(w.ending, "has", "have"))
	case w.desired == 0:
		return found(ready, reasonReady, "%s: 0 pods are desired", name)
	case w.isReady():
		return found(ready, reasonReady, "%s: %s", name, w.progress())
	case w.failure != "" && isQuotaFailure(w.failure):
		return found(progressing, reasonQuota, "%s: %s; %s", name, w.progress(), w.failure)
	case w.failure != "" || w.stuck != "":
		return found(progressing, reasonPodsFailing, "%s: %s; %s", name, w.progress(), orElse(w.failure, w.stuck))
	default:
		return found(progressing, reasonProgressing, "%s: %s", name, w.progress())
	}
}

// progress describes how far a workload is from being ready.
func (w workload) progress() string {
	if !w.observed {
		return "the latest change has not been rolled out yet"
	}
	counted := min(w.ready, w.desired) // during a scale-down, more pods than desired may be ready
	if n := w.outdated(); n > 0 {
		return fmt.Sprintf("%d of %d pods of the current template are ready, %d of an older template %s still running",
			counted, w.desired, n, plural(n, "is", "are"))
	}
	text := fmt.Sprintf("%d of %d pods are ready", counted, w.desired)
	if n := w.pods - w.desired; n > 0 {
		text += fmt.Sprintf(", %d more %s about to be deleted", n, plural(n, "is", "are"))
	}
	return text
}

// plural returns the verb form that agrees with a number.
func plural(n int32, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// assessAll combines the states of several workloads into one.
func assessAll(all ...finding) finding {
	if worst := worstOf(all...); worst.state != ready {
		return worst
	}
	messages := make([]string, len(all))
	for i, f := range all {
		messages[i] = f.message
	}
	return found(ready, reasonReady, "%s", strings.Join(messages, "; "))
}

// knownFailure is a failure that Kubernetes reports. mark is a part of its message, and remedy says what the user can
// do.
type knownFailure struct{ mark, remedy string }

// quotaFailures lists the messages with which Kubernetes rejects an object because of a ResourceQuota, or because a
// required ResourceQuota is missing.
func quotaFailures() []knownFailure {
	return []knownFailure{
		{"exceeded quota", "raise the namespace's quota, or reduce replicas or resources"},
		{"failed quota", "set the resources that the namespace's quota requires"},
		// An admission configuration can require a matching quota for pods with some scopes or resources.
		{"insufficient quota to match these scopes", "create a ResourceQuota with these scopes in the namespace, or change the field that the scopes match, such as priorityClassName in the template"},
		{"insufficient quota to consume", "create a ResourceQuota for these resources in the namespace"},
		{"status unknown for quota", "wait until Kubernetes has counted the usage of the quota. If this persists, check kube-controller-manager"},
	}
}

// isQuotaFailure reports whether a failure message of Kubernetes says that a ResourceQuota is the cause.
func isQuotaFailure(message string) bool {
	return slices.ContainsFunc(quotaFailures(), func(known knownFailure) bool { return strings.Contains(message, known.mark) })
}

// withRemedy appends to a failure message of Kubernetes what the user can do about the failure. It hides the values
// that the message quotes.
func withRemedy(failure string) string {
	failure = redact(failure)
	for _, known := range append(quotaFailures(), []knownFailure{
		{"violates PodSecurity", "let the namespace's Pod Security Standard allow the pod, or change the template"},
		{"no PriorityClass with name", "create the PriorityClass, or correct priorityClassName in the template"},
		{"must be less than or equal to", "set limits, because the default limits of a LimitRange in the namespace are lower than the requests"},
		{"is forbidden", "change the admission policy or LimitRange that rejects the object, or change the resources or the template in the spec"},
		{"ErrImageNeverPull", "load the image onto the node, or change the pull policy"},
		{"Image", "correct the image's name, push the image, or name a Secret to pull it with"},
		{"CreateContainerConfigError", "create the missing object, or correct the template"},
		{"pod has unbound immediate PersistentVolumeClaims", "check that the storage class exists and can create volumes"},
		{"persistentvolumeclaim \"", "delete the pod, so that its volume claim is created again; the data on the old volume are lost"},
		{"is not scheduled", "add a node with enough room, or change resources, nodeSelector or affinity; if the pod waits for a volume, check that the storage class of the volume exists"},
	}...) {
		if strings.Contains(failure, known.mark) {
			return failure + ": " + known.remedy
		}
	}
	return failure
}

// podFailure returns why a pod is not ready, in the words of Kubernetes, or "" if the pod may only need more time.
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
			failure += fmt.Sprintf(" (its last exit code was %d, %s; see 'kubectl logs --previous')", last.ExitCode, orElse(last.Message, last.Reason))
		}
		return failure
	case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
		ended := s.State.Terminated
		return fmt.Sprintf("exit code %d, %s", ended.ExitCode, orElse(ended.Message, ended.Reason))
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
