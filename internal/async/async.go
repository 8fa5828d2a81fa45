// Package async has small helpers for goroutines, channels and contexts.
package async

import (
	"context"
	"errors"
	"time"
)

// Notify sends a signal to a channel of capacity 1 without blocking. If several signals are sent before the receiver
// reads the channel, it receives only one signal.
func Notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ErrKilled is the cancellation cause of a simulated crash. Code must then return at once, without finishing work or
// flushing data.
var ErrKilled = errors.New("killed")

// Killed reports whether ctx has ended with the cause ErrKilled.
func Killed(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrKilled) }

// Outlive returns a context with the values of ctx. The returned context ends when cancel is called, or when the
// duration d has passed since the end of ctx. It ends at once if ctx ends with the cause ErrKilled.
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

// Every calls f at once, and then once per interval until ctx ends.
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
