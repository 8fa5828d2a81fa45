package podhttp_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/tlstest"
)

func serve(t *testing.T, handler http.HandlerFunc) (url string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestPodGet_ErrorStatus_ReturnsStatusAndBody(t *testing.T) {
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

func TestPodGet_LongResponse_TruncatesBodyAndRejectsHeader(t *testing.T) {
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

func TestPodGetFrom_TLS_VerifiesCertificateAndHost(t *testing.T) {
	t.Parallel()
	const host = "sim-summaries.lot.svc.cluster.local"
	ca := tlstest.NewAuthority(t, "CA of the simulation")
	pair, err := tls.X509KeyPair(ca.Issue(t, host))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.Path)) }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	address := server.Listener.Addr().(*net.TCPAddr)
	get := func(ca []byte, host string) (int, error) {
		pod := podhttp.Server{IP: address.IP.String(), CA: string(ca), Host: host}
		status, body, err := podhttp.New().GetFrom(t.Context(), pod, address.Port, "/v1/stats")
		if err == nil && string(body) != "/v1/stats" {
			t.Errorf("the body is %q", body)
		}
		return status, err
	}
	if status, err := get(ca.PEM, host); err != nil || status != http.StatusOK {
		t.Errorf("status %d, error %v", status, err)
	}
	if status, err := get(tlstest.NewAuthority(t, "other").PEM, host); err == nil {
		t.Errorf("the certificate of an unknown CA is accepted with status %d", status)
	}
	if status, err := get(ca.PEM, "other.lot.svc.cluster.local"); err == nil {
		t.Errorf("the certificate of another host is accepted with status %d", status)
	}
	if status, err := get(nil, host); err == nil {
		t.Errorf("without a CA, the certificate is accepted with status %d", status)
	}
	if status, _, err := podhttp.New().GetUnverified(t.Context(), server.URL+"/v1/stats"); err != nil || status != http.StatusOK {
		t.Errorf("unverified: status %d, error %v", status, err)
	}
}
