// Package backoff paces attempts at the same thing.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the pauses between attempts: each is twice the one before, from First to Last, both positive.
type Backoff struct {
	First, Last time.Duration

	pause time.Duration
}

// Next returns the next pause, of which a random half is cut so that those who failed together do not come back
// together.
func (b *Backoff) Next() time.Duration {
	b.pause = min(max(2*b.pause, b.First), b.Last)
	return b.pause/2 + rand.N(b.pause/2+1)
}

// Wait makes the next pause, of this length at least. It returns the error of ctx when that ends before.
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

// Reset begins anew with the first pause, after a success.
func (b *Backoff) Reset() { b.pause = 0 }
