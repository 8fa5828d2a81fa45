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

// fakeServers opens fake clients, and records what they remove. For a simulation in the namespace "dead", the removal
// of queues hangs until the context ends.
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
	broker.Broker // nil; fakeBroker has all methods that the cleaner calls

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

// jobOf returns a job that removes only the queues of a simulation.
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

func TestCleaner_ServersOfANamespaceHang_OtherNamespacesAreCleanedUp(t *testing.T) {
	t.Parallel()
	servers := &fakeServers{}
	c := New(servers)
	for n := range 1000 {
		key := client.ObjectKey{Namespace: "dead", Name: fmt.Sprint("sim", n)}
		c.Attempt(key, jobOf(key))
	}
	go func() { _ = c.Start(t.Context()) }()
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

// After Evict, users can create another simulation with the same name. A cleanup attempt that continued would remove
// the data of the new simulation.
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
	c.Evict(running)
	next := client.ObjectKey{Namespace: "healthy", Name: "next"}
	c.Attempt(next, jobOf(next))
	<-c.Updates()
	stop()
	<-ended
	if got := servers.list(); len(got) != 1 || !strings.Contains(got[0], "healthy.next") {
		t.Errorf("removed are %q, want only the queues of the last simulation", got)
	}
}

// A simulation must not use the credentials of a deleted simulation with the same name.
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

// After the context of Start has ended, another replica of the operator may be the leader. Only the leader may remove
// queues and keys.
func TestCleaner_ContextOfStartHasEnded_AttemptDoesNotRun(t *testing.T) {
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
