// Package polltest lets tests wait for a condition.
package polltest

import (
	"testing"
	"time"
)

const (
	// timeout is long enough for a busy machine. Only a failing test waits that long.
	timeout  = time.Minute
	interval = time.Millisecond
)

// Until polls until holds returns true. After a minute it fails the test with what, a description of the
// condition.
func Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	UntilState(tb, what, holds, nil)
}

// UntilState is like Until. On failure it also shows the result of state.
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
