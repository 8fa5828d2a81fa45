// Command parking runs parking simulations: a whole one, or one of its components. It also audits the ledger of a
// simulation and removes a simulation from servers.
//
// Exit code 0 means success, or a verdict of PASS. Exit code 1 means that something failed, or a verdict of FAIL.
// Exit code 2 means invalid input, which one line on stderr explains. A process that a signal ends before its work
// is done exits with 128 plus the signal number.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	goredis "github.com/redis/go-redis/v9"
)

func main() {
	// The client library has one global, unstructured logger. The store adapter reports what matters.
	goredis.SetLogger(discardLogger{})
	// A closed pipe, as in "parking simulate 2>&1 | head", must not end the process.
	signal.Ignore(syscall.SIGPIPE)
	c := newCLI(os.Stdout, os.Stderr, os.Getenv)
	c.name = strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	ctx, stop := untilSignal(context.Background(), c.beforeExit.run)
	code := execute(ctx, c, os.Args[1:])
	stop()
	os.Exit(code)
}

// untilSignal returns a context that the first SIGINT, SIGTERM or SIGHUP cancels. The signal is the cause of the
// cancellation. A second signal calls beforeExit and ends the process at once.
func untilSignal(parent context.Context, beforeExit func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
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

// signalError says which signal canceled a context.
type signalError struct {
	signal os.Signal
}

func (e *signalError) Error() string { return fmt.Sprintf("stopped by a signal: %s", e.signal) }

// exitCode returns 128 plus the signal number, as shells report it.
func (e *signalError) exitCode() int {
	const base = 128
	if number, ok := e.signal.(syscall.Signal); ok {
		return base + int(number)
	}
	return base
}

// discardLogger discards everything.
type discardLogger struct{}

// Printf does nothing.
func (discardLogger) Printf(context.Context, string, ...any) {}
