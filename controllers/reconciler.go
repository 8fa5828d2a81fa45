package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/cleanup"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/podfailure"
	"github.com/parking-operator/parking-operator/internal/rehearsal"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// Options configure how the operator runs simulations.
type Options struct {
	// Images are the container images of the components and managed servers.
	Images resources.Images
	// ClusterDomain is the DNS domain of the cluster. If it is empty, the operator uses cluster.local.
	ClusterDomain string
	// OperatorNamespace is the namespace of the operator's pods, for network policies. It is empty if the namespace is
	// unknown.
	OperatorNamespace string
	// Version is the version of the operator, for reports.
	Version string
	// Workers is the number of simulations that are reconciled at the same time.
	Workers int
	// CleanupTimeout limits how long the deletion of a simulation waits for the removal of the simulation's queues and
	// keys from external servers. 0 means 2 minutes.
	CleanupTimeout time.Duration
	// AllowPrivilegedTemplates allows pod templates to set any field of a pod.
	AllowPrivilegedTemplates bool
	// PriorityClass is the priority class of the operator's pods. Pod templates must not use this class unless
	// AllowPrivilegedTemplates is set.
	PriorityClass string
}

// Dependencies are the clients and services that a Reconciler uses.
type Dependencies struct {
	// Client reads from a cache that has the indexes of this package.
	Client client.Client
	// Direct is a client that reads from the API server, not from a cache.
	Direct client.Reader
	Events events.EventRecorder
	// Observer reads the ledger, the queue depths and the number of stored summaries from the servers of each
	// simulation.
	Observer *observer.Observer
	// Rehearsals injects the faults of simulations.
	Rehearsals *rehearsal.Rehearsals
	// Cleaner removes the queues and keys of deleted simulations from external servers.
	Cleaner *cleanup.Cleaner
	// SummaryAPIs asks the summary APIs of simulations why they cannot use their databases.
	SummaryAPIs SummaryAPIs
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
	cleaner        *cleanup.Cleaner
	childKinds     []childKind
	kinds          *servedKinds
	secrets        *secretReaders
	databases      *databaseFailures
	clusterVersion func(context.Context) string
	// failures stores pod failures for the reports of the simulations.
	failures podfailure.Tracker
	// nodeNames stores the nodes of pods for the reports of the simulations.
	nodeNames nodeTracker
	// claimChecks stores the latest checks of the volume claims that must grow.
	claimChecks claimChecks
	features    clusterFeatures
	now         func() time.Time
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
		databases:      newDatabaseFailures(d.SummaryAPIs),
		clusterVersion: d.ClusterVersion,
		now:            time.Now,
	}
}

// errHalt ends a reconcile early without an error, because the findings already say why. A change of an object causes
// the next reconcile.
var errHalt = errors.New("the reconcile cannot continue")

// phase is one step of a reconcile.
type phase func(ctx context.Context, s *scope) error

// phases lists the steps of a reconcile in order.
func (r *Reconciler) phases() []phase {
	return []phase{
		// An invalid spec ends the reconcile, so that no objects are created.
		r.validate,
		// Add the finalizer before any object is created that needs cleanup.
		r.ensureFinalizer,
		// Read the objects that all later phases use.
		r.gather,
		// Read the Secrets with the bindings (addresses and credentials) of the servers.
		r.resolveBindings,
		// Generate the missing passwords, certificates and agent credentials.
		r.ensureCredentials,
		// Build the desired objects from the spec, the credentials and the status.
		r.build,
		// An object of another owner may have the name of a desired object. Neither the simulation's pods nor the
		// operator may use that object.
		r.checkNames,
		// Examine the workloads and everything that depends on them.
		r.assessWorkloads,
		r.assessParts,
		// The verdict depends on whether the schedule was edited, so trackEdits runs before it.
		r.trackEdits,
		// Read the ledger. It shows whether external servers respond, and whether all events have been processed.
		r.observe,
		r.rehearse,
		r.foresee,
		r.complete,
		r.assessProgress,
		// Write the start time to the status. The next reconcile copies it to the plan.
		r.start,
		// Enlarge the volumes of StatefulSets. A failure does not stop the phases that follow.
		r.growVolumes,
		// Apply the desired objects, then delete objects that are no longer desired.
		r.applyChildren,
		r.prune,
		// Make the kubelet update the mounted plan and Secrets in running pods at once.
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
		r.setScale(ctx, s)
		if err = errors.Join(err, r.patchStatus(ctx, s)); err == nil {
			result.RequeueAfter = s.wake
		}
	}()
	for _, step := range r.phases() {
		if err := step(ctx, s); errors.Is(err, errHalt) {
			s.halt()
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
	r.cleaner.Evict(key)
	r.secrets.retain(key, nil)
	r.databases.evict(key)
	r.failures.Evict(key)
	r.nodeNames.evict(key)
	r.claimChecks.evict(key)
}

// validate sets the condition Stalled if the spec is invalid in a way that the schema of the CRD cannot detect.
func (r *Reconciler) validate(_ context.Context, s *scope) error {
	if s.invalid != nil {
		s.findings.spec = found(stalled, reasonInvalidSpec, "%s", s.invalid)
		return errHalt
	}
	return nil
}

// halt sets the conditions that the reconcile has not examined to Unknown. A complete simulation keeps its status.
func (s *scope) halt() {
	if !s.isComplete() {
		s.findings.setUnexamined(s.before.Status.Conditions)
		s.sim.Status.TargetRates = nil
	}
}

// recordError makes the conditions show the error of a phase, unless they already show a problem with the objects.
func (s *scope) recordError(err error) {
	switch {
	case s.findings.objects.state == stalled || s.findings.objects.state == progressing:
	case apierrors.IsForbidden(err):
		s.findings.objects = forbidden(err)
	default:
		s.findings.objects = found(progressing, reasonApplyFailed, "%s; the operator retries", err)
	}
}

// forbidden returns the finding for a request that failed because the operator lacks a permission.
func forbidden(err error) finding {
	return found(stalled, reasonForbidden, "%s: grant the operator's role the permission. "+
		"If the operator runs with --namespaces, add this namespace to that flag", err)
}
