package servers

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/privateserver"
	"github.com/parking-operator/parking-operator/internal/tlstest"
)

// ClusterSlots is the number of slots of a Redis Cluster.
const ClusterSlots = 16384

// RedisClusterOptions configures a RedisCluster.
type RedisClusterOptions struct {
	// Primaries is the number of primaries. Each primary has an equal share of the slots.
	Primaries int
	// Replicas adds a replica to each primary.
	Replicas bool
	// Authority makes the cluster use TLS with client certificates. Each node then has its own address, and a
	// certificate that is valid only for this address.
	Authority *tlstest.Authority
	// HostNames makes each node announce a host name; see NodeHosts. The certificate of the node is then valid only
	// for this host name. HostNames requires an Authority.
	HostNames bool
	// Elections makes the nodes promote the replica of a primary that has not responded for 5 s. Without it, only
	// AwaitFailover promotes replicas.
	Elections bool
	// Config contains additional lines for the redis.conf of each node.
	Config []string
}

// RedisCluster is a Redis Cluster of private servers.
type RedisCluster struct {
	// Nodes are the servers: first all primaries, then their replicas in the same order.
	Nodes []*Redis
	// Admins are clients of the nodes. They do not use TLS, and do not follow redirections.
	Admins []*goredis.Client

	options RedisClusterOptions
	// Each slice has one element per node: the address that other nodes use, the endpoint that clients use, the port of
	// the cluster bus, and the node ID.
	addresses, endpoints, buses, ids []string
	// successor is the index of the replica that takes over from the last killed primary.
	successor int
	// paused is the index of the paused replica, or none if no replica is paused.
	paused int
}

// none stands for "no node" where an index is expected.
const none = -1

// NewRedisCluster starts a Redis Cluster until the test ends, and returns when it is in sync. Without Redis, the
// test is skipped, or fails if PARKING_TEST_REQUIRE=1.
func NewRedisCluster(t testing.TB, o RedisClusterOptions) *RedisCluster {
	t.Helper()
	// Without an Authority, nodes announce no host names. NewRedisCluster would wait for the host names until its
	// timeout.
	if o.HostNames && o.Authority == nil {
		t.Fatal("RedisClusterOptions: HostNames needs an Authority")
	}
	c := &RedisCluster{options: o, paused: none}
	for i := range o.Primaries {
		c.startNode(t, 0)
		first, last := i*ClusterSlots/o.Primaries, (i+1)*ClusterSlots/o.Primaries-1
		if err := c.Admins[i].ClusterAddSlotsRange(t.Context(), first, last).Err(); err != nil {
			t.Fatal(err)
		}
	}
	polltest.Until(t, "all nodes know each other and the owner of each slot", func() bool { return c.isComplete(t.Context()) })
	if o.Replicas {
		for i := range o.Primaries {
			c.AddReplica(t, i)
		}
	}
	return c
}

