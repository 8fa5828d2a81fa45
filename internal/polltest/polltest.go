// Package polltest waits in tests for a state that is reached by itself.
package polltest

import (
	"testing"
	"time"
)

const (
	// timeout is long enough for a busy machine. A passing test does not wait for it.
	timeout  = time.Minute
	interval = time.Millisecond
)

// Until polls a condition until it holds. After a minute it fails the test, which names what it waited for.
func Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	UntilState(tb, what, holds, nil)
}

// UntilState is Until with a function that describes the state for the failure.
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
