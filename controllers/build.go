package controllers

import (
	"context"
	"errors"
	"fmt"
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

// build computes the desired objects of the simulation.
func (r *Reconciler) build(ctx context.Context, s *scope) error {
	input := resources.Input{
		Resolved: s.resolved, Images: r.options.Images, Credentials: s.credentials,
		StartTime: s.sim.Status.StartTime, Complete: s.generatorsDone(), Served: s.served.input(),
		Forming:       s.isForming() || s.isDenied(),
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

// isForming reports whether the nodes of a managed RabbitMQ cluster are starting for the first time and have not yet
// found each other.
func (s *scope) isForming() bool {
	managed := s.sim.Spec.RabbitMQ.ManagedOrDefault()
	if managed == nil || *managed.Replicas == 1 || s.sim.Status.StartTime != nil {
		return false
	}
	nodes := workload{desired: *managed.Replicas}
	nodes.observe(s.children[childKey{"StatefulSet", resources.Name(s.sim, resources.ComponentRabbitMQ)}])
	return !nodes.isReady()
}

// applyChildren applies the desired objects. If an object cannot be applied, it still applies the others.
func (r *Reconciler) applyChildren(ctx context.Context, s *scope) error {
	s.findings.objects = finding{state: ready}
	var errs []error
	for _, object := range s.desired {
		key, err := r.keyOf(object)
		if err != nil {
			return err
		}
		result, err := r.applier.Apply(ctx, object, s.children[key])
		switch {
		case err != nil:
			errs = append(errs, r.applyFailed(s, key, err))
		case result != apply.Unchanged:
			log.FromContext(ctx).V(1).Info("Applied an object", "kind", key.kind, "name", key.name, "result", result)
		}
		if result == apply.Healed {
			r.event(s, corev1.EventTypeNormal, "Healed", "Apply", "%s %s had been changed and was restored", key.kind, key.name)
		}
	}
	return errors.Join(errs...)
}

// applyFailed records why an object could not be applied. It returns an error, so that the reconcile is retried with
// backoff.
func (r *Reconciler) applyFailed(s *scope, key childKey, err error) error {
	err = redactedError{err}
	var taken *apply.NameTakenError
	var f finding
	switch {
	case errors.As(err, &taken):
		f = found(stalled, reasonNameTaken, "%s", err)
	case isOptionalKind(key.kind) && isNotServed(err):
		const retry = 5 * time.Second // the CRD watch usually causes a reconcile earlier
		s.wakeAfter(retry)
		return nil
	case apierrors.IsInvalid(err):
		f = found(stalled, reasonRejected, "The API server rejects %s %s: %s. Undo the edit of the spec, or delete the object so that it is created again", key.kind, key.name, err)
	case apierrors.IsForbidden(err) && isQuotaFailure(err.Error()):
		f = found(progressing, reasonQuota, "%s: raise the quota, or reduce replicas or resources in the spec", err)
	case apierrors.IsForbidden(err):
		f = found(stalled, reasonForbidden, "%s: grant the operator's role the permission, or change the policy of the namespace that forbids it", err)
	default:
		f = found(progressing, reasonApplyFailed, "%s; the operator retries", err)
	}
	s.findings.objects = worstOf(s.findings.objects, f)
	return err
}

// isNotServed reports whether an error means that the API server does not serve a kind. This happens if the kind's
// CRD was deleted or is not established yet.
func isNotServed(err error) bool {
	return meta.IsNoMatchError(err) || apierrors.IsNotFound(err) && strings.Contains(err.Error(), "could not find the requested resource")
}

// prune deletes the simulation's objects that are no longer desired.
func (r *Reconciler) prune(ctx context.Context, s *scope) error {
	desired := map[childKey]bool{}
	for _, object := range s.desired {
		key, err := r.keyOf(object)
		if err != nil {
			return err
		}
		desired[key] = true
	}
	desired[reportKey(s)], desired[faultsKey(s)] = true, true // never prune the report and the records of faults
	for key, object := range s.children {
		if desired[key] || object.GetDeletionTimestamp() != nil {
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
