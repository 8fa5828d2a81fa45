package main

import (
	"context"
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

	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/metrics"
)

// serviceFlags are those of every long-running command.
type serviceFlags struct {
	http  string
	level logLevel
	grace time.Duration
	pprof bool
}

func (f *serviceFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.http, "http", ":8080", "`address` at which to serve /metrics, /healthz and /readyz; it cannot be left out")
	flags.Var(&f.level, "log-level", "least important messages to log: debug, info, warn or error")
	flags.DurationVar(&f.grace, "grace-period", 25*time.Second, "time to finish what is under way after SIGTERM or Ctrl-C; a second signal ends at once")
	flags.BoolVar(&f.pprof, "pprof", false, "also serve profiles of this process at /debug/pprof/")
}

func (f *serviceFlags) check() error {
	if f.http == "" {
		return badInput(errors.New("--http: there must be an address, such as 127.0.0.1:0 for a free port: who watches this process asks it there"))
	}
	if f.grace <= 0 {
		return badInput(fmt.Errorf("--grace-period: %s must be above 0s", f.grace))
	}
	return nil
}

// planFlag adds the flag that names a plan file.
func planFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "plan", "", "`file` with the simulation's plan in JSON; it is followed while the process runs (required)")
	_ = cmd.MarkFlagRequired("plan") // fails only for a flag that does not exist
	_ = cmd.MarkFlagFilename("plan", "json")
}

// service is what a long-running command consists of.
type service struct {
	flags    serviceFlags
	log      *slog.Logger
	registry *prometheus.Registry
	ready    []httpserver.Check
	// rest serves every path that is not the service's own; nil means that there is none.
	rest http.Handler
	// work does what the command is for, until ctx ends, and then finishes within the grace period.
	work func(ctx context.Context) error
}

// newRegistry returns a registry with the metrics of the process itself.
func newRegistry() *prometheus.Registry {
	b := currentBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace:   metrics.Namespace,
		Name:        "build_info",
		Help:        "Always 1; the labels say which version this is.",
		ConstLabels: prometheus.Labels{"version": b.version, "commit": b.commit},
	})
	info.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// closingTime is how much of the grace period is kept for closing what a service holds, a fifth if that
// is less.
const closingTime = 5 * time.Second

// workTime is how much of the grace period is left for the work itself.
func (f *serviceFlags) workTime() time.Duration { return f.grace - min(f.grace/5, closingTime) }

// gcPercent lets the heap grow to five times of what is alive, which is a few megabytes, before it is collected:
// with the default of twice that, collecting takes a tenth of the CPU time at high rates.
const gcPercent = 400

// collectSeldom sets gcPercent, unless the environment says otherwise in GOGC.
func collectSeldom() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// run serves HTTP and works, until ctx ends. /healthz and /metrics are served until the work is done,
// /readyz fails from the moment on at which the process is asked to stop.
func (s service) run(ctx context.Context) error {
	collectSeldom()
	stopping := httpserver.Check{Name: "process", Check: func(context.Context) error {
		if ctx.Err() != nil {
			return errors.New("it is stopping")
		}
		return nil
	}}
	handler := httpserver.Handler(httpserver.Options{
		Metrics: s.registry, Ready: append([]httpserver.Check{stopping}, s.ready...), Rest: withProfiles(s.flags.pprof, s.rest), Log: s.log,
	})
	server, err := httpserver.Listen(ctx, s.flags.http, handler, s.log)
	if err != nil {
		return badInput(fmt.Errorf("%w; choose another address with --http", err))
	}
	s.log.Info("serving HTTP", "address", server.Address())

	working, stop := context.WithCancel(ctx)
	defer stop()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(serving)
		stop() // a process that cannot be watched does not go on
	}()
	err = withinGrace(working, s.flags.grace, s.work)
	stopServing()
	return errors.Join(err, <-served)
}

// withinGrace does the work and gives it up when it has not ended so long after ctx.
func withinGrace(ctx context.Context, grace time.Duration, work func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("the process did not stop within %s", grace)
	}
}

// withProfiles adds profiles to the rest, if asked for.
func withProfiles(wanted bool, rest http.Handler) http.Handler {
	if !wanted {
		return rest
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	if rest != nil {
		mux.Handle("/", rest)
	}
	return mux
}

// closing closes a part at the end of a process, when nothing but a line in the log can be done about its
// failure.
func closing(log *slog.Logger, what string, part io.Closer) {
	if err := part.Close(); err != nil {
		log.Warn("cannot close "+what, "error", err)
	}
}
