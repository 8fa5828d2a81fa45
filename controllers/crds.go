package controllers

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/parking-operator/parking-operator/internal/resources"
)

// crdWatcher watches the objects of each optional kind while its CustomResourceDefinition exists. A kind counts as
// served once the cache contains the existing objects.
type crdWatcher struct {
	reconciler *Reconciler
	manager    ctrl.Manager
	referenced cache.Cache
	owned      handler.EventHandler
	controller controller.Controller

	changes, synced chan crdChange
}

// crdChange is the creation or deletion of the CustomResourceDefinition of an optional kind.
type crdChange struct {
	kind   schema.GroupVersionKind
	exists bool
	// queue is the work queue of the controller. The watcher adds a request for every simulation to this queue.
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	// lifetime is a context that is canceled when this CustomResourceDefinition is deleted.
	lifetime context.Context //nolint:containedctx // a definition that is deleted and created again has another lifetime
}

func newCRDWatcher(r *Reconciler, mgr ctrl.Manager, referenced cache.Cache, owned handler.EventHandler) *crdWatcher {
	return &crdWatcher{
		reconciler: r, manager: mgr, referenced: referenced, owned: owned,
		changes: make(chan crdChange), synced: make(chan crdChange),
	}
}

// handler returns an event handler that sends each change of an optional kind's CustomResourceDefinition to w.changes.
func (w *crdWatcher) handler() handler.TypedEventHandler[*metav1.PartialObjectMetadata, reconcile.Request] {
	type object = *metav1.PartialObjectMetadata
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	kinds := optionalKinds()
	pass := func(ctx context.Context, crd object, exists bool, q queue) {
		kind, ok := kinds[crd.Name]
		if !ok {
			return
		}
		select {
		case w.changes <- crdChange{kind: kind, exists: exists, queue: q}:
		case <-ctx.Done():
		}
	}
	return handler.TypedFuncs[object, reconcile.Request]{
		CreateFunc: func(ctx context.Context, e event.TypedCreateEvent[object], q queue) {
			pass(ctx, e.Object, e.Object.DeletionTimestamp == nil, q)
		},
		UpdateFunc: func(ctx context.Context, e event.TypedUpdateEvent[object], q queue) {
			pass(ctx, e.ObjectNew, e.ObjectNew.DeletionTimestamp == nil, q)
		},
		DeleteFunc: func(ctx context.Context, e event.TypedDeleteEvent[object], q queue) {
			pass(ctx, e.Object, false, q)
		},
	}
}

// NeedLeaderElection returns true, because only the leader runs the controller.
func (w *crdWatcher) NeedLeaderElection() bool { return true }

// Start handles changes of CustomResourceDefinitions until ctx ends.
func (w *crdWatcher) Start(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	cancels := map[schema.GroupVersionKind]context.CancelFunc{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-w.changes:
			cancel, isWatched := cancels[c.kind]
			switch {
			case c.exists && !isWatched:
				c.lifetime, cancels[c.kind] = context.WithCancel(ctx) //nolint:fatcontext // contexts are not nested: each has ctx as its parent
				work.Go(func() { w.watch(c) })
			case !c.exists && isWatched:
				cancel()
				delete(cancels, c.kind)
				w.unwatch(ctx, c)
			}
		case c := <-w.synced:
			if c.lifetime.Err() == nil {
				w.record(ctx, c)
			}
		}
	}
}

// watch starts to watch the objects of a kind whose CustomResourceDefinition was created. It first waits until the API
// server serves the kind.
func (w *crdWatcher) watch(c crdChange) {
	const interval = 250 * time.Millisecond
	ctx := c.lifetime
	if wait.PollUntilContextCancel(ctx, interval, true, func(context.Context) (bool, error) {
		_, err := w.manager.GetRESTMapper().RESTMapping(c.kind.GroupKind(), c.kind.Version)
		return err == nil, nil
	}) != nil {
		return
	}
	informer, err := w.cacheOf(c.kind).GetInformer(ctx, unstructuredOf(c.kind), cache.BlockUntilSynced(false))
	if err == nil {
		err = w.controller.Watch(w.source(c.kind))
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "Failed to watch an optional kind", "kind", c.kind.Kind)
		return
	}
	if wait.PollUntilContextCancel(ctx, interval, true, func(context.Context) (bool, error) {
		return informer.HasSynced(), nil
	}) != nil {
		return
	}
	select {
	case w.synced <- c:
	case <-ctx.Done():
	}
}

func (w *crdWatcher) unwatch(ctx context.Context, c crdChange) {
	if err := w.cacheOf(c.kind).RemoveInformer(ctx, unstructuredOf(c.kind)); err != nil {
		log.FromContext(ctx).Error(err, "Failed to stop the watch of an optional kind", "kind", c.kind.Kind)
	}
	w.record(ctx, c)
}

// record stores whether the API server serves a kind. If the stored value changes, record requests a reconcile of every
// simulation.
func (w *crdWatcher) record(ctx context.Context, c crdChange) {
	if !w.reconciler.kinds.set(c.kind, c.exists) {
		return
	}
	log.FromContext(ctx).Info("Optional CRD availability changed", "kind", c.kind.Kind, "served", c.exists)
	for _, request := range w.reconciler.requests(ctx) {
		c.queue.Add(request)
	}
}

// cacheOf returns the cache for the objects of a kind.
func (w *crdWatcher) cacheOf(kind schema.GroupVersionKind) cache.Cache {
	if kind == resources.RabbitmqClusterKind() {
		return w.referenced
	}
	return w.manager.GetCache()
}

func (w *crdWatcher) source(kind schema.GroupVersionKind) source.Source {
	if kind == resources.RabbitmqClusterKind() {
		return source.Kind[client.Object](w.referenced, unstructuredOf(kind), handler.EnqueueRequestsFromMapFunc(
			func(ctx context.Context, o client.Object) []reconcile.Request {
				return w.reconciler.simulationsBy(ctx, indexClusters, client.ObjectKeyFromObject(o))
			}))
	}
	return source.Kind[client.Object](w.manager.GetCache(), unstructuredOf(kind), w.owned, childChanged())
}
