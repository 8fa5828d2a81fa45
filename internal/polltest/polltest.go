// Package polltest lets tests wait for a condition.
package polltest

import (
	"testing"
	"time"
)

const (
	// timeout is long, because RabbitMQ may need more than a minute to start or to answer on a busy machine.
	timeout = 5 * time.Minute
	// The pause after a check is restFactor times as long as the check, within these limits. So an expensive check leaves
	// CPU time to what the test waits for.
	restFactor = 4
	minPause   = time.Millisecond
	maxPause   = time.Second
)

// Until waits until holds() returns true. After five minutes, it fails the test. The error message contains what, a
// description of the condition.
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
		time.Sleep(min(max(restFactor*time.Since(start), minPause), maxPause))
	}
	if state == nil {
		tb.Fatalf("timeout after %s: %s", timeout, what)
	}
	tb.Fatalf("timeout after %s: %s: %+v", timeout, what, state())
}
