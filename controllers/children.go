package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// childKind is a kind of object that simulations own.
type childKind struct {
	object client.Object
	list   func() client.ObjectList
}

// childKinds are the kinds that every cluster serves.
func childKinds() []childKind {
	return []childKind{
		{&corev1.ServiceAccount{}, func() client.ObjectList { return &corev1.ServiceAccountList{} }},
		{&networkingv1.NetworkPolicy{}, func() client.ObjectList { return &networkingv1.NetworkPolicyList{} }},
		{&corev1.Secret{}, func() client.ObjectList { return &corev1.SecretList{} }},
		{&corev1.ConfigMap{}, func() client.ObjectList { return &corev1.ConfigMapList{} }},
		{&corev1.Service{}, func() client.ObjectList { return &corev1.ServiceList{} }},
		{&appsv1.StatefulSet{}, func() client.ObjectList { return &appsv1.StatefulSetList{} }},
		{&appsv1.Deployment{}, func() client.ObjectList { return &appsv1.DeploymentList{} }},
		{&policyv1.PodDisruptionBudget{}, func() client.ObjectList { return &policyv1.PodDisruptionBudgetList{} }},
	}
}

// indexSimulation finds children and pods by the name of their simulation.
const indexSimulation = "simulation"

// ownerOf returns the simulation of a child, of which the cache holds no labels.
func ownerOf(o client.Object) []string {
	if owner := metav1.GetControllerOfNoCopy(o); owner != nil && owner.Kind == v1alpha1.Kind {
		return []string{owner.Name}
	}
	return nil
}

// labelOf returns the simulation of a pod, which other controllers own.
func labelOf(o client.Object) []string {
	if name := o.GetLabels()[resources.SimulationLabel]; name != "" {
		return []string{name}
	}
	return nil
}

// gather reads from the cache what there is of the simulation.
func (r *Reconciler) gather(ctx context.Context, s *scope) error {
	options := []client.ListOption{
		client.InNamespace(s.key.Namespace), client.MatchingFields{indexSimulation: s.key.Name}, client.UnsafeDisableDeepCopy,
	}
	for _, kind := range childKinds() {
		if err := r.gatherList(ctx, s, kind.list(), options...); err != nil {
			return err
		}
	}
	s.served = r.kinds.served()
	for _, kind := range s.served.monitoringKinds() {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := r.gatherList(ctx, s, list, client.InNamespace(s.key.Namespace), client.UnsafeDisableDeepCopy); err != nil {
			return err
		}
	}
	pods := &corev1.PodList{}
	if err := r.client.List(ctx, pods, options...); err != nil {
		return fmt.Errorf("list the pods of %s: %w", s.key, err)
	}
	for i := range pods.Items {
		s.pods = append(s.pods, &pods.Items[i])
	}
	return nil
}

func (r *Reconciler) gatherList(ctx context.Context, s *scope, list client.ObjectList, options ...client.ListOption) error {
	if err := r.client.List(ctx, list, options...); err != nil {
		return fmt.Errorf("list the objects of %s: %w", s.key, err)
	}
	return meta.EachListItem(list, func(item runtime.Object) error {
		object, ok := item.(client.Object)
		if !ok {
			return fmt.Errorf("list the objects of %s: %T is no object", s.key, item)
		}
		key, err := r.keyOf(object)
		if err == nil && metav1.IsControlledBy(object, s.sim) {
			s.live[key] = object
		}
		return err
	})
}

func (r *Reconciler) keyOf(o client.Object) (childKey, error) {
	kind, err := apiutil.GVKForObject(o, r.client.Scheme())
	if err != nil {
		return childKey{}, fmt.Errorf("find the kind of %T: %w", o, err)
	}
	return childKey{kind: kind.Kind, name: o.GetName()}, nil
}

