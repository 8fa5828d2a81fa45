package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/fault"
)

// patchStatus writes a changed status, and then records the changes as events. If the simulation in memory is outdated,
// patchStatus writes nothing, so that the simulation does not start twice.
func (r *Reconciler) patchStatus(ctx context.Context, s *scope) error {
	status := &s.sim.Status
	status.ObservedGeneration = s.sim.Generation
	setConditions(&status.Conditions, conditionsOf(s.findings), s.sim.Generation)
	if equality.Semantic.DeepEqual(s.before.Status, *status) {
		return nil
	}
	// Patch the simulation as it was read, without the defaults in s.sim.
	after := s.before.DeepCopy()
	after.Status = *status
	patch := client.MergeFromWithOptions(s.before, client.MergeFromWithOptimisticLock{})
	err := r.client.Status().Patch(ctx, after, patch, client.FieldOwner(apply.FieldManager))
	switch {
	case apierrors.IsNotFound(err):
		return nil // the simulation was deleted in the meantime
	case apierrors.IsConflict(err):
		const lag = 50 * time.Millisecond
		s.wakeAfter(lag)
		return nil
	case s.isRejected(err):
		r.reportRejected(ctx, s)
		s.wakeAfter(rejectedRetry)
		return nil
	case err != nil:
		return fmt.Errorf("write the status of %s: %w", s.key, err)
	}
	r.notify(s, s.finalRecoveries)
	r.notify(s, transitions(&s.before.Status, status))
	return nil
}

// rejectedRetry is the wait after the API server rejected a change because the stored spec is invalid. A change of the
// simulation causes an earlier retry.
const rejectedRetry = 5 * time.Minute

// isRejected reports whether the API server rejected a change because of the stored spec. If a value has the wrong
// type, CEL rules fail for every change.
func (s *scope) isRejected(err error) bool { return s.invalid != nil && apierrors.IsInvalid(err) }

// reportRejected reports an invalid spec as an event and in the log, because the API server rejects even changes of
// the status.
func (r *Reconciler) reportRejected(ctx context.Context, s *scope) {
	message := fmt.Sprintf("The API server rejects every change of the simulation until its spec is corrected, "+
		"so the operator cannot write the status or finalizers of the simulation: %s", s.invalid)
	r.event(s, corev1.EventTypeWarning, reasonInvalidSpec, "Reconcile", "%s", message)
	log.FromContext(ctx).Error(errors.New(message), "The status cannot be written")
}

// setConditions sets the given conditions and sorts all conditions in the order of conditionTypes. It removes
// Reconciling and Stalled if they are not among the given conditions.
func setConditions(conditions *[]metav1.Condition, now []metav1.Condition, generation int64) {
	for _, kind := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		if meta.FindStatusCondition(now, kind) == nil {
			meta.RemoveStatusCondition(conditions, kind)
		}
	}
	for _, c := range now {
		c.ObservedGeneration = generation
		meta.SetStatusCondition(conditions, c)
	}
	order := conditionTypes()
	slices.SortStableFunc(*conditions, func(a, b metav1.Condition) int {
		return cmp.Compare(slices.Index(order, a.Type), slices.Index(order, b.Type))
	})
}

// conditionTypes lists the types of a simulation's conditions in the order in which they are shown. The types that
// summarize other conditions come first.
func conditionTypes() []string {
	types := []string{v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled}
	for _, p := range (&findings{}).parts() {
		types = append(types, p.condition)
	}
	return types
}

// notice is the content of a Kubernetes event. fault is the ID of an occurrence of a fault, or "" if the event does not
// concern a fault.
type notice struct {
	kind, reason, action, message, fault string
}

