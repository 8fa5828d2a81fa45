package servers

import (
	"strconv"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/polltest"
)

// FailoverGroup is a group of Redis servers. When a primary is killed, its replica takes over.
type FailoverGroup interface {
	// Lag pauses the replica of the primary that stores the key until resume is called, so that a crash of the primary
	// loses later writes. Call resume before AwaitFailover: a paused replica cannot take over.
	Lag(t testing.TB, key string) (resume func())
	// KillPrimary kills the primary that stores the key, and returns the killed server.
	KillPrimary(t testing.TB, key string) *Redis
	// AwaitFailover waits until the replica of a killed primary has taken over.
	AwaitFailover(t testing.TB, killed *Redis)
	// Restart starts a killed server. It returns when the server has become a replica that is in sync.
	Restart(t testing.TB, server *Redis)
}

const (
	groupUser     = "parking"
	groupPassword = "p@ss/word"
)

// replicating contains the replication settings of primaries and replicas. A primary must not disconnect a paused
// replica.
var replicating = []string{
	"masteruser " + groupUser, "masterauth " + groupPassword, "repl-diskless-sync-delay 0", "repl-timeout 3600",
	"client-output-buffer-limit replica 0 0 0",
}

// lag pauses a replica, and fills the socket buffers to it. Later writes wait in the memory of the primary, so a
// crash of the primary loses them.
func lag(t testing.TB, primary, replica *Redis, key string) (resume func()) {
	t.Helper()
	const ballast = 64 << 20
	client := clientOf(t, primary)
	if err := replica.Pause(); err != nil {
		t.Fatal(err)
	}
	// Write another key with the same hash tag: it is on the same primary, and the given key does not change.
	script := "redis.call('SET', KEYS[1], string.rep('x', ARGV[1])) return redis.call('PEXPIRE', KEYS[1], 1)"
	polltest.UntilNoError(t, "write data to the primary that its paused replica cannot receive", func() error {
		return client.Eval(t.Context(), script, []string{key + ":ballast"}, ballast).Err()
	})
	return func() {
		if err := replica.Resume(); err != nil {
			t.Fatal(err)
		}
	}
}

// infoNumber returns the value of a numeric field of INFO replication.
func infoNumber(t testing.TB, client *goredis.Client, field string) int64 {
	t.Helper()
	info, err := client.Info(t.Context(), "replication").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if n, err := strconv.ParseInt(value, 10, 64); name == field && err == nil {
			return n
		}
	}
	t.Fatalf("INFO replication has no %s", field)
	return 0
}
