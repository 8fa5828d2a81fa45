package redis

import (
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// barrier is the command with which an observation waits until the servers have confirmed its writes. The command
// covers all earlier writes on the same connection. The durability determines the command:
//
//   - plan.DurabilityWritten: WAIT waits until the replicas have received the writes.
//   - plan.DurabilitySynced: WAITAOF waits until the primary and the replicas have flushed the writes to disk. WAITAOF
//     exists in Redis 7.2 and later, and in Valkey.
type barrier struct{ durability plan.Durability }

func (b barrier) synced() bool { return b.durability == plan.DurabilitySynced }

// isNeeded reports whether an observation of a server with the given number of replicas must wait until its writes are
// confirmed.
func (b barrier) isNeeded(replicas int) bool { return b.synced() || replicas > 0 }

// command returns the command that waits until the given number of replicas confirm the writes.
func (b barrier) command(ctx context.Context, replicas int, timeout time.Duration) *goredis.Cmd {
	if b.synced() {
		return goredis.NewCmd(ctx, "waitaof", 1, replicas, timeout.Milliseconds())
	}
	return goredis.NewCmd(ctx, "wait", replicas, timeout.Milliseconds())
}

// isPassed reports whether the given number of replicas have confirmed the writes, according to the reply to the
// command. For WAITAOF, the primary must have confirmed the writes too. The reply is nil if the command was not
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
	return (local > 0 || !b.synced()) && remote >= int64(replicas)
}

// The timeout of an observation with WAITAOF is from syncTimeout to maxSyncTimeout. With appendfsync everysec, a
// replica may need more than two seconds to confirm writes: a second until it begins to flush them, and another second
// until it tells the primary. The maximum is high enough for a disk that needs many seconds for a flush.
const (
	syncTimeout    = 3 * time.Second
	maxSyncTimeout = time.Minute
)

// timeout returns the maximum time for which an observation waits for the servers to confirm a write. The parameter lag
// is how long they have failed to confirm writes, or 0.
//
// Every observation waits for a new write. So with a constant timeout, every observation would time out on servers that
// need longer to confirm a write. The timeout for WAITAOF therefore grows with the lag. The timeout for WAIT need not
// grow, because a replica confirms a write as soon as it has received it.
func (b barrier) timeout(readTimeout, lag time.Duration) time.Duration {
	if b.synced() {
		return min(max(syncTimeout, lag), maxSyncTimeout)
	}
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

// lagError returns the warning that servers have not confirmed writes for a long time. It says what to check. The
// parameter replicas is the number of connected replicas.
func (b barrier) lagError(replicas int) error {
	if b.synced() {
		return fmt.Errorf("the primary and its %d connected replicas have not all flushed the latest writes to disk: check that every "+
			"replica has appendonly yes, that no server has appendfsync no or no-appendfsync-on-rewrite yes, and that their disks and "+
			"network are fast enough; a replica confirms nothing until its first rewrite after a full resync ends", replicas)
	}
	return fmt.Errorf("not all of the %d connected replicas have received the latest writes: check the replicas, and their network", replicas)
}

// replicaTimeout returns the maximum time for which an observation waits for replicas. The result is shorter than the
// client's read timeout, so that the server replies before the client gives up.
func replicaTimeout(readTimeout time.Duration) time.Duration {
	const most = time.Second
	if readTimeout <= 0 { // the client has no read timeout
		return most
	}
	return max(time.Millisecond, min(most, readTimeout/2))
}
