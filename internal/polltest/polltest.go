// Package polltest lets tests wait for a condition.
package polltest

import (
	"testing"
	"time"
)

const (
	// timeout is how long a test waits for a condition before it fails. On a busy machine, RabbitMQ may need more than a
	// minute to start or to answer a command.
	timeout  = 5 * time.Minute
	interval = time.Millisecond
)

// Until waits until holds() returns true. After five minutes, it fails the test. The error message contains what, a
// description of the condition.
func Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	until(tb, interval, what, holds, nil)
}

// UntilState is like Until, but the error message also contains the result of state().
func UntilState(tb testing.TB, what string, holds func() bool, state func() any) {
	tb.Helper()
	until(tb, interval, what, holds, state)
}

func until(tb testing.TB, every time.Duration, what string, holds func() bool, state func() any) {
	tb.Helper()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	// If this process stalls, the deadline may pass between two calls of holds(). So call holds() once more after the
	// deadline.
	for last, deadline := false, time.Now().Add(timeout); !holds(); last = time.Now().After(deadline) {
		if last {
			if state == nil {
				tb.Fatalf("timeout after %s: %s", timeout, what)
			}
			tb.Fatalf("timeout after %s: %s: %+v", timeout, what, state())
		}
		<-ticker.C
	}
}

// UntilNoError is like Until, but waits until f() returns nil. The error message also contains the last error of f().
func UntilNoError(tb testing.TB, what string, f func() error) {
	tb.Helper()
	UntilNoErrorEvery(tb, interval, what, f)
}

// UntilNoErrorEvery is like UntilNoError, but calls f at most once per interval. Use this function if f is expensive,
// for example a request to an API server.
func UntilNoErrorEvery(tb testing.TB, every time.Duration, what string, f func() error) {
	tb.Helper()
	var err error
	until(tb, every, what, func() bool { err = f(); return err == nil }, func() any { return err })
}
