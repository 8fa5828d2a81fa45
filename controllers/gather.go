package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// indexSimulation is the name of the cache index that finds pods and other objects by the name of their simulation.
const indexSimulation = "simulation"

// ownerOf returns the name of the simulation that owns an object. It cannot read the labels, because the cache drops
// them.
func ownerOf(o client.Object) []string {
	if owner := metav1.GetControllerOfNoCopy(o); owner != nil && owner.Kind == v1alpha1.Kind {
		return []string{owner.Name}
	}
	return nil
}

// labelOf returns the simulation's name from the labels of a pod, because the owner of a pod is a ReplicaSet or a
// StatefulSet.
func labelOf(o client.Object) []string {
	if name := o.GetLabels()[resources.SimulationLabel]; name != "" {
		return []string{name}
	}
	return nil
}

// gather reads the simulation's pods and other objects from the cache.
func (r *Reconciler) gather(ctx context.Context, s *scope) error {
	s.served = r.kinds.snapshot()
	indexed := []client.ListOption{
		client.InNamespace(s.key.Namespace), client.MatchingFields{indexSimulation: s.key.Name}, client.UnsafeDisableDeepCopy,
	}
	for _, kind := range r.childKinds {
		if !s.served.serves(kind) {
			continue
		}
		options := indexed
		// The cache has no index for optional kinds, so list all objects of the namespace.
		if kind.crd != "" {
			options = []client.ListOption{client.InNamespace(s.key.Namespace), client.UnsafeDisableDeepCopy}
		}
		if err := r.gatherKind(ctx, s, kind, options...); err != nil {
			return fmt.Errorf("list the %s objects of %s: %w", kind.Kind, s.key, err)
		}
	}
	pods := &corev1.PodList{}
	if err := r.client.List(ctx, pods, indexed...); err != nil {
		return fmt.Errorf("list the pods of %s: %w", s.key, err)
	}
	for i := range pods.Items {
		s.pods = append(s.pods, &pods.Items[i])
	}
	// A pod may be gone when the report is written, so remember its failures and its node now.
	r.failures.Observe(s.key, s.pods...)
	r.nodeNames.observe(s.key, s.pods...)
	return nil
}

func (r *Reconciler) gatherKind(ctx context.Context, s *scope, kind childKind, options ...client.ListOption) error {
	list := kind.newList()
	if err := r.client.List(ctx, list, options...); err != nil {
		return err
	}
	return meta.EachListItem(list, func(item runtime.Object) error {
		object, ok := item.(client.Object)
		if !ok {
			return fmt.Errorf("an item of the type %T is not a Kubernetes object", item)
		}
		if metav1.IsControlledBy(object, s.sim) {
			s.children[childKey{kind.Kind, object.GetName()}] = object
		}
		return nil
	})
}

// keyOf returns the key of a desired object. It fails for kinds outside childKinds, which the operator does not watch
// or prune.
func (r *Reconciler) keyOf(o client.Object) (childKey, error) {
	gvk, err := apiutil.GVKForObject(o, r.client.Scheme())
	if err != nil {
		return childKey{}, fmt.Errorf("find the kind of %T: %w", o, err)
	}
	for _, kind := range r.childKinds {
		if kind.GroupVersionKind == gvk {
			return childKey{kind: gvk.Kind, name: o.GetName()}, nil
		}
	}
	return childKey{}, fmt.Errorf("apply %s %s: childKinds does not contain its kind", gvk.Kind, o.GetName())
}
