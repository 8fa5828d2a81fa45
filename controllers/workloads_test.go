package controllers

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

func TestAPodIsGivenAMomentToBeScheduled(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		since time.Duration
		told  bool
		wake  time.Duration
	}{
		"at first nothing is told, and it is looked at again": {since: 2 * time.Second, wake: 3 * time.Second},
		"what lasts is told":          {since: 5 * time.Second, told: true},
		"what has long lasted is too": {since: time.Hour, told: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScope(&v1alpha1.ParkingSimulation{}, now)
			failure := s.lastingFailure(&corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available",
				LastTransitionTime: metav1.NewTime(now.Add(-tt.since)),
			}}}})
			if told := strings.Contains(failure, "0/1 nodes are available"); told != tt.told || s.wake != tt.wake {
				t.Errorf("told is %q, and it is looked at again in %v, want %v and %v", failure, s.wake, tt.told, tt.wake)
			}
		})
	}
}
