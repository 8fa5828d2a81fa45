package servers

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/privateserver"
)

// sentinelMaster is the name by which the Sentinels know the primary.
const sentinelMaster = "parking"

// SentinelGroup is a Redis primary and its replica, and three Sentinels that promote the replica if the primary fails.
type SentinelGroup struct {
	nodes     []*Redis
	sentinels []*Redis
}

// NewSentinelGroup starts a primary, a replica and three Sentinels until the test ends. Without Redis, the test is
// skipped, or fails if PARKING_TEST_REQUIRE=1.
func NewSentinelGroup(t testing.TB) *SentinelGroup {
	t.Helper()
	user := fmt.Sprintf("user %s on >%s ~* &* +@all", groupUser, groupPassword)
	node := append([]string{user}, replicating...)
	g := &SentinelGroup{}
	g.nodes = append(g.nodes, NewRedis(t, RedisOptions{Config: node}))
	host, port := split(t, g.nodes[0])
	g.nodes = append(g.nodes, NewRedis(t, RedisOptions{Config: append(node, "replicaof "+host+" "+port)}))
	const count = 3
	for range count {
		g.sentinels = append(g.sentinels, NewRedis(t, RedisOptions{Sentinel: true, Config: []string{
			user,
			fmt.Sprintf("sentinel monitor %s %s %s 2", sentinelMaster, host, port),
			fmt.Sprintf("sentinel auth-user %s %s", sentinelMaster, groupUser),
			fmt.Sprintf("sentinel auth-pass %s %s", sentinelMaster, groupPassword),
			fmt.Sprintf("sentinel down-after-milliseconds %s 4000", sentinelMaster),
			fmt.Sprintf("sentinel failover-timeout %s 6000", sentinelMaster),
			"sentinel sentinel-user " + groupUser, "sentinel sentinel-pass " + groupPassword,
		}}))
	}
	polltest.Until(t, "the Sentinels are ready for a failover", func() bool { return g.ready(t) })
	return g
}

// URIs returns the URIs of the Sentinels.
func (g *SentinelGroup) URIs(t testing.TB) []string {
	t.Helper()
	uris := make([]string, len(g.sentinels))
	for i, sentinel := range g.sentinels {
		host, port := split(t, sentinel)
		u := url.URL{
			Scheme: "redis", User: url.UserPassword(groupUser, groupPassword), Host: net.JoinHostPort(host, port),
			RawQuery: url.Values{"master_name": {sentinelMaster}, "sentinel_username": {groupUser}, "sentinel_password": {groupPassword}}.Encode(),
		}
		uris[i] = u.String()
	}
	return uris
}

// Lag implements FailoverGroup. It pauses the only replica until the returned function resume is called.
func (g *SentinelGroup) Lag(t testing.TB, key string) (resume func()) {
	t.Helper()
	primary := g.awaitReady(t)
	for _, replica := range g.nodes {
		if replica != primary {
			resume = lag(t, primary, replica, key)
		}
	}
	return resume
}

// KillPrimary implements FailoverGroup.
func (g *SentinelGroup) KillPrimary(t testing.TB, _ string) *Redis {
	t.Helper()
	primary := g.awaitReady(t)
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	return primary
}

// awaitReady waits until the primary has a replica in sync and the Sentinels know both, and returns the primary.
func (g *SentinelGroup) awaitReady(t testing.TB) (primary *Redis) {
	t.Helper()
	polltest.Until(t, "the Sentinels know the primary and its connected replica", func() bool {
		primary = g.primary(t)
		return primary != nil && g.ready(t)
	})
	return primary
}

// AwaitFailover implements FailoverGroup.
func (g *SentinelGroup) AwaitFailover(t testing.TB, killed *Redis) {
	t.Helper()
	polltest.Until(t, "the Sentinels promote the replica", func() bool {
		primary := g.primary(t)
		return primary != nil && primary != killed
	})
}

// Restart implements FailoverGroup.
func (g *SentinelGroup) Restart(t testing.TB, server *Redis) {
	t.Helper()
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the server is a replica of the other server", func() bool {
		return g.primary(t) != server && g.ready(t)
	})
}

// primary returns the primary that the first Sentinel reports, or nil if it reports none.
func (g *SentinelGroup) primary(t testing.TB) *Redis {
	t.Helper()
	sentinel := g.client(t, g.sentinels[0])
	defer func() { _ = sentinel.Close() }()
	address, err := sentinel.Do(t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinelMaster).StringSlice()
	if err != nil || len(address) != 2 {
		return nil
	}
	for _, node := range g.nodes {
		if _, port := split(t, node); port == address[1] {
			return node
		}
	}
	return nil
}

// ready reports whether the primary has a replica in sync, and whether all Sentinels know the primary, the replica and
// each other.
func (g *SentinelGroup) ready(t testing.TB) bool {
	t.Helper()
	primary := g.primary(t)
	if primary == nil || !primary.Running() {
		return false
	}
	node := g.client(t, primary)
	defer func() { _ = node.Close() }()
	info, err := node.Info(t.Context(), "replication").Result()
	if err != nil || !strings.Contains(info, "role:master") || !strings.Contains(info, "state=online") {
		return false
	}
	_, port := split(t, primary)
	for _, server := range g.sentinels {
		sentinel := g.client(t, server)
		info, err := sentinel.Info(t.Context(), "sentinel").Result()
		_ = sentinel.Close()
		if err != nil || !strings.Contains(info, "status=ok,address=127.0.0.1:"+port+",slaves=1,sentinels=3") {
			return false
		}
	}
	return true
}

func (g *SentinelGroup) client(t testing.TB, server *Redis) *goredis.Client {
	t.Helper()
	client, err := privateserver.NewRedisClient(server.URI())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func split(t testing.TB, server *Redis) (host, port string) {
	t.Helper()
	u, err := url.Parse(server.String())
	if err != nil {
		t.Fatal(err)
	}
	host, port, err = net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// HasWAITAOF reports whether the servers have the command WAITAOF.
func (g *SentinelGroup) HasWAITAOF(t testing.TB) bool {
	t.Helper()
	client := g.client(t, g.nodes[0])
	defer func() { _ = client.Close() }()
	return HasWAITAOF(t, client)
}

// HasWAITAOF reports whether the server of the client has the command WAITAOF.
func HasWAITAOF(t testing.TB, client *goredis.Client) bool {
	t.Helper()
	err := client.Do(t.Context(), "WAITAOF", 0, 0, 1).Err()
	return err == nil || !strings.HasPrefix(err.Error(), "ERR unknown command")
}
