// Package rehearsal injects the faults of simulations into their pods, and stores the records of the faults in the
// cluster.
package rehearsal

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/backoff"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// Target is a simulation that has started and into which faults are to be injected.
type Target struct {
	// Simulation is the simulation with defaults set. Plan is its plan.
	Simulation *v1alpha1.ParkingSimulation
	Plan       *plan.Plan
	// Start is when the schedules of the simulation began.
	Start time.Time
	// FaultsEdited means that the user has just edited the faults. Only the first call of Track uses it: if the
	// simulation has no journal, overdue occurrences are skipped.
	FaultsEdited bool
	// Agents contains the credentials for requests to the agents. It is empty if no fault of the simulation
	// needs an agent.
	Agents resources.AgentCredentials
}

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
	case resources.ComponentSummaries:
		if managed := spec.SummaryAPI.ManagedOrDefault(); managed != nil {
			return int(*managed.Replicas)
		}
	}
	return 1
}

// Dependencies are the clients and settings that Rehearsals needs.
type Dependencies struct {
	// Client reads pods from a cache, and writes to the API server.
	Client client.Client
	// Direct is a client that reads from the API server, not from a cache.
	Direct client.Reader
	// Core is a REST client for the core API group, which contains pods.
	Core rest.Interface
	// Changed is called after the new state of a fault was saved. Changed may be nil.
	Changed func(*v1alpha1.ParkingSimulation, fault.Record)
	// Timeouts replaces the default timeouts. A field with the value 0 keeps its default.
	Timeouts Timeouts
	// ClientPort returns the port at which the pods of a component answer clients. Tests set it. nil means
	// resources.ClientPort.
	ClientPort func(*plan.Plan, resources.Component) int32
	Logger     *slog.Logger
}

// Timeouts contains the time limits of the steps with which the operator injects and ends a fault.
type Timeouts struct {
	// Evidence is how long the operator waits for a pod status, a disruption budget or an agent. The default of one
	// minute suffices for a busy kubelet.
	Evidence time.Duration
	// Probe is the timeout of a request that checks whether a fault has an effect. The default is 3 s.
	Probe time.Duration
	// Agent is the timeout of a request to an agent. The default is agent.DefaultTimeout.
	Agent time.Duration
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

type rehearsal struct {
	stop  context.CancelFunc // nil until the rehearsal starts
	added bool               // whether the faults were added while the simulation ran

	mu     sync.Mutex
	target Target
	runner *fault.Runner // nil until the journal is loaded
	err    error         // why the journal could not be loaded or saved, or nil
}

// New returns Rehearsals that track no simulation. They inject faults only after both Start and Track have been called.
func New(d Dependencies) *Rehearsals {
	d.Timeouts = Timeouts{
		Evidence: cmp.Or(d.Timeouts.Evidence, time.Minute), Probe: cmp.Or(d.Timeouts.Probe, 3*time.Second),
		Agent: cmp.Or(d.Timeouts.Agent, agent.DefaultTimeout),
	}
	if d.ClientPort == nil {
		d.ClientPort = resources.ClientPort
	}
	return &Rehearsals{deps: d, tracked: map[types.NamespacedName]*rehearsal{}}
}

// NeedLeaderElection returns true, so that only the leader injects faults.
func (r *Rehearsals) NeedLeaderElection() bool { return true }

// Start injects faults until ctx ends. Faults that are in effect at that time stay in effect, so that the next leader
// can continue them.
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
// Target. A changed plan affects only future occurrences of faults.
func (r *Rehearsals) Track(key types.NamespacedName, t Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tracked, ok := r.tracked[key]; ok {
		tracked.update(t)
		return
	}
	tracked := &rehearsal{target: t, added: t.FaultsEdited}
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
	j := &journal{client: r.deps.Client, direct: r.deps.Direct, target: t.get, failed: t.fail, changed: func(changed *fault.Record) {
		if r.deps.Changed != nil {
			r.deps.Changed(t.get().Simulation, *changed)
		}
	}}
	retries := backoff.Backoff{First: time.Second, Last: 30 * time.Second}
	for {
		err := j.load(ctx)
		if err == nil {
			break
		}
		t.fail(err)
		log.Warn("Failed to read the state of the faults; no fault is injected until a retry succeeds", "error", err)
		if retries.Wait(ctx, 0) != nil {
			return
		}
	}
	target := t.get()
	runner := fault.NewRunner(
		fault.RunnerConfig{
			Plan: target.Plan, Start: target.Start, Progress: j.content.Progress, Records: j.content.Records,
			History: j.content.History, Added: t.added,
		},
		fault.RunnerDependencies{Injector: &injector{
			client: r.deps.Client, core: r.deps.Core, pods: podhttp.New(), target: t.get, records: t.records,
			clientPort: r.deps.ClientPort, timeouts: r.deps.Timeouts,
		}, Journal: j, Logger: log})
	t.set(runner)
	runner.Run(ctx)
}

// Untrack stops injecting the faults of a simulation, and ends the faults that are in effect. It does not wait
// until these faults have ended.
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
	tracked := r.find(key)
	if tracked == nil {
		return nil, false
	}
	records = tracked.records()
	return records, records != nil
}

// History summarizes the older occurrences of a simulation's faults, whose records were removed to limit the size of
// the journal.
func (r *Rehearsals) History(key types.NamespacedName) fault.History {
	if tracked := r.find(key); tracked != nil {
		if runner := tracked.current(); runner != nil {
			return runner.History()
		}
	}
	return fault.History{}
}

// Settle returns the accounts of a simulation's faults so far, and saves those that are final. It returns nil until the
// journal is loaded.
func (r *Rehearsals) Settle(key types.NamespacedName, run fault.Run) []fault.Account {
	tracked := r.find(key)
	if tracked == nil {
		return nil
	}
	runner := tracked.current()
	if runner == nil {
		return nil
	}
	return runner.Settle(run)
}

// records returns the records of the faults, or nil if the journal is not loaded yet.
func (t *rehearsal) records() []fault.Record {
	runner := t.current()
	if runner == nil {
		return nil
	}
	return runner.Records()
}

// current returns the runner of the simulation's faults. It returns nil until the saved records of faults are loaded.
func (t *rehearsal) current() *fault.Runner {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.runner
}

// Err returns why the faults of a simulation cannot be injected now, or nil. An *apply.NameTakenError means that
// another object has the name of the journal's ConfigMap.
func (r *Rehearsals) Err(key types.NamespacedName) error {
	tracked := r.find(key)
	if tracked == nil {
		return nil
	}
	tracked.mu.Lock()
	defer tracked.mu.Unlock()
	return tracked.err
}

// find returns the rehearsal of a simulation, or nil if the simulation is not tracked.
func (r *Rehearsals) find(key types.NamespacedName) *rehearsal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tracked[key]
}

// fail sets the error that Rehearsals.Err returns.
func (t *rehearsal) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
}

func (t *rehearsal) get() Target {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.target
}

func (t *rehearsal) set(r *fault.Runner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runner, t.err = r, nil
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

// sameFaults reports whether two plans have the same occurrences of faults, and are either both suspended or both not
// suspended.
func sameFaults(a, b *plan.Plan) bool {
	return a.Suspended == b.Suspended && a.Seed == b.Seed && a.Duration == b.Duration && slices.Equal(a.Faults, b.Faults)
}
