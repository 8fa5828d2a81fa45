package podhttp_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/parking-operator/parking-operator/internal/podhttp"
)

func serve(t *testing.T, handler http.HandlerFunc) (url string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestPodGet_ReturnsStatusAndBody(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("not ready"))
	})
	status, body, err := podhttp.New().Get(t.Context(), url)
	if err != nil || status != http.StatusServiceUnavailable || string(body) != "not ready" {
		t.Errorf("status %d, body %q, error %v", status, body, err)
	}
}

func TestPodGet_Redirect_IsNotFollowed(t *testing.T) {
	var requests atomic.Int64
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, http.StatusFound) })
	status, _, err := podhttp.New().Get(t.Context(), url)
	if err != nil || status != http.StatusFound {
		t.Errorf("status %d, error %v", status, err)
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("the target of the redirect received %d requests", n)
	}
}

func TestPodGet_LongResponse_IsLimited(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/header" {
			w.Header().Set("Long", strings.Repeat("x", podhttp.MaxBody))
		}
		_, _ = w.Write([]byte(strings.Repeat("x", podhttp.MaxBody+1)))
	})
	if _, body, err := podhttp.New().Get(t.Context(), url); err != nil || len(body) != podhttp.MaxBody {
		t.Errorf("read %d bytes, error %v", len(body), err)
	}
	if _, _, err := podhttp.New().Get(t.Context(), url+"/header"); err == nil {
		t.Error("a header of 1 MiB causes no error")
	}
}
