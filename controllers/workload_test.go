package controllers

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

func TestWorkload_Assess_ReturnsStateReasonAndMessage(t *testing.T) {
	t.Parallel()
	type dep = appsv1.DeploymentStatus
	type set = appsv1.StatefulSetStatus
	deployment := func(status dep) any { return &appsv1.Deployment{Status: status} }
	statefulSet := func(status set) any { return &appsv1.StatefulSet{Status: status} }
	stuck := []appsv1.DeploymentCondition{{
		Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Message: `ReplicaSet "a" has timed out progressing.`,
	}}
	refused := func(message string) []appsv1.DeploymentCondition {
		return []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: message}}
	}
	const template = " of the current template are ready"
	tests := map[string]struct {
		desired         int32
		live            any
		reason, message string
	}{
		"a Deployment that does not exist yet": {1, nil, reasonProgressing, "has not been rolled out yet"},
		"a Deployment whose controller has not seen the edit": {
			1, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Status: dep{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1}},
			reasonProgressing, "the latest change has not been rolled out yet",
		},
		"a Deployment that is ready": {2, deployment(dep{Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2}), reasonReady, "2 of 2 pods are ready"},
		"no pods":                    {0, nil, reasonReady, "0 pods are desired"},
		"a rollout of 1 replica whose new pod hangs": {
			1, deployment(dep{Replicas: 2, UpdatedReplicas: 1, ReadyReplicas: 1}), reasonProgressing, "0 of 1 pods" + template + ", 1 of an older template is still running",
		},
		"a rollout of 3 replicas whose last pod hangs": {
			3, deployment(dep{Replicas: 4, UpdatedReplicas: 3, ReadyReplicas: 3}), reasonProgressing, "2 of 3 pods" + template,
		},
		"a rollout that ends once an old pod has ended": {
			2, deployment(dep{Replicas: 3, UpdatedReplicas: 2, ReadyReplicas: 3}), reasonProgressing, "2 of 2 pods" + template,
		},
		"a rollout that exceeds its deadline": {
			1, deployment(dep{Replicas: 2, UpdatedReplicas: 1, ReadyReplicas: 1, Conditions: stuck}), reasonPodsFailing, "has timed out progressing",
		},
		"a quota that is exceeded": {
			1, deployment(dep{Conditions: refused(`pods "a" is forbidden: exceeded quota: q`)}), reasonQuota, "raise the namespace's quota",
		},
		"a quota that requires limits": {
			1, deployment(dep{Conditions: refused(`pods "a" is forbidden: failed quota: q: must specify limits.cpu for: parking`)}), reasonQuota, "set the resources that the namespace's quota requires",
		},
		"a StatefulSet that is ready": {1, statefulSet(set{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1}), reasonReady, "1 of 1 pods are ready"},
		"a StatefulSet whose updated pod hangs": {
			3, statefulSet(set{Replicas: 3, ReadyReplicas: 2, UpdatedReplicas: 1, CurrentRevision: "a", UpdateRevision: "b"}), reasonProgressing, "0 of 3 pods" + template,
		},
		"a StatefulSet that has not begun its update": {
			1, statefulSet(set{Replicas: 1, ReadyReplicas: 1, CurrentRevision: "a", UpdateRevision: "b"}), reasonProgressing, "0 of 1 pods" + template,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := workload{desired: tt.desired}
			w.observe(tt.live)
			f := w.assess("pods")
			if f.reason != tt.reason || !strings.Contains(f.message, tt.message) {
				t.Errorf("the finding is %s: %s\nwant %s: … %s …", f.reason, f.message, tt.reason, tt.message)
			}
			if isReady := f.state == ready; isReady != (tt.reason == reasonReady) {
				t.Errorf("ready is %t with reason %s", isReady, f.reason)
			}
		})
	}
}

func TestPersistentFailure_IgnoresRecentSchedulingFailures(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		since    time.Duration
		reported bool
		wake     time.Duration
	}{
		"a failure younger than 5 s is ignored, and examined again": {since: 2 * time.Second, wake: 3 * time.Second},
		"a failure of 5 s is reported":                              {since: 5 * time.Second, reported: true},
		"an old failure is reported":                                {since: time.Hour, reported: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScope(&v1alpha1.ParkingSimulation{}, now)
			failure := s.persistentFailure(&corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available",
				LastTransitionTime: metav1.NewTime(now.Add(-tt.since)),
			}}}})
			if reported := strings.Contains(failure, "0/1 nodes are available"); reported != tt.reported || s.wake != tt.wake {
				t.Errorf("the failure is %q with a wake after %v, want it reported: %v, after %v", failure, s.wake, tt.reported, tt.wake)
			}
		})
	}
}
