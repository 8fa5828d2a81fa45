// Package polltest lets tests wait for a condition.
package polltest

import (
	"testing"
	"time"
)

const (
	// timeout is how long a test waits for a condition before it fails. It is long enough for a busy machine.
	timeout  = time.Minute
	interval = time.Millisecond
)

// Until calls the function holds repeatedly until it returns true. If that takes more than a minute, it fails
// the test. what describes the condition.
func Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	UntilState(tb, what, holds, nil)
}

// UntilState is like Until. If it fails the test, it also shows the result of the function state.
func UntilState(tb testing.TB, what string, holds func() bool, state func() any) {
	tb.Helper()
	deadline := time.After(timeout)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline:
			if state == nil {
				tb.Fatalf("timeout after %s: %s", timeout, what)
			}
			tb.Fatalf("timeout after %s: %s: %+v", timeout, what, state())
		}
	}
}
