package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/excerpt"
)

// patchStatus writes the status, if this reconcile changed it, and tells of transitions in events.
func (r *Reconciler) patchStatus(ctx context.Context, s *scope) error {
	status := &s.sim.Status
	status.ObservedGeneration = s.sim.Generation
	setConditions(&status.Conditions, conditionsOf(s.findings), s.sim.Generation)
	if equality.Semantic.DeepEqual(s.before.Status, *status) {
		return nil
	}
	// Only the status is sent: the defaults are not written back.
	after := s.before.DeepCopy()
	after.Status = *status
	err := r.client.Status().Patch(ctx, after, client.MergeFrom(s.before), client.FieldOwner(apply.FieldManager))
	switch {
	case apierrors.IsNotFound(err):
		return nil // it was deleted meanwhile
	case err != nil:
		return fmt.Errorf("write the status of %s: %w", s.key, err)
	}
	r.tellTransition(s)
	r.tellFailure(s)
	return nil
}

// setConditions takes over conditions, and drops those of a state that has passed.
func setConditions(have *[]metav1.Condition, now []metav1.Condition, generation int64) {
	for _, kind := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		if meta.FindStatusCondition(now, kind) == nil {
			meta.RemoveStatusCondition(have, kind)
		}
	}
	for _, c := range now {
		c.ObservedGeneration = generation
		meta.SetStatusCondition(have, c)
	}
}

// tellTransition sends an event when the reason of Ready changes: but for the first, which is no news.
func (r *Reconciler) tellTransition(s *scope) {
	before := meta.FindStatusCondition(s.before.Status.Conditions, v1alpha1.ConditionReady)
	now := meta.FindStatusCondition(s.sim.Status.Conditions, v1alpha1.ConditionReady)
	if now == nil || before != nil && before.Reason == now.Reason {
		return
	}
	if before == nil && now.Reason == reasonProgressing {
		return
	}
	kind := corev1.EventTypeNormal
	if now.Status != metav1.ConditionTrue && now.Reason != reasonProgressing && now.Reason != reasonConnecting {
		kind = corev1.EventTypeWarning
	}
	r.event(s, kind, now.Reason, "Reconcile", "%s", now.Message)
}

// tellFailure sends an event when a simulation that is not complete can no longer pass.
func (r *Reconciler) tellFailure(s *scope) {
	const kind = v1alpha1.ConditionObjectivesMet
	if s.findings.complete || meta.IsStatusConditionFalse(s.before.Status.Conditions, kind) {
		return
	}
	if c := meta.FindStatusCondition(s.sim.Status.Conditions, kind); c != nil && c.Status == metav1.ConditionFalse {
		r.event(s, corev1.EventTypeWarning, "ObjectivesNotMet", "Audit", "The verdict will be FAIL: %s", c.Message)
	}
}

// event tells people of something. The API server takes notes of at most 1 KiB.
func (r *Reconciler) event(s *scope, kind, reason, action, format string, args ...any) {
	const maxNote = 1024
	r.events.Eventf(s.sim, nil, kind, reason, action, "%s", excerpt.Of(fmt.Sprintf(format, args...), maxNote))
}
