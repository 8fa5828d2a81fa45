// Package polltest lets tests wait for a condition.
package polltest

import (
	"testing"
	"time"
)

const (
	// timeout is long, because RabbitMQ may need more than a minute to start or to answer on a busy machine.
	timeout = 5 * time.Minute
	// The pause after a check is restFactor times as long as the check, but at least minPause and at most maxPause.
	// Long pauses leave CPU time to the code under test.
	restFactor = 4
	minPause   = time.Millisecond
	maxPause   = time.Second
)

// Until waits until holds() returns true. After five minutes, it fails the test. The parameter what describes the
// condition in the error message.
func Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	until(tb, what, holds, nil)
}

// UntilState is like Until, but the error message also contains the result of state().
func UntilState(tb testing.TB, what string, holds func() bool, state func() any) {
	tb.Helper()
	until(tb, what, holds, state)
}

// UntilNoError is like Until, but waits until f() returns nil. The error message also contains the last error of f().
func UntilNoError(tb testing.TB, what string, f func() error) {
	tb.Helper()
	var err error
	until(tb, what, func() bool { err = f(); return err == nil }, func() any { return err })
}

func until(tb testing.TB, what string, holds func() bool, state func() any) {
	tb.Helper()
	deadline := time.Now().Add(timeout)
	for {
		start := time.Now()
		if holds() {
			return
		}
		// Compare the start of the check with the deadline: if this process stalls between two checks, one more check
		// follows.
		if start.After(deadline) {
			break
		}
		<-time.After(min(max(restFactor*time.Since(start), minPause), maxPause))
	}
	if state == nil {
		tb.Fatalf("timeout after %s: %s", timeout, what)
	}
	tb.Fatalf("timeout after %s: %s: %+v", timeout, what, state())
}
