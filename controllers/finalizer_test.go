package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
)

func bindingOf(host string) *binding.Binding {
	return &binding.Binding{URI: &url.URL{Scheme: "amqp", Host: host}}
}

func TestLeftBehind_NamesRemainingQueuesAndKeys(t *testing.T) {
	t.Parallel()
	const queues, keys = "exchange and queues parking.default.sim* on RabbitMQ at amqp://h:5672 (Secret default/broker)", "keys parking:{default.sim:* on Redis (Secret default/store)"
	gone := errors.New("Secret default/broker does not exist")
	tests := map[string]struct {
		brokerRef, storeRef bool
		result              cleanupResult
		command             string
		want, unwanted      string
	}{
		"only the queues":             {true, true, cleanupResult{queues: gone}, "--rabbitmq-uri URI", queues + ": Secret default/broker does not exist", "keys"},
		"only the keys":               {true, true, cleanupResult{keys: gone}, "--redis-uri URI", keys, "queues"},
		"both":                        {true, true, cleanupResult{queues: gone, keys: gone}, "--rabbitmq-uri URI --redis-uri URI", "; and " + keys, "no answer"},
		"an attempt is still running": {true, true, cleanupResult{running: true}, "--rabbitmq-uri URI --redis-uri URI", queues + ": no answer in time", "does not exist"},
		"Redis is managed":            {true, false, cleanupResult{queues: gone, keys: gone}, "--rabbitmq-uri URI", queues, "keys"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
			if tt.brokerRef {
				sim.Spec.RabbitMQ.SecretRef = &v1alpha1.SecretReference{Name: "broker"}
			}
			if tt.storeRef {
				sim.Spec.Redis.SecretRef = &v1alpha1.SecretReference{Name: "store"}
			}
			s := newScope(sim, time.Now())
			s.broker = server{name: "RabbitMQ", origin: "Secret default/broker", remembered: bindingOf("h:5672")}
			s.store = server{name: "Redis", origin: "Secret default/store"}
			got := s.leftBehind(tt.result)
			if !strings.Contains(got, tt.want) || strings.Contains(got, tt.unwanted) || !strings.Contains(got, "'parking purge --simulation default.sim "+tt.command+"'") {
				t.Errorf("the message is %q, want it to contain %q and not %q", got, tt.want, tt.unwanted)
			}
		})
	}
}

