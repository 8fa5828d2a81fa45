package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/storetest"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/servers"
)

const (
	clusterUser     = "parking"
	clusterPassword = "p@ss/word"
	clusterSlots    = 16384
	// nodeTimeout is 10 minutes, so that a node that stalls on a busy machine is not considered failed.
	nodeTimeout = "cluster-node-timeout 600000"
)

// cluster is a Redis Cluster of primaries. Each has an equal share of the slots.
type cluster struct {
	nodes  []*servers.Redis
	admins []*goredis.Client
	uri    string
}

// TestConformance_RedisCluster runs the conformance suite on a Redis cluster of three nodes, which share the
// partitions.
func TestConformance_RedisCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	storetest.Run(t, func(t *testing.T, partitions int) store.Store {
		return open(t, c.uri, servers.Name(t), partitions)
	})
}

// TestRedisCluster_PartitionMoves_StepsCountOnce moves a partition to another node of the Redis cluster while steps run
// in it. Every step that was reported as durable must count exactly once, whichever node executed it.
func TestRedisCluster_PartitionMoves_StepsCountOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	s := open(t, c.uri, "moving", 1)
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
	slot := int(c.admins[0].ClusterKeySlot(t.Context(), s.partitions[0].key(keyLedger)).Val())
	owner := slot / (clusterSlots / 2)
	for range moves {
		reached := next.Load() + 200
		polltest.Until(t, "some steps", func() bool { return next.Load() > reached || t.Failed() })
		c.move(t, slot, owner, 1-owner)
		owner = 1 - owner
	}
	stopping.Store(true)
	group.Wait()
	t.Logf("%d steps, %d taken again", next.Load(), rolledBack.Load())

	counts := countsOf(t, s)
	if counts.EntriesRecorded != next.Load() {
		t.Errorf("%d entries were recorded; want %d", counts.EntriesRecorded, next.Load())
	}
	c.move(t, slot, owner, 1-owner) // an odd number of moves, so the partition ends on the other node
	polltest.Until(t, "the mark of the node of then is not good any more", func() bool {
		err := s.WaitDurable(t.Context(), 0, before)
		if err == nil {
			t.Fatal("WaitDurable says that all is written, of a node that does not have the partition")
		}
		return errors.Is(err, store.ErrRolledBack)
	})
	record(t, s, next.Load(), store.ResultRecorded)
}

// newCluster starts a Redis cluster: it starts the nodes, assigns the slots, and waits until all nodes know each
// other.
func newCluster(t *testing.T, size int) *cluster {
	t.Helper()
	return newClusterWith(t, size, func(int) (address string, config []string) { return "", nil })
}

// newClusterWith is like newCluster, with additional configuration. The function node returns the configuration of
// a node and the address that it announces to other nodes. If the address is "", the node announces the address
// that clients use.
func newClusterWith(t *testing.T, size int, node func(i int) (address string, config []string)) *cluster {
	t.Helper()
	c := &cluster{}
	buses := freePorts(t, size)
	var seed string
	for i := range size {
		address, config := node(i)
		node := servers.NewRedis(t, servers.RedisOptions{Config: append(config,
			"cluster-enabled yes",
			nodeTimeout,
			// By default, nodes talk to each other on the client port plus 10,000, which may be in use.
			"cluster-port "+buses[i],
			fmt.Sprintf("user %s on >%s ~* &* +@all", clusterUser, clusterPassword),
		)})
		c.nodes = append(c.nodes, node)
		c.admins = append(c.admins, client(t, node.URI()))
		if i == 0 {
			if seed = address; seed == "" {
				seed = hostOf(t, node)
			}
		}
	}
	for i, admin := range c.admins {
		first, last := i*clusterSlots/size, (i+1)*clusterSlots/size-1
		noError(t, admin.ClusterAddSlotsRange(t.Context(), first, last).Err())
		if i > 0 {
			host, port, _ := strings.Cut(seed, ":")
			noError(t, admin.Do(t.Context(), "CLUSTER", "MEET", host, port, buses[0]).Err())
		}
	}
	polltest.Until(t, "the cluster is complete", func() bool { return c.complete(t.Context()) })
	c.uri = withUser(t, c.nodes[0].URI(), clusterUser, clusterPassword) + "?cluster=true"
	return c
}

