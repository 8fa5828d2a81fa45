// Package httpserver serves what every long-running process of a simulation serves: its metrics, and
// whether it is alive and ready.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// checkTimeout bounds each readiness check, below the timeout that probes usually have.
	checkTimeout = 2 * time.Second
	// shutdownTimeout bounds how long requests under way are waited for.
	shutdownTimeout = 3 * time.Second
	// headerTimeout and idleTimeout keep clients from holding connections for nothing.
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
)

// Check is one thing that has to be so before a process is ready.
type Check struct {
	// Name says what is checked.
	Name string
	// Check returns why it is not so. It is called concurrently and honors its context.
	Check func(context.Context) error
}

// Options configure Handler.
type Options struct {
	// Metrics are served at /metrics.
	Metrics prometheus.Gatherer
	// Ready are the checks behind /readyz, all of which have to pass.
	Ready []Check
	// Routes are what else the process serves. Paths without a route answer 404.
	Routes []Route
	// Log receives what a scrape could not gather.
	Log *slog.Logger
}

// Route is a handler and the pattern of the requests that it answers, as http.ServeMux defines patterns.
type Route struct {
	Pattern string
	Handler http.Handler
}

// Handler serves /metrics, /healthz, which answers 200 for as long as the process can answer at all, and
// /readyz, which answers 503 and one line for each check that fails. It also serves the routes of the options, which
// must not conflict.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		ErrorHandling:     promhttp.ContinueOnError,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { answer(w, failing(r.Context(), o.Ready)) })
	for _, route := range o.Routes {
		mux.Handle(route.Pattern, route.Handler)
	}
	return mux
}

// answer writes 200 when nothing fails and 503 with the failures otherwise.
func answer(w http.ResponseWriter, failures []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if len(failures) == 0 {
		_, _ = fmt.Fprintln(w, "ok") // a client that has gone needs no answer
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, failure := range failures {
		_, _ = fmt.Fprintln(w, failure)
	}
}

// failing runs all checks at once and returns a line for each that fails, in their order.
func failing(ctx context.Context, checks []Check) []string {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	results := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { results[i] = c.Check(ctx) })
	}
	wg.Wait()
	var lines []string
	for i, err := range results {
		if err != nil {
			lines = append(lines, fmt.Sprintf("%s: %v", checks[i].Name, err))
		}
	}
	return lines
}

// Server serves a handler at an address.
type Server struct {
	listener net.Listener
	server   *http.Server
}

// Listen takes the address, host:port or :port, so that a failure shows before anything else is started.
// The server answers only once Serve is called.
func Listen(ctx context.Context, address string, h http.Handler, log *slog.Logger) (*Server, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		if refused, ok := errors.AsType[*net.OpError](err); ok {
			err = refused.Err // the rest would say the address once more
		}
		return nil, fmt.Errorf("listen for HTTP at %s: %w", address, err)
	}
	return &Server{listener: listener, server: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}, nil
}

// Address is where the server listens, with the port that the system chose when none was given.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Serve answers requests until ctx ends. Then it finishes the requests under way, for a bounded time.
func (s *Server) Serve(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.server.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve HTTP at %s: %w", s.Address(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := s.server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close() // a client that does not end its request keeps nobody here
	}
	return errors.Join(err, unlessClosed(<-failed))
}

// unlessClosed is nil for the error with which a server ends that was asked to.
func unlessClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close gives up a server whose Serve is never called.
func (s *Server) Close() error { return s.listener.Close() }
