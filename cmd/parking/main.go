// Command parking runs the parts of a parking simulation, or the whole of one, and audits its ledger.
//
// Its exit code is 0 when all went well or the verdict is PASS, 1 when something failed or the verdict is
// FAIL, and 2 when it was asked for something that makes no sense, which one line on stderr explains.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	goredis "github.com/redis/go-redis/v9"
)

func main() {
	// The client library's own log is global and unstructured; what matters of it, the store reports itself.
	goredis.SetLogger(silence{})
	ctx, stop := untilSignal(context.Background())
	code := execute(ctx, newCLI(os.Stdout, os.Stderr, os.Getenv), os.Args[1:])
	stop()
	os.Exit(code)
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. The second ends the process at
// once, for people who do not want to wait.
func untilSignal(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		second := <-signals
		code := 128
		if number, ok := second.(syscall.Signal); ok {
			code += int(number)
		}
		os.Exit(code)
	}()
	return ctx, cancel
}

// silence is a logger that discards.
type silence struct{}

// Printf discards.
func (silence) Printf(context.Context, string, ...any) {}