// freePorts returns ports of the loopback interface that are reserved for this test.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i := range n {
		var err error
		_, ports[i], err = net.SplitHostPort(servers.FreeAddress(t))
		noError(t, err)
	}
	return ports
}

func (c *cluster) complete(ctx context.Context) bool {
	for _, admin := range c.admins {
		info, err := admin.ClusterInfo(ctx).Result()
		if err != nil || !strings.Contains(info, "cluster_state:ok") ||
			!strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(c.nodes))) {
			return false
		}
	}
	return true
}

// move moves a slot and its keys to another node, as redis-cli --cluster reshard does.
func (c *cluster) move(t *testing.T, slot, from, to int) {
	t.Helper()
	ctx := t.Context()
	ids := make([]string, len(c.admins))
	for i, admin := range c.admins {
		id, err := admin.ClusterMyID(ctx).Result()
		noError(t, err)
		ids[i] = id
	}
	noError(t, c.admins[to].Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[from]).Err())
	noError(t, c.admins[from].Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to]).Err())
	host, port, _ := strings.Cut(hostOf(t, c.nodes[to]), ":")
	for {
		keys, err := c.admins[from].ClusterGetKeysInSlot(ctx, slot, 1000).Result()
		noError(t, err)
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", host, port, "", 0, 60000, "AUTH2", clusterUser, clusterPassword, "KEYS"}
		for _, key := range keys {
			args = append(args, key)
		}
		noError(t, c.admins[from].Do(ctx, args...).Err())
	}
	for _, i := range []int{to, from} {
		noError(t, c.admins[i].Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", ids[to]).Err())
	}
}

func hostOf(t *testing.T, node *servers.Redis) string {
	t.Helper()
	u, err := url.Parse(node.String())
	noError(t, err)
	return u.Host
}

// TestRedisCluster_PrimaryIsLost_ReloadsTheTopology loses the primary of a partition, and lets its replica take over. The
// clients never reload the topology by themselves during the test, so they find the new primary only if the reloader
// works. Timeouts are those of the product.
func TestRedisCluster_PrimaryIsLost_ReloadsTheTopology(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*servers.Redis) error{
		"refused":  (*servers.Redis).Kill,
		"time-out": (*servers.Redis).Pause, // accepts connections, but does not respond
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3)
			probe := open(t, c.uri, "failover", 1)
			slot := int(c.admins[0].ClusterKeySlot(t.Context(), probe.partitions[0].key(keyLedger)).Val())
			owner := slot / (clusterSlots / 3)
			replica := c.addReplica(t, owner)
			uri := withUser(t, c.nodes[(owner+1)%3].URI(), clusterUser, clusterPassword) + "?cluster=true"
			connect := func() *Store {
				return openTimed(t, Config{Simulation: "failover", Partitions: 1}, Dependencies{Binding: exactSource(t, uri)}, timing{reloadInterval: time.Hour})
			}
			writer, reader := connect(), connect()
			record := func(seq int64) {
				polltest.UntilNoError(t, "the cluster records an entry", func() error {
					_, err := writer.RecordEntry(t.Context(), entryStep(seq)) // may be retried: a step counts once
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

			noError(t, lose(c.nodes[owner]))
			noError(t, replica.Do(t.Context(), "CLUSTER", "FAILOVER", "TAKEOVER").Err())
			began := time.Now()
			record(1)
			t.Logf("a step succeeded %s after the failover", time.Since(began).Round(time.Millisecond))
			read(2)
			t.Logf("the ledger was read %s after the failover", time.Since(began).Round(time.Millisecond))
			noError(t, c.nodes[owner].Kill()) // a paused server does not stop by itself
		})
	}
}

