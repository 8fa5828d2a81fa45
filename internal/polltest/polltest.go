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

// Until calls holds() repeatedly until it returns true. If that takes more than five minutes, it fails the test. The
// parameter named what describes the condition in the error message.
func Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	until(tb, interval, what, holds, nil)
}

// UntilState is like Until, but the message of a failed test also contains the result of state().
func UntilState(tb testing.TB, what string, holds func() bool, state func() any) {
	tb.Helper()
	until(tb, interval, what, holds, state)
}

func until(tb testing.TB, every time.Duration, what string, holds func() bool, state func() any) {
	tb.Helper()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	// If this process stalls, the deadline may pass between two calls of holds(). So holds() is called once more after
	// the deadline.
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

// UntilNoError calls f repeatedly until it returns nil. If that takes more than five minutes, it fails the test and shows
// the last error.
func UntilNoError(tb testing.TB, what string, f func() error) {
	tb.Helper()
	UntilNoErrorEvery(tb, interval, what, f)
}

// UntilNoErrorEvery is like UntilNoError, but calls f at most once per interval. Use it if a call is expensive, such as a
// request to an API server.
func UntilNoErrorEvery(tb testing.TB, every time.Duration, what string, f func() error) {
	tb.Helper()
	var err error
	until(tb, every, what, func() bool { err = f(); return err == nil }, func() any { return err })
}
