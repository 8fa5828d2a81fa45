// Package backoff computes the delays between attempts of one operation.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is an exponential backoff with jitter: the first delay is First, each further one twice the previous,
// at most Last. Both must be positive.
type Backoff struct {
	First, Last time.Duration

	delay time.Duration
}

// Next returns the next delay. It is between half of the full delay and all of it, at random, so that callers
// that failed together do not retry together.
func (b *Backoff) Next() time.Duration {
	b.delay = min(max(2*b.delay, b.First), b.Last)
	return b.delay/2 + rand.N(b.delay/2+1)
}

// Wait waits for the next delay, but at least for atLeast. If ctx ends first, it returns the error of ctx.
func (b *Backoff) Wait(ctx context.Context, atLeast time.Duration) error {
	timer := time.NewTimer(max(b.Next(), atLeast))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reset makes the next delay the first one again. Call it after a success.
func (b *Backoff) Reset() { b.delay = 0 }
