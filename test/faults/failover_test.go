package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// TestFaults_RedisFailovers_EveryEventIsCountedOnce kills the Redis primary of a running simulation several times. Each
// time, the Sentinels promote the replica.
func TestFaults_RedisFailovers_EveryEventIsCountedOnce(t *testing.T) {
	group, redis := newSentinels(t)
	s := startSimulationOn(t, serverSet{redis: redis}, "-race")
	s.failOver(t, group, 0)
	s.failOver(t, group, 0)
	s.failOverToLaggingReplica(t, group, 0)
	s.auditAtRest(t)
}

// The durability Synced requires the command WAITAOF, which exists in Valkey and in Redis 7.2 or later.
func TestFaults_SyncedRedisFailovers_EveryEventIsCountedOnce(t *testing.T) {
	group, redis := newSentinels(t)
	if !group.HasWAITAOF(t) {
		t.Skip("the servers have no command WAITAOF: set PARKING_REDIS_ROOT to a system with Redis 7.2 or later, or Valkey")
	}
	s := startSimulationOn(t, serverSet{redis: redis, durability: plan.DurabilitySynced}, "-race")
	s.failOver(t, group, 0)
	s.failOverToLaggingReplica(t, group, 0)
	s.auditAtRest(t)
}

// The test moves each partition to another primary and kills this primary.
func TestFaults_RedisClusterWithTLS_EveryEventIsCountedOnce(t *testing.T) {
	servers.WithHostsIfAllowed(t, servers.NodeHosts(2*redisPrimaries), func(hostNames bool) {
		if !hostNames {
			t.Log("the certificates of the Redis nodes are for IP addresses, not for host names")
		}
		cluster, redis := newRedisCluster(t, servers.RedisClusterOptions{
			Authority: tlstest.NewAuthority(t, "test CA"), HostNames: hostNames, Elections: true,
		})
		s := startSimulationOn(t, serverSet{redis: redis}, "-race")
		for partition := range s.plan.Partitions {
			s.pauseOrFail(t)
			cluster.MoveKey(t, s.tagOf(partition))
			s.failOver(t, cluster, partition)
		}
		cluster.MoveKey(t, s.tagOf(0))
		s.failOverToLaggingReplica(t, cluster, 0)
		s.auditAtRest(t)
	})
}

func TestFaults_RedisCluster_EveryEventIsCountedOnce(t *testing.T) {
	cluster, redis := newRedisCluster(t, servers.RedisClusterOptions{Elections: true})
	s := startSimulationOn(t, serverSet{redis: redis}, "-race")
	s.pauseOrFail(t)
	cluster.MoveKey(t, s.tagOf(0))
	s.failOverToLaggingReplica(t, cluster, 0)
	s.auditAtRest(t)
}

