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
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// Options say how simulations are run.
type Options struct {
	// Images are those of the simulations' containers.
	Images resources.Images
	// ClusterDomain is the cluster's DNS domain; "" means cluster.local.
	ClusterDomain string
	// OperatorNamespace is where the operator runs; "" means that it is not known.
	OperatorNamespace string
	// Workers is how many simulations are reconciled at a time.
	Workers int
	// CleanupTimeout is how long a deleted simulation is kept at most, while queues and keys cannot be
	// removed from servers that are not managed; 0 means 2 minutes.
	CleanupTimeout time.Duration
	// AllowPrivilegedTemplates lets templates set any field of a pod.
	AllowPrivilegedTemplates bool
}

// Dependencies are what a Reconciler works with.
type Dependencies struct {
	// Client reads from a cache with the indexes of this package.
	Client client.Client
	// Direct reads from the API server.
	Direct client.Reader
	// Events takes what people are to be told.
	Events events.EventRecorder
	// Ledgers reads the simulations' ledgers.
	Ledgers *LedgerReader
	// Cleaner removes what simulations leave on servers that are not managed.
	Cleaner *Cleaner
}

// Reconciler makes and keeps true what a ParkingSimulation asks for.
type Reconciler struct {
	options Options
	client  client.Client
	direct  client.Reader
	applier *apply.Applier
	events  events.EventRecorder
	ledgers *LedgerReader
	cleaner *Cleaner
	kinds   *kindRegister
	// features are those of the cluster.
	features clusterFeatures
	now      func() time.Time
}

// NewReconciler returns a reconciler. SetupWithManager has it called.
func NewReconciler(o Options, d Dependencies) *Reconciler {
	if o.CleanupTimeout == 0 {
		o.CleanupTimeout = cleanupTimeout
	}
	return &Reconciler{
		options: o,
		client:  d.Client,
		direct:  d.Direct,
		applier: apply.New(d.Client, d.Direct, d.Client.Scheme()),
		events:  d.Events,
		ledgers: d.Ledgers,
		cleaner: d.Cleaner,
		kinds:   newKindRegister(),
		now:     time.Now,
	}
}

// errHalt ends a reconcile whose findings say why. It is no error: somebody has to mend something, which
// calls for the next reconcile.
var errHalt = errors.New("the reconcile cannot go on")

// phase is one step of a reconcile.
type phase func(ctx context.Context, s *scope) error

// phases are the steps in their order.
func (r *Reconciler) phases() []phase {
	return []phase{
		// Nothing is made of a spec that makes no sense.
		r.validate,
		// The finalizer comes before there is anything that it would clean up.
		r.keepFinalizer,
		// All that is decided below is decided on one view of the cluster.
		r.gather,
		// Pods mount the Secrets that say where the servers are.
		r.resolveServers,
		// Passwords of managed servers are made once, and kept.
		r.generateCredentials,
		// The objects follow from spec, credentials and the state of the run.
		r.build,
		// What is known of the pods makes the first findings.
		r.observe,
		r.checkSummaryAPI,
		// The ledger tells whether external servers answer, and when a run is at its end.
		r.followLedger,
		r.follow,
		// The start is written down before any generator hears of it.
		r.start,
		// Wishes come true, and what is no longer wished for goes.
		r.applyChildren,
		r.prune,
		// Kubelets hear of a new plan, and of new passwords.
		r.syncMounts,
	}
}

// Reconcile brings one simulation closer to what it asks for.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (result reconcile.Result, err error) {
	sim := &v1alpha1.ParkingSimulation{}
	if err := r.client.Get(ctx, request.NamespacedName, sim); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.ledgers.forget(request.NamespacedName)
			r.cleaner.forget(request.NamespacedName)
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
			s.blame(err)
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, nil
}

// validate refuses a spec that the schema lets pass, but that makes no sense.
func (r *Reconciler) validate(_ context.Context, s *scope) error {
	if faults := manifest.Validate(s.sim); len(faults) > 0 {
		s.findings.spec = found(stalled, reasonInvalidSpec, "%s", faults)
		return errHalt
	}
	return nil
}

// blame says in the status what a reconcile failed of, unless a phase has said so.
func (s *scope) blame(err error) {
	if s.findings.objects.state != stalled && s.findings.objects.state != progressing {
		s.findings.objects = found(progressing, reasonApplyFailed, "%s; it is tried again", err)
	}
}
