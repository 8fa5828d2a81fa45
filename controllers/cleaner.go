package controllers

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/fair"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// cleanup contains what is needed to remove a simulation's queues and keys: its plan, and the bindings of its external
// servers. If the binding of a server is nil, nothing is removed from the server.
type cleanup struct {
	plan          *plan.Plan
	broker, store *binding.Binding
}

// cleanupResult is the result of the latest attempt to clean up.
type cleanupResult struct {
	// running is true while an attempt to clean up runs or waits to run.
	running bool
	// began is the start time of the first attempt to clean up. It is zero until that attempt starts.
	began time.Time
	// queues is the error of removing the queues. keys is the error of removing the keys. Each of them is nil on
	// success.
	queues, keys error
	// The field foreign says whether queues or keys were not removed because they belong to another simulation of the
	// same name.
	foreign wiring.Foreign
	// final is true if another attempt to clean up would have the same result.
	final bool
	// The field ended is the time at which the latest attempt to clean up ended.
	ended time.Time
}

// done reports whether all queues and keys of the simulation have been removed.
func (r cleanupResult) done() bool { return !r.running && r.queues == nil && r.keys == nil }

// bindings contains the addresses and credentials of a simulation's external servers. A field is nil if the operator
// itself manages the server, or if the address is unknown.
type bindings struct{ broker, store *binding.Binding }

// Cleaner removes queues and keys of deleted simulations from external servers. It works in the background. When an
// attempt has ended, it causes a reconcile of the simulation. Attempts that wait for a server do not delay the
// attempts of other namespaces. It is a manager.Runnable and safe for concurrent use.
type Cleaner struct {
	servers observer.Servers
	pool    *fair.Pool
	updates chan event.TypedGenericEvent[types.NamespacedName]

	mu sync.Mutex
	// start runs an attempt. It is nil while the cleaner does not run: before Start is called, and after the context of
	// Start has ended. The field named waiting contains the attempts that are added before Start is called.
	start   func(*attempt)
	waiting []*attempt
	latest  map[client.ObjectKey]*attempt
	known   map[client.ObjectKey]bindings
}

// attempt is the latest attempt to clean up after a simulation.
type attempt struct {
	key    client.ObjectKey
	job    cleanup
	result cleanupResult
	// cancel ends the attempt to clean up. It is nil until the attempt begins.
	cancel context.CancelFunc
}

// NewCleaner returns a cleaner, which does nothing until Start is called.
func NewCleaner(servers observer.Servers) *Cleaner {
	return &Cleaner{
		servers: servers,
		pool:    fair.New(fair.Limits{Total: 32, PerTenant: 4}), // a tenant is a namespace
		updates: make(chan event.TypedGenericEvent[types.NamespacedName]),
		latest:  map[client.ObjectKey]*attempt{},
		known:   map[client.ObjectKey]bindings{},
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
	c.start = nil // no attempt may be added to the pool while Start waits for the pool
	c.mu.Unlock()
	c.pool.Wait()
	return nil
}

// NeedLeaderElection returns true, because only the leader may remove queues and keys.
func (c *Cleaner) NeedLeaderElection() bool { return true }

// remember stores the bindings of a simulation's external servers, in case their Secrets are deleted before the
// simulation.
func (c *Cleaner) remember(key client.ObjectKey, broker, store server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.known[key]
	known.broker, known.store = broker.remember(known.broker), store.remember(known.store)
	if known == (bindings{}) {
		delete(c.known, key)
		return
	}
	c.known[key] = known
}

// remember returns the binding to store: the current binding or, if the current one is unknown, the binding that is
// already stored. It returns nil if the operator manages the server, or if the simulation may no longer use the server.
func (s server) remember(before *binding.Binding) *binding.Binding {
	switch {
	case s.managed || s.denied:
		return nil
	case s.binding != nil:
		return s.binding
	}
	return before
}

func (c *Cleaner) remembered(key client.ObjectKey) bindings {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[key]
}

// evict discards what the cleaner has stored about a simulation, and cancels its attempt. An attempt that has not begun
// never begins. Otherwise the attempt could remove the queues and keys of a later simulation with the same name.
func (c *Cleaner) evict(key client.ObjectKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.latest[key]; a != nil && a.cancel != nil {
		a.cancel()
	}
	delete(c.latest, key)
	delete(c.known, key)
}

// attempt returns the result of the latest attempt to clean up. It starts a new attempt if there was none before, or
// if the latest one failed and attemptInterval has passed since then.
func (c *Cleaner) attempt(key client.ObjectKey, job cleanup) cleanupResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &attempt{key: key, job: job}
	if last := c.latest[key]; last != nil {
		if last.result.running || last.result.done() || time.Since(last.result.ended) < attemptInterval {
			return last.result
		}
		next.result = last.result
	}
	next.result.running = true
	c.latest[key] = next
	if c.start == nil {
		c.waiting = append(c.waiting, next)
	} else {
		c.start(next)
	}
	return next.result
}

// run makes an attempt to clean up, unless evict has discarded the attempt.
func (c *Cleaner) run(ctx context.Context, a *attempt) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !c.begin(a, cancel) {
		return
	}
	result := a.job.do(ctx, c.servers)
	c.mu.Lock()
	result.began, result.ended = a.result.began, time.Now()
	a.result = result
	c.mu.Unlock()
	select {
	case c.updates <- event.TypedGenericEvent[types.NamespacedName]{Object: a.key}:
	case <-ctx.Done():
	}
}

// begin records that an attempt begins, and how to cancel it. It returns false if evict has discarded the attempt.
func (c *Cleaner) begin(a *attempt, cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.latest[a.key] != a {
		return false
	}
	a.cancel = cancel
	if a.result.began.IsZero() {
		a.result.began = time.Now()
	}
	return true
}

// do tries once to remove the queues and the keys of a simulation. It removes the queues first, because the processing
// of a queued message would create keys again. Each server has its own timeout, because one of them may not respond.
func (j cleanup) do(ctx context.Context, servers observer.Servers) cleanupResult {
	var r cleanupResult
	var store wiring.Foreign
	r.foreign, r.queues = j.removeQueues(ctx, servers)
	store, r.keys = j.removeKeys(ctx, servers)
	r.foreign.Keys = store.Keys
	return r
}

func (j cleanup) removeQueues(ctx context.Context, servers observer.Servers) (wiring.Foreign, error) {
	if j.broker == nil {
		return wiring.Foreign{}, nil
	}
	opened, err := servers.OpenBroker(j.plan, *j.broker)
	if err != nil {
		return wiring.Foreign{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	foreign, err := wiring.RemoveQueues(ctx, j.plan.Simulation, opened)
	return foreign, errors.Join(err, opened.Close())
}

func (j cleanup) removeKeys(ctx context.Context, servers observer.Servers) (wiring.Foreign, error) {
	if j.store == nil {
		return wiring.Foreign{}, nil
	}
	opened, err := servers.OpenStore(j.plan, *j.store)
	if err != nil {
		return wiring.Foreign{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	foreign, err := wiring.RemoveKeys(ctx, j.plan.Simulation, opened)
	return foreign, errors.Join(err, opened.Close())
}
