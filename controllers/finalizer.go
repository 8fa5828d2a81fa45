package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/cleanup"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/purge"
	"github.com/parking-operator/parking-operator/internal/resources"
)

const (
	// Finalizer is the finalizer of simulations. The operator removes it once generators and processors have ended,
	// and queues and keys are removed from external servers.
	Finalizer = v1alpha1.Group + "/cleanup"

	// cleanupTimeout is how long the deletion of a simulation waits for its cleanup, unless Options.CleanupTimeout is
	// set.
	cleanupTimeout = 2 * time.Minute
	// closeInterval is how often the operator checks whether the observer has closed the clients of a simulation.
	closeInterval = time.Second
)

// needsCleanup reports whether the operator must remove the simulation's queues or keys from external servers.
func (s *scope) needsCleanup() bool {
	return s.sim.Spec.DeletionPolicy == v1alpha1.DeletionPolicyDelete && (!s.managesBroker() || !s.managesStore())
}

// ensureFinalizer adds the finalizer, so that the operator sees every deletion.
func (r *Reconciler) ensureFinalizer(ctx context.Context, s *scope) error {
	if !controllerutil.AddFinalizer(s.sim, Finalizer) {
		return nil
	}
	return r.patchFinalizers(ctx, s)
}

// patchFinalizers writes only the finalizers. It fails with a conflict if the simulation has changed since it was
// read.
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

// finalize stops the workloads of a deleted simulation, and removes its data from external servers. Then, or after the
// cleanup timeout, it removes the finalizer.
func (r *Reconciler) finalize(ctx context.Context, s *scope) (reconcile.Result, error) {
	r.rehearsals.Untrack(s.key)
	r.observer.Untrack(s.key)
	if !controllerutil.ContainsFinalizer(s.sim, Finalizer) {
		return reconcile.Result{}, nil
	}
	deadline := s.sim.DeletionTimestamp.Add(r.options.CleanupTimeout)
	pods, err := r.stopWorkloads(ctx, s)
	switch {
	case err != nil:
		return reconcile.Result{}, err
	case len(pods) > 0 && s.now.Before(deadline):
		return reconcile.Result{RequeueAfter: max(min(cleanup.Interval, deadline.Sub(s.now)), time.Millisecond)}, nil
	}
	if !s.needsCleanup() {
		return r.removeFinalizer(ctx, s)
	}
	return r.finalizeData(ctx, s, pods, deadline)
}

// finalizeData removes the data of a deleted simulation from external servers, and then the finalizer. The given pods
// have not ended, and may create data again.
func (r *Reconciler) finalizeData(ctx context.Context, s *scope, pods []string, deadline time.Time) (reconcile.Result, error) {
	// The clients of the observer declare queues, so wait until they are closed.
	if !r.observer.IsClosed(s.key) && s.now.Before(deadline) {
		return reconcile.Result{RequeueAfter: closeInterval}, nil
	}
	result := r.cleanUp(ctx, s)
	if result.Running && result.Began.IsZero() {
		return reconcile.Result{RequeueAfter: cleanup.Interval}, nil // the cleanups of other simulations run first
	}
	// The cleanup timeout starts with the first attempt to clean up.
	if last := result.Began.Add(r.options.CleanupTimeout); last.After(deadline) {
		deadline = last
	}
	overdue, left := !s.now.Before(deadline), max(deadline.Sub(s.now), time.Millisecond)
	switch {
	case result.Done() && len(pods) > 0:
		r.reportPods(ctx, s, pods)
	case result.Done():
		r.event(s, corev1.EventTypeNormal, "CleanedUp", "Delete", "Removed the queues and keys of %s from its external servers%s", manifest.ID(s.sim), except(result.Foreign))
	case result.final || overdue:
		r.abandonCleanup(ctx, s, result)
	case result.Running:
		return reconcile.Result{RequeueAfter: left}, nil
	default:
		return reconcile.Result{RequeueAfter: min(cleanup.Interval, left)}, nil
	}
	return r.removeFinalizer(ctx, s)
}

// except returns the end of a sentence that says which queues or keys were kept, because they belong to another
// simulation of the same name.
func except(foreign purge.Foreign) string {
	if foreign == (purge.Foreign{}) {
		return ""
	}
	return fmt.Sprintf(", except %s that belong to another simulation of the same name", foreign)
}

// abandonCleanup reports the remaining queues and keys in an event. It also logs them, because a namespace that is
// being deleted accepts no new events.
func (r *Reconciler) abandonCleanup(ctx context.Context, s *scope, result cleanupResult) {
	r.reportAbandoned(ctx, s, s.leftBehind(result))
}

// reportPods reports that the queues and keys are removed, but that the given pods may create them again.
func (r *Reconciler) reportPods(ctx context.Context, s *scope, pods []string) {
	const most = 5
	names := strings.Join(pods[:min(len(pods), most)], ", ")
	if more := len(pods) - most; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	id := manifest.ID(s.sim)
	r.reportAbandoned(ctx, s, fmt.Sprintf("The simulation is deleted and its queues and keys are removed, but these pods have not ended and may "+
		"create the queues and keys again: %s. When the pods have ended, run 'parking purge --simulation %s %s'", names, id, strings.Join(s.purgeOptions(), " ")))
}

// purgeOptions returns the options with which 'parking purge' connects to the simulation's external servers.
func (s *scope) purgeOptions() []string {
	var options []string
	if !s.managesBroker() {
		options = append(options, "--rabbitmq-uri URI")
	}
	if !s.managesStore() {
		options = append(options, "--redis-uri URI")
	}
	return options
}

