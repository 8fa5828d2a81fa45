package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const (
	// Finalizer keeps a deleted simulation until its generators and processors have ended, and until its queues
	// and keys are removed from servers that are not managed.
	Finalizer = v1alpha1.Group + "/cleanup"

	// cleanupTimeout is how long after its deletion a simulation is kept at most, unless Options say otherwise.
	cleanupTimeout = 2 * time.Minute
	// attemptTimeout bounds one attempt, cleanupPause is between two.
	attemptTimeout = 20 * time.Second
	cleanupPause   = 5 * time.Second
)

// needsCleanup reports whether a simulation leaves something behind when its objects are deleted.
func (s *scope) needsCleanup() bool {
	return s.sim.Spec.DeletionPolicy == v1alpha1.DeletionPolicyDelete && (!s.managedBroker() || !s.managedStore())
}

// keepFinalizer has the finalizer on the simulation. So nothing is deleted of one that this operator does not
// know to be, which else it would make anew; and managed servers outlast those who have yet to finish their
// work with them, and who would wait in vain.
func (r *Reconciler) keepFinalizer(ctx context.Context, s *scope) error {
	if !controllerutil.AddFinalizer(s.sim, Finalizer) {
		return nil
	}
	return r.patchFinalizers(ctx, s)
}

// patchFinalizers writes the finalizers alone, and only over those that were read.
func (r *Reconciler) patchFinalizers(ctx context.Context, s *scope) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers": s.sim.Finalizers, "resourceVersion": s.before.ResourceVersion,
	}})
	if err != nil {
		return fmt.Errorf("change the finalizers of %s: %w", s.key, err)
	}
	patched := s.before.DeepCopy()
	err = r.client.Patch(ctx, patched, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(apply.FieldManager))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("change the finalizers of %s: %w", s.key, err)
	}
	s.before.ResourceVersion, s.before.Finalizers = patched.ResourceVersion, patched.Finalizers
	return nil
}

// finalize ends the work of a deleted simulation, removes what it has on servers that are not managed, and lets
// it go. It does so too when that cannot be done in time. Then everything else is collected as garbage.
func (r *Reconciler) finalize(ctx context.Context, s *scope) (reconcile.Result, error) {
	if !controllerutil.ContainsFinalizer(s.sim, Finalizer) {
		r.ledgers.forget(s.key)
		return reconcile.Result{}, nil
	}
	deadline := s.sim.DeletionTimestamp.Add(r.options.CleanupTimeout)
	overdue := !s.now.Before(deadline)
	switch stopped, err := r.stopWork(ctx, s); {
	case err != nil:
		return reconcile.Result{}, err
	case !stopped && !overdue:
		return reconcile.Result{RequeueAfter: min(cleanupPause, deadline.Sub(s.now))}, nil
	}
	if !s.needsCleanup() {
		return reconcile.Result{}, r.release(ctx, s)
	}
	outcome := r.cleanUp(ctx, s)
	switch {
	case outcome.running && !overdue:
		return reconcile.Result{RequeueAfter: max(deadline.Sub(s.now), time.Millisecond)}, nil
	case outcome.err == nil && !outcome.running:
		r.event(s, corev1.EventTypeNormal, "CleanedUp", "Delete", "Removed queues and keys of %s", manifest.ID(s.sim))
	case outcome.final || overdue:
		r.event(s, corev1.EventTypeWarning, "CleanupAbandoned", "Delete", "%s", s.leftBehind(outcome))
	default:
		return reconcile.Result{RequeueAfter: min(cleanupPause, deadline.Sub(s.now))}, nil
	}
	return reconcile.Result{}, r.release(ctx, s)
}

// leftBehind says what was not removed, and where it is.
func (s *scope) leftBehind(o outcome) string {
	id := manifest.ID(s.sim)
	why := "no answer in time"
	if o.err != nil {
		why = o.err.Error()
	}
	return fmt.Sprintf("The simulation is gone, but exchange and queues parking.%s* may be left on the RabbitMQ that Secret %s names, "+
		"and keys {%s:*}* in the Redis that Secret %s names: remove them there. Reason: %s",
		id, resources.BrokerSecretName(s.sim), id, resources.StoreSecretName(s.sim), why)
}

// release lets the simulation go.
func (r *Reconciler) release(ctx context.Context, s *scope) error {
	r.ledgers.forget(s.key)
	r.cleaner.forget(s.key)
	controllerutil.RemoveFinalizer(s.sim, Finalizer)
	return r.patchFinalizers(ctx, s)
}

