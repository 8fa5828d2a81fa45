package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func (r *Reconciler) build(ctx context.Context, s *scope) error {
	input := resources.Input{
		Resolved: s.resolved, Images: r.options.Images, Credentials: s.credentials,
		StartTime: s.sim.Status.StartTime, Complete: s.generatorsDone(), Served: s.served.input(),
		HoldClients:   s.isForming() || s.isWithheld(),
		ClusterDomain: r.options.ClusterDomain, OperatorNamespace: r.options.OperatorNamespace,
	}
	if s.sim.Spec.RabbitMQ.ClusterRef != nil {
		input.BrokerAddress = s.broker.data
	}
	if err := r.addClusterFeatures(ctx, &input); err != nil {
		return err
	}
	desired, err := resources.Build(input)
	if err != nil {
		reason := reasonInvalidSpec
		if _, notAllowed := errors.AsType[*resources.TemplateNotAllowedError](err); notAllowed {
			reason = reasonTemplateNotAllowed
		}
		s.findings.spec = found(stalled, reason, "%s", err)
		return errHalt
	}
	s.desired = desired
	return nil
}

// isForming reports whether a managed RabbitMQ cluster is still forming: it has several nodes, at least one node is not
// ready, and the simulation has not started.
func (s *scope) isForming() bool {
	managed := s.sim.Spec.RabbitMQ.ManagedOrDefault()
	if managed == nil || *managed.Replicas == 1 || s.sim.Status.StartTime != nil {
		return false
	}
	nodes := workload{desired: *managed.Replicas}
	nodes.observe(s.children[childKey{"StatefulSet", resources.Name(s.sim, resources.ComponentRabbitMQ)}])
	return !nodes.isReady()
}

// applyChildren applies the desired objects. It omits objects that must not be created, and objects whose change is
// postponed. After a failure, it continues with the next object.
func (r *Reconciler) applyChildren(ctx context.Context, s *scope) error {
	s.findings.objects = worstOf(s.findings.objects) // no longer unchecked
	var errs []error
	for _, key := range sortedKeys(s.taken) {
		errs = append(errs, r.applyFailed(s, key, s.taken[key]))
	}
	for _, object := range s.desired {
		key, err := r.keyOf(object)
		if err != nil {
			return err
		}
		if object = s.toApply(key, object); object == nil {
			continue
		}
		if waits, err := r.mustWait(s, key, object); err != nil {
			return err
		} else if waits {
			s.reportWait("change", key)
			continue
		}
		result, err := r.applier.Apply(ctx, object, s.children[key])
		switch {
		case err != nil:
			errs = append(errs, r.applyFailed(s, key, specPathsError{err, object}))
		case result != apply.Unchanged:
			log.FromContext(ctx).V(1).Info("Applied an object", "kind", key.kind, "name", key.name, "result", result)
		}
		if result == apply.Healed {
			r.reportHealed(s, key)
		}
	}
	return errors.Join(errs...)
}

// reportWait adds a finding that says which change of an object waits, and until when. It adds none after completion,
// so that the simulation stays ready.
func (s *scope) reportWait(what string, key childKey) {
	if !s.isComplete() {
		s.findings.objects = worstOf(s.findings.objects,
			found(progressing, s.held.reason, "The %s of %s %s waits until %s", what, key.kind, key.name, s.held.until))
	}
}

// reportHealed records an event about an object that the operator restored. The event refers to the object, because
// the recorder combines events with equal references.
func (r *Reconciler) reportHealed(s *scope, key childKey) {
	related := &corev1.ObjectReference{Kind: key.kind, Namespace: s.sim.Namespace, Name: key.name}
	r.events.Eventf(s.sim, related, corev1.EventTypeNormal, "Healed", "Apply", "%s %s had been changed and was restored", key.kind, key.name)
}

// mustWait reports whether the desired object differs from the live object, and must not be applied yet.
func (r *Reconciler) mustWait(s *scope, key childKey, desired client.Object) (bool, error) {
	live := s.children[key]
	if live == nil || !s.isHeld(key) {
		return false, nil
	}
	if w, ok := desiredWorkload(desired); ok && w.desired == 0 && s.held.reason == reasonSecretMissing {
		return false, nil // scaling down to 0 needs no Secret
	}
	return r.applier.HasChanged(desired, live)
}

// applyFailed records why an object could not be applied, and returns the error for a retry with backoff. It returns
// nil for an optional kind that is not served.
func (r *Reconciler) applyFailed(s *scope, key childKey, err error) error {
	if taken, ok := errors.AsType[*apply.NameTakenError](err); ok {
		s.findings.objects = worstOf(s.findings.objects, nameTaken(taken))
		return err
	}
	err = redactedError{err}
	var f finding
	switch {
	case isOptionalKind(key.kind) && isNotServed(err):
		const retry = 5 * time.Second // usually, a change of the CRD triggers an earlier reconcile
		s.wakeAfter(retry)
		return nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		f = found(progressing, reasonApplyFailed, "Namespace %s is being deleted, so %s %s is not created", s.key.Namespace, key.kind, key.name)
	case isRefused(err):
		f = found(stalled, reasonRejected, "The API server rejects %s %s: %s. Undo the last edit of the simulation's spec, or delete the rejected object so that the operator creates it again", key.kind, key.name, err)
	case apierrors.IsForbidden(err) && isQuotaFailure(err.Error()):
		f = found(progressing, reasonQuota, "%s", withRemedy(err.Error()))
	case apierrors.IsForbidden(err):
		f = found(stalled, reasonForbidden, "%s: grant the operator's role the permission, or change the namespace policy that rejects the object", err)
	default:
		f = found(progressing, reasonApplyFailed, "%s; the operator retries", err)
	}
	s.findings.objects = worstOf(s.findings.objects, f)
	return err
}

// isRefused reports whether the API server or a webhook rejected the content of an object. A webhook can return any
// status, so all 4xx codes count as a rejection, with few exceptions.
func isRefused(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	switch code := status.Status().Code; code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		// These status codes do not concern the content of the object.
		return false
	default:
		return code/100 == 4
	}
}

// isNotServed reports whether an error means that the API server does not serve a kind. This happens if the kind's
// CRD was deleted or is not established yet.
func isNotServed(err error) bool {
	return meta.IsNoMatchError(err) || apierrors.IsNotFound(err) && strings.Contains(err.Error(), "could not find the requested resource")
}

// prune deletes the simulation's objects that are no longer desired, except objects whose deletion must wait. It never
// deletes the report or the records of faults.
func (r *Reconciler) prune(ctx context.Context, s *scope) error {
	desired := map[childKey]bool{}
	for _, object := range s.desired {
		key, err := r.keyOf(object)
		if err != nil {
			return err
		}
		desired[key] = true
	}
	desired[reportKey(s)], desired[faultsKey(s)] = true, true
	for _, key := range sortedKeys(s.children) {
		object := s.children[key]
		if desired[key] || object.GetDeletionTimestamp() != nil {
			continue
		}
		if s.isHeld(key) || s.held.until != "" && key.kind == "Secret" { // keep Secrets while edits of workloads wait, because running pods may still mount these Secrets
			s.reportWait("deletion", key)
			continue
		}
		uid := object.GetUID()
		err := r.client.Delete(ctx, object, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete %s %s, which is no longer desired: %w", key.kind, key.name, err)
		}
	}
	return nil
}
