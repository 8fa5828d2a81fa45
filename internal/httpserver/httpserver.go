// Package httpserver serves the HTTP endpoints that all long-running processes have: metrics, liveness and readiness.
package httpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

const (
	// checkTimeout is the timeout of each readiness check. It is shorter than the timeout of the readiness probes of
	// our pods, which is 3 s.
	checkTimeout = 2 * time.Second
)

// limits contains the upper bounds of the memory and the time that clients can occupy.
type limits struct {
	// connections is the maximum number of open connections. Up to 1000 processors open 2000 connections to a summary
	// API. Further connections wait, even for /healthz.
	connections int
	// headerBytes is the maximum size of the headers of a request.
	headerBytes int
	// header and body limit the time to receive the headers and the body of a request. A handler can set another
	// deadline for the body.
	header, body time.Duration
	// The field idle is the maximum time for which a connection stays open between two requests.
	idle time.Duration
	// age is the mean of the random maximum ages of connections. A client whose old connection closes may reconnect to
	// a pod that started recently.
	age time.Duration
	// shutdown is how long Serve waits for requests in progress after its context has ended.
	shutdown time.Duration
}

func defaultLimits() limits {
	return limits{
		connections: 4096, headerBytes: 16 << 10, header: 5 * time.Second, body: 30 * time.Second,
		idle: 2 * time.Minute, age: 2 * time.Minute, shutdown: 3 * time.Second,
	}
}

// Check is a readiness check.
type Check struct {
	// Name identifies the check in the response.
	Name string
	// Check returns an error if the process is not ready. The function must be safe for concurrent use, and must return
	// when its context ends.
	Check func(context.Context) error
}

// CheckRabbitMQ and CheckRedis are the names of the readiness checks of processors and generators. The operator reads
// these names from the response of /readyz.
const (
	CheckRabbitMQ = "RabbitMQ"
	CheckRedis    = "Redis"
)

// OK is the text of /healthz and /readyz if all checks pass.
const OK = "ok"

// Options configure Handler.
type Options struct {
	// Metrics provides the metrics at /metrics.
	Metrics prometheus.Gatherer
	// Ready contains the checks for /readyz. The process is ready if all checks pass.
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

// metricsLog logs errors of the metrics handler. It implements promhttp.Logger.
type metricsLog struct{ log *slog.Logger }

// Println logs a warning. A client that disconnects early causes an error for each metric family, so errors of the
// connection are logged at level debug.
func (l metricsLog) Println(v ...any) {
	level := slog.LevelWarn
	for _, value := range v {
		err, _ := value.(error)
		if _, ok := errors.AsType[*net.OpError](err); ok {
			level = slog.LevelDebug
		}
	}
	l.log.Log(context.Background(), level, strings.TrimSpace(fmt.Sprintln(v...)))
}

// Handler serves /metrics, /healthz, /readyz and the given routes. It panics if two routes conflict.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		ErrorHandling:     promhttp.ContinueOnError,
		ErrorLog:          metricsLog{o.Log},
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
		_, _ = fmt.Fprintln(w, OK) // an error means that the client has disconnected
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, failure := range failures {
		_, _ = fmt.Fprintln(w, failure)
	}
}

// failing runs all checks concurrently. It returns one line per failed check, in the order of the checks.
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
	shutdown time.Duration // how long Serve waits for requests in progress
}

// Listen opens the address host:port or :port, at which Serve answers requests. The handler must limit the size of
// request bodies and the time for sending its response.
func Listen(ctx context.Context, address string, h http.Handler, log *slog.Logger) (*Server, error) {
	return listen(ctx, address, h, log, defaultLimits())
}

func listen(ctx context.Context, address string, h http.Handler, log *slog.Logger, l limits) (*Server, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		if refused, ok := errors.AsType[*net.OpError](err); ok {
			err = refused.Err // omit the address, because the returned error adds the address
		}
		return nil, fmt.Errorf("listen for HTTP at %s: %w", address, err)
	}
	return &Server{listener: netutil.LimitListener(listener, l.connections), shutdown: l.shutdown, server: &http.Server{
		Handler:           closingOld(withBodyTimeout(h, l.body)),
		ConnContext:       l.withClosingTime,
		MaxHeaderBytes:    l.headerBytes,
		ReadHeaderTimeout: l.header,
		IdleTimeout:       l.idle,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}, nil
}

// withBodyTimeout limits the time for receiving the body of a request, which package net/http reads even if the
// handler ignores it.
func withBodyTimeout(h http.Handler, timeout time.Duration) http.Handler {
	// http.Server.ReadTimeout is unsuitable, because it would also end long responses such as server-sent events.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != http.NoBody {
			// SetReadDeadline fails only in tests whose ResponseWriter has no connection.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
		}
		h.ServeHTTP(w, r)
	})
}

// closingTime is the context key of the time after which a connection is closed.
type closingTime struct{}

// withClosingTime adds a closing time to the context of a new connection. The time is random, so that connections that
// opened together do not close together.
func (l limits) withClosingTime(ctx context.Context, _ net.Conn) context.Context {
	age := l.age/2 + rand.N(l.age)
	return context.WithValue(ctx, closingTime{}, time.Now().Add(age))
}

// closingOld closes an old connection after the next response. The header "Connection: close" tells the client to send
// no further request, which would fail.
func closingOld(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if at, ok := r.Context().Value(closingTime{}).(time.Time); ok && time.Now().After(at) {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// WithTLS makes the server accept only TLS connections, and returns the same server.
func (s *Server) WithTLS(c *tls.Config) *Server {
	s.listener = tls.NewListener(s.listener, c)
	return s
}

// WithConnections lowers the maximum number of open connections. Further connections wait until an open connection
// closes. WithConnections returns the same server.
func (s *Server) WithConnections(n int) *Server {
	s.listener = netutil.LimitListener(s.listener, n)
	return s
}

// Address returns the address at which the server listens. If Listen was called with port 0, the address contains the
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
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.shutdown)
	defer cancel()
	err := s.server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close() // the grace period is over: end the remaining requests
	}
	return errors.Join(err, unlessClosed(<-failed))
}

// unlessClosed returns err, or nil if err is http.ErrServerClosed, which http.Server returns after every shutdown.
func unlessClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close closes the listener of a server whose Serve method is never called.
func (s *Server) Close() error { return s.listener.Close() }
