package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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

// patchStatus writes the status, if this reconcile changed it, and tells of transitions in events. It writes over the
// status that was read alone: the cache may be late, and nothing is to start, or to be told, twice.
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
	patch := client.MergeFromWithOptions(s.before, client.MergeFromWithOptimisticLock{})
	err := r.client.Status().Patch(ctx, after, patch, client.FieldOwner(apply.FieldManager))
	switch {
	case apierrors.IsNotFound(err):
		return nil // it was deleted meanwhile
	case apierrors.IsConflict(err):
		const late = 50 * time.Millisecond
		s.wakeAfter(late)
		return nil
	case err != nil:
		return fmt.Errorf("write the status of %s: %w", s.key, err)
	}
	for _, n := range transitions(&s.before.Status, status) {
		r.event(s, n.kind, n.reason, n.action, "%s", n.text)
	}
	return nil
}

// setConditions takes over conditions, and drops those of a state that has passed. They are in the order of
// conditionTypes, which is that in which people read them.
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
	order := conditionTypes()
	slices.SortStableFunc(*have, func(a, b metav1.Condition) int {
		return cmp.Compare(slices.Index(order, a.Type), slices.Index(order, b.Type))
	})
}

// conditionTypes are the conditions of a simulation, those first that sum up the others.
func conditionTypes() []string {
	return []string{
		v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled,
		v1alpha1.ConditionBrokerReady, v1alpha1.ConditionStoreReady, v1alpha1.ConditionSummaryAPIReady,
		v1alpha1.ConditionWorkloadsReady, v1alpha1.ConditionMonitoringReady, v1alpha1.ConditionLedgerReadable,
		v1alpha1.ConditionComplete, v1alpha1.ConditionObjectivesMet,
	}
}

// notice is what an event is to say.
type notice struct {
	kind, reason, action, text string
}

// transitions are what is news of a status.
func transitions(before, now *v1alpha1.ParkingSimulationStatus) []notice {
	var news []notice
	note := func(isGood bool, reason, action, text string) {
		kind := corev1.EventTypeNormal
		if !isGood {
			kind = corev1.EventTypeWarning
		}
		news = append(news, notice{kind, reason, action, text})
	}
	if before.StartTime == nil && now.StartTime != nil {
		note(true, "Started", "Start", "Servers and processors are ready: the generators start")
	}
	completed := now.CompletionTime != nil
	if c := turned(before, now, v1alpha1.ConditionReady); c != nil && c.Reason != reasonComplete {
		expected := c.Status == metav1.ConditionTrue || c.Reason == reasonProgressing || c.Reason == reasonConnecting
		note(expected, c.Reason, "Reconcile", c.Message)
	}
	if c := turned(before, now, v1alpha1.ConditionObjectivesMet); c != nil && c.Status == metav1.ConditionFalse && !completed {
		note(false, "ObjectivesNotMet", "Audit", "The verdict will be FAIL: "+c.Message)
	}
	if before.CompletionTime == nil && completed {
		verdict := strings.Join(append([]string{"The verdict is " + string(now.Verdict)}, now.Reasons...), "; ")
		note(now.Verdict == v1alpha1.VerdictPass, reasonComplete, "Complete", verdict)
	}
	return news
}

// turned returns a condition whose reason has changed. That a simulation has begun to come up is no news.
func turned(before, now *v1alpha1.ParkingSimulationStatus, kind string) *metav1.Condition {
	was, is := meta.FindStatusCondition(before.Conditions, kind), meta.FindStatusCondition(now.Conditions, kind)
	if is == nil || was != nil && was.Reason == is.Reason || was == nil && is.Reason == reasonProgressing {
		return nil
	}
	return is
}

// event tells people of something. The API server takes notes of at most 1 KiB.
func (r *Reconciler) event(s *scope, kind, reason, action, format string, args ...any) {
	const maxNote = 1024
	r.events.Eventf(s.sim, nil, kind, reason, action, "%s", excerpt.Of(fmt.Sprintf(format, args...), maxNote))
}
