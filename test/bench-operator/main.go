// Command bench-operator measures the operator, as the process that users run, against a real API server
// and etcd that it starts itself. Nothing runs the pods: what is measured is how fast many simulations get
// their objects, what that costs, and whether the operator is silent when there is nothing to do.
//
// Everything shares the machine, and the API server takes most of it: compare ratios and counts rather than
// times of different machines.
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

// options are the command line.
type options struct {
	simulations int
	idle        time.Duration
	binary      string
	jsonPath    string
	keep        bool
	profile     bool
}

func main() {
	var o options
	flag.IntVar(&o.simulations, "simulations", 1000, "how many simulations to create")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long to watch the operator once there is nothing to do")
	flag.StringVar(&o.binary, "parking", "bin/parking", "`file` of the parking command to measure")
	flag.StringVar(&o.jsonPath, "json", "", "also write the report to this `file` (default: print it after the table)")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder with logs and audit log, and say where it is")
	flag.BoolVar(&o.profile, "profile", false, "write profiles of the operator while it creates objects into that folder, and keep it")
	flag.Parse()
	// Whichever way it is ended, it takes its servers with it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-operator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	folder, err := os.MkdirTemp("", "parking-bench-operator-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	if o.keep || o.profile {
		fmt.Fprintln(os.Stderr, "logs and profiles:", folder)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	}
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return fmt.Errorf("find %s: %w", o.binary, err)
	}
	server, err := startServer(ctx, folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	b := &bench{options: o, folder: folder, binary: binary, server: server}
	report, err := b.measure(ctx)
	if err != nil {
		return err
	}
	return report.print(o.jsonPath)
}
