package redis

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/storetest"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// TestConformance_RedisCluster runs the conformance suite on a Redis cluster of three primaries, each with a replica.
// The primaries share the partitions.
func TestConformance_RedisCluster(t *testing.T) {
	t.Parallel()
	for name, authority := range map[string]*tlstest.Authority{
		"plain": nil,
		"TLS":   tlstest.NewAuthority(t, "test CA"), // each node has its own certificate, and requires client certificates
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := servers.NewRedisCluster(t, servers.RedisClusterOptions{Primaries: 3, Replicas: true, Authority: authority})
			runConformance(t, bindingOf(t, c, authority))
		})
	}
}

func runConformance(t *testing.T, at binding.Binding) {
	storetest.Run(t, func(t *testing.T, partitions int) store.Store {
		return openWith(t, Config{Simulation: servers.Name(t), Partitions: partitions}, Dependencies{Binding: binding.Static(at)})
	})
}

// bindingOf returns a binding with the address of the first node. If authority is not nil, the binding contains a
// client certificate.
func bindingOf(t *testing.T, c *servers.RedisCluster, authority *tlstest.Authority) binding.Binding {
	t.Helper()
	at, err := source(t, c.URI(0))()
	noError(t, err)
	if authority != nil {
		at.CA = authority.PEM
		at.Certificate, at.Key = authority.Issue(t)
	}
	return at
}

func TestRedisCluster_PartitionMovesToAnotherNode_EachEntryIsRecordedOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	s := open(t, c.URI(0), "moving", 1)
	before := markOf(t, s)
	w := &workers{}
	w.start(t, s, 16)
	slot := c.Slot(t, s.partitions[0].key(keyLedger))
	owner, _ := c.Owner(t, slot)
	for range 4 {
		w.awaitSteps(t, 200)
		began := time.Now()
		c.Move(t, slot, owner, 1-owner)
		owner = 1 - owner
		moved := time.Now()
		if _, err := performDurably(t.Context(), s, w.next.Add(1)-1); err != nil {
			t.Fatal(err)
		}
		t.Logf("the move took %s; the first step after the move was durable within %s",
			moved.Sub(began).Round(time.Millisecond), time.Since(moved).Round(time.Millisecond))
	}
	steps := w.stop()
	t.Logf("%d steps, %d repeated after a rollback", steps, w.repeated.Load())

	counts := countsOf(t, s)
	if counts.EntriesRecorded != steps {
		t.Errorf("%d entries were recorded; want %d", counts.EntriesRecorded, steps)
	}
	// The partition is on its first node again. The variable before contains a mark of this node, which becomes invalid
	// when the partition moves once more.
	c.Move(t, slot, owner, 1-owner)
	polltest.Until(t, "the mark of the first node is invalid", func() bool {
		err := s.WaitDurable(t.Context(), 0, before)
		if err == nil {
			t.Fatal("WaitDurable succeeded with the mark of a node that no longer has the partition")
		}
		return errors.Is(err, store.ErrRolledBack)
	})
	record(t, s, steps, store.ResultRecorded)
}

// newCluster starts a Redis cluster without TLS and without replicas.
func newCluster(t *testing.T, primaries int) *servers.RedisCluster {
	t.Helper()
	return servers.NewRedisCluster(t, servers.RedisClusterOptions{Primaries: primaries})
}

// The reload interval of the stores is longer than the test, so they find the new primary only if the reloader works.
func TestRedisCluster_PrimaryIsLost_ReloadsTheTopology(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*servers.Redis) error{
		"the primary refuses connections": (*servers.Redis).Kill,
		"the primary does not respond":    (*servers.Redis).Pause, // a paused server accepts connections, but never replies
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
					// Repeating the call is harmless: the store counts the entry only once.
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
						err = fmt.Errorf("the ledger counts %d", counts.EntriesRecorded)
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
			noError(t, c.Nodes[owner].Kill()) // a paused server would ignore the request to stop at the end of the test
		})
	}
}

// The certificate of each node is valid only for its address. The nodes require a client certificate.
func TestRedisCluster_WithCertificatePerNode_VerifiesEachHost(t *testing.T) {
	t.Parallel()
	authority := tlstest.NewAuthority(t, "test CA")
	c := servers.NewRedisCluster(t, servers.RedisClusterOptions{Primaries: 3, Authority: authority})
	useEveryNode(t, c, authority)
}

// The certificate of each node is valid only for the host name that the node announces, not for its IP address.
func TestRedisCluster_WithCertificatePerHostName_VerifiesEachHost(t *testing.T) {
	t.Parallel()
	const size = 3
	servers.WithHosts(t, servers.NodeHosts(size), func() {
		authority := tlstest.NewAuthority(t, "test CA")
		c := servers.NewRedisCluster(t, servers.RedisClusterOptions{Primaries: size, Authority: authority, HostNames: true})
		t.Run("every node is used", func(t *testing.T) { useEveryNode(t, c, authority) })
		t.Run("a node redirects to a host name", func(t *testing.T) { followMove(t, c, authority) })
		t.Run("conformance", func(t *testing.T) { runConformance(t, bindingOf(t, c, authority)) })
	})
}

// useEveryNode checks that a store finds all nodes of a cluster. Its binding lists only two of the nodes, after an
// address on which nothing listens.
func useEveryNode(t *testing.T, c *servers.RedisCluster, authority *tlstest.Authority) {
	t.Helper()
	at := bindingOf(t, c, authority)
	for i := range 2 {
		node, err := url.Parse(c.URI(i))
		noError(t, err)
		at.Alternatives = append(at.Alternatives, node.Host)
	}
	at.URI.Host, at.URI.RawQuery = servers.FreeAddress(t), ""
	const partitions = 12 // enough partitions for each node of the cluster to store one
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

// followMove moves a partition to a node with a host name. The reload interval is longer than the test, so the store
// must follow the redirection.
func followMove(t *testing.T, c *servers.RedisCluster, authority *tlstest.Authority) {
	t.Helper()
	s := openTimed(t, Config{Simulation: servers.Name(t), Partitions: 1}, Dependencies{Binding: binding.Static(bindingOf(t, c, authority))}, timing{reloadInterval: time.Hour})
	noError(t, recordDurably(t.Context(), s, 0))
	key := s.partitions[0].key(keyLedger)
	slot := c.Slot(t, key)
	from, _ := c.Owner(t, slot)
	to := 3 - max(1, from) // neither the owner nor node 0, the only node in the binding
	c.Move(t, slot, from, to)
	target, err := url.Parse(c.URI(to))
	noError(t, err)
	want := fmt.Sprintf("MOVED %d %s:", slot, target.Hostname()) // without the port, which depends on TLS
	if err := c.Admins[from].Exists(t.Context(), key).Err(); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Fatalf("the former owner replies %v; want %s", err, want)
	}
	if _, err := performDurably(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	if got := countsOf(t, s).EntriesRecorded; got != 2 {
		t.Errorf("%d entries were recorded; want 2", got)
	}
}
