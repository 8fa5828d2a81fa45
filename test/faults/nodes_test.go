package faults

import (
	"testing"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/test/servers"
)

// TestFaults_RabbitMQNodesAreKilled_EveryEventIsCountedOnce kills each node of a RabbitMQ cluster in turn.
func TestFaults_RabbitMQNodesAreKilled_EveryEventIsCountedOnce(t *testing.T) {
	s := killNodesInTurn(t, "-race")
	if s.auditAtRest(t).Ledger.DuplicatesSuppressed == 0 {
		t.Error("no duplicate was suppressed, so the faults caused no redelivery")
	}
}

func TestFaults_WithoutDeduplication_AuditFindsDuplicatesAfterRabbitMQNodesAreKilled(t *testing.T) {
	killNodesInTurn(t, "-tags=parking_nodedup").auditFindsDuplicates(t)
}

// killNodesInTurn starts a simulation on three RabbitMQ nodes and kills one after the other, so that each process
// loses its connection at least once.
func killNodesInTurn(t *testing.T, buildFlags ...string) *simulation {
	t.Helper()
	redis := servers.NewRedis(t, servers.RedisOptions{})
	nodes := servers.NewRabbitMQCluster(t, 3, servers.RabbitMQOptions{})
	s := startSimulationOn(t, serverSet{redis: plan.BindingRef{URI: redis.URI()}, rabbit: nodes}, buildFlags...)
	s.awaitEntries(t, 1)
	for _, node := range nodes {
		if err := node.SyncQueues(); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range nodes {
		s.pauseOrFail(t)
		if err := node.Kill(); err != nil {
			t.Fatal(err)
		}
		s.awaitEntries(t, 100)
		if err := node.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}