// transitions returns the Kubernetes events to record after a change of the status.
func transitions(before, now *v1alpha1.ParkingSimulationStatus) []notice {
	var notices []notice
	note := func(isNormal bool, reason, action, message string) {
		kind := corev1.EventTypeNormal
		if !isNormal {
			kind = corev1.EventTypeWarning
		}
		notices = append(notices, notice{kind: kind, reason: reason, action: action, message: message})
	}
	if before.StartTime == nil && now.StartTime != nil {
		note(true, "Started", "Start", "Servers and processors are ready: the generators start")
	}
	completed := now.CompletionTime != nil
	if c := changedReason(before, now, v1alpha1.ConditionReady); c != nil && c.Reason != reasonComplete {
		isNormal := c.Status == metav1.ConditionTrue || slices.Contains([]string{reasonProgressing, reasonConnecting, reasonVolumeResizing, reasonFaultInEffect}, c.Reason)
		note(isNormal, c.Reason, "Reconcile", wholeMessage(now, c))
	}
	if c := changedReason(before, now, v1alpha1.ConditionObjectivesMet); c != nil && c.Status == metav1.ConditionFalse && !completed {
		note(false, "ObjectivesNotMet", "Audit", "The verdict will be FAIL: "+c.Message)
	}
	if before.CompletionTime == nil && completed {
		verdict := strings.Join(append([]string{"The verdict is " + string(now.Verdict)}, now.Reasons...), "; ")
		note(now.Verdict == v1alpha1.VerdictPass, reasonComplete, "Complete", verdict)
	}
	if before.CompletionTime != nil && ignoredEdit(before, now) {
		note(false, "EditIgnored", "Reconcile", meta.FindStatusCondition(now.Conditions, v1alpha1.ConditionComplete).Message)
	}
	return notices
}

// recoveries returns an event for each fault whose outcome has become known. It skips faults that an earlier reconcile
// has reported.
func recoveries(records []fault.Record, accounts []fault.Account) []notice {
	reported := map[string]bool{}
	for i := range records {
		reported[records[i].ID()] = records[i].Measured != nil
	}
	var notices []notice
	for i := range accounts {
		a := &accounts[i]
		kind, reason := corev1.EventTypeWarning, "FaultNotRecovered"
		switch {
		case reported[a.ID()]:
			continue
		case a.Outcome == fault.OutcomeRecovered:
			kind, reason = corev1.EventTypeNormal, "FaultRecovered"
		case a.Outcome != fault.OutcomeNotRecovered:
			continue
		}
		notices = append(notices, notice{kind, reason, "Measure", fmt.Sprintf("Fault %s: %s", a.ID(), a.Message), a.ID()})
	}
	return notices
}

// changedReason returns the condition of the given type if its reason has changed, or nil. The initial reason
// Progressing does not count as a change.
func changedReason(before, now *v1alpha1.ParkingSimulationStatus, kind string) *metav1.Condition {
	was, is := meta.FindStatusCondition(before.Conditions, kind), meta.FindStatusCondition(now.Conditions, kind)
	if is == nil || was != nil && was.Reason == is.Reason || was == nil && is.Reason == reasonProgressing {
		return nil
	}
	return is
}

// wholeMessage returns the message of Stalled or Reconciling or, if neither exists, of Ready.
func wholeMessage(now *v1alpha1.ParkingSimulationStatus, isReady *metav1.Condition) string {
	for _, kind := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionReconciling} {
		if c := meta.FindStatusCondition(now.Conditions, kind); c != nil {
			return c.Message
		}
	}
	return isReady.Message
}

// ignoredEdit reports whether the condition Complete has a new message about an edit that has no effect.
func ignoredEdit(before, now *v1alpha1.ParkingSimulationStatus) bool {
	was, is := meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionComplete), meta.FindStatusCondition(now.Conditions, v1alpha1.ConditionComplete)
	return was != nil && is != nil && was.Message != is.Message && strings.Contains(is.Message, editIgnored)
}

// maxNote is the maximum length of an event's note in bytes.
const maxNote = 1024

// notify sends Kubernetes events that concern the simulation.
func (r *Reconciler) notify(s *scope, notices []notice) {
	for _, n := range notices {
		var about runtime.Object = s.sim
		if n.fault != "" {
			about = faultReference(s.sim, n.fault)
		}
		r.events.Eventf(about, nil, n.kind, n.reason, n.action, "%s", excerpt.Of(n.message, maxNote))
	}
}

// event sends a Kubernetes event that concerns the simulation.
func (r *Reconciler) event(s *scope, kind, reason, action, format string, args ...any) {
	r.events.Eventf(s.sim, nil, kind, reason, action, "%s", excerpt.Of(fmt.Sprintf(format, args...), maxNote))
}