// addReplica adds a replica of a primary, waits until it is in sync, and returns a client of the replica.
func (c *cluster) addReplica(t *testing.T, of int) *goredis.Client {
	t.Helper()
	bus := freePorts(t, 1)[0]
	node := servers.NewRedis(t, servers.RedisOptions{Config: []string{
		"cluster-enabled yes", nodeTimeout, "cluster-port " + bus, "cluster-replica-no-failover yes", // only TAKEOVER promotes it
		fmt.Sprintf("user %s on >%s ~* &* +@all", clusterUser, clusterPassword),
		fmt.Sprintf("masteruser %s", clusterUser), fmt.Sprintf("masterauth %s", clusterPassword),
	}})
	admin := client(t, node.URI())
	host, port, _ := strings.Cut(hostOf(t, node), ":")
	noError(t, c.admins[of].Do(t.Context(), "CLUSTER", "MEET", host, port, bus).Err())
	id, err := c.admins[of].ClusterMyID(t.Context()).Result()
	noError(t, err)
	polltest.Until(t, "the replica knows its primary", func() bool { return admin.ClusterReplicate(t.Context(), id).Err() == nil })
	c.nodes, c.admins = append(c.nodes, node), append(c.admins, admin)
	polltest.Until(t, "the replica is in sync", func() bool {
		info, err := admin.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up") && c.complete(t.Context())
	})
	return admin
}

// TestRedisCluster_WithCertificatePerNode_VerifiesEachHost runs the store on a Redis cluster with TLS. The certificate
// of each node is valid only for the address of that node. The nodes require a client certificate. The binding has several
// addresses, and nothing listens on the first one.
func TestRedisCluster_WithCertificatePerNode_VerifiesEachHost(t *testing.T) {
	t.Parallel()
	const size = 3
	authority, directory := tlstest.NewAuthority(t, "test CA"), t.TempDir()
	writeFile := func(name string, content []byte) string {
		path := filepath.Join(directory, name)
		noError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	ca := writeFile("ca.crt", authority.PEM)
	ports := freePorts(t, size)
	host := func(i int) string { return fmt.Sprintf("127.0.0.%d", i+2) }
	c := newClusterWith(t, size, func(i int) (string, []string) {
		certificate, key := authority.Issue(t, host(i))
		return net.JoinHostPort(host(i), ports[i]), []string{
			"bind 127.0.0.1 " + host(i), "cluster-announce-ip " + host(i), "tls-cluster yes", "tls-port " + ports[i],
			"tls-ca-cert-file " + ca, "tls-auth-clients yes",
			"tls-cert-file " + writeFile(fmt.Sprintf("%d.crt", i), certificate), "tls-key-file " + writeFile(fmt.Sprintf("%d.key", i), key),
		}
	})
	seed, err := url.Parse(withUser(t, c.nodes[0].URI(), clusterUser, clusterPassword))
	noError(t, err)
	seed.Scheme, seed.Host = "rediss", net.JoinHostPort(host(size), ports[0])
	at := binding.Binding{
		URI: seed, CA: authority.PEM,
		Alternatives: []string{net.JoinHostPort(host(0), ports[0]), net.JoinHostPort(host(1), ports[1])},
	}
	at.Certificate, at.Key = authority.Issue(t)
	const partitions = 12 // enough to use every node
	s := openWith(t, Config{Simulation: servers.Name(t), Partitions: partitions}, Dependencies{
		Binding: binding.Static(at),
	})
	for partition := range partitions {
		step := entryStep(int64(partition))
		step.Partition = partition
		_, err := s.RecordEntry(t.Context(), step)
		noError(t, err)
	}
	for i, admin := range c.admins {
		size, err := admin.DBSize(t.Context()).Result()
		noError(t, err)
		if size == 0 {
			t.Errorf("node %d has no keys", i)
		}
	}
}
