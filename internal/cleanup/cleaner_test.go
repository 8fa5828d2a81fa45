package cleanup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/store"
)

// fakeServers hang in every call about the simulations of the namespace "dead", until the context ends. They record the
// calls about other simulations.
type fakeServers struct {
	mu      sync.Mutex
	removed []string
	hung    atomic.Int64
}

func (f *fakeServers) add(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = append(f.removed, what)
}

func (f *fakeServers) list() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.removed)
}

func (f *fakeServers) OpenBroker(p *plan.Plan, _ binding.Binding) (broker.Broker, error) {
	return fakeBroker{servers: f, simulation: p.Simulation}, nil
}

func (f *fakeServers) OpenStore(p *plan.Plan, _ binding.Binding) (store.Store, error) {
	return fakeStore{servers: f, simulation: p.Simulation}, nil
}

type fakeBroker struct {
	broker.Broker // nil, because the cleaner calls only the methods below

	servers    *fakeServers
	simulation string
}

func (b fakeBroker) Delete(ctx context.Context) error {
	if strings.HasPrefix(b.simulation, "dead.") {
		b.servers.hung.Add(1)
		<-ctx.Done()
		return ctx.Err()
	}
	b.servers.add("queues of " + b.simulation)
	return nil
}

func (fakeBroker) Close() error { return nil }

type fakeStore struct {
	store.Store // nil, because the cleaner calls only the methods below

	servers    *fakeServers
	simulation string
}

func (s fakeStore) Purge(context.Context) error {
	s.servers.add("keys of " + s.simulation)
	return nil
}

func (fakeStore) Close() error { return nil }

// jobOf returns a cleanup that deletes the queues of a simulation.
func jobOf(key client.ObjectKey) Job {
	return Job{Plan: &plan.Plan{Simulation: key.Namespace + "." + key.Name}, Broker: &binding.Binding{}}
}

func TestJobDo_BrokerDoesNotRespond_RemovesKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servers := &fakeServers{}
		job := jobOf(client.ObjectKey{Namespace: "dead", Name: "sim"})
		job.Store = &binding.Binding{}
		result := job.do(t.Context(), servers)
		if !errors.Is(result.Queues, context.DeadlineExceeded) || result.Keys != nil || len(servers.list()) != 1 {
			t.Errorf("the errors are %v for the queues and %v for the keys, removed are %q", result.Queues, result.Keys, servers.list())
		}
	})
}

// A namespace with many simulations on a server that does not answer must not delay the cleanup in other namespaces.
func TestCleaner_ServersOfANamespaceHang_OtherNamespacesAreCleanedUp(t *testing.T) {
	t.Parallel()
	servers := &fakeServers{}
	c := New(servers)
	for n := range 1000 {
		key := client.ObjectKey{Namespace: "dead", Name: fmt.Sprint("sim", n)}
		c.Attempt(key, jobOf(key))
	}
	go func() { _ = c.Start(t.Context()) }() // runs until the test ends
	for n := range 50 {
		key := client.ObjectKey{Namespace: "healthy", Name: fmt.Sprint("sim", n)}
		c.Attempt(key, jobOf(key))
		if updated := <-c.Updates(); updated.Object != key {
			t.Fatalf("the cleanup of %v has ended, want that of %v", updated.Object, key)
		}
		if result := c.Attempt(key, jobOf(key)); !result.Done() || result.Began.IsZero() {
			t.Fatalf("the result is %+v, want success", result)
		}
	}
	last := client.ObjectKey{Namespace: "dead", Name: "sim999"}
	if result := c.Attempt(last, jobOf(last)); !result.Running || !result.Began.IsZero() {
		t.Errorf("the result is %+v, want an attempt that has not begun", result)
	}
}

// If the cleanup of a simulation is abandoned, the simulation may be created again. A cleanup that still waits or runs
// would then remove the data of the new simulation.
func TestCleaner_Evict_CancelsWaitingAndRunningAttempts(t *testing.T) {
	t.Parallel()
	servers := &fakeServers{}
	c := New(servers)
	waiting, running := client.ObjectKey{Namespace: "healthy", Name: "sim"}, client.ObjectKey{Namespace: "dead", Name: "sim"}
	c.Attempt(waiting, jobOf(waiting))
	c.Attempt(running, jobOf(running))
	c.Evict(waiting)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Start(ctx) }()
	polltest.Until(t, "the attempt hangs", func() bool { return servers.hung.Load() > 0 })
	c.Evict(running) // Evict ends the running attempt before its timeout
	next := client.ObjectKey{Namespace: "healthy", Name: "next"}
	c.Attempt(next, jobOf(next))
	<-c.Updates()
	stop()
	<-ended
	if got := servers.list(); len(got) != 1 || !strings.Contains(got[0], "healthy.next") {
		t.Errorf("removed are %q, want only the queues of the last simulation", got)
	}
}

// A later simulation of the same name must not use the credentials of an earlier one.
func TestCleaner_Evict_DiscardsBindings(t *testing.T) {
	t.Parallel()
	c, key := New(nil), client.ObjectKey{Namespace: "default", Name: "sim"}
	bindings := Bindings{Broker: &binding.Binding{}}
	c.Remember(key, bindings)
	if got := c.Remembered(key); got != bindings {
		t.Errorf("remembered is %+v, want %+v", got, bindings)
	}
	c.Evict(key)
	if got := c.Remembered(key); got != (Bindings{}) {
		t.Errorf("after Evict, remembered is %+v", got)
	}
}

// Start returns when the cleaner stops. A cleanup that began later would run while the operator ends, and perhaps while
// the next leader works.
func TestCleaner_AttemptAfterStop_DoesNotStart(t *testing.T) {
	t.Parallel()
	c := New(&fakeServers{})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	key := client.ObjectKey{Namespace: "default", Name: "sim"}
	c.Attempt(key, jobOf(key))
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) != 1 {
		t.Error("the attempt has started, want it to wait")
	}
}
