package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/rehearsal"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// Options configure how simulations are run.
type Options struct {
	// Images are the container images of simulations.
	Images resources.Images
	// ClusterDomain is the cluster's DNS domain; "" means cluster.local.
	ClusterDomain string
	// OperatorNamespace is the namespace of the operator's pods; "" means unknown.
	OperatorNamespace string
	// Version is the version of the operator, for reports.
	Version string
	// Workers is the number of simulations that are reconciled at the same time.
	Workers int
	// CleanupTimeout is how long the deletion of a simulation waits at most for the removal of its queues and
	// keys from external servers; 0 means 2 minutes.
	CleanupTimeout time.Duration
	// AllowPrivilegedTemplates lets templates set any field of a pod.
	AllowPrivilegedTemplates bool
}

// Dependencies are the clients and services that a Reconciler uses.
type Dependencies struct {
	// Client reads from a cache with the indexes of this package.
	Client client.Client
	// Direct reads from the API server.
	Direct client.Reader
	// Events records Kubernetes events.
	Events events.EventRecorder
	// Observer reads the simulations' servers.
	Observer *observer.Observer
	// Rehearsals inject the simulations' faults.
	Rehearsals *rehearsal.Rehearsals
	// Cleaner removes the queues and keys of deleted simulations from external servers.
	Cleaner *Cleaner
	// ClusterVersion returns the version of the cluster, or "" if it is unknown.
	ClusterVersion func(context.Context) string
}

// Reconciler reconciles ParkingSimulations.
type Reconciler struct {
	options        Options
	client         client.Client
	direct         client.Reader
	applier        *apply.Applier
	events         events.EventRecorder
	observer       *observer.Observer
	rehearsals     *rehearsal.Rehearsals
	cleaner        *Cleaner
	childKinds     []childKind
	kinds          *servedKinds
	secrets        *secretReaders
	clusterVersion func(context.Context) string
	// features are those of the cluster.
	features clusterFeatures
	now      func() time.Time
}

// NewReconciler returns a reconciler. SetupWithManager starts it.
func NewReconciler(o Options, d Dependencies) *Reconciler {
	if o.CleanupTimeout == 0 {
		o.CleanupTimeout = cleanupTimeout
	}
	return &Reconciler{
		options:        o,
		client:         d.Client,
		direct:         d.Direct,
		applier:        apply.New(d.Client, d.Direct, d.Client.Scheme()),
		events:         d.Events,
		observer:       d.Observer,
		rehearsals:     d.Rehearsals,
		cleaner:        d.Cleaner,
		childKinds:     childKinds(),
		kinds:          newServedKinds(),
		secrets:        newSecretReaders(),
		clusterVersion: d.ClusterVersion,
		now:            time.Now,
	}
}

// errHalt ends a reconcile without an error. The findings say why; a later change causes the next reconcile.
var errHalt = errors.New("the reconcile cannot go on")

// phase is one step of a reconcile.
type phase func(ctx context.Context, s *scope) error

// phases lists the steps in order.
func (r *Reconciler) phases() []phase {
	return []phase{
		// Nothing is created from an invalid spec.
		r.validate,
		// The finalizer precedes everything that it cleans up.
		r.ensureFinalizer,
		// All decisions below are based on one view of the cluster.
		r.gather,
		// Pods mount the Secrets with the bindings of servers.
		r.resolveBindings,
		// Passwords of managed servers are generated once.
		r.ensureCredentials,
		// The desired objects follow from the plan, the credentials, and the progress of the run.
		r.build,
		// Findings about the workloads and the parts that depend on them.
		r.assessWorkloads,
		r.assessParts,
		// The ledger shows whether external servers answer, and whether the run has come to rest.
		r.observe,
		r.rehearse,
		r.foresee,
		r.complete,
		r.assessProgress,
		// The start is written to the status before the plan contains it.
		r.start,
		// Apply the desired objects, then delete those no longer desired.
		r.applyChildren,
		r.prune,
		// Running pods get the new plan and new passwords soon.
		r.syncMounts,
	}
}

// Reconcile brings the objects and the status of one simulation up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (result reconcile.Result, err error) {
	sim := &v1alpha1.ParkingSimulation{}
	if err := r.client.Get(ctx, request.NamespacedName, sim); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.evict(request.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("read simulation %s: %w", request.NamespacedName, err)
	}
	s := newScope(sim, r.now())
	if sim.DeletionTimestamp != nil {
		return r.finalize(ctx, s)
	}
	defer func() {
		if err = errors.Join(err, r.patchStatus(ctx, s)); err == nil {
			result.RequeueAfter = s.wake
		}
	}()
	for _, step := range r.phases() {
		if err := step(ctx, s); errors.Is(err, errHalt) {
			return reconcile.Result{}, nil
		} else if err != nil {
			s.recordError(err)
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, nil
}

// evict removes everything that is held in memory about a simulation.
func (r *Reconciler) evict(key client.ObjectKey) {
	r.observer.Untrack(key)
	r.rehearsals.Untrack(key)
	r.cleaner.evict(key)
	r.secrets.retain(key, nil)
}

// validate stalls a simulation whose spec the schema accepts although it is invalid.
func (r *Reconciler) validate(_ context.Context, s *scope) error {
	if s.invalid != nil {
		s.findings.spec = found(stalled, reasonInvalidSpec, "%s", s.invalid)
		return errHalt
	}
	return nil
}

// recordError makes a finding of a phase's error unless the phase has made one.
func (s *scope) recordError(err error) {
	if s.findings.objects.state != stalled && s.findings.objects.state != progressing {
		s.findings.objects = found(progressing, reasonApplyFailed, "%s; the operator retries", err)
	}
}
