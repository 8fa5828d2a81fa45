package faults

import (
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/test/servers"
)

// TestFaults_RedisFailovers_EveryEventIsCountedOnce kills the Redis primary of a running simulation several times. Each
// time, the Sentinels promote the replica.
func TestFaults_RedisFailovers_EveryEventIsCountedOnce(t *testing.T) {
	group := servers.NewSentinelGroup(t)
	s := startSimulationOn(t, strings.Join(group.URIs(t), ","), "-race")
	const failovers = 3
	for range failovers {
		if err := s.pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		killed := group.KillPrimary(t, "")
		group.AwaitFailover(t, killed)
		if err := s.pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		group.Restart(t, killed)
	}
	l := s.auditAtRest(t).Ledger
	if l.EntriesConfirmed == 0 || l.Lost != 0 || l.TakenTwice != 0 || l.UnmatchedUnexpected != 0 {
		t.Errorf("%d entries were confirmed, %d events are lost, %d were taken twice, %d exits were unexpected; want some entries and nothing else",
			l.EntriesConfirmed, l.Lost, l.TakenTwice, l.UnmatchedUnexpected)
	}
}
