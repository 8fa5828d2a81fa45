package controllers

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
)

// definitions follows the CustomResourceDefinitions of others: it watches the objects of the kinds that
// matter for as long as they are defined, and notes that a kind is served once these are in the cache. It
// is a manager.Runnable.
type definitions struct {
	reconciler *Reconciler
	manager    ctrl.Manager
	others     cache.Cache
	owned      handler.EventHandler
	controller controller.Controller

	changes, synced chan change
}

// change is a kind whose definition has come or gone.
type change struct {
	kind      schema.GroupVersionKind
	isDefined bool
	// queue takes whom that concerns.
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	// following ends with the definition.
	following context.Context //nolint:containedctx // it tells which of two definitions of a kind is meant
}

func newDefinitions(r *Reconciler, mgr ctrl.Manager, others cache.Cache, owned handler.EventHandler) *definitions {
	return &definitions{
		reconciler: r, manager: mgr, others: others, owned: owned, changes: make(chan change), synced: make(chan change),
	}
}

// handler passes the definitions of kinds that matter on to Start.
func (d *definitions) handler() handler.TypedEventHandler[*metav1.PartialObjectMetadata, reconcile.Request] {
	type object = *metav1.PartialObjectMetadata
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	note := func(ctx context.Context, definition object, isDefined bool, q queue) {
		kind, matters := kindOfCRD(definition.Name)
		if !matters {
			return
		}
		select {
		case d.changes <- change{kind: kind, isDefined: isDefined, queue: q}:
		case <-ctx.Done():
		}
	}
	return handler.TypedFuncs[object, reconcile.Request]{
		CreateFunc: func(ctx context.Context, e event.TypedCreateEvent[object], q queue) {
			note(ctx, e.Object, e.Object.DeletionTimestamp == nil, q)
		},
		UpdateFunc: func(ctx context.Context, e event.TypedUpdateEvent[object], q queue) {
			note(ctx, e.ObjectNew, e.ObjectNew.DeletionTimestamp == nil, q)
		},
		DeleteFunc: func(ctx context.Context, e event.TypedDeleteEvent[object], q queue) {
			note(ctx, e.Object, false, q)
		},
	}
}

// NeedLeaderElection is true, as it is of the controller.
func (d *definitions) NeedLeaderElection() bool { return true }

// Start follows definitions until ctx ends.
func (d *definitions) Start(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	unfollow := map[schema.GroupVersionKind]context.CancelFunc{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-d.changes:
			end, isFollowed := unfollow[c.kind]
			switch {
			case c.isDefined && !isFollowed:
				c.following, unfollow[c.kind] = context.WithCancel(ctx) //nolint:fatcontext // one level deep
				work.Go(func() { d.follow(c) })
			case !c.isDefined && isFollowed:
				end()
				delete(unfollow, c.kind)
				d.forget(ctx, c)
			}
		case c := <-d.synced:
			if c.following.Err() == nil { // else it has gone already
				d.tell(ctx, c)
			}
		}
	}
}

// follow watches the objects of a kind that has just been defined. It takes the API server some time to
// serve it.
func (d *definitions) follow(c change) {
	const interval = 250 * time.Millisecond
	ctx := c.following
	if wait.PollUntilContextCancel(ctx, interval, true, func(context.Context) (bool, error) {
		_, err := d.manager.GetRESTMapper().RESTMapping(c.kind.GroupKind(), c.kind.Version)
		return err == nil, nil
	}) != nil {
		return
	}
	informer, err := d.cacheOf(c.kind).GetInformer(ctx, objectOf(c.kind), cache.BlockUntilSynced(false))
	if err == nil {
		err = d.controller.Watch(d.source(c.kind))
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "Watch a kind that has come", "kind", c.kind.Kind)
		return
	}
	if wait.PollUntilContextCancel(ctx, interval, true, func(context.Context) (bool, error) {
		return informer.HasSynced(), nil
	}) != nil {
		return
	}
	select {
	case d.synced <- c:
	case <-ctx.Done():
	}
}

// forget ends the watch of a kind that is no longer defined.
func (d *definitions) forget(ctx context.Context, c change) {
	if err := d.cacheOf(c.kind).RemoveInformer(ctx, objectOf(c.kind)); err != nil {
		log.FromContext(ctx).Error(err, "End the watch of a kind that has gone", "kind", c.kind.Kind)
	}
	d.tell(ctx, c)
}

// tell has every simulation reconciled if it is news that a kind is served, or is no longer.
func (d *definitions) tell(ctx context.Context, c change) {
	if !d.reconciler.kinds.set(c.kind.Kind, c.isDefined) {
		return
	}
	log.FromContext(ctx).Info("A kind of others has come or gone", "kind", c.kind.Kind, "served", c.isDefined)
	for _, request := range d.reconciler.requests(ctx) {
		c.queue.Add(request)
	}
}

// cacheOf is the cache that holds the objects of a kind.
func (d *definitions) cacheOf(kind schema.GroupVersionKind) cache.Cache {
	if kind == rabbitmqClusters() {
		return d.others
	}
	return d.manager.GetCache()
}

func (d *definitions) source(kind schema.GroupVersionKind) source.Source {
	if kind == rabbitmqClusters() {
		return source.Kind[client.Object](d.others, objectOf(kind), handler.EnqueueRequestsFromMapFunc(
			func(ctx context.Context, o client.Object) []reconcile.Request {
				return d.reconciler.simulationsBy(ctx, indexClusters, client.ObjectKeyFromObject(o))
			}))
	}
	return source.Kind[client.Object](d.manager.GetCache(), objectOf(kind), d.owned, childChanged())
}

func objectOf(kind schema.GroupVersionKind) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kind)
	return object
}
