package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/test/servers"
)

// authority is a certificate authority of a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key, encodePEM("CERTIFICATE", der)}
}

// issue returns a certificate for 127.0.0.1, for servers and clients, and its key, in PEM.
func (a *authority) issue(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", pkcs8)
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// serverConfig is the TLS configuration of a server that requires client certificates of the authority.
func (a *authority) serverConfig(t *testing.T) *tls.Config {
	t.Helper()
	certificate, err := tls.X509KeyPair(a.issue(t))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(a.certificate)
	return &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MinVersion: tls.VersionTLS12,
	}
}

// secretFolder writes files into a folder and returns its path.
func secretFolder(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// overTLS returns the URI of a server behind a proxy that speaks TLS, without the credentials of the original URI, and
// the files for --rabbitmq-secret or --redis-secret.
func (a *authority) overTLS(t *testing.T, uri, scheme string) (string, map[string][]byte) {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal("the URI of a test's server cannot be parsed")
	}
	u.Host, u.Scheme = tlsProxy(t, a.serverConfig(t), u.Host), scheme
	files := map[string][]byte{"ca.crt": a.pem}
	files["tls.crt"], files["tls.key"] = a.issue(t)
	if password, ok := u.User.Password(); ok {
		files["username"], files["password"] = []byte(u.User.Username()), []byte(password)
	}
	u.User = nil
	return u.String(), files
}

func TestServersWithClientCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	amqp, amqpFiles := ca.overTLS(t, servers.VHostURI(t), "amqps")
	redis, redisFiles := ca.overTLS(t, servers.RedisURI(t), "rediss")
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	api.TLS = ca.serverConfig(t)
	api.StartTLS()
	t.Cleanup(api.Close)
	apiFiles := map[string][]byte{"ca.crt": ca.pem}
	apiFiles["tls.crt"], apiFiles["tls.key"] = ca.issue(t)

	name := servers.Name(t)
	servers.RemoveKeys(t, name)
	onServers := []string{"--simulation", name, "--rabbitmq-uri", amqp, "--rabbitmq-secret", secretFolder(t, amqpFiles),
		"--redis-uri", redis, "--redis-secret", secretFolder(t, redisFiles)}
	kept := parking(t, append([]string{"simulate", "-f", manifestFile(t, busy), "--duration", "2s", "--output", "json", "--http", "", "--keep",
		"--summary-url", api.URL, "--summary-secret", secretFolder(t, apiFiles)}, onServers...)...)
	checkPassed(t, kept)
	if want := "--rabbitmq-uri URI --rabbitmq-secret FOLDER --redis-uri URI --redis-secret FOLDER"; !strings.Contains(kept.stderr, want) {
		t.Errorf("stderr does not name the flags %q:\n%s", want, kept.stderr)
	}
	if got := parking(t, append([]string{"audit", "-f", manifestFile(t, busy)}, onServers...)...); got.code != exitOK {
		t.Errorf("audit: exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	if got := parking(t, append([]string{"purge"}, onServers...)...); got.code != exitOK || strings.Count(got.stdout, "removed ") != 2 {
		t.Errorf("purge: exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}

	for _, missing := range []string{"ca.crt", "tls.crt"} {
		files := map[string][]byte{"ca.crt": redisFiles["ca.crt"], "tls.crt": redisFiles["tls.crt"], "tls.key": redisFiles["tls.key"]}
		delete(files, missing)
		if missing == "tls.crt" {
			delete(files, "tls.key")
		}
		got := parking(t, "audit", "--simulation", name, "--redis-uri", redis, "--redis-secret", secretFolder(t, files))
		if got.code != exitBadInput || !strings.Contains(got.stderr, missing) {
			t.Errorf("without %s: exit code %d: %s", missing, got.code, got.stderr)
		}
	}
}

// A folder alone names the server and holds all that is needed to reach it.
func TestPurge_SecretFolderWithURI_NeedsNoURIFlag(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	redis, files := ca.overTLS(t, servers.RedisURI(t), "rediss")
	files["uri"] = []byte(redis)
	folder := secretFolder(t, files)
	if got := parking(t, "purge", "--simulation", servers.Name(t), "--redis-uri", "", "--redis-secret", folder); got.code != exitOK {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	delete(files, "uri")
	got := parking(t, "purge", "--simulation", servers.Name(t), "--redis-uri", "", "--redis-secret", secretFolder(t, files))
	if got.code != exitBadInput || !strings.Contains(got.stderr, "--redis-secret: ") || !strings.Contains(got.stderr, "uri") {
		t.Errorf("without uri: exit code %d: %s", got.code, got.stderr)
	}
}

// tlsProxy accepts TLS connections and forwards them to a server without TLS. It returns its address.
func tlsProxy(t *testing.T, config *tls.Config, server string) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { forward(client, server) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		connections.Wait()
	})
	return listener.Addr().String()
}

func forward(client net.Conn, address string) {
	defer func() { _ = client.Close() }()
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	_, _ = io.Copy(server, client)
}
