package processor

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// firstDelay and maxDelay bound the pauses between attempts: the first retries come fast, because most
	// faults are a connection that is being replaced.
	firstDelay = 5 * time.Millisecond
	maxDelay   = 2 * time.Second
	// maxHint bounds for how long the failed party may ask to be left alone.
	maxHint = 30 * time.Second
)

// backoff paces the attempts at one thing. The zero value is before the first failure.
type backoff struct {
	failures int
}

// wait pauses after a failure, at least as long as the failed party asked for. It reports false when ctx
// ended before.
func (b *backoff) wait(ctx context.Context, hint time.Duration) bool {
	timer := time.NewTimer(max(b.next(), min(hint, maxHint)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// next returns the next pause: twice the one before up to maxDelay, of which a random half is cut so that
// those who failed together do not come back together.
func (b *backoff) next() time.Duration {
	delay := maxDelay
	if b.failures < 16 { // firstDelay<<16 is minutes; beyond, the shift would overflow in the end
		delay = min(firstDelay<<b.failures, maxDelay)
	}
	b.failures++
	return delay/2 + rand.N(delay/2)
}
