// Package httpserver serves the HTTP endpoints that all long-running processes have: metrics, liveness and readiness.
package httpserver

import (
	"context"
	"crypto/tls"
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
	// checkTimeout is the timeout of each readiness check. It is shorter than the default timeout of a
	// Kubernetes probe.
	checkTimeout = 2 * time.Second
	// shutdownTimeout is how long Serve waits, after its context has ended, for requests in progress to finish.
	shutdownTimeout = 3 * time.Second
	// headerTimeout is how long a client may take to send the headers of a request. idleTimeout is how long a
	// connection may stay open between two requests.
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
)

// Check is a readiness check. It checks a condition that must hold for a process to be ready.
type Check struct {
	// Name identifies the check in the response.
	Name string
	// Check returns an error if the condition does not hold. It must be safe for concurrent use, and must
	// return when its context ends.
	Check func(context.Context) error
}

// Options configure Handler.
type Options struct {
	// Metrics provides the metrics at /metrics.
	Metrics prometheus.Gatherer
	// Ready contains the checks for /readyz. The process is ready if all of them pass.
	Ready []Check
	// Routes contains additional handlers. Requests for paths without a handler get the status 404.
	Routes []Route
	// Log receives errors that occur while metrics are gathered.
	Log *slog.Logger
}

// Route is a handler, with the http.ServeMux pattern of the requests that it handles.
type Route struct {
	Pattern string
	Handler http.Handler
}

// Handler serves /metrics, /healthz, /readyz and the routes in the options. /healthz always returns 200.
// /readyz returns 200 if all checks pass. Otherwise, it returns 503 and one line per failed check. Handler
// panics if two routes conflict.
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

// answer writes a response with the status 200 if there are no failures. Otherwise, it writes the status 503
// and one line per failure.
func answer(w http.ResponseWriter, failures []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if len(failures) == 0 {
		_, _ = fmt.Fprintln(w, "ok") // the client may have disconnected
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, failure := range failures {
		_, _ = fmt.Fprintln(w, failure)
	}
}

// failing makes all checks concurrently. It returns one line per failed check, in the order of the checks.
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

// Listen opens the address, which has the form host:port or :port. It is separate from Serve so that, if the
// address is in use, this is reported before the process starts other work. The server does not answer requests
// until Serve is called.
func Listen(ctx context.Context, address string, h http.Handler, log *slog.Logger) (*Server, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		if refused, ok := errors.AsType[*net.OpError](err); ok {
			err = refused.Err // the outer error repeats the address
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

// WithTLS makes the server accept only TLS connections. It returns the same server.
func (s *Server) WithTLS(c *tls.Config) *Server {
	s.listener = tls.NewListener(s.listener, c)
	return s
}

// Address returns the address at which the server listens. If Listen was called with port 0, it contains the
// port that the operating system has chosen.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Serve answers requests until ctx ends. Then it waits up to 3 s for requests in progress to finish, and closes
// all connections.
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
		err = s.server.Close() // close requests that do not end
	}
	return errors.Join(err, unlessClosed(<-failed))
}

// unlessClosed returns err. But it returns nil for http.ErrServerClosed, which http.Server returns after every
// shutdown.
func unlessClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close closes the listener of a server whose Serve method is never called.
func (s *Server) Close() error { return s.listener.Close() }
