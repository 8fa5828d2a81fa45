package rabbitmq_test

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// The server requires client certificates. A client without a password logs in with the common name of its
// certificate as the user name.
func TestBroker_ServerVerifiesClientCertificates_LogsInWithACertificate(t *testing.T) {
	t.Parallel()
	authority, other := tlstest.NewAuthority(t, "test CA"), tlstest.NewAuthority(t, "another CA")
	address := servers.FreeAddress(t)
	certificate, key := authority.Issue(t)
	node := servers.NewRabbitMQ(t, servers.RabbitMQOptions{
		Plugins: []string{"rabbitmq_auth_mechanism_ssl"},
		Config: []string{
			"listeners.ssl.1 = " + address,
			"ssl_options.cacertfile = ca.crt", "ssl_options.certfile = tls.crt", "ssl_options.keyfile = tls.key",
			"ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = true",
			"auth_mechanisms.1 = EXTERNAL", "auth_mechanisms.2 = PLAIN", "ssl_cert_login_from = common_name",
		},
		Files: map[string][]byte{"ca.crt": authority.PEM, "tls.crt": certificate, "tls.key": key},
	})
	plain, err := url.Parse(node.URI())
	if err != nil {
		t.Fatal("the server's URI cannot be parsed")
	}
	// Wait for the TLS port, because the server opens it after the plain-text port.
	polltest.UntilNoError(t, "the server listens for TLS", func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	withUser := url.URL{Scheme: "amqps", User: plain.User, Host: address}
	withoutUser := url.URL{Scheme: "amqps", Host: address}

	for _, tt := range []struct {
		name   string
		uri    url.URL
		issuer *tlstest.Authority // the CA of the client certificate; nil if the client has no certificate
		host   string             // the common name of the client certificate
		want   string             // a part of the error; empty if the login succeeds
	}{
		{"a certificate", withoutUser, authority, node.User(), ""},
		{"a certificate, a user name and a password", withUser, authority, "client", ""},
		{"a certificate without a user of its name", withoutUser, authority, "client", "create a user with the name in the client certificate"},
		// The error varies, because the server may end the connection while the client still writes.
		{"a certificate of another CA", withoutUser, other, node.User(), "client certificate"},
		{"a user name and a password", withUser, nil, "", "client certificate"},
		{"neither a certificate nor a user name", withoutUser, nil, "", "client certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files := map[string][]byte{"ca.crt": authority.PEM}
			if tt.issuer != nil {
				files["tls.crt"], files["tls.key"] = tt.issuer.Issue(t, tt.host)
			}
			options := optionsFor(t, node.URI())
			options.Binding = bindingOf(t, tt.uri.String(), files)
			if tt.want != "" {
				if err := open(t, options).Check(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("the check returned %v, want %q", err, tt.want)
				}
				return
			}
			b := newBroker(t, options)
			publish(t, b, entries(), broker.Message{ID: "with a certificate"})
			if d := receive(t, consume(t, b, entries(), 1)); d.Message.ID != "with a certificate" {
				t.Errorf("received %q", d.Message.ID)
			}
		})
	}
}

// bindingOf returns the binding of a URI and of a directory with the given files.
func bindingOf(t *testing.T, uri string, files map[string][]byte) binding.Source {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	source, err := binding.URI(binding.RabbitMQ(), uri, dir)
	if err != nil {
		t.Fatal(err)
	}
	return source
}
