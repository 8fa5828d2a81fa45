// Command parking runs parking simulations, or single components of a simulation. It also audits the ledger of a
// simulation, and removes a simulation's queues and keys from servers.
//
// The exit code is 0 for success or the verdict PASS, 1 for a failure or the verdict FAIL, and 2 for invalid input.
// One line on stderr explains what is invalid. If a signal ends a process before its work is complete, the exit code
// is 128 plus the signal number.
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

// untilSignal returns a context that the first SIGINT, SIGTERM or SIGHUP cancels. The cause of the cancellation is a
// signalError. A second signal calls beforeExit and then ends the process immediately.
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