// build makes the objects that the simulation is to have.
func (r *Reconciler) build(ctx context.Context, s *scope) error {
	input := resources.Input{
		Simulation: s.sim, Images: r.options.Images, Credentials: s.credentials,
		StartTime: s.sim.Status.StartTime, Complete: r.generatorsAreDone(s), Served: s.served.input(),
		Forming:       s.isForming(),
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
	for _, object := range desired {
		w, ok := wantedWorkload(object)
		if !ok {
			continue
		}
		key, err := r.keyOf(object)
		if err != nil {
			return err
		}
		w.observe(s.live[key])
		for _, pod := range s.podsOf(w.component) {
			if w.failure == "" {
				w.failure = s.lastingFailure(pod)
			}
		}
		if w.failure == "" && w.lacksPods() {
			if w.failure, err = r.creationFailure(ctx, s, s.live[key]); err != nil {
				return err
			}
		}
		s.workloads[w.component] = w
	}
	return nil
}

// isForming reports whether the nodes of a managed RabbitMQ are coming up for the first time.
func (s *scope) isForming() bool {
	managed := s.sim.Spec.RabbitMQ.ManagedOrDefault()
	if managed == nil || *managed.Replicas == 1 || s.sim.Status.StartTime != nil {
		return false
	}
	nodes := workload{wanted: *managed.Replicas}
	nodes.observe(s.live[childKey{"StatefulSet", resources.Name(s.sim, resources.ComponentRabbitMQ)}])
	return !nodes.isReady()
}

// creationFailure is why pods of a StatefulSet could not be created, such as a quota. Its status does not
// say so, only an event does. As events cause no reconcile, it is looked for again soon.
func (r *Reconciler) creationFailure(ctx context.Context, s *scope, live client.Object) (string, error) {
	set, ok := live.(*appsv1.StatefulSet)
	if !ok {
		return "", nil
	}
	const again, forgotten = 5 * time.Second, 20 * time.Minute
	s.wakeAfter(again)
	list := &corev1.EventList{}
	err := r.direct.List(ctx, list, client.InNamespace(set.Namespace), client.MatchingFields{
		"involvedObject.uid": string(set.UID), "reason": "FailedCreate", "type": corev1.EventTypeWarning,
	})
	if err != nil {
		return "", fmt.Errorf("list the events of StatefulSet %s/%s: %w", set.Namespace, set.Name, err)
	}
	failure, latest := "", s.now.Add(-forgotten)
	for i := range list.Items {
		if e := &list.Items[i]; e.LastTimestamp.After(latest) {
			failure, latest = withRemedy(e.Message), e.LastTimestamp.Time
		}
	}
	return failure, nil
}

// applyChildren brings the built objects into the cluster. An object that cannot be applied does not keep
// the others from it.
func (r *Reconciler) applyChildren(ctx context.Context, s *scope) error {
	s.findings.objects = finding{state: good}
	var errs []error
	for _, object := range s.desired {
		key, err := r.keyOf(object)
		if err != nil {
			return err
		}
		result, err := r.applier.Apply(ctx, object, s.live[key])
		switch {
		case err != nil:
			errs = append(errs, r.refused(s, key, err))
		case result != apply.Unchanged:
			log.FromContext(ctx).V(1).Info("Applied", "kind", key.kind, "name", key.name, "result", result)
		}
		if result == apply.Healed {
			r.event(s, corev1.EventTypeNormal, "Healed", "Apply", "%s %s had been changed and was set right", key.kind, key.name)
		}
	}
	return errors.Join(errs...)
}

// refused notes why an object could not be applied. What it returns is tried again, ever more slowly.
func (r *Reconciler) refused(s *scope, key childKey, err error) error {
	var taken *apply.NameTakenError
	var f finding
	switch {
	case errors.As(err, &taken):
		f = found(stalled, reasonNameTaken, "%s", err)
	case isOfOthers(key.kind) && isNotServed(err):
		const again = 5 * time.Second // unless word of its end comes before
		s.wakeAfter(again)
		return nil
	case apierrors.IsInvalid(err):
		f = found(stalled, reasonRejected, "The API server rejects %s %s, which this spec asks for: %s. If a field cannot be changed, delete the object to have it made anew, or undo the edit of the spec", key.kind, key.name, err)
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), overQuota):
		f = found(progressing, reasonQuota, "%s: raise the quota or lower what the spec asks for", err)
	case apierrors.IsForbidden(err):
		f = found(stalled, reasonForbidden, "%s: let the operator's role allow it, or take away what forbids it in this namespace", err)
	default:
		f = found(progressing, reasonApplyFailed, "%s; it is tried again", err)
	}
	s.findings.objects = worstOf(s.findings.objects, f)
	return err
}

// isNotServed reports whether the API server does not know the kind: its definition was deleted, or is not
// established yet.
func isNotServed(err error) bool {
	return meta.IsNoMatchError(err) || apierrors.IsNotFound(err) && strings.Contains(err.Error(), "could not find the requested resource")
}

// prune deletes objects that the simulation once asked for and does so no more.
func (r *Reconciler) prune(ctx context.Context, s *scope) error {
	wanted := map[childKey]bool{}
	for _, object := range s.desired {
		key, err := r.keyOf(object)
		if err != nil {
			return err
		}
		wanted[key] = true
	}
	for key, object := range s.live {
		if wanted[key] || object.GetDeletionTimestamp() != nil {
			continue
		}
		uid := object.GetUID()
		err := r.client.Delete(ctx, object, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete %s %s, which the spec does not ask for: %w", key.kind, key.name, err)
		}
	}
	return nil
}
