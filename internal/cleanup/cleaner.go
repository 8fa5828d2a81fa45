// Package cleanup removes the queues and keys of deleted simulations from external servers, in the background.
package cleanup

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/fair"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/purge"
	"github.com/parking-operator/parking-operator/internal/store"
)

const (
	// Interval is the minimum time from the end of a failed cleanup attempt to the start of the next attempt for the
	// same simulation.
	Interval = 5 * time.Second
	// attemptTimeout limits the time that one cleanup attempt spends on one server.
	attemptTimeout = 20 * time.Second
)

// Servers opens clients of a simulation's servers. A client connects on its first use.
type Servers interface {
	OpenBroker(p *plan.Plan, at binding.Binding) (broker.Broker, error)
	OpenStore(p *plan.Plan, at binding.Binding) (store.Store, error)
}

// Job describes the cleanup of a simulation on its external servers. A server whose binding is nil is skipped.
type Job struct {
	Plan          *plan.Plan
	Broker, Store *binding.Binding
}

// Result is the result of the latest attempt to clean up.
type Result struct {
	// Running is true while an attempt runs or waits to run.
	Running bool
	// Began is the start time of the first attempt. It is zero until that attempt starts.
	Began time.Time
	// Queues is the error of the attempt to remove the queues, or nil. Keys is the error of the attempt to remove the
	// keys, or nil.
	Queues, Keys error
	// Foreign says which data was not removed, because it belongs to another simulation with the same name.
	Foreign purge.Foreign
	// ended is the end time of the latest attempt that has ended.
	ended time.Time
}

// Done reports whether the latest attempt has ended without an error.
func (r Result) Done() bool { return !r.Running && r.Queues == nil && r.Keys == nil }

// Bindings contains the addresses and credentials of a simulation's external servers. A field is nil if the operator
// itself manages the server, or if the address is unknown.
type Bindings struct{ Broker, Store *binding.Binding }

// Cleaner removes queues and keys of deleted simulations from external servers, in the background. It is a
// manager.Runnable and safe for concurrent use.
type Cleaner struct {
	servers Servers
	// pool limits the attempts per namespace, so that an unresponsive server hardly delays other namespaces.
	pool    *fair.Pool
	updates chan event.TypedGenericEvent[types.NamespacedName]

	mu sync.Mutex
	// start adds an attempt to the pool. While Cleaner.Start is not running, start is nil, and new attempts are kept in
	// waiting.
	start   func(*attempt)
	waiting []*attempt
	latest  map[client.ObjectKey]*attempt
	known   map[client.ObjectKey]Bindings
}

type attempt struct {
	key    client.ObjectKey
	job    Job
	result Result
	// cancel cancels the attempt. It is nil until the attempt begins.
	cancel context.CancelFunc
}

// New returns a cleaner, which does nothing until Start is called.
func New(servers Servers) *Cleaner {
	return &Cleaner{
		servers: servers,
		pool:    fair.New(fair.Limits{Total: 32, PerTenant: 4}), // each namespace is a tenant
		updates: make(chan event.TypedGenericEvent[types.NamespacedName]),
		latest:  map[client.ObjectKey]*attempt{},
		known:   map[client.ObjectKey]Bindings{},
	}
}

// Start runs cleanup attempts until ctx ends.
func (c *Cleaner) Start(ctx context.Context) error {
	c.mu.Lock()
	c.start = func(a *attempt) { c.pool.Go(a.key.Namespace, func() { c.run(ctx, a) }) }
	for _, a := range c.waiting {
		c.start(a)
	}
	c.waiting = nil
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	c.start = nil // prevents calls of pool.Go during pool.Wait
	c.mu.Unlock()
	c.pool.Wait()
	return nil
}

// NeedLeaderElection returns true, because only the leader may remove queues and keys.
func (c *Cleaner) NeedLeaderElection() bool { return true }

// Remember stores the bindings of a simulation's external servers, in case the Secrets with these bindings are deleted
// before the simulation.
func (c *Cleaner) Remember(key client.ObjectKey, b Bindings) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b == (Bindings{}) {
		delete(c.known, key)
		return
	}
	c.known[key] = b
}

// Remembered returns the bindings that Remember has stored.
func (c *Cleaner) Remembered(key client.ObjectKey) Bindings {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[key]
}

// Updates returns a channel that receives a simulation's key when an attempt has ended, unless it was cancelled. The
// caller must receive while Start is running.
func (c *Cleaner) Updates() <-chan event.TypedGenericEvent[types.NamespacedName] { return c.updates }

// Evict discards everything about a simulation, and cancels its cleanup. Otherwise, the cleanup could remove the data
// of a later simulation with the same name.
func (c *Cleaner) Evict(key client.ObjectKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.latest[key]; a != nil && a.cancel != nil {
		a.cancel()
	}
	delete(c.latest, key)
	delete(c.known, key)
}

// Attempt returns the result of the latest attempt to clean up. It starts an attempt if there was none, or if the
// latest attempt failed at least Interval ago.
func (c *Cleaner) Attempt(key client.ObjectKey, job Job) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &attempt{key: key, job: job}
	if last := c.latest[key]; last != nil {
		if last.result.Running || last.result.Done() || time.Since(last.result.ended) < Interval {
			return last.result
		}
		next.result = last.result
	}
	next.result.Running = true
	c.latest[key] = next
	if c.start == nil {
		c.waiting = append(c.waiting, next)
	} else {
		c.start(next)
	}
	return next.result
}

// run makes an attempt to clean up, unless Evict has discarded the attempt.
func (c *Cleaner) run(ctx context.Context, a *attempt) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !c.begin(a, cancel) {
		return
	}
	result := a.job.do(ctx, c.servers)
	c.mu.Lock()
	result.Began, result.ended = a.result.Began, time.Now()
	a.result = result
	c.mu.Unlock()
	select {
	case c.updates <- event.TypedGenericEvent[types.NamespacedName]{Object: a.key}:
	case <-ctx.Done():
	}
}

// begin records that an attempt begins, and stores the function that cancels the attempt. If Evict has discarded the
// attempt, begin returns false.
func (c *Cleaner) begin(a *attempt, cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.latest[a.key] != a {
		return false
	}
	a.cancel = cancel
	if a.result.Began.IsZero() {
		a.result.Began = time.Now()
	}
	return true
}

// do removes the queues first, because a queued message would create keys again. Each server has its own timeout.
func (j Job) do(ctx context.Context, servers Servers) Result {
	queues, queuesErr := j.removeQueues(ctx, servers)
	keys, keysErr := j.removeKeys(ctx, servers)
	return Result{Queues: queuesErr, Keys: keysErr, Foreign: purge.Foreign{Queues: queues.Queues, Keys: keys.Keys}}
}

func (j Job) removeQueues(ctx context.Context, servers Servers) (purge.Foreign, error) {
	if j.Broker == nil {
		return purge.Foreign{}, nil
	}
	opened, err := servers.OpenBroker(j.Plan, *j.Broker)
	if err != nil {
		return purge.Foreign{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	foreign, err := purge.RemoveQueues(ctx, j.Plan.Simulation, opened)
	return foreign, errors.Join(err, opened.Close())
}

func (j Job) removeKeys(ctx context.Context, servers Servers) (purge.Foreign, error) {
	if j.Store == nil {
		return purge.Foreign{}, nil
	}
	opened, err := servers.OpenStore(j.Plan, *j.Store)
	if err != nil {
		return purge.Foreign{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	foreign, err := purge.RemoveKeys(ctx, j.Plan.Simulation, opened)
	return foreign, errors.Join(err, opened.Close())
}
