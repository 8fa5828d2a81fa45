package faults

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/parking-operator/parking-operator/test/stack"
)

// misbehavior is a way in which a REST API can fail.
type misbehavior int32

const (
	behaves misbehavior = iota
	// answers500 means that the proxy sends a response with status 500 and stores nothing.
	answers500
	// hangs means that the proxy sends no response until the client disconnects.
	hangs
	// dropsAfterStoring means that the proxy forwards the summaries to the API, so that they are stored. The proxy then
	// closes the connection without a response.
	dropsAfterStoring
)

// apiProxy is an HTTP proxy between the processors and the summary APIs. It forwards requests to the APIs in turn, and
// can make requests fail.
type apiProxy struct {
	server   *httptest.Server
	mode     atomic.Int32
	requests atomic.Uint64
}

func newAPIProxy(t *testing.T, apis []*stack.Process) *apiProxy {
	t.Helper()
	p := &apiProxy{}
	var targets []http.Handler
	for _, api := range apis {
		address, err := url.Parse(api.URL(""))
		if err != nil {
			t.Fatal(err)
		}
		target := httputil.NewSingleHostReverseProxy(address)
		target.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway) // the proxy cannot reach the API
		}
		targets = append(targets, target)
	}
	forward := func(w http.ResponseWriter, r *http.Request) {
		targets[p.requests.Add(1)%uint64(len(targets))].ServeHTTP(w, r)
	}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch misbehavior(p.mode.Load()) {
		case answers500:
			w.WriteHeader(http.StatusInternalServerError)
		case hangs:
			// Read the body first: only then does the HTTP server notice when the client disconnects.
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		case dropsAfterStoring:
			forward(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		default:
			forward(w, r)
		}
	}))
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

// misbehave makes the proxy fail in the given way until ctx ends.
func (p *apiProxy) misbehave(ctx context.Context, mode misbehavior) {
	p.mode.Store(int32(mode))
	<-ctx.Done()
	p.mode.Store(int32(behaves))
}
