package redis

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/storetest"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// TestConformance_RedisCluster runs the conformance suite on a Redis cluster of three primaries, which share the
// partitions, and three replicas.
func TestConformance_RedisCluster(t *testing.T) {
	t.Parallel()
	for name, authority := range map[string]*tlstest.Authority{
		"plain": nil,
		"TLS":   tlstest.NewAuthority(t, "test CA"), // each node has its own certificate, and requires client certificates
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := servers.NewRedisCluster(t, servers.RedisClusterOptions{Primaries: 3, Replicas: true, Authority: authority})
			at, err := source(t, c.URI(0))()
			noError(t, err)
			if authority != nil {
				at.CA = authority.PEM
				at.Certificate, at.Key = authority.Issue(t)
			}
			storetest.Run(t, func(t *testing.T, partitions int) store.Store {
				return openWith(t, Config{Simulation: servers.Name(t), Partitions: partitions}, Dependencies{Binding: binding.Static(at)})
			})
		})
	}
}

// TestRedisCluster_PartitionMoves_StepsTakeEffectOnce moves a partition to another node of the Redis cluster while
// steps run in it. Every step that was reported as durable must take effect exactly once, whichever node executed it.
func TestRedisCluster_PartitionMoves_StepsTakeEffectOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	s := open(t, c.URI(0), "moving", 1)
	before := markOf(t, s)
	const workers, moves = 16, 4
	var next, rolledBack atomic.Int64
	var stopping atomic.Bool
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for !stopping.Load() {
				again, err := performDurably(t.Context(), s, next.Add(1)-1)
				rolledBack.Add(again)
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	slot := c.Slot(t, s.partitions[0].key(keyLedger))
	owner, _ := c.Owner(t, slot)
	for range moves {
		reached := next.Load() + 200
		polltest.Until(t, "some steps", func() bool { return next.Load() > reached || t.Failed() })
		c.Move(t, slot, owner, 1-owner)
		owner = 1 - owner
	}
	stopping.Store(true)
	group.Wait()
	t.Logf("%d steps, %d taken again", next.Load(), rolledBack.Load())

	counts := countsOf(t, s)
	if counts.EntriesRecorded != next.Load() {
		t.Errorf("%d entries were recorded; want %d", counts.EntriesRecorded, next.Load())
	}
	c.Move(t, slot, owner, 1-owner) // after this odd number of moves, the partition is on another node than at the start
	polltest.Until(t, "the mark of the node of then is not good any more", func() bool {
		err := s.WaitDurable(t.Context(), 0, before)
		if err == nil {
			t.Fatal("WaitDurable says that all is written, of a node that does not have the partition")
		}
		return errors.Is(err, store.ErrRolledBack)
	})
	record(t, s, next.Load(), store.ResultRecorded)
}

// newCluster starts a Redis cluster of primaries without TLS.
func newCluster(t *testing.T, primaries int) *servers.RedisCluster {
	t.Helper()
	return servers.NewRedisCluster(t, servers.RedisClusterOptions{Primaries: primaries})
}

// TestRedisCluster_PrimaryIsLost_ReloadsTheTopology loses the primary of a partition, and lets its replica take over.
// The clients never reload the topology by themselves during the test, so they find the new primary only if the
// reloader works. Both clients, one that writes and one that reads, have the default timeouts.
func TestRedisCluster_PrimaryIsLost_ReloadsTheTopology(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*servers.Redis) error{
		"refused":  (*servers.Redis).Kill,
		"time-out": (*servers.Redis).Pause, // a paused server accepts connections, but does not respond
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3)
			probe := open(t, c.URI(0), "failover", 1)
			owner, _ := c.Owner(t, c.Slot(t, probe.partitions[0].key(keyLedger)))
			replica := c.Admins[c.AddReplica(t, owner)]
			uri := c.URI((owner + 1) % 3)
			connect := func() *Store {
				return openTimed(t, Config{Simulation: "failover", Partitions: 1}, Dependencies{Binding: exactSource(t, uri)}, timing{reloadInterval: time.Hour})
			}
			writer, reader := connect(), connect()
			record := func(seq int64) {
				polltest.UntilNoError(t, "the cluster records an entry", func() error {
					// The step may be retried, because the store counts it only once.
					_, err := writer.RecordEntry(t.Context(), entryStep(seq))
					return err
				})
			}
			read := func(want int64) {
				polltest.UntilNoError(t, fmt.Sprintf("the ledger counts %d entries", want), func() error {
					ctx, cancel := context.WithTimeout(t.Context(), answerTimeout-time.Second)
					defer cancel()
					counts, err := reader.Counts(ctx)
					if err == nil && counts.EntriesRecorded != want {
						err = fmt.Errorf("it counts %d", counts.EntriesRecorded)
					}
					return err
				})
			}
			record(0)
			read(1)
			// Wait for the replica, because a failover loses data that the replica has not received.
			polltest.Until(t, "the replica has the entry", func() bool {
				info, err := replica.Info(t.Context(), "keyspace").Result()
				return err == nil && strings.Contains(info, "db0:")
			})

			noError(t, lose(c.Nodes[owner]))
			noError(t, replica.Do(t.Context(), "CLUSTER", "FAILOVER", "TAKEOVER").Err())
			began := time.Now()
			record(1)
			t.Logf("a step succeeded %s after the failover", time.Since(began).Round(time.Millisecond))
			read(2)
			t.Logf("the ledger was read %s after the failover", time.Since(began).Round(time.Millisecond))
			noError(t, c.Nodes[owner].Kill()) // a paused server does not react to a request to stop
		})
	}
}

// TestRedisCluster_WithCertificatePerNode_VerifiesEachHost runs the store on a Redis cluster with TLS. The certificate
// of each node is valid only for the address of that node. The nodes require a client certificate. The binding has several
// addresses, and nothing listens on the first one.
func TestRedisCluster_WithCertificatePerNode_VerifiesEachHost(t *testing.T) {
	t.Parallel()
	const size = 3
	authority := tlstest.NewAuthority(t, "test CA")
	c := servers.NewRedisCluster(t, servers.RedisClusterOptions{Primaries: size, Authority: authority})
	var hosts []string
	for i := range size {
		node, err := url.Parse(c.URI(i))
		noError(t, err)
		hosts = append(hosts, node.Host)
	}
	seed, err := url.Parse(c.URI(0))
	noError(t, err)
	seed.Host, seed.RawQuery = servers.FreeAddress(t), ""
	at := binding.Binding{URI: seed, CA: authority.PEM, Alternatives: hosts[:2]}
	at.Certificate, at.Key = authority.Issue(t)
	const partitions = 12 // enough partitions for each node of the cluster to store at least one
	s := openWith(t, Config{Simulation: servers.Name(t), Partitions: partitions}, Dependencies{
		Binding: binding.Static(at),
	})
	for partition := range partitions {
		step := entryStep(int64(partition))
		step.Partition = partition
		_, err := s.RecordEntry(t.Context(), step)
		noError(t, err)
	}
	for i, admin := range c.Admins {
		size, err := admin.DBSize(t.Context()).Result()
		noError(t, err)
		if size == 0 {
			t.Errorf("node %d has no keys", i)
		}
	}
}