// stopWork deletes generators and processors, which would make anew what is cleaned up, and reports whether
// their pods are gone.
func (r *Reconciler) stopWork(ctx context.Context, s *scope) (bool, error) {
	if err := r.gather(ctx, s); err != nil {
		return false, err
	}
	stopped := true
	for _, c := range []resources.Component{resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor} {
		deployment, ok := s.live[childKey{"Deployment", resources.Name(s.sim, c)}].(*appsv1.Deployment)
		if ok && deployment.DeletionTimestamp == nil {
			err := r.client.Delete(ctx, deployment, client.PropagationPolicy(metav1.DeletePropagationForeground))
			if client.IgnoreNotFound(err) != nil {
				return false, fmt.Errorf("delete Deployment %s/%s: %w", deployment.Namespace, deployment.Name, err)
			}
		}
		stopped = stopped && len(s.podsOf(c)) == 0
	}
	return stopped, nil
}

// cleanUp starts an attempt to clean up, or tells what became of the one before.
func (r *Reconciler) cleanUp(ctx context.Context, s *scope) outcome {
	_, known := r.ledgers.latest(s.key)
	r.ledgers.forget(s.key)
	if err := r.resolveServers(ctx, s); err != nil {
		return outcome{err: err}
	}
	p, err := manifest.Plan(s.sim)
	if err != nil {
		return outcome{err: err, final: true}
	}
	job := cleanup{target: Target{Plan: p}, queues: !s.managedBroker(), keys: !s.managedStore()}
	if known != nil { // the Secrets may be gone by now
		job.target.Broker, job.target.Store = known.Broker, known.Store
	}
	if s.broker.address != nil {
		job.target.Broker = *s.broker.address
	}
	if s.store.address != nil {
		job.target.Store = *s.store.address
	}
	if job.queues && job.target.Broker.URI == nil || job.keys && job.target.Store.URI == nil {
		return outcome{err: errors.New("the Secret that says where the server is does not exist or is not valid"), final: true}
	}
	return r.cleaner.attempt(s.key, job)
}

// cleanup is what is to be removed.
type cleanup struct {
	target       Target
	queues, keys bool
}

// outcome is what became of a cleanup.
type outcome struct {
	running bool
	err     error
	// final means that another attempt would not end otherwise.
	final bool
	// ended is when the attempt did.
	ended time.Time
}

// Cleaner removes queues and keys in goroutines of its own, and calls for a reconcile when one is done. It
// is a manager.Runnable, and safe for concurrent use.
type Cleaner struct {
	backends Backends
	jobs     chan func(context.Context)
	news     chan event.GenericEvent

	mu       sync.Mutex
	outcomes map[client.ObjectKey]outcome
}

// NewCleaner returns a cleaner, which does nothing before it is started.
func NewCleaner(b Backends) *Cleaner {
	return &Cleaner{
		backends: b, jobs: make(chan func(context.Context), 1024), news: make(chan event.GenericEvent),
		outcomes: map[client.ObjectKey]outcome{},
	}
}

// Start does the work until ctx ends.
func (c *Cleaner) Start(ctx context.Context) error {
	const cleaners = 4
	var work sync.WaitGroup
	for range cleaners {
		work.Go(func() {
			for {
				select {
				case job := <-c.jobs:
					job(ctx)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	work.Wait()
	return nil
}

// NeedLeaderElection is true: only the leader deletes.
func (c *Cleaner) NeedLeaderElection() bool { return true }

// attempt returns how the latest attempt ended, and starts another one if there was none or it failed.
func (c *Cleaner) attempt(key client.ObjectKey, job cleanup) outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, tried := c.outcomes[key]
	if last.running || tried && (last.err == nil || time.Since(last.ended) < cleanupPause) {
		return last
	}
	select {
	case c.jobs <- func(ctx context.Context) { c.run(ctx, key, job) }:
		c.outcomes[key] = outcome{running: true, err: last.err}
	default: // too many wait: another reconcile tries again
		return outcome{err: errors.New("too many simulations are being cleaned up")}
	}
	return c.outcomes[key]
}

func (c *Cleaner) forget(key client.ObjectKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.outcomes, key)
}

func (c *Cleaner) run(ctx context.Context, key client.ObjectKey, job cleanup) {
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	err := job.do(attempt, c.backends)
	cancel()
	c.mu.Lock()
	if _, wanted := c.outcomes[key]; wanted {
		c.outcomes[key] = outcome{err: err, ended: time.Now()}
	}
	c.mu.Unlock()
	object := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	select {
	case c.news <- event.GenericEvent{Object: object}:
	case <-ctx.Done():
	}
}

// do removes what is to be removed.
func (j cleanup) do(ctx context.Context, b Backends) (err error) {
	closing := func(c io.Closer) { err = errors.Join(err, c.Close()) }
	var queues wiring.Queues
	if j.queues {
		opened, err := b.OpenQueues(j.target)
		if err != nil {
			return err
		}
		defer closing(opened)
		queues = opened
	}
	var keys wiring.Keys
	if j.keys {
		opened, err := b.OpenKeys(j.target)
		if err != nil {
			return err
		}
		defer closing(opened)
		keys = opened
	}
	return wiring.Remove(ctx, j.target.Plan.Simulation, queues, keys)
}
