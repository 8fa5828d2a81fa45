package rabbitmq

import (
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/backoff"
)

// The delays between attempts start at minDelay and double up to maxDelay. The first delays are short, because
// most failures happen while a connection is being replaced. maxDelay is short as well: after the start or an outage of
// the server, a simulation waits for up to maxDelay longer than necessary.
const (
	minDelay = 20 * time.Millisecond
	maxDelay = time.Second
	// rejectedDelay is the minimum delay after the server has rejected the user name, the password or the permissions. The
	// server logs each of these attempts, and the next attempt fails as well until somebody has corrected the cause.
	rejectedDelay = 5 * time.Second
	// deletedDelay is the minimum delay before a deleted queue is declared again. When a queue is deleted, the server
	// notifies its consumers one by one. If the queue is declared again too early, the server regards the consumers
	// that it has not notified yet as consumers of the new queue. It sends them messages that never arrive.
	deletedDelay = time.Second
)

// errQueueGone is the error with which a session ends when its queue is deleted.
var errQueueGone = errors.New("the queue was deleted")

func newBackoff() backoff.Backoff { return backoff.Backoff{First: minDelay, Last: maxDelay} }

// minDelayAfter returns the minimum delay before the next attempt, which depends on why the last one failed.
func minDelayAfter(failure error) time.Duration {
	switch {
	case errors.Is(failure, errQueueGone):
		return deletedDelay
	case hasCode(failure, amqp.AccessRefused):
		return rejectedDelay
	default:
		return 0
	}
}