func TestCleanupBinding_SecretDeleted_ReturnsTheLastKnownBinding(t *testing.T) {
	t.Parallel()
	current, before := bindingOf("current"), bindingOf("before")
	missing := found(stalled, reasonSecretMissing, "Secret default/broker does not exist: create it")
	tests := map[string]struct {
		server server
		want   *binding.Binding
		err    string
	}{
		"the Secret exists":               {server{binding: current, remembered: before}, current, ""},
		"the Secret is gone":              {server{finding: missing, remembered: before}, before, ""},
		"consent has been withdrawn":      {server{denied: true, finding: found(stalled, reasonSecretNotAllowed, "not allowed"), remembered: before}, nil, "not allowed"},
		"the Secret has never been there": {server{finding: missing}, nil, "the Secret no longer exists"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.server.cleanupBinding()
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("the binding is %v (%v), want %v (%s)", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestCleaner_RemembersBindingsUntilUseOfTheSecretIsForbidden(t *testing.T) {
	t.Parallel()
	c := NewCleaner(nil)
	key := client.ObjectKey{Namespace: "default", Name: "sim"}
	broker, store := server{binding: bindingOf("broker")}, server{binding: bindingOf("store")}
	c.remember(key, broker, store)
	c.remember(key, server{}, server{})
	if got := c.remembered(key); got.broker != broker.binding || got.store != store.binding {
		t.Errorf("remembered is %+v after the Secrets are gone", got)
	}
	c.remember(key, server{denied: true}, server{})
	if got := c.remembered(key); got.broker != nil || got.store != store.binding {
		t.Errorf("remembered is %+v after the broker's consent was withdrawn", got)
	}
	c.remember(key, server{managed: true, binding: broker.binding}, server{})
	c.evict(key)
	if got := c.remembered(key); got != (bindings{}) {
		t.Errorf("remembered is %+v after forget", got)
	}
}

// hangingServers hang in every call about the simulations of one namespace, until the context ends. They record the
// calls about simulations of other namespaces.
type hangingServers struct {
	removals

	namespace string
	hung      atomic.Int64
}

type hangingBroker struct {
	broker.Broker // nil, because the cleaner calls only the methods below

	hung *atomic.Int64
}

func (b hangingBroker) Delete(ctx context.Context) error {
	b.hung.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

func (hangingBroker) Close() error { return nil }

func (h *hangingServers) OpenBroker(p *plan.Plan, at binding.Binding) (broker.Broker, error) {
	if strings.HasPrefix(p.Simulation, h.namespace+".") {
		return hangingBroker{hung: &h.hung}, nil
	}
	return h.removals.OpenBroker(p, at)
}

// jobOf returns a cleanup that deletes the queues of a simulation.
func jobOf(key client.ObjectKey) cleanup {
	return cleanup{plan: &plan.Plan{Simulation: key.Namespace + "." + key.Name}, broker: bindingOf("h")}
}

func TestCleanup_BrokerDoesNotRespond_RemovesKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servers := &hangingServers{namespace: "dead"}
		job := jobOf(client.ObjectKey{Namespace: "dead", Name: "sim"})
		job.store = bindingOf("h")
		result := job.do(t.Context(), servers)
		if !errors.Is(result.queues, context.DeadlineExceeded) || result.keys != nil || len(servers.sorted()) != 1 {
			t.Errorf("the errors are %v for the queues and %v for the keys, removed are %q", result.queues, result.keys, servers.sorted())
		}
	})
}

// A namespace with many simulations on a server that does not answer must not delay the cleanup in other namespaces.
func TestCleaner_ServersOfANamespaceHang_OtherNamespacesAreCleanedUp(t *testing.T) {
	t.Parallel()
	servers := &hangingServers{namespace: "dead"}
	c := NewCleaner(servers)
	for n := range 1000 {
		key := client.ObjectKey{Namespace: "dead", Name: fmt.Sprint("sim", n)}
		c.attempt(key, jobOf(key))
	}
	go func() { _ = c.Start(t.Context()) }() // runs until the test ends
	for n := range 50 {
		key := client.ObjectKey{Namespace: "healthy", Name: fmt.Sprint("sim", n)}
		c.attempt(key, jobOf(key))
		if updated := <-c.updates; updated.Object != key {
			t.Fatalf("the cleanup of %v has ended, want that of %v", updated.Object, key)
		}
		if result := c.attempt(key, jobOf(key)); !result.done() || result.began.IsZero() {
			t.Fatalf("the result is %+v, want success", result)
		}
	}
	last := client.ObjectKey{Namespace: "dead", Name: "sim999"}
	if result := c.attempt(last, jobOf(last)); !result.running || !result.began.IsZero() {
		t.Errorf("the result is %+v, want an attempt that has not begun", result)
	}
}

// If the cleanup of a simulation is abandoned, the simulation may be created again. A cleanup that still waits or runs
// would then remove the data of the new simulation.
func TestCleaner_Evict_CancelsWaitingAndRunningAttempts(t *testing.T) {
	t.Parallel()
	servers := &hangingServers{namespace: "dead"}
	c := NewCleaner(servers)
	waiting, running := client.ObjectKey{Namespace: "healthy", Name: "sim"}, client.ObjectKey{Namespace: "dead", Name: "sim"}
	c.attempt(waiting, jobOf(waiting))
	c.attempt(running, jobOf(running))
	c.evict(waiting)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Start(ctx) }()
	polltest.Until(t, "the attempt hangs", func() bool { return servers.hung.Load() > 0 })
	c.evict(running) // evict ends the running attempt before its timeout
	next := client.ObjectKey{Namespace: "healthy", Name: "next"}
	c.attempt(next, jobOf(next))
	<-c.updates
	stop()
	<-ended
	if got := servers.sorted(); len(got) != 1 || !strings.Contains(got[0], "healthy.next") {
		t.Errorf("removed are %q, want only the queues of the last simulation", got)
	}
}

// Start returns when the cleaner stops. A cleanup that began later would run while the operator ends, and perhaps while
// the next leader works.
func TestCleaner_AttemptAfterStop_DoesNotStart(t *testing.T) {
	t.Parallel()
	c := NewCleaner(&removals{})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	key := client.ObjectKey{Namespace: "default", Name: "sim"}
	c.attempt(key, jobOf(key))
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) != 1 {
		t.Error("the attempt has started, want it to wait")
	}
}
