package redis

import (
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// barrier is the command that waits until servers have confirmed all earlier writes on its connection: WAIT for
// plan.DurabilityWritten, and WAITAOF for plan.DurabilitySynced.
//
// WAIT waits until replicas have received the writes. WAITAOF waits until the primary and its replicas have flushed the
// writes to disk. WAITAOF needs Redis 7.2 or later, or Valkey.
type barrier struct{ durability plan.Durability }

func (b barrier) synced() bool { return b.durability == plan.DurabilitySynced }

// isNeeded reports whether an observation of a server with the given number of replicas must wait until all earlier
// writes are confirmed.
func (b barrier) isNeeded(replicas int) bool { return b.synced() || replicas > 0 }

// command returns the command that waits until the given number of replicas confirm the writes.
func (b barrier) command(ctx context.Context, replicas int, timeout time.Duration) *goredis.Cmd {
	if b.synced() {
		return goredis.NewCmd(ctx, "waitaof", 1, replicas, timeout.Milliseconds())
	}
	return goredis.NewCmd(ctx, "wait", replicas, timeout.Milliseconds())
}

// isPassed reports whether the reply to the command confirms the writes. The reply is nil if the command was not
// executed.
func (b barrier) isPassed(reply any, replicas int) bool {
	var local, remote int64
	switch reply := reply.(type) {
	case int64:
		remote = reply
	case []any:
		if len(reply) == 2 {
			local, _ = reply[0].(int64)
			remote, _ = reply[1].(int64)
		}
	}
	// Only WAITAOF also needs the confirmation of the primary.
	return (local > 0 || !b.synced()) && remote >= int64(replicas)
}

const (
	// syncTimeout is the minimum timeout of WAITAOF. With appendfsync everysec, a replica may need over two seconds:
	// one second until the replica begins to flush, and another second until it reports the flush to the primary.
	syncTimeout = 3 * time.Second
	// maxSyncTimeout is enough for a disk that needs many seconds for a flush.
	maxSyncTimeout = time.Minute
)

// timeout returns how long an observation waits for the confirmation of a write. The parameter lag is the time for
// which writes have been unconfirmed.
func (b barrier) timeout(readTimeout, lag time.Duration) time.Duration {
	if b.synced() {
		// Each observation waits for the confirmation of a new write. If the servers always needed longer than a
		// constant timeout, every observation would time out. So the timeout grows with the lag.
		return min(max(syncTimeout, lag), maxSyncTimeout)
	}
	// Replicas confirm writes as soon as they receive them, so this timeout need not grow with the lag.
	return replicaTimeout(readTimeout)
}

// clientOf returns a client of the same server. Its read timeout is long enough for a command that blocks for the given
// timeout.
func (b barrier) clientOf(node *goredis.Client, timeout time.Duration) *goredis.Client {
	if readTimeout := node.Options().ReadTimeout; b.synced() && readTimeout > 0 {
		return node.WithTimeout(readTimeout + timeout)
	}
	return node
}

// lagError returns the warning that the primary or a replica has not confirmed writes for a long time.
func (b barrier) lagError(replicas int) error {
	if b.synced() {
		return fmt.Errorf("the primary and its %d connected replicas have not all flushed the latest writes to disk: check that every "+
			"replica has appendonly yes, that no server has appendfsync no or no-appendfsync-on-rewrite yes, and that their disks and "+
			"network are fast enough; a replica confirms nothing until its first rewrite after a full resync ends", replicas)
	}
	return fmt.Errorf("not all of the %d connected replicas have received the latest writes: check the replicas, and their network", replicas)
}

// replicaTimeout returns how long an observation waits for replicas. The server must reply before the client's read
// timeout.
func replicaTimeout(readTimeout time.Duration) time.Duration {
	const most = time.Second
	if readTimeout <= 0 { // the client has no read timeout
		return most
	}
	return max(time.Millisecond, min(most, readTimeout/2))
}