// startNode starts a node. The new node joins the cluster through the node with the given index.
func (c *RedisCluster) startNode(t testing.TB, other int) {
	t.Helper()
	i := len(c.Nodes)
	_, bus, err := net.SplitHostPort(FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	config := slices.Concat(c.options.Config, []string{
		"cluster-enabled yes",
		// Set the port of the cluster bus, because the default port may be in use.
		"cluster-port " + bus,
		fmt.Sprintf("user %s on >%s ~* &* +@all", groupUser, groupPassword),
	}, replicating)
	if c.options.Elections {
		// With the validity factor 0, even a replica that was paused for a long time can be elected.
		config = append(config, "cluster-node-timeout 5000", "cluster-replica-validity-factor 0")
	} else {
		// No replica starts a failover itself. AwaitFailover promotes a replica with CLUSTER FAILOVER TAKEOVER.
		config = append(config, "cluster-node-timeout 600000", "cluster-replica-no-failover yes")
	}
	address, endpoint := "", ""
	var files map[string][]byte
	if c.options.Authority != nil {
		var tls []string
		address, endpoint, tls, files = c.tlsConfig(t, i)
		config = append(config, tls...)
	}
	node := NewRedis(t, RedisOptions{Config: config, Files: files})
	if address == "" {
		address = net.JoinHostPort(split(t, node))
		endpoint = address
	}
	admin := clientOf(t, node)
	id, err := admin.ClusterMyID(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	c.Nodes, c.Admins = append(c.Nodes, node), append(c.Admins, admin)
	c.addresses, c.endpoints = append(c.addresses, address), append(c.endpoints, endpoint)
	c.buses, c.ids = append(c.buses, bus), append(c.ids, id)
	if i == 0 {
		return
	}
	host, port, err := net.SplitHostPort(c.addresses[other])
	if err == nil {
		err = admin.Do(t.Context(), "CLUSTER", "MEET", host, port, c.buses[other]).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tlsConfig returns the address of a TLS node for other nodes, the endpoint for clients, the lines for redis.conf, and
// the files to which these lines refer.
func (c *RedisCluster) tlsConfig(t testing.TB, node int) (address, endpoint string, lines []string, files map[string][]byte) {
	t.Helper()
	ip := nodeIP(node)
	_, port, err := net.SplitHostPort(FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	lines = []string{
		"bind 127.0.0.1 " + ip, "cluster-announce-ip " + ip, "tls-cluster yes", "tls-replication yes", "tls-port " + port,
		"tls-ca-cert-file ca.crt", "tls-auth-clients yes", "tls-cert-file tls.crt", "tls-key-file tls.key",
	}
	host := ip
	if c.options.HostNames {
		host = nodeName(node)
		lines = append(lines, "cluster-announce-hostname "+host, "cluster-preferred-endpoint-type hostname")
	}
	certificate, key := c.options.Authority.Issue(t, host)
	return net.JoinHostPort(ip, port), net.JoinHostPort(host, port), lines,
		map[string][]byte{"ca.crt": c.options.Authority.PEM, "tls.crt": certificate, "tls.key": key}
}

// nodeDomain is the domain of the host names of nodes. No real host has such a name, because the top-level domain .test
// is reserved.
const nodeDomain = ".redis.test"

func nodeName(node int) string { return fmt.Sprintf("node-%d%s", node, nodeDomain) }

func nodeIP(node int) string { return fmt.Sprintf("127.0.0.%d", node+2) }

// NodeHosts returns lines for a hosts file: the host names of the given number of nodes. See WithHosts.
func NodeHosts(nodes int) string {
	var lines strings.Builder
	for i := range nodes {
		fmt.Fprintln(&lines, nodeIP(i), nodeName(i))
	}
	return lines.String()
}

// URI returns the URI with which clients of the cluster connect to a node.
func (c *RedisCluster) URI(node int) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword(groupUser, groupPassword), Host: c.endpoints[node], RawQuery: "cluster=true"}
	if c.options.Authority != nil {
		u.Scheme = "rediss"
	}
	return u.String()
}

// SecretDir returns a directory with the files of a service binding for the cluster. The binding has the URIs of at
// most two primaries, because a client accepts the certificates of all nodes in its binding, even from a wrong node.
// Two nodes are enough, because no test kills or pauses both at once.
func (c *RedisCluster) SecretDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	var uris []string
	for i := range min(2, c.options.Primaries) {
		uris = append(uris, c.URI(i))
	}
	keys := map[string]string{"uris": strings.Join(uris, ",")}
	if authority := c.options.Authority; authority != nil {
		certificate, key := authority.Issue(t)
		keys["ca.crt"], keys["tls.crt"], keys["tls.key"] = string(authority.PEM), string(certificate), string(key)
	}
	for name, value := range keys {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// AddReplica adds a replica to a primary, waits until the replica is in sync, and returns the index of the replica.
func (c *RedisCluster) AddReplica(t testing.TB, primary int) int {
	t.Helper()
	c.startNode(t, primary)
	replica := len(c.Nodes) - 1
	polltest.Until(t, "the replica knows its primary", func() bool {
		return c.Admins[replica].ClusterReplicate(t.Context(), c.ids[primary]).Err() == nil
	})
	c.awaitReplica(t, replica)
	return replica
}

// awaitReplica waits until a node is a replica in sync, and until all nodes know each other and the owner of each slot
// (see isComplete).
func (c *RedisCluster) awaitReplica(t testing.TB, node int) {
	t.Helper()
	polltest.Until(t, "the replica is in sync", func() bool {
		info, err := c.Admins[node].Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up") && c.isComplete(t.Context())
	})
}

// isComplete reports whether all nodes know each other, their host names, and the owner of each slot.
func (c *RedisCluster) isComplete(ctx context.Context) bool {
	for _, admin := range c.Admins {
		info, err := admin.ClusterInfo(ctx).Result()
		if err != nil || !strings.Contains(info, "cluster_state:ok") ||
			!strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(c.Nodes))) {
			return false
		}
		nodes, err := admin.ClusterNodes(ctx).Result()
		if err != nil || c.options.HostNames && strings.Count(nodes, nodeDomain) < len(c.Nodes) {
			return false // a node with an unknown host name is not announced to clients
		}
	}
	return true
}

// Slot returns the slot of a key.
func (c *RedisCluster) Slot(t testing.TB, key string) (slot int) {
	t.Helper()
	polltest.Until(t, "a running node returns the hash slot of the key", func() bool {
		for i, admin := range c.Admins {
			if i == c.paused {
				continue
			}
			if n, err := admin.ClusterKeySlot(t.Context(), key).Result(); err == nil {
				slot = int(n)
				return true
			}
		}
		return false
	})
	return slot
}

// Owner returns the indexes of the primary of a slot and of its replica, or -1 for a missing replica.
func (c *RedisCluster) Owner(t testing.TB, slot int) (primary, replica int) {
	t.Helper()
	polltest.Until(t, "a node owns the slot", func() bool {
		for i, admin := range c.Admins {
			if i == c.paused {
				continue
			}
			primary, replica = c.ownerAt(t, admin, slot)
			if primary == i && (replica != none || !c.options.Replicas) {
				return true
			}
		}
		return false
	})
	return primary, replica
}

// ownerAt returns the indexes of the primary and the replica of a slot, according to one node. An index is
// the constant none if it is unknown.
func (c *RedisCluster) ownerAt(t testing.TB, admin *goredis.Client, slot int) (primary, replica int) {
	t.Helper()
	shards, err := admin.ClusterShards(t.Context()).Result()
	if err != nil {
		return none, none // the node is not running
	}
	primary, replica = none, none
	for _, shard := range shards {
		if !slices.ContainsFunc(shard.Slots, func(r goredis.SlotRange) bool { return r.Start <= int64(slot) && int64(slot) <= r.End }) {
			continue
		}
		for i := range shard.Nodes {
			switch n := &shard.Nodes[i]; {
			case n.Health != "online" && slices.Index(c.ids, n.ID) != c.paused:
			case n.Role == "master":
				primary = slices.Index(c.ids, n.ID)
			default:
				replica = slices.Index(c.ids, n.ID)
			}
		}
	}
	return primary, replica
}

// Move moves a slot and its keys to another primary, as redis-cli --cluster reshard does.
func (c *RedisCluster) Move(t testing.TB, slot, from, to int) {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(c.Admins[to].Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ids[from]).Err())
	check(c.Admins[from].Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ids[to]).Err())
	host, port, err := net.SplitHostPort(c.addresses[to])
	check(err)
	for {
		keys, err := c.Admins[from].ClusterGetKeysInSlot(ctx, slot, 1000).Result()
		check(err)
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", host, port, "", 0, 60000, "AUTH2", groupUser, groupPassword, "KEYS"}
		for _, key := range keys {
			args = append(args, key)
		}
		check(c.Admins[from].Do(ctx, args...).Err())
	}
	for _, i := range []int{to, from} {
		check(c.Admins[i].Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to]).Err())
	}
}

