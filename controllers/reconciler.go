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

// Options configure how the operator runs simulations.
type Options struct {
	// Images are the container images of the components and managed servers.
	Images resources.Images
	// ClusterDomain is the DNS domain of the cluster. If it is empty, the operator uses cluster.local.
	ClusterDomain string
	// OperatorNamespace is the namespace of the operator's pods, which network policies need. It is empty if the
	// namespace is unknown.
	OperatorNamespace string
	// Version is the version of the operator. Reports contain it.
	Version string
	// Workers is the number of simulations that are reconciled at the same time.
	Workers int
	// CleanupTimeout is the maximum time that the deletion of a simulation waits until the simulation's queues and
	// keys are removed from external servers. 0 means 2 minutes.
	CleanupTimeout time.Duration
	// AllowPrivilegedTemplates allows pod templates to set any field of a pod.
	AllowPrivilegedTemplates bool
}

// Dependencies are the clients and services that a Reconciler uses.
type Dependencies struct {
	// Client reads from a cache that has the indexes of this package.
	Client client.Client
	// Direct reads from the API server instead of a cache.
	Direct client.Reader
	Events events.EventRecorder
	// Observer reads the ledgers, queue depths and summary counts of simulations from their servers.
	Observer *observer.Observer
	// Rehearsals injects the faults of simulations.
	Rehearsals *rehearsal.Rehearsals
	// Cleaner removes the queues and keys of deleted simulations from external servers.
	Cleaner *Cleaner
	// ClusterVersion returns the Kubernetes version of the cluster, or "" if it is unknown.
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
	// features caches which features the cluster has.
	features clusterFeatures
	now      func() time.Time
}

// NewReconciler returns a reconciler. Call SetupWithManager to run it.
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

// errHalt ends a reconcile early without reporting an error. The findings say why. The next reconcile follows when
// one of the objects involved changes.
var errHalt = errors.New("the reconcile cannot continue")

// phase is one step of a reconcile.
type phase func(ctx context.Context, s *scope) error

// phases lists the steps of a reconcile in order.
func (r *Reconciler) phases() []phase {
	return []phase{
		// If the spec is invalid, no objects are created.
		r.validate,
		// Every object that needs cleanup must be created after the finalizer has been added.
		r.ensureFinalizer,
		// gather reads the objects that all later phases use.
		r.gather,
		// Read the Secrets with the bindings (addresses and credentials) of the servers. Pods mount these Secrets
		// too.
		r.resolveBindings,
		// Generate the passwords of managed servers, but only once.
		r.ensureCredentials,
		// The desired objects depend on the plan, the credentials, and the progress of the simulation.
		r.build,
		// Examine the workloads and everything that depends on them.
		r.assessWorkloads,
		r.assessParts,
		// Reading the ledger shows whether external servers respond, and whether all events have been processed.
		r.observe,
		r.rehearse,
		r.foresee,
		r.complete,
		r.assessProgress,
		// Write the start time to the status first. The next reconcile writes it to the plan.
		r.start,
		// Apply the desired objects, then delete objects that are no longer desired.
		r.applyChildren,
		r.prune,
		// Make running pods read a new plan or new passwords soon.
		r.syncMounts,
	}
}

// Reconcile applies the desired objects of one simulation and updates its status.
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

// evict discards everything that is stored in memory about a simulation.
func (r *Reconciler) evict(key client.ObjectKey) {
	r.observer.Untrack(key)
	r.rehearsals.Untrack(key)
	r.cleaner.evict(key)
	r.secrets.retain(key, nil)
}

// validate sets the simulation to stalled if its spec is invalid in a way that the schema of the CRD cannot detect.
func (r *Reconciler) validate(_ context.Context, s *scope) error {
	if s.invalid != nil {
		s.findings.spec = found(stalled, reasonInvalidSpec, "%s", s.invalid)
		return errHalt
	}
	return nil
}

// recordError records the error of a phase for the conditions, unless the phase has already done so.
func (s *scope) recordError(err error) {
	if s.findings.objects.state != stalled && s.findings.objects.state != progressing {
		s.findings.objects = found(progressing, reasonApplyFailed, "%s; the operator retries", err)
	}
}
