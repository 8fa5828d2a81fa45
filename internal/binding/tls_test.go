package binding

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/tlstest"
)

// peer contains the certificates of one side of a TLS handshake.
type peer struct {
	certificate, key, authority []byte
}

// newPeer creates a CA, and a certificate for the host that is valid until the given time.
func newPeer(t *testing.T, host string, until time.Time) peer {
	t.Helper()
	authority := tlstest.NewAuthority(t, "CA of "+host)
	certificate, key := authority.IssueUntil(t, until, host)
	return peer{certificate, key, authority.PEM}
}

func (p peer) pair(t *testing.T) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(p.certificate, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func (p peer) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.authority)
	return pool
}

// exchange performs a TLS handshake and returns the client's error. A server with a nil configuration does not speak
// TLS.
func exchange(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if server == nil {
			_, _ = io.WriteString(conn, "AMQP is spoken here\n")
			return
		}
		_, _ = tls.Server(conn, server).Write([]byte("x"))
	}()
	conn, err := tls.Dial("tcp", listener.Addr().String(), client)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestExplainTLS_EachFailure_ExplanationSaysWhatToDo(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Hour)
	server, client := newPeer(t, "good.example", later), newPeer(t, "client", later)
	expired := newPeer(t, "good.example", time.Now().Add(-time.Hour))
	expiredClient := newPeer(t, "client", time.Now().Add(-time.Hour))
	other := newPeer(t, "other", later)
	binding := func(ca, own peer) Binding {
		return Binding{
			URI: &url.URL{Scheme: "amqps", Host: "good.example"}, CA: ca.authority,
			Certificate: own.certificate, Key: own.key,
		}
	}
	asks := func(version uint16) *tls.Config {
		return &tls.Config{
			Certificates: []tls.Certificate{server.pair(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: client.pool(),
			MinVersion: version, MaxVersion: version,
		}
	}
	serves := func(p peer) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{p.pair(t)}, MinVersion: tls.VersionTLS12}
	}
	tests := []struct {
		name   string
		server *tls.Config
		client Binding
		host   string
		want   string
	}{
		{"a valid certificate", serves(server), binding(server, peer{}), "good.example", ""},
		{"a valid client certificate", asks(tls.VersionTLS13), binding(server, client), "good.example", ""},
		{"an unknown CA", serves(server), binding(other, peer{}), "good.example", "ca.crt"},
		{"a wrong host name", serves(other), binding(other, peer{}), "good.example", "the server's certificate is for another host"},
		{"an expired certificate", serves(expired), binding(expired, peer{}), "good.example", "has expired or is not valid yet"},
		{"a missing client certificate with TLS 1.3", asks(tls.VersionTLS13), binding(server, peer{}), "good.example", "requires a client certificate: give it in tls.crt and tls.key"},
		{"a missing client certificate with TLS 1.2", asks(tls.VersionTLS12), binding(server, peer{}), "good.example", "it may require another version of TLS, or a client certificate (tls.crt and tls.key)"},
		{"a client certificate of an unknown CA", asks(tls.VersionTLS13), binding(server, other), "good.example", "does not know the CA of the client certificate in tls.crt"},
		{"an expired client certificate", &tls.Config{
			Certificates: []tls.Certificate{server.pair(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: expiredClient.pool(),
			MinVersion: tls.VersionTLS13,
		}, binding(server, expiredClient), "good.example", "tls.crt"},
		{"a port without TLS", nil, binding(server, peer{}), "good.example", "the port does not speak TLS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			config, err := tt.client.TLSConfig(tt.host)
			if err != nil {
				t.Fatal(err)
			}
			err = exchange(t, tt.server, config)
			if err != nil {
				err = fmt.Errorf("connect: %w", err)
			}
			if got := ExplainTLS(err); tt.want == "" && err != nil || tt.want != "" && !strings.Contains(got, tt.want) {
				t.Errorf("error %v has the remedy %q, want %q", err, got, tt.want)
			}
			if err != nil {
				if text := errors.New(err.Error()); strings.Contains(err.Error(), "remote error") && ExplainTLS(text) != ExplainTLS(err) {
					t.Errorf("the text of error %v alone has another remedy", err)
				}
			}
		})
	}
}

