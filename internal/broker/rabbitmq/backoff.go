package rabbitmq

import (
	"errors"
	"time"

	"github.com/parking-operator/parking-operator/internal/backoff"
)

// The pauses between attempts double from minPause to maxPause. The first ones are short, because most
// faults are a connection that is being replaced.
const (
	minPause = 20 * time.Millisecond
	maxPause = 5 * time.Second
	// gonePause is how long a queue that has been deleted stays so. When a queue is declared anew before the
	// server has told all its consumers of the deletion, it takes those that it has not told for consumers of
	// the new queue, and messages that it delivers to them arrive nowhere.
	gonePause = time.Second
)

// errQueueGone is in the end of a session whose queue has been deleted.
var errQueueGone = errors.New("the queue does not exist any more")

func newBackoff() backoff.Backoff { return backoff.Backoff{First: minPause, Last: maxPause} }

// leastPause is the shortest pause after a failure.
func leastPause(failure error) time.Duration {
	if errors.Is(failure, errQueueGone) {
		return gonePause
	}
	return 0
}
