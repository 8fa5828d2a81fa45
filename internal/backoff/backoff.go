// Package backoff computes the delays between the retries of an operation.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is an exponential backoff with jitter. Without jitter, each delay is twice the previous one.
type Backoff struct {
	// First is the initial delay, and Last is the maximum delay, both without jitter. Both must be positive.
	First, Last time.Duration

	delay time.Duration
}

// Next returns the next delay, multiplied by a random factor between 0.5 and 1. The jitter spreads the retries of
// callers that failed together.
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
