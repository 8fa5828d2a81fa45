// Command bench-operator measures the operator binary against a real API server and etcd, without nodes. It reports
// the rate of created children, CPU time, memory, and whether the operator is idle when nothing changes.
//
// All processes share the machine, so compare only ratios and counts between machines.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type options struct {
	simulations int
	idle, quiet time.Duration
	binary      string
	jsonPath    string
	keep        bool
	profile     bool
}

func main() {
	var o options
	flag.IntVar(&o.simulations, "simulations", 1000, "number of simulations to create")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long to measure the idle operator")
	flag.DurationVar(&o.quiet, "quiet", 10*time.Second, "how long the operator must do nothing to count as idle")
	flag.StringVar(&o.binary, "parking", "bin/parking", "`file` of the parking binary to measure")
	flag.StringVar(&o.jsonPath, "json", "bin/bench-operator.json", "`file` to write the report to, as JSON")
	flag.BoolVar(&o.keep, "keep", false, "keep the directory with the logs, and print its path")
	flag.BoolVar(&o.profile, "profile", false, "write CPU and heap profiles of the operator to the directory with the logs, and keep this directory")
	flag.Parse()
	// Stop the servers even if this process is interrupted by a signal.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-operator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	directory, err := os.MkdirTemp("", "parking-bench-operator-")
	if err != nil {
		return fmt.Errorf("create a directory for logs and profiles: %w", err)
	}
	if o.keep || o.profile {
		fmt.Fprintln(os.Stderr, "logs and profiles:", directory)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	}
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return fmt.Errorf("find %s: %w", o.binary, err)
	}
	progress("start the API server")
	server, err := startServer(ctx, directory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	b := &bench{options: o, directory: directory, binary: binary, server: server}
	report, err := b.measure(ctx)
	if err != nil {
		return err
	}
	return report.print(os.Stdout, o.jsonPath)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench-operator: "+format+"\n", args...)
}