func (r *Reconciler) reportAbandoned(ctx context.Context, s *scope, message string) {
	r.event(s, corev1.EventTypeWarning, "CleanupAbandoned", "Delete", "%s", message)
	log.FromContext(ctx).Error(errors.New(message), "Cleanup abandoned")
}

// leftBehind returns the command that removes the remaining queues or keys, and their description. The command comes
// first, because long event messages are cut off.
func (s *scope) leftBehind(result cleanupResult) string {
	id := manifest.ID(s.sim)
	var options, parts []string
	for _, part := range []struct {
		external     bool
		err          error
		what, option string
		server       server
	}{
		{!s.managesBroker(), result.Queues, "exchange and queues parking." + id + "*", "--rabbitmq-uri URI", s.broker},
		{!s.managesStore(), result.Keys, "keys parking:{" + id + ":*", "--redis-uri URI", s.store},
	} {
		if !part.external || part.err == nil && !result.Running {
			continue
		}
		why := "no answer in time"
		if part.err != nil {
			why = strings.ReplaceAll(part.err.Error(), "\n", "; ")
		}
		options = append(options, part.option)
		parts = append(parts, fmt.Sprintf("%s on %s: %s", part.what, part.server.leftOn(), why))
	}
	return fmt.Sprintf("The simulation is deleted, but the operator could not remove all of its data. Run 'parking purge --simulation %s %s' to remove %s",
		id, strings.Join(options, " "), strings.Join(parts, "; and "))
}

func (r *Reconciler) removeFinalizer(ctx context.Context, s *scope) (reconcile.Result, error) {
	controllerutil.RemoveFinalizer(s.sim, Finalizer)
	switch err := r.patchFinalizers(ctx, s); {
	case s.isRejected(err):
		r.reportRejected(ctx, s)
		return reconcile.Result{RequeueAfter: rejectedRetry}, nil
	case err != nil:
		return reconcile.Result{}, err
	}
	r.evict(s.key)
	return reconcile.Result{}, nil
}

// stopWorkloads deletes the generators and processors, so that they cannot create removed queues and keys again. It
// returns the names of the pods that have not ended.
func (r *Reconciler) stopWorkloads(ctx context.Context, s *scope) (pods []string, err error) {
	if err := r.gather(ctx, s); err != nil {
		return nil, err
	}
	for _, c := range ownComponents() {
		deployment, ok := s.children[childKey{"Deployment", resources.Name(s.sim, c.component)}].(*appsv1.Deployment)
		if ok && deployment.DeletionTimestamp == nil {
			err := r.client.Delete(ctx, deployment, client.PropagationPolicy(metav1.DeletePropagationForeground))
			if client.IgnoreNotFound(err) != nil {
				return nil, fmt.Errorf("delete Deployment %s/%s: %w", deployment.Namespace, deployment.Name, err)
			}
		}
		for _, pod := range s.livePodsOf(c.component) {
			pods = append(pods, pod.Name)
		}
	}
	slices.Sort(pods)
	return pods, nil
}

type cleanupResult struct {
	cleanup.Result

	// final is true if another attempt to clean up would have the same result.
	final bool
}

// cleanUp returns the result of the latest attempt to clean up. It starts another attempt if one is due.
func (r *Reconciler) cleanUp(ctx context.Context, s *scope) cleanupResult {
	if err := r.resolveBindings(ctx, s); err != nil {
		return cleanupResult{Result: cleanup.Result{Queues: err, Keys: err}}
	}
	// Do not use s.plan, because it is nil if the spec is invalid.
	job := cleanup.Job{Plan: manifest.Identity(s.sim)}
	remembered := r.cleaner.Remembered(s.key)
	s.broker.remembered = cmp.Or(remembered.Broker, s.broker.remembered)
	s.store.remembered = cmp.Or(remembered.Store, s.store.remembered)
	var missing cleanupResult
	if !s.managesBroker() {
		job.Broker, missing.Queues = s.broker.cleanupBinding()
	}
	if !s.managesStore() {
		job.Store, missing.Keys = s.store.cleanupBinding()
	}
	if job.Broker == nil && job.Store == nil {
		missing.final = true
		return missing
	}
	result := cleanupResult{Result: r.cleaner.Attempt(s.key, job)}
	// Retries do not help on servers without a usable binding, so ignore the errors in missing.
	result.final = result.Done()
	result.Queues, result.Keys = errors.Join(result.Queues, missing.Queues), errors.Join(result.Keys, missing.Keys)
	return result
}

// cleanupBinding returns the current binding for the cleanup or, if that is unknown, the last known binding.
func (s server) cleanupBinding() (*binding.Binding, error) {
	switch {
	case s.denied:
		return nil, errors.New(s.finding.message)
	case s.binding != nil:
		return s.binding, nil
	case s.remembered != nil:
		return s.remembered, nil
	case s.finding.reason == reasonSecretMissing:
		return nil, errors.New("the Secret no longer exists, and this operator process has never read it")
	}
	return nil, errors.New(orElse(s.finding.message, "the binding of the server is unknown"))
}

// remember returns the binding to store for the cleanup: the current binding, or before if that is unknown. The result
// is nil for managed servers, and for servers that the simulation may no longer use.
func (s server) remember(before *binding.Binding) *binding.Binding {
	switch {
	case s.managed || s.denied:
		return nil
	case s.binding != nil:
		return s.binding
	}
	return before
}

// rememberBindings stores the bindings of the external servers for the cleanup.
func (r *Reconciler) rememberBindings(s *scope) {
	known := r.cleaner.Remembered(s.key)
	r.cleaner.Remember(s.key, cleanup.Bindings{Broker: s.broker.remember(known.Broker), Store: s.store.remember(known.Store)})
}
