// Package rehearsal injects the faults of simulations into their pods, and stores the records of the faults in
// the cluster.
//
// Each tracked simulation has its own fault.Runner. The injector of the Runner deletes and evicts pods through
// the Kubernetes API. To kill, pause and isolate processes, it sends commands to agents in the pods. The
// journal of the Runner is a ConfigMap, which is written before each injection. So if another operator pod
// becomes the leader, it can continue where the previous leader stopped.
package rehearsal

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/backoff"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// Target is a simulation that has started and into which faults are to be injected.
type Target struct {
	// Simulation is the simulation with defaults set. Plan is its plan.
	Simulation *v1alpha1.ParkingSimulation
	Plan       *plan.Plan
	// Start is when the schedules of the simulation began.
	Start time.Time
	// Agents contains the credentials for requests to the agents. It is empty if no fault of the simulation
	// needs an agent.
	Agents resources.AgentCredentials
}

// replicas returns the number of pods that a component should have.
func (t Target) replicas(c resources.Component) int {
	spec := &t.Simulation.Spec
	switch c {
	case resources.ComponentEntry:
		return int(*spec.Entry.Replicas)
	case resources.ComponentExit:
		return int(*spec.Exit.Replicas)
	case resources.ComponentProcessor:
		return int(*spec.Processor.Replicas)
	case resources.ComponentRabbitMQ:
		if managed := spec.RabbitMQ.ManagedOrDefault(); managed != nil {
			return int(*managed.Replicas)
		}
	}
	return 1
}

// Dependencies are the dependencies of Rehearsals.
type Dependencies struct {
	// Client reads pods from a cache, and writes to the API server.
	Client client.Client
	// Direct reads from the API server, not from a cache.
	Direct client.Reader
	// Core is a REST client for the core API group, which contains pods.
	Core rest.Interface
	// Changed is called with each new version of a record, after that version was saved. It may be nil.
	Changed func(*v1alpha1.ParkingSimulation, fault.Record)
	// EvidenceTimeout is how long it may take until the status of a pod shows that the pod was killed. If it
	// takes longer, the fault counts as not injected. 0 means one minute.
	EvidenceTimeout time.Duration
	Logger          *slog.Logger
}

// Rehearsals injects the faults of all tracked simulations. It is a manager.Runnable. Its methods are safe for
// concurrent use.
type Rehearsals struct {
	deps Dependencies

	mu      sync.Mutex
	ctx     context.Context // nil before Start
	tracked map[types.NamespacedName]*rehearsal
	running sync.WaitGroup
}

// rehearsal injects the faults of one tracked simulation.
type rehearsal struct {
	stop context.CancelFunc // nil before it is started

	mu     sync.Mutex
	target Target
	runner *fault.Runner // nil until the journal is loaded
}

// New returns Rehearsals without any tracked simulation. It injects faults after both Start and Track have been
// called.
func New(d Dependencies) *Rehearsals {
	if d.EvidenceTimeout == 0 {
		d.EvidenceTimeout = defaultEvidenceTimeout
	}
	return &Rehearsals{deps: d, tracked: map[types.NamespacedName]*rehearsal{}}
}

// NeedLeaderElection returns true, so that only the leader injects faults.
func (r *Rehearsals) NeedLeaderElection() bool { return true }

// Start injects faults until ctx ends. Then it leaves the faults that are in effect unchanged, so that the next
// leader can continue them.
func (r *Rehearsals) Start(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	for key, tracked := range r.tracked {
		r.run(key, tracked)
	}
	r.mu.Unlock()
	<-ctx.Done()
	r.running.Wait()
	return nil
}

// Track starts to inject the faults of a simulation. If the simulation is already tracked, Track replaces its
// Target. If the plan has changed, this affects only future occurrences of faults.
func (r *Rehearsals) Track(key types.NamespacedName, t Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tracked, ok := r.tracked[key]; ok {
		tracked.update(t)
		return
	}
	tracked := &rehearsal{target: t}
	r.tracked[key] = tracked
	if r.ctx != nil {
		r.run(key, tracked)
	}
}

// run runs a rehearsal in a new goroutine. The caller must hold r.mu.
func (r *Rehearsals) run(key types.NamespacedName, t *rehearsal) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.ctx))
	t.stop = func() { cancel(nil) }
	handOver := context.AfterFunc(r.ctx, func() { cancel(fault.ErrHandedOver) })
	r.running.Go(func() {
		defer cancel(nil)
		defer handOver()
		r.rehearse(ctx, key, t)
	})
}

// rehearse loads the journal, and then runs a fault.Runner until ctx ends.
func (r *Rehearsals) rehearse(ctx context.Context, key types.NamespacedName, t *rehearsal) {
	log := r.deps.Logger.With("simulation", key.String())
	j := &journal{client: r.deps.Client, direct: r.deps.Direct, target: t.get, saved: func(changed *fault.Record) {
		if changed != nil && r.deps.Changed != nil {
			r.deps.Changed(t.get().Simulation, *changed)
		}
	}}
	retries := backoff.Backoff{First: time.Second, Last: 30 * time.Second}
	for {
		err := j.load(ctx)
		if err == nil {
			break
		}
		log.Warn("Faults are not injected", "error", err)
		if retries.Wait(ctx, 0) != nil {
			return
		}
	}
	target := t.get()
	runner := fault.NewRunner(
		fault.RunnerConfig{Plan: target.Plan, Start: target.Start, Progress: j.content.Progress, Records: j.content.Records},
		fault.RunnerDependencies{Injector: &injector{
			client: r.deps.Client, core: r.deps.Core, target: t.get, evidenceTimeout: r.deps.EvidenceTimeout,
		}, Journal: j, Logger: log})
	t.set(runner)
	runner.Run(ctx)
}

// Untrack stops injecting the faults of a simulation, and ends the faults that are in effect. It does not wait
// until they have ended.
func (r *Rehearsals) Untrack(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tracked, ok := r.tracked[key]; ok {
		delete(r.tracked, key)
		if tracked.stop != nil {
			tracked.stop()
		}
	}
}

// Records returns the records of a tracked simulation's faults. It returns false until the journal is loaded.
func (r *Rehearsals) Records(key types.NamespacedName) (records []fault.Record, ok bool) {
	r.mu.Lock()
	tracked := r.tracked[key]
	r.mu.Unlock()
	if tracked == nil {
		return nil, false
	}
	tracked.mu.Lock()
	runner := tracked.runner
	tracked.mu.Unlock()
	if runner == nil {
		return nil, false
	}
	return runner.Records(), true
}

func (t *rehearsal) get() Target {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.target
}

func (t *rehearsal) set(r *fault.Runner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runner = r
}

func (t *rehearsal) update(target Target) {
	t.mu.Lock()
	before, runner := t.target.Plan, t.runner
	t.target = target
	t.mu.Unlock()
	if runner != nil && !sameFaults(before, target.Plan) {
		runner.Update(target.Plan)
	}
}

// sameFaults reports whether two plans have the same occurrences of faults, and whether both or none of them
// are suspended.
func sameFaults(a, b *plan.Plan) bool {
	return a.Suspended == b.Suspended && a.Seed == b.Seed && a.Duration == b.Duration && slices.Equal(a.Faults, b.Faults)
}
