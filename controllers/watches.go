package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// indexClusters is the name of the cache index that finds simulations by the RabbitmqCluster in their spec.
const indexClusters = "spec.rabbitmq.clusterRef"

// These are the minimum and maximum delay until a failed reconcile is retried.
const (
	minBackoff = 250 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// SetupWithManager adds the reconciler to the manager. The cache of the manager contains only objects of simulations.
// The cache referenced contains objects that simulations refer to but do not own.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, referenced cache.Cache) error {
	if err := addIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	owned := handler.EnqueueRequestForOwner(mgr.GetScheme(), mgr.GetRESTMapper(), &v1alpha1.ParkingSimulation{}, handler.OnlyControllerOwner())
	b := ctrl.NewControllerManagedBy(mgr).
		Named("parkingsimulation").
		For(&v1alpha1.ParkingSimulation{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, finalizersChanged()))).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.options.Workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxBackoff),
		})
	for _, kind := range r.childKinds {
		if kind.crd == "" { // crdWatcher watches the optional kinds
			b = b.Watches(kind.object, owned, builder.WithPredicates(childChanged()))
		}
	}
	b = b.Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(simulationOfPod), builder.WithPredicates(podChanged()))
	for _, updates := range []<-chan event.TypedGenericEvent[types.NamespacedName]{r.observer.Updates(), r.cleaner.Updates()} {
		b = b.WatchesRawSource(source.TypedChannel(updates, handler.TypedEnqueueRequestsFromMapFunc(requestFor)))
	}
	secrets := partial(corev1.SchemeGroupVersion.WithKind("Secret"))
	b = b.WatchesRawSource(source.Kind(referenced, secrets, handler.TypedEnqueueRequestsFromMapFunc(r.readersOf), versionChanged()))
	crds := newCRDWatcher(r, mgr, referenced, owned)
	b = b.WatchesRawSource(source.Kind(referenced, partial(customResourceDefinitions()), crds.handler()))
	c, err := b.Build(r)
	if err != nil {
		return fmt.Errorf("set up the controller: %w", err)
	}
	crds.controller = c
	if err := mgr.Add(crds); err != nil {
		return fmt.Errorf("set up the controller: %w", err)
	}
	return nil
}

func requestFor(_ context.Context, key types.NamespacedName) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: key}}
}

// readersOf returns requests to reconcile the simulations that have read a Secret.
func (r *Reconciler) readersOf(_ context.Context, o *metav1.PartialObjectMetadata) []reconcile.Request {
	var requests []reconcile.Request
	for _, key := range r.secrets.readersOf(client.ObjectKeyFromObject(o)) {
		requests = append(requests, reconcile.Request{NamespacedName: key})
	}
	return requests
}

func customResourceDefinitions() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
}

func partial(kind schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(kind)
	return o
}

func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	if err := indexer.IndexField(ctx, &corev1.Pod{}, indexSimulation, labelOf); err != nil {
		return fmt.Errorf("index pods by simulation: %w", err)
	}
	for _, kind := range childKinds() {
		if kind.crd != "" {
			continue
		}
		if err := indexer.IndexField(ctx, kind.object, indexSimulation, ownerOf); err != nil {
			return fmt.Errorf("index %s by simulation: %w", kind.Kind, err)
		}
	}
	if err := indexer.IndexField(ctx, &v1alpha1.ParkingSimulation{}, indexClusters, clusterOf); err != nil {
		return fmt.Errorf("index simulations by RabbitmqCluster: %w", err)
	}
	return nil
}

// clusterOf returns the RabbitmqCluster that a simulation refers to, in the form namespace/name.
func clusterOf(o client.Object) []string {
	sim, ok := o.(*v1alpha1.ParkingSimulation)
	if !ok || sim.Spec.RabbitMQ.ClusterRef == nil {
		return nil
	}
	ref := sim.Spec.RabbitMQ.ClusterRef
	return []string{orElse(ref.Namespace, sim.Namespace) + "/" + ref.Name}
}

// simulationsBy returns requests to reconcile the simulations that refer to an object.
func (r *Reconciler) simulationsBy(ctx context.Context, index string, key client.ObjectKey) []reconcile.Request {
	return r.requests(ctx, client.MatchingFields{index: key.Namespace + "/" + key.Name})
}

// requests returns requests to reconcile the simulations that match the list options.
func (r *Reconciler) requests(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	list := &v1alpha1.ParkingSimulationList{}
	if err := r.client.List(ctx, list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		log.FromContext(ctx).Error(err, "Failed to list the simulations to reconcile")
		return nil
	}
	requests := make([]reconcile.Request, len(list.Items))
	for i := range list.Items {
		requests[i].NamespacedName = client.ObjectKeyFromObject(&list.Items[i])
	}
	return requests
}

func simulationOfPod(_ context.Context, o client.Object) []reconcile.Request {
	name := o.GetLabels()[resources.SimulationLabel]
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: o.GetNamespace(), Name: name}}}
}

// finalizersChanged is a predicate that selects changes of an object's finalizers. If a user removes the operator's
// finalizer, the operator adds it again.
func finalizersChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !slices.Equal(e.ObjectOld.GetFinalizers(), e.ObjectNew.GetFinalizers())
	}}
}

// versionChanged selects updates that change the resource version. It ignores resyncs.
func versionChanged() predicate.TypedPredicate[*metav1.PartialObjectMetadata] {
	return predicate.TypedFuncs[*metav1.PartialObjectMetadata]{
		UpdateFunc: func(e event.TypedUpdateEvent[*metav1.PartialObjectMetadata]) bool {
			return e.ObjectOld.ResourceVersion != e.ObjectNew.ResourceVersion
		},
	}
}

// childChanged selects deletions, edits and progress of a simulation's objects. It ignores creations, because the
// operator itself creates these objects.
func childChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return edited(e.ObjectOld, e.ObjectNew) || progressed(e.ObjectOld, e.ObjectNew)
		},
	}
}

// edited reports whether an object has changed outside its status. For kinds without a generation, it also reports
// changes of the status.
func edited(before, after client.Object) bool {
	if before.GetResourceVersion() == after.GetResourceVersion() {
		return false
	}
	return after.GetGeneration() == 0 || before.GetGeneration() != after.GetGeneration() ||
		!maps.Equal(before.GetAnnotations(), after.GetAnnotations()) ||
		!equality.Semantic.DeepEqual(before.GetOwnerReferences(), after.GetOwnerReferences()) ||
		!equality.Semantic.DeepEqual(before.GetManagedFields(), after.GetManagedFields())
}

// progressed reports whether any status field that the operator reads has changed.
func progressed(before, after client.Object) bool {
	var old, now workload
	old.observe(before)
	now.observe(after)
	return old != now
}

// podChanged selects the changes of pods to which the operator reacts.
func podChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, okBefore := e.ObjectOld.(*corev1.Pod)
		after, okAfter := e.ObjectNew.(*corev1.Pod)
		return okBefore && okAfter && (before.Status.Phase != after.Status.Phase || podFailure(before) != podFailure(after) ||
			(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil))
	}}
}