// ExplainTLS searches for the texts of errors, so the test uses the original texts of crypto/tls and crypto/x509.
func TestExplainTLS_ErrorTextOfLibrary_ExplanationSaysWhatToDo(t *testing.T) {
	t.Parallel()
	invalid := func(reason x509.InvalidReason) error { return x509.CertificateInvalidError{Reason: reason} }
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"a server of TLS 1.1":                    {errors.New("tls: server selected unsupported protocol version 302"), "enable TLS 1.2"},
		"a client with a server certificate":     {errors.New("remote error: tls: unsupported certificate"), "clientAuth"},
		"a client certificate that is not known": {errors.New("remote error: tls: unknown certificate"), "client certificate in tls.crt"},
		"a client CA that is not known":          {errors.New("remote error: tls: unknown certificate authority"), "does not know the CA"},
		"a client that is denied":                {errors.New("remote error: tls: access denied"), "client certificate in tls.crt"},
		"a weak key":                             {errors.New("remote error: tls: insufficient security level"), "stronger keys"},
		"a certificate with a common name only":  {x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, "no subject alternative names"},
		"a server with a client certificate":     {invalid(x509.IncompatibleUsage), "serverAuth"},
		"a ca.crt that is not a CA certificate":  {invalid(x509.NotAuthorizedToSign), "certificate of the CA"},
	} {
		if got := ExplainTLS(fmt.Errorf("connect: %w", tt.err)); !strings.Contains(got, tt.want) {
			t.Errorf("%s: the remedy is %q, want %q", name, got, tt.want)
		}
	}
}

func TestExplainTLS_CAWasReplaced_SuggestsReplacingTheCACertificate(t *testing.T) {
	t.Parallel()
	server := newPeer(t, "good.example", time.Now().Add(time.Hour))
	other := newPeer(t, "good.example", time.Now().Add(time.Hour)) // signed by another CA with the same name
	config, err := Binding{URI: &url.URL{Scheme: "amqps", Host: "good.example"}, CA: other.authority}.TLSConfig("good.example")
	if err != nil {
		t.Fatal(err)
	}
	err = exchange(t, &tls.Config{Certificates: []tls.Certificate{server.pair(t)}, MinVersion: tls.VersionTLS12}, config)
	if got := ExplainTLS(err); !strings.Contains(got, "ca.crt") {
		t.Errorf("error %v has the remedy %q", err, got)
	}
}

func TestExplainTLS_OtherErrors_AreNotExplained(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, io.EOF, net.ErrClosed, errors.New("connection refused")} {
		if got := ExplainTLS(err); got != "" {
			t.Errorf("error %v has the remedy %q", err, got)
		}
	}
}

// In a Redis Cluster, either each node has its own certificate, or all nodes use one certificate for the host in the
// URI.
func TestTLSConfig_DialedHostIsNotInTheURI_CertificateForEitherHostIsAccepted(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		name, certificate string
		want              string
	}{
		{"a certificate for the node", "node-2.example", ""},
		{"a certificate for the host of the URI", "seed.example", ""},
		{"a certificate for another host", "other.example", "node-2.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := newPeer(t, tt.certificate, later)
			b := Binding{URI: &url.URL{Scheme: "rediss", Host: "seed.example:6379"}, CA: server.authority}
			config, err := b.TLSConfig("node-2.example")
			if err != nil {
				t.Fatal(err)
			}
			err = exchange(t, &tls.Config{Certificates: []tls.Certificate{server.pair(t)}, MinVersion: tls.VersionTLS12}, config)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
			b.CA = newPeer(t, tt.certificate, later).authority
			if config, err = b.TLSConfig("node-2.example"); err != nil {
				t.Fatal(err)
			}
			if err := exchange(t, &tls.Config{Certificates: []tls.Certificate{server.pair(t)}, MinVersion: tls.VersionTLS12}, config); err == nil {
				t.Error("a certificate of an unknown CA was accepted")
			}
		})
	}
}

func TestTLSConfig_SchemeWithoutTLS_ReturnsNil(t *testing.T) {
	t.Parallel()
	for _, b := range []Binding{{}, {URI: &url.URL{Scheme: "amqp", Host: "h"}}} {
		if config, err := b.TLSConfig("h"); config != nil || err != nil {
			t.Errorf("configuration is %v (%v), want none", config, err)
		}
	}
}
