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
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// cleanup contains what is needed to remove a simulation's queues and keys: its plan, and the bindings of its
// external servers. If a binding is nil, nothing is removed from this server.
type cleanup struct {
	plan          *plan.Plan
	broker, store *binding.Binding
}

// cleanupResult is the result of the latest attempt to clean up.
type cleanupResult struct {
	running bool
	// queues is the error of removing the queues. keys is the error of removing the keys. Each of them is nil on
	// success.
	queues, keys error
	// final is true if a retry would have the same result.
	final bool
	// ended is the end time of the last attempt.
	ended time.Time
}

// done reports whether all queues and keys have been removed.
func (r cleanupResult) done() bool { return !r.running && r.queues == nil && r.keys == nil }

// bindings contains the addresses and credentials of a simulation's external servers. A field is nil if the operator
// itself manages the server, or if the address is unknown.
type bindings struct{ broker, store *binding.Binding }

// Cleaner removes queues and keys of deleted simulations from external servers. It works in the background. When an
// attempt has ended, it causes a reconcile of the simulation. It is a manager.Runnable and safe for concurrent use.
type Cleaner struct {
	servers observer.Servers
	jobs    chan func(context.Context)
	updates chan event.TypedGenericEvent[types.NamespacedName]

	mu      sync.Mutex
	results map[client.ObjectKey]cleanupResult
	known   map[client.ObjectKey]bindings
}

// NewCleaner returns a cleaner, which does nothing until Start is called.
func NewCleaner(servers observer.Servers) *Cleaner {
	const maxWaiting = 1024
	return &Cleaner{
		servers: servers,
		jobs:    make(chan func(context.Context), maxWaiting),
		updates: make(chan event.TypedGenericEvent[types.NamespacedName]),
		results: map[client.ObjectKey]cleanupResult{},
		known:   map[client.ObjectKey]bindings{},
	}
}

// Start runs cleanup attempts until ctx ends.
func (c *Cleaner) Start(ctx context.Context) error {
	const workers = 4
	var work sync.WaitGroup
	for range workers {
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

// remember returns the binding to store. It is the current binding if this is known, otherwise the binding that is
// already stored. It is nil if the simulation may no longer use the server.
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

// evict discards what the cleaner has stored about a simulation.
func (c *Cleaner) evict(key client.ObjectKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.results, key)
	delete(c.known, key)
}

// attempt returns the result of the latest attempt to clean up. It starts a new attempt if there was none before, or
// if the latest one failed and attemptInterval has passed since then.
func (c *Cleaner) attempt(key client.ObjectKey, job cleanup) cleanupResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, tried := c.results[key]
	if last.running || tried && (last.done() || time.Since(last.ended) < attemptInterval) {
		return last
	}
	select {
	case c.jobs <- func(ctx context.Context) { c.run(ctx, key, job) }:
		last.running = true
		c.results[key] = last
		return last
	default:
		busy := errors.New("too many simulations are being cleaned up")
		return cleanupResult{queues: busy, keys: busy}
	}
}

func (c *Cleaner) run(ctx context.Context, key client.ObjectKey, job cleanup) {
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	result := job.do(attempt, c.servers)
	cancel()
	result.ended = time.Now()
	c.mu.Lock()
	if _, wanted := c.results[key]; wanted {
		c.results[key] = result
	}
	c.mu.Unlock()
	select {
	case c.updates <- event.TypedGenericEvent[types.NamespacedName]{Object: key}:
	case <-ctx.Done():
	}
}

// do removes the queues before the keys, because the processing of a queued message would create keys again.
func (j cleanup) do(ctx context.Context, servers observer.Servers) cleanupResult {
	return cleanupResult{queues: j.removeQueues(ctx, servers), keys: j.removeKeys(ctx, servers)}
}

func (j cleanup) removeQueues(ctx context.Context, servers observer.Servers) error {
	if j.broker == nil {
		return nil
	}
	opened, err := servers.OpenBroker(j.plan, *j.broker)
	if err != nil {
		return err
	}
	return errors.Join(wiring.Remove(ctx, j.plan.Simulation, opened, nil), opened.Close())
}

func (j cleanup) removeKeys(ctx context.Context, servers observer.Servers) error {
	if j.store == nil {
		return nil
	}
	opened, err := servers.OpenStore(j.plan, *j.store)
	if err != nil {
		return err
	}
	return errors.Join(wiring.Remove(ctx, j.plan.Simulation, nil, opened), opened.Close())
}
