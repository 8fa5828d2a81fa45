package rabbitmq

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
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

// backoff paces attempts at the same thing. The zero value is that before the first failure.
type backoff struct {
	failures int
}

// wait pauses after a failure, or until ctx ends.
func (b *backoff) wait(ctx context.Context, failure error) {
	pause := b.next()
	if errors.Is(failure, errQueueGone) {
		pause = max(pause, gonePause)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// next returns the next pause, of which a random half is cut so that those who failed together do not
// come back together.
func (b *backoff) next() time.Duration {
	pause := maxPause
	if b.failures < 8 { // minPause << 8 exceeds maxPause
		pause = min(minPause<<b.failures, maxPause)
		b.failures++
	}
	return pause/2 + rand.N(pause/2)
}

func (b *backoff) reset() { b.failures = 0 }