// MoveKey moves the slot of a key to another primary. It returns when the replica of that primary has received all keys
// of the slot.
func (c *RedisCluster) MoveKey(t testing.TB, key string) {
	t.Helper()
	slot := c.Slot(t, key)
	from, _ := c.Owner(t, slot)
	to := none
	for step := 1; step < c.options.Primaries && to == none; step++ {
		other, _ := c.Owner(t, (slot+step*ClusterSlots/c.options.Primaries)%ClusterSlots)
		if other != from {
			to = other
		}
	}
	c.Move(t, slot, from, to)
	// Wait for the replica: a failover would lose the keys that the replica has not received.
	written := infoNumber(t, c.Admins[to], "master_repl_offset")
	_, replica := c.Owner(t, slot)
	polltest.Until(t, "the replica of the new owner has the keys", func() bool {
		return infoNumber(t, c.Admins[replica], "slave_repl_offset") >= written
	})
}

// Lag implements FailoverGroup: it pauses the replica of the primary that stores the key until resume is called.
func (c *RedisCluster) Lag(t testing.TB, key string) (resume func()) {
	t.Helper()
	primary, replica := c.Owner(t, c.Slot(t, key))
	c.paused = replica
	end := lag(t, c.Nodes[primary], c.Nodes[replica], key)
	return func() {
		end()
		c.paused = none
	}
}

// KillPrimary implements FailoverGroup.
func (c *RedisCluster) KillPrimary(t testing.TB, key string) *Redis {
	t.Helper()
	primary, replica := c.Owner(t, c.Slot(t, key))
	if err := c.Nodes[primary].Kill(); err != nil {
		t.Fatal(err)
	}
	c.successor = replica
	return c.Nodes[primary]
}

// AwaitFailover implements FailoverGroup.
func (c *RedisCluster) AwaitFailover(t testing.TB, _ *Redis) {
	t.Helper()
	admin := c.Admins[c.successor]
	polltest.Until(t, "the replica takes over", func() bool {
		info, err := admin.Info(t.Context(), "replication").Result()
		if err == nil && strings.Contains(info, "role:master") {
			return true
		}
		if !c.options.Elections {
			// TAKEOVER needs neither the killed primary nor the votes of other primaries. If the command fails, the
			// next iteration sends it again.
			_ = admin.Do(t.Context(), "CLUSTER", "FAILOVER", "TAKEOVER").Err()
		}
		return false
	})
}

// Restart implements FailoverGroup.
func (c *RedisCluster) Restart(t testing.TB, server *Redis) {
	t.Helper()
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.awaitReplica(t, slices.Index(c.Nodes, server))
}

// clientOf returns a client of a server until the test ends. Its timeouts are long, because moving a slot may take
// minutes on a busy machine.
func clientOf(t testing.TB, server *Redis) *goredis.Client {
	t.Helper()
	client, err := privateserver.NewRedisClient(server.URI() + "?read_timeout=3m&write_timeout=3m&dial_timeout=3m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