// With the build tag parking_noreplicas, a failover loses effects of acknowledged messages.
func TestFaults_FailoverWithoutWaitForReplicas_VerdictIsFail(t *testing.T) {
	for name, start := range map[string]func(*testing.T) (servers.FailoverGroup, plan.BindingRef){
		"Sentinel": func(t *testing.T) (servers.FailoverGroup, plan.BindingRef) { return newSentinels(t) },
		"Cluster": func(t *testing.T) (servers.FailoverGroup, plan.BindingRef) {
			return newRedisCluster(t, servers.RedisClusterOptions{Elections: true})
		},
		"Cluster with TLS": func(t *testing.T) (servers.FailoverGroup, plan.BindingRef) {
			return newRedisCluster(t, servers.RedisClusterOptions{Authority: tlstest.NewAuthority(t, "test CA")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			group, redis := start(t)
			s := startSimulationOn(t, serverSet{redis: redis}, "-tags=parking_noreplicas")
			// Do not call stopGenerators here: it fails the test if a generator has already terminated. Generators
			// terminate if the store has lost the record of their confirmed events.
			group.AwaitFailover(t, s.killPrimaryOfLaggingReplica(t, group, 0, func() { s.awaitEntries(t, 300) }))
			report := s.awaitVerdict(t, "the verdict is FAIL, because the store lost data", func(r *auditReport) bool {
				return r.Verdict == "FAIL" && strings.Contains(strings.Join(r.Reasons, "; "), "the store has lost data")
			})
			t.Logf("as it must, the verdict is FAIL: %s", strings.Join(report.Reasons, "; "))
		})
	}
}

func newSentinels(t *testing.T) (*servers.SentinelGroup, plan.BindingRef) {
	t.Helper()
	group := servers.NewSentinelGroup(t)
	return group, plan.BindingRef{URI: strings.Join(group.URIs(t), ",")}
}

const redisPrimaries = 3

// newRedisCluster starts a Redis Cluster in which each primary has a replica.
func newRedisCluster(t *testing.T, o servers.RedisClusterOptions) (*servers.RedisCluster, plan.BindingRef) {
	t.Helper()
	o.Primaries, o.Replicas = redisPrimaries, true
	cluster := servers.NewRedisCluster(t, o)
	return cluster, plan.BindingRef{SecretDir: cluster.SecretDir(t)}
}

// failOver kills the Redis primary that stores a partition, waits for the failover and then for further entries, and
// restarts the killed server.
func (s *simulation) failOver(t *testing.T, group servers.FailoverGroup, partition int) {
	t.Helper()
	s.pauseOrFail(t)
	s.endFailOver(t, group, group.KillPrimary(t, s.tagOf(partition)))
}

// failOverToLaggingReplica does the same as failOver, but the replica lacks the latest writes of the primary.
func (s *simulation) failOverToLaggingReplica(t *testing.T, group servers.FailoverGroup, partition int) {
	t.Helper()
	// Do not wait for entries: the paused replica confirms no writes, so the generators wait.
	s.endFailOver(t, group, s.killPrimaryOfLaggingReplica(t, group, partition, func() { s.pauseOrFail(t) }))
}

// killPrimaryOfLaggingReplica pauses the replica of the primary that stores a partition, calls the function wait, kills
// the primary, and resumes the replica.
func (s *simulation) killPrimaryOfLaggingReplica(t *testing.T, group servers.FailoverGroup, partition int, wait func()) *servers.Redis {
	t.Helper()
	s.awaitEntries(t, 1)
	resume := group.Lag(t, s.tagOf(partition))
	wait()
	killed := group.KillPrimary(t, s.tagOf(partition))
	resume()
	return killed
}

func (s *simulation) endFailOver(t *testing.T, group servers.FailoverGroup, killed *servers.Redis) {
	t.Helper()
	group.AwaitFailover(t, killed)
	began := time.Now()
	s.awaitEntries(t, 100)
	t.Logf("audits show 100 new entries %s after the replica took over", time.Since(began).Round(time.Millisecond))
	s.pauseOrFail(t)
	group.Restart(t, killed)
}

// awaitEntries waits until the given number of further entries have taken effect.
func (s *simulation) awaitEntries(t *testing.T, count int64) {
	t.Helper()
	s.awaitGrowth(t, "more entries take effect", count, func(r *auditReport) int64 { return r.Ledger.EntriesRecorded })
}

// awaitGrowth waits until a counter has grown by the given count.
func (s *simulation) awaitGrowth(t *testing.T, what string, count int64, counter func(*auditReport) int64) {
	t.Helper()
	const unknown = int64(-1)
	from, now := unknown, unknown
	var err error
	polltest.UntilState(t, what, func() bool {
		var report auditReport
		if report, err = s.tryAudit(t); err != nil {
			return false
		}
		now = counter(&report)
		if from == unknown || now < from { // the counter can decrease, because a failover can lose writes
			from = now
		}
		return now >= from+count
	}, func() any { return fmt.Sprintf("%d, then %d, %v", from, now, err) })
}

// tagOf returns a key with the hash tag of a partition. The primary that stores this key stores the whole partition.
func (s *simulation) tagOf(partition int) string {
	return fmt.Sprintf("{%s:%d}", s.plan.Simulation, partition)
}

func (s *simulation) pauseOrFail(t *testing.T) {
	t.Helper()
	if err := s.pause(t.Context()); err != nil {
		t.Fatal(err)
	}
}
