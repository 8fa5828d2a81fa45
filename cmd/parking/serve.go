package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/cores"
	"github.com/parking-operator/parking-operator/internal/flagvalue"
	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/metrics"
)

// serviceFlags are the flags that all long-running commands share.
type serviceFlags struct {
	http   string
	tlsDir string
	level  logLevel
	grace  flagvalue.Duration
	pprof  bool
}

func (f *serviceFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.http, "http", ":8080", "`address` for /metrics, /healthz and /readyz")
	flags.StringVar(&f.tlsDir, "tls-dir", "", "`directory` with the files tls.crt and tls.key, which are read again for each connection; --http then accepts only TLS connections")
	_ = cmd.MarkFlagDirname("tls-dir")
	flags.Var(&f.level, "log-level", "minimum level of log messages: debug, info, warn or error")
	f.grace = flagvalue.NewDuration(25 * time.Second)
	flags.Var(&f.grace, "grace-period", "time to finish current work after SIGTERM or Ctrl-C; a second signal ends the process at once")
	flags.BoolVar(&f.pprof, "pprof", false, "also serve profiles of this process under /debug/pprof/")
}

func (f *serviceFlags) check() error {
	if f.http == "" {
		return badInput(errors.New("--http: an address is required, because monitoring needs it: for example :8080, or 127.0.0.1:0 for any free port"))
	}
	if f.grace.Duration <= 0 {
		return badInput(fmt.Errorf("--grace-period: must be above 0s, got %s", f.grace))
	}
	if f.tlsDir != "" {
		if _, err := readCertificate(f.tlsDir); err != nil {
			return badInput(fmt.Errorf("--tls-dir: %w", err))
		}
	}
	return nil
}

func planFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "plan", "", "`file` with the plan of the simulation in JSON; the process applies changes to the file while it runs (required)")
	_ = cmd.MarkFlagRequired("plan") // cannot fail, because the flag exists
	_ = cmd.MarkFlagFilename("plan", "json")
}

// service is a long-running command.
type service struct {
	flags    serviceFlags
	log      *slog.Logger
	registry *prometheus.Registry
	ready    []httpserver.Check
	// The field routes contains additional HTTP routes, such as the API of the summary service.
	routes []httpserver.Route
	// The function work must return within the grace period after the end of ctx.
	work func(ctx context.Context) error
}

// newRegistry returns a registry with the metrics of the Go runtime and the process, and with the version of the
// program.
func newRegistry() *prometheus.Registry {
	b := currentBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace:   metrics.Namespace,
		Name:        "build_info",
		Help:        "Always 1. The labels identify the version.",
		ConstLabels: prometheus.Labels{"version": b.version, "commit": b.commit},
	})
	info.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// closingTime is reserved for closing connections at the end of the grace period. If it exceeds a fifth of the grace
// period, only that fifth is reserved.
const closingTime = 5 * time.Second

// workTime is the time that a process has to finish its work after SIGTERM. The rest of the grace period is for closing
// connections.
func (f *serviceFlags) workTime() time.Duration {
	return f.grace.Duration - min(f.grace.Duration/5, closingTime)
}

// With Go's default of 100, garbage collection takes a tenth of the CPU time at high event rates. The live heap has
// only a few megabytes, so the higher value costs little memory.
const gcPercent = 400

// setGCPercent applies gcPercent, unless the environment variable GOGC is set.
func setGCPercent() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// run does the service's work and serves HTTP. When ctx ends, /readyz begins to fail. /healthz and /metrics are served
// until the remaining work is complete.
func (s service) run(ctx context.Context) error {
	setGCPercent()
	stopping := httpserver.Check{Name: "process", Check: func(context.Context) error {
		if ctx.Err() != nil {
			return errors.New("stopping")
		}
		return nil
	}}
	handler := httpserver.Handler(httpserver.Options{
		Metrics: s.registry, Ready: append([]httpserver.Check{stopping}, s.ready...), Routes: append(profiles(s.flags.pprof), s.routes...), Log: s.log,
	})
	server, err := httpserver.Listen(ctx, s.flags.http, handler, s.log)
	if err != nil {
		return listenError(err, "choose another address with --http")
	}
	if s.flags.tlsDir != "" {
		own, err := openCertificate(s.flags.tlsDir, s.log)
		if err != nil {
			return badInput(fmt.Errorf("--tls-dir: %w", err))
		}
		server = server.WithTLS(&tls.Config{GetCertificate: own.get, MinVersion: tls.VersionTLS12})
	}
	s.log.Info("Serving HTTP", "address", server.Address(), "tls", s.flags.tlsDir != "")

	working, stop := context.WithCancel(ctx)
	defer stop()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(serving)
		stop() // a process without HTTP cannot be monitored, so it must end
	}()
	go cores.Adapt(serving)
	err = withinGrace(working, s.flags.grace, s.work)
	stopServing()
	return errors.Join(err, <-served)
}

// withinGrace calls the function work and waits until the function returns. After the end of ctx, withinGrace waits at
// most for the grace period.
func withinGrace(ctx context.Context, grace flagvalue.Duration, work func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace.Duration)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("the process did not stop within the grace period of %s", grace)
	}
}

// profiles returns the routes below /debug/pprof/, or nil if the parameter enabled is false.
func profiles(enabled bool) []httpserver.Route {
	if !enabled {
		return nil
	}
	return []httpserver.Route{
		{Pattern: "/debug/pprof/", Handler: http.HandlerFunc(pprof.Index)},
		{Pattern: "/debug/pprof/profile", Handler: http.HandlerFunc(pprof.Profile)},
		{Pattern: "/debug/pprof/symbol", Handler: http.HandlerFunc(pprof.Symbol)},
		{Pattern: "/debug/pprof/trace", Handler: http.HandlerFunc(pprof.Trace)},
	}
}

// closeAndLog closes c at the end of a process. If closing fails, closeAndLog logs the error.
func closeAndLog(log *slog.Logger, name string, c io.Closer) {
	if err := c.Close(); err != nil {
		log.Warn("Failed to close a connection or file", "what", name, "error", err)
	}
}
