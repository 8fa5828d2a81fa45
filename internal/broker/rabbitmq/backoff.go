package rabbitmq

import (
	"errors"
	"time"

	"github.com/parking-operator/parking-operator/internal/backoff"
)

// Delays between attempts double from minDelay to maxDelay. The first ones are short, because most failures happen
// while a connection is being replaced.
const (
	minDelay = 20 * time.Millisecond
	maxDelay = 5 * time.Second
	// deletedDelay is the minimum delay before a deleted queue is declared again. A server notifies the
	// consumers of a deleted queue one by one. If the queue is declared again before that is done, the server
	// delivers messages of the new queue to consumers of the old one, which do not receive them.
	deletedDelay = time.Second
)

// errQueueGone ends a session whose queue was deleted.
var errQueueGone = errors.New("the queue was deleted")

func newBackoff() backoff.Backoff { return backoff.Backoff{First: minDelay, Last: maxDelay} }

// minDelayAfter returns the minimum delay before the attempt that follows a failure.
func minDelayAfter(failure error) time.Duration {
	if errors.Is(failure, errQueueGone) {
		return deletedDelay
	}
	return 0
}
