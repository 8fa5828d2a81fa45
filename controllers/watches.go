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

// Indexes of simulations by what their specs name.
const (
	indexSecrets  = "spec.secrets"
	indexClusters = "spec.rabbitmq.clusterRef"
)

// How long a simulation waits that could not be reconciled, at first and at most.
const (
	minBackoff = 250 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// SetupWithManager has the manager call the reconciler. Others is a second cache, which the manager runs
// too, with the objects of others: the first holds Secrets of simulations alone.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, others cache.Cache) error {
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
	for _, kind := range childKinds() {
		b = b.Watches(kind.object, owned, builder.WithPredicates(childChanged()))
	}
	b = b.Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(simulationOfPod), builder.WithPredicates(podChanged()))
	for _, news := range []chan event.GenericEvent{r.ledgers.news, r.cleaner.news} {
		b = b.WatchesRawSource(source.Channel(news, &handler.EnqueueRequestForObject{}))
	}
	secrets := partial(corev1.SchemeGroupVersion.WithKind("Secret"))
	b = b.WatchesRawSource(source.Kind(others, secrets, handler.TypedEnqueueRequestsFromMapFunc(
		func(ctx context.Context, o *metav1.PartialObjectMetadata) []reconcile.Request {
			return r.simulationsBy(ctx, indexSecrets, client.ObjectKeyFromObject(o))
		}), versionChanged()))
	definitions := newDefinitions(r, mgr, others, owned)
	b = b.WatchesRawSource(source.Kind(others, partial(customResourceDefinitions()), definitions.handler()))
	c, err := b.Build(r)
	if err != nil {
		return fmt.Errorf("set up the controller: %w", err)
	}
	definitions.controller = c
	if err := mgr.Add(definitions); err != nil {
		return fmt.Errorf("set up the controller: %w", err)
	}
	return nil
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
		if err := indexer.IndexField(ctx, kind.object, indexSimulation, ownerOf); err != nil {
			return fmt.Errorf("index %T by simulation: %w", kind.object, err)
		}
	}
	for name, index := range map[string]client.IndexerFunc{indexSecrets: secretsOf, indexClusters: clusterOf} {
		if err := indexer.IndexField(ctx, &v1alpha1.ParkingSimulation{}, name, index); err != nil {
			return fmt.Errorf("index simulations by %s: %w", name, err)
		}
	}
	return nil
}

// secretsOf lists the Secrets that a simulation depends on and does not own, as namespace/name. That of a
// RabbitmqCluster has the name that the cluster's operator gives it.
func secretsOf(o client.Object) []string {
	sim, ok := o.(*v1alpha1.ParkingSimulation)
	if !ok {
		return nil
	}
	var names []string
	for _, ref := range []*v1alpha1.SecretReference{sim.Spec.RabbitMQ.SecretRef, sim.Spec.Redis.SecretRef, sim.Spec.SummaryAPI.SecretRef} {
		if ref != nil {
			names = append(names, sim.Namespace+"/"+ref.Name)
		}
	}
	for _, cluster := range clusterOf(o) {
		names = append(names, cluster+"-default-user")
	}
	return names
}

// clusterOf names the RabbitmqCluster of a simulation, as namespace/name.
func clusterOf(o client.Object) []string {
	sim, ok := o.(*v1alpha1.ParkingSimulation)
	if !ok || sim.Spec.RabbitMQ.ClusterRef == nil {
		return nil
	}
	ref := sim.Spec.RabbitMQ.ClusterRef
	return []string{orElse(ref.Namespace, sim.Namespace) + "/" + ref.Name}
}

// simulationsBy returns the simulations that name an object.
func (r *Reconciler) simulationsBy(ctx context.Context, index string, key client.ObjectKey) []reconcile.Request {
	return r.requests(ctx, client.MatchingFields{index: key.Namespace + "/" + key.Name})
}

func (r *Reconciler) requests(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	list := &v1alpha1.ParkingSimulationList{}
	if err := r.client.List(ctx, list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		log.FromContext(ctx).Error(err, "List simulations to reconcile")
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

// finalizersChanged lets a finalizer that somebody took away come back.
func finalizersChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !slices.Equal(e.ObjectOld.GetFinalizers(), e.ObjectNew.GetFinalizers())
	}}
}

// versionChanged lets resyncs pass unnoticed.
func versionChanged() predicate.TypedPredicate[*metav1.PartialObjectMetadata] {
	return predicate.TypedFuncs[*metav1.PartialObjectMetadata]{
		UpdateFunc: func(e event.TypedUpdateEvent[*metav1.PartialObjectMetadata]) bool {
			return e.ObjectOld.ResourceVersion != e.ObjectNew.ResourceVersion
		},
	}
}

// childChanged tells what of an owned object's changes matters: that it is gone, that it may have been
// edited, and how many of its pods are ready. Its creation does not: it was ours.
func childChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return edited(e.ObjectOld, e.ObjectNew) || scaled(e.ObjectOld, e.ObjectNew)
		},
	}
}

// edited compares what is not status, as far as the cache holds it: which fields are still the operator's tells
// the rest. Kinds without a generation have no status that anybody writes often.
func edited(before, after client.Object) bool {
	if before.GetResourceVersion() == after.GetResourceVersion() {
		return false
	}
	return after.GetGeneration() == 0 || before.GetGeneration() != after.GetGeneration() ||
		!maps.Equal(before.GetAnnotations(), after.GetAnnotations()) ||
		!equality.Semantic.DeepEqual(before.GetOwnerReferences(), after.GetOwnerReferences()) ||
		!equality.Semantic.DeepEqual(before.GetManagedFields(), after.GetManagedFields())
}

// scaled compares what is looked at of the status of workloads.
func scaled(before, after client.Object) bool {
	var old, now workload
	old.observe(before)
	now.observe(after)
	return old != now
}

// podChanged tells what of a pod's changes matters: that it comes or goes, starts to run, and what keeps it
// from running.
func podChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, okBefore := e.ObjectOld.(*corev1.Pod)
		after, okAfter := e.ObjectNew.(*corev1.Pod)
		return okBefore && okAfter && (before.Status.Phase != after.Status.Phase || podFailure(before) != podFailure(after) ||
			(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil))
	}}
}
