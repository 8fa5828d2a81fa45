// Command parking runs parking simulations, audits their ledgers, and purges their queues and keys.
//
// The exit code is:
//   - 0: success, or the verdict PASS
//   - 1: failure, or the verdict FAIL
//   - 2: invalid input, which one line on stderr explains
//   - 128 plus the signal number: a signal ended the process before its work was complete
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	discardRedisLogs()
	// A closed pipe, as in "parking simulate 2>&1 | head", must not end the process.
	signal.Ignore(syscall.SIGPIPE)
	c := newCLI(os.Stdout, os.Stderr, os.Getenv)
	c.name = strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	if c.isPlugin() {
		discardClientLogs()
	}
	ctx, stop := untilSignal(context.Background(), c.beforeExit.run)
	code := execute(ctx, c, os.Args[1:])
	stop()
	os.Exit(code)
}

// untilSignal returns a context that the first SIGINT, SIGTERM or SIGHUP cancels with a signalError as the cause. A
// second signal ends the process at once.
func untilSignal(parent context.Context, beforeExit func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // a program started by nohup must keep ignoring SIGHUP
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		cancel(&signalError{<-signals})
		second := signalError{<-signals}
		beforeExit()
		os.Exit(second.exitCode())
	}()
	return ctx, func() { cancel(nil) }
}

// signalError is the cancellation cause of a context that a signal has canceled.
type signalError struct {
	signal os.Signal
}

func (e *signalError) Error() string { return fmt.Sprintf("stopped by a signal: %s", e.signal) }

// exitCode returns 128 plus the signal number, the convention of shells.
func (e *signalError) exitCode() int {
	const base = 128
	if number, ok := e.signal.(syscall.Signal); ok {
		return base + int(number)
	}
	return base
}
