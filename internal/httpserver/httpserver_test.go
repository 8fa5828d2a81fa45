package httpserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestHandler_ServesHealthChecksAndMetricsAndRoutes(t *testing.T) {
	t.Parallel()
	passes := Check{"store", func(context.Context) error { return nil }}
	fails := Check{"broker", func(context.Context) error { return errors.New("not connected yet") }}
	hangs := Check{"api", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	says := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	routes := []Route{{"/{$}", says("the page")}, {"/v1/", says("the API")}}
	tests := []struct {
		name   string
		ready  []Check
		routes []Route
		method string
		path   string
		status int
		body   string
	}{
		{"a process without checks is ready", nil, nil, "GET", "/readyz", 200, "ok\n"},
		{"a process whose checks pass is ready", []Check{passes, passes}, nil, "GET", "/readyz", 200, "ok\n"},
		{"a check that fails is named with its reason", []Check{passes, fails}, nil, "GET", "/readyz", 503, "broker: not connected yet\n"},
		{"a check that hangs does not delay the response", []Check{hangs}, nil, "GET", "/readyz", 503, "api: context deadline exceeded\n"},
		{"a process that is not ready is live", []Check{fails}, nil, "GET", "/healthz", 200, "ok\n"},
		{"metrics are served", nil, nil, "GET", "/metrics", 200, "parking_test_total 1"},
		{"a route answers its paths", nil, routes, "GET", "/v1/stats", 200, "the API"},
		{"each of several routes answers its own paths", nil, routes, "GET", "/", 200, "the page"},
		{"a path without a route is not found", nil, routes, "GET", "/v2/stats", 404, ""},
		{"another method is rejected", nil, nil, "POST", "/readyz", 405, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			registry := prometheus.NewRegistry()
			counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "parking_test_total"})
			counter.Inc()
			registry.MustRegister(counter)
			h := Handler(Options{Metrics: registry, Ready: tt.ready, Routes: tt.routes, Log: slog.New(slog.DiscardHandler)})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, http.NoBody))
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("answer is %d %q, want %d %q", w.Code, w.Body, tt.status, tt.body)
			}
		})
	}
}

// brokenConnection fails each write of a response.
type brokenConnection struct{ *httptest.ResponseRecorder }

func (brokenConnection) Write([]byte) (int, error) {
	return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
}

func TestHandler_ErrorWhileServingMetrics_IsLoggedUnlessTheClientDisconnected(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "parking_test_total"}))
	invalid := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, _ := registry.Gather()
		return families, errors.New("a collector failed")
	})
	for name, tt := range map[string]struct {
		metrics prometheus.Gatherer
		to      http.ResponseWriter
		want    string
	}{
		"client disconnects": {registry, brokenConnection{httptest.NewRecorder()}, ""},
		"collector fails":    {invalid, httptest.NewRecorder(), "level=WARN msg=\"error gathering metrics: a collector failed\"\n"},
	} {
		var log strings.Builder
		handler := slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})
		Handler(Options{Metrics: tt.metrics, Log: slog.New(handler)}).
			ServeHTTP(tt.to, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
		if log.String() != tt.want {
			t.Errorf("%s: the log is %q, want %q", name, log.String(), tt.want)
		}
	}
}

func TestServe_ContextEnds_FinishesRequestsAndStops(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	entered, release := make(chan struct{}), make(chan struct{})
	l := defaultLimits()
	l.shutdown = time.Minute // on a busy machine, the request may take long to end
	s, err := listen(t.Context(), "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "finished")
	}), log, l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()

	body := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + s.Address())
		if err != nil {
			body <- err.Error()
			return
		}
		defer func() { _ = response.Body.Close() }()
		b, _ := io.ReadAll(response.Body)
		body <- string(b)
	}()
	<-entered
	stop()
	close(release)
	if got := <-body; got != "finished" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := http.Get("http://" + s.Address()); err == nil {
		t.Error("the server still answers")
	}
}

func TestServe_RequestNeverFinishes_ReturnsAfterTheShutdownTimeout(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	l := defaultLimits()
	l.shutdown = 100 * time.Millisecond
	s, err := listen(t.Context(), "127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	}), slog.New(slog.DiscardHandler), l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	go func() {
		if response, err := http.Get("http://" + s.Address()); err == nil {
			_ = response.Body.Close()
		}
	}()
	<-entered
	stop()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestListen_AddressInUse_ErrorNamesTheAddress(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	first, err := Listen(t.Context(), "127.0.0.1:0", http.NotFoundHandler(), log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	if _, err := Listen(t.Context(), first.Address(), http.NotFoundHandler(), log); err == nil || !strings.Contains(err.Error(), first.Address()) {
		t.Errorf("error %v does not name %s", err, first.Address())
	}
}
