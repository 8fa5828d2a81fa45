// Package backoff computes the delays between the retries of an operation.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is an exponential backoff with jitter. The delay without jitter starts at First and doubles with each call
// of Next, up to Last. First and Last must be positive.
type Backoff struct {
	First, Last time.Duration

	delay time.Duration
}

// Next returns the next delay: the delay without jitter, multiplied by a random factor between 0.5 and 1. The jitter
// spreads the retries of callers that failed at the same time.
func (b *Backoff) Next() time.Duration {
	b.delay = min(max(2*b.delay, b.First), b.Last)
	return b.delay/2 + rand.N(b.delay/2+1)
}

// Wait sleeps for the next delay or for atLeast, whichever is longer. If ctx ends first, Wait returns the error of
// ctx.
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

// Reset makes the backoff start at First again. Call Reset after a success.
func (b *Backoff) Reset() { b.delay = 0 }
