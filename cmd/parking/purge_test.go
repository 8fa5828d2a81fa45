package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// A purge must remove the data of all simulations with the given name, whatever UID the manifest contains.
func TestPurge_ManifestFromCluster_IgnoresItsUID(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sim.yaml")
	const sim = `apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata:
  name: rush
  namespace: default
  uid: 0d6b2f0e-31f7-4c1d-9c6c-2f3f0d9a7c11
`
	if err := os.WriteFile(path, []byte(sim), 0o600); err != nil {
		t.Fatal(err)
	}
	f := purgeFlags{manifest: manifestFlags{path: manifestPath(path)}}
	f.servers.redis.URI = "redis://127.0.0.1:1"
	p, err := f.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Owner != "" || p.Simulation != "default.rush" {
		t.Errorf("the plan is for %s of owner %q, want default.rush of no owner", p.Simulation, p.Owner)
	}
}

// hungBroker is a broker whose server accepts connections, but does not respond.
type hungBroker struct {
	broker.Broker // nil, because a purge calls only the methods that hungBroker overrides
}

func (hungBroker) Delete(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// purgedStore is a fake store that records whether it was purged.
type purgedStore struct {
	store.Store // nil, because a purge calls only the methods below

	purged *bool
}

func (purgedStore) Ping(context.Context) error { return nil }

func (s purgedStore) Purge(ctx context.Context) error {
	*s.purged = ctx.Err() == nil
	return ctx.Err()
}

// recordingBroker is a broker that records in deletedFirst whether its queues were removed before the store's keys.
type recordingBroker struct {
	broker.Broker // nil, because a purge calls only the methods below

	keysPurged, deletedFirst *bool
}

func (b recordingBroker) Delete(context.Context) error {
	// During this pause, a concurrent purge would remove the keys, and the test would fail.
	time.Sleep(time.Second)
	*b.deletedFirst = !*b.keysPurged
	return nil
}

// Purge must remove the queues first. Otherwise, a processor that still receives messages could create removed keys
// again.
func TestPurge_BothServersRespond_RemovesQueuesBeforeKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, purged := besideHungBroker()
		first := new(bool)
		a.broker.Broker = recordingBroker{keysPurged: purged, deletedFirst: first}
		if _, err := purgeServers(t.Context(), a, "default.rush"); err != nil || !*first || !*purged {
			t.Errorf("the queues are removed first: %t; the keys are removed: %t; error is %v", *first, *purged, err)
		}
	})
}

// besideHungBroker returns a broker that does not respond, and a store that does. A purge of the store sets the bool to
// true.
func besideHungBroker() (adapters, *bool) {
	purged := new(bool)
	return adapters{
		broker: &wiring.Broker{Broker: hungBroker{}, Address: "amqp://h"}, brokerFlag: "--rabbitmq-uri",
		store: &wiring.Store{Store: purgedStore{purged: purged}, Address: "redis://h"}, storeFlag: "--redis-uri",
	}, purged
}

func TestPurge_BrokerDoesNotRespond_RemovesKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, purged := besideHungBroker()
		lines, err := purgeServers(t.Context(), a, "default.rush")
		if want := []string{"nothing to remove: no keys of simulation default.rush on redis://h"}; !*purged || !slices.Equal(lines, want) {
			t.Errorf("the keys are purged: %t; the lines are %q, want %q", *purged, lines, want)
		}
		if err == nil || !strings.Contains(err.Error(), "remove the queues of default.rush") || strings.Contains(err.Error(), "keys") {
			t.Errorf("error is %v, want one about the queues only", err)
		}
	})
}

func TestSessionPurge_BrokerDoesNotRespond_RemovesKeysAndSaysThatQueuesMayRemain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, purged := besideHungBroker()
		s := session{plan: &plan.Plan{Simulation: "default.rush"}, adapters: a}
		s.flags.servers.rabbitmq.URI, s.flags.servers.redis.URI = "amqp://h", "redis://h"
		err := s.purge(t.Context())
		const want = "queues on amqp://h of default.rush may remain; remove them with 'parking purge --simulation default.rush --rabbitmq-uri URI': " +
			"remove the queues of default.rush: context deadline exceeded"
		if !*purged || err == nil || err.Error() != want {
			t.Errorf("the keys are purged: %t; error is %v, want %s", *purged, err, want)
		}
	})
}
