// Package async holds small helpers for goroutines.
package async

import (
	"context"
	"errors"
	"time"
)

// Notify signals a channel of capacity 1 without blocking. The receiver wakes up now or at its next receive.
// Signals that are not received yet count as one.
func Notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ErrKilled is the cause of a context that ends a part of this process as a crash would: nothing is finished or flushed.
var ErrKilled = errors.New("killed")

// Killed reports whether a context has ended with the cause ErrKilled.
func Killed(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrKilled) }

// Outlive returns a context with the values of ctx that ends d after ctx ends, or when cancel is called. It ends together
// with a context that was killed.
func Outlive(ctx context.Context, d time.Duration) (outliving context.Context, cancel context.CancelFunc) {
	outliving, cancel = context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		if Killed(ctx) {
			cancel()
			return
		}
		timer := time.AfterFunc(d, cancel)
		context.AfterFunc(outliving, func() { timer.Stop() })
	})
	return outliving, cancel
}

// Every calls f at once, and then at every interval until ctx ends.
func Every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		f()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
