package observer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/podhttp"
)

// pod starts an HTTP server in place of a pod, at an unused loopback IP address. It returns the address.
func pod(t *testing.T, handler http.Handler) string {
	t.Helper()
	for host := 2; host < 250; host++ {
		ip := fmt.Sprintf("127.87.65.%d", host)
		listener, err := net.Listen("tcp", ip+":8080")
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}}
		server.Start()
		t.Cleanup(server.Close)
		return ip
	}
	t.Fatal("no address is free")
	return ""
}

func answer(body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
}

func TestCountSummaries_PodAnswers_ReturnsTheCountInTheAnswer(t *testing.T) {
	t.Parallel()
	held, err := NewHTTPClient(8080).CountSummaries(t.Context(), podhttp.Server{IP: pod(t, answer(`{"count":12,"more":"x"}`))})
	if err != nil || held != 12 {
		t.Errorf("%d summaries (%v), want 12", held, err)
	}
}

func TestCountSummaries_PodFails_ErrorNamesPodAndReason(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	tests := map[string]struct {
		handler http.Handler
		want    string
	}{
		"nothing listens":              {nil, "connection refused"},
		"the pod has no statistics":    {http.NotFoundHandler(), "404"},
		"the response is not JSON":     {answer("nonsense"), "decode the response"},
		"the response is a JSON array": {answer("[]"), "decode the response"},
		"the answer is empty":          {answer(""), "EOF"},
		"the answer has no count":      {answer("{}"), "lacks the field"},
		"the count is a string":        {answer(`{"count":"7"}`), "decode the response"},
		"the answer is a redirect":     {http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound), "302"},
		"the pod takes too long":       {http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { block(r.Context(), release) }), "deadline exceeded"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faulty := "127.87.66.1"
			if tt.handler != nil {
				faulty = pod(t, tt.handler)
			}
			_, err := NewHTTPClient(8080).CountSummaries(t.Context(), podhttp.Server{IP: faulty})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), faulty) {
				t.Errorf("the error is %v, want one that contains %s and %q", err, faulty, tt.want)
			}
		})
	}
}

func TestDatabaseFailure_ReturnsTheDatabaseLineOfReadyz(t *testing.T) {
	t.Parallel()
	unready := func(body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				t.Errorf("the path is %s", r.URL.Path)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, body)
		})
	}
	tests := map[string]struct {
		handler http.Handler
		want    string
	}{
		"nothing listens":                   {nil, ""},
		"the pod is ready":                  {answer("database: ok\n"), ""},
		"the database fails":                {unready("process: stopping\ndatabase: too many connections: raise max_connections\n"), "too many connections: raise max_connections"},
		"something else fails":              {unready("process: stopping\n"), ""},
		"the answer has an escape sequence": {unready("database: a\x1b[31mb\n"), "a [31mb"},
		"the answer is long":                {unready("database: " + strings.Repeat("x", 2000)), strings.Repeat("x", 500)},
		"the answer is a redirect":          {http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ip := "127.87.66.1"
			if tt.handler != nil {
				ip = pod(t, tt.handler)
			}
			if got := NewHTTPClient(8080).DatabaseFailure(t.Context(), podhttp.Server{IP: ip}); got != tt.want {
				t.Errorf("the failure is %q, want %q", got, tt.want)
			}
		})
	}
}

func block(ctx context.Context, release <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-release:
	}
}
