// Command parking runs the parts of a parking simulation, or the whole of one, and audits its ledger.
//
// Its exit code is 0 when all went well or the verdict is PASS, 1 when something failed or the verdict is
// FAIL, and 2 when it was asked for something that makes no sense, which one line on stderr explains. A
// process that a signal ended before its work was done exits with 128 and the number of the signal.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	goredis "github.com/redis/go-redis/v9"
)

func main() {
	// The client library's own log is global and unstructured; what matters of it, the store reports itself.
	goredis.SetLogger(silence{})
	// Who no longer reads the output has not asked for what is under way to be dropped.
	signal.Ignore(syscall.SIGPIPE)
	c := newCLI(os.Stdout, os.Stderr, os.Getenv)
	ctx, stop := untilSignal(context.Background(), c.ending.now)
	code := execute(ctx, c, os.Args[1:])
	stop()
	os.Exit(code)
}

// untilSignal returns a context that ends with the first SIGINT, SIGTERM or SIGHUP, which is then its cause.
// The second ends the process at once, after last, for people who do not want to wait.
func untilSignal(parent context.Context, last func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		cancel(&signalError{<-signals})
		second := signalError{<-signals}
		last()
		os.Exit(second.exitCode())
	}()
	return ctx, func() { cancel(nil) }
}

// signalError is the cause of a context's end.
type signalError struct {
	signal os.Signal
}

func (e *signalError) Error() string { return fmt.Sprintf("ended by a signal: %s", e.signal) }

// exitCode is what shells make of a process that a signal ended.
func (e *signalError) exitCode() int {
	const ended = 128
	if number, ok := e.signal.(syscall.Signal); ok {
		return ended + int(number)
	}
	return ended
}

// silence is a logger that discards.
type silence struct{}

// Printf discards.
func (silence) Printf(context.Context, string, ...any) {}
