package redis

import (
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// The test kills the current primary several times. Each time, the store must find and use the new primary.
func TestFailover_PrimaryIsKilledUnderLoad_EveryDurableEventCountsOnce(t *testing.T) {
	t.Parallel()
	t.Run("Sentinels promote the replica", func(t *testing.T) {
		t.Parallel()
		group := servers.NewSentinelGroup(t)
		testFailover(t, group, strings.Join(group.URIs(t), ","))
	})
	t.Run("the nodes of a Redis Cluster elect the replica", func(t *testing.T) {
		t.Parallel()
		cluster := servers.NewRedisCluster(t, servers.RedisClusterOptions{Primaries: 3, Replicas: true, Elections: true})
		testFailover(t, cluster, cluster.URI(0))
	})
}

func testFailover(t *testing.T, group servers.FailoverGroup, uri string) {
	t.Helper()
	// The short default timeouts of exactSource make a step on the dead primary fail soon.
	s := openWith(t, Config{Simulation: "failover", Partitions: 2}, Dependencies{Binding: exactSource(t, uri)})
	polltest.UntilNoError(t, "a step is durable", func() error { return recordDurably(t.Context(), s, 0) })
	w := &workers{}
	w.next.Store(1)
	w.start(t, s, 16)
	const kills = 3
	for range kills {
		w.awaitSteps(t, 100)
		killed := group.KillPrimary(t, s.partitions[0].key(keyLedger))
		began := time.Now()
		w.awaitSteps(t, 100)
		t.Logf("steps are durable %s after the primary was killed", time.Since(began).Round(time.Millisecond))
		group.Restart(t, killed)
	}
	steps := w.stop()

	missing := 0
	for seq := range steps {
		if !seen(t, s, seq) {
			missing++
		}
	}
	if recorded := countsOf(t, s).EntriesRecorded; missing > 0 || recorded != steps {
		t.Errorf("%d of %d steps are lost, and %d were recorded; want every step once", missing, steps, recorded)
	}
	if lostAt := datasetOf(t, s).LostAt; !lostAt.IsZero() {
		t.Errorf("a loss was detected at %v; want none", lostAt)
	}
}
