package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/plan/plantest"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// secretDirectory writes files to a temporary directory and returns the path of the directory.
func secretDirectory(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// overTLS starts a TLS proxy in front of a server. It returns the URI of the proxy, without credentials, and the
// files that --rabbitmq-secret or --redis-secret needs.
func overTLS(t *testing.T, a *tlstest.Authority, uri, scheme string) (string, map[string][]byte) {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal("the URI of a test's server cannot be parsed")
	}
	u.Host, u.Scheme = tlstest.Proxy(t, a.ServerConfig(t, tls.RequireAndVerifyClientCert), u.Host), scheme
	files := map[string][]byte{"ca.crt": a.PEM}
	files["tls.crt"], files["tls.key"] = a.Issue(t)
	if password, ok := u.User.Password(); ok {
		files["username"], files["password"] = []byte(u.User.Username()), []byte(password)
	}
	u.User = nil
	return u.String(), files
}

func TestSimulate_ServersRequireClientCertificates_Passes(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewAuthority(t, "test CA")
	amqp, amqpFiles := overTLS(t, ca, servers.VHostURI(t), "amqps")
	redis, redisFiles := overTLS(t, ca, servers.RedisURI(t), "rediss")
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	api.TLS = ca.ServerConfig(t, tls.RequireAndVerifyClientCert)
	api.StartTLS()
	t.Cleanup(api.Close)
	apiFiles := map[string][]byte{"ca.crt": ca.PEM}
	apiFiles["tls.crt"], apiFiles["tls.key"] = ca.Issue(t)

	name := servers.Name(t)
	servers.RemoveKeys(t, name)
	onServers := []string{"--simulation", name, "--rabbitmq-uri", amqp, "--rabbitmq-secret", secretDirectory(t, amqpFiles),
		"--redis-uri", redis, "--redis-secret", secretDirectory(t, redisFiles)}
	kept := parking(t, append([]string{"simulate", "-f", manifestFile(t, busy), "--duration", "2s", "--output", "json", "--http", "", "--keep",
		"--summary-url", api.URL, "--summary-secret", secretDirectory(t, apiFiles)}, onServers...)...)
	checkPassed(t, kept)
	if want := "--rabbitmq-uri URI --rabbitmq-secret DIRECTORY --redis-uri URI --redis-secret DIRECTORY"; !strings.Contains(kept.stderr, want) {
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
		got := parking(t, "audit", "--simulation", name, "--redis-uri", redis, "--redis-secret", secretDirectory(t, files))
		if got.code != exitBadInput || !strings.Contains(got.stderr, missing) {
			t.Errorf("without %s: exit code %d: %s", missing, got.code, got.stderr)
		}
	}
}

// The files in a Secret directory can contain everything that is needed to connect, including the address of the
// server.
func TestPurge_SecretDirectoryWithURI_NeedsNoURIFlag(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewAuthority(t, "test CA")
	redis, files := overTLS(t, ca, servers.RedisURI(t), "rediss")
	files["uri"] = []byte(redis)
	directory := secretDirectory(t, files)
	if got := parking(t, "purge", "--simulation", servers.Name(t), "--redis-uri", "", "--redis-secret", directory); got.code != exitOK {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	delete(files, "uri")
	got := parking(t, "purge", "--simulation", servers.Name(t), "--redis-uri", "", "--redis-secret", secretDirectory(t, files))
	if got.code != exitBadInput || !strings.Contains(got.stderr, "--redis-secret: ") || !strings.Contains(got.stderr, "uri") {
		t.Errorf("without uri: exit code %d: %s", got.code, got.stderr)
	}
}

// Each case gives two addresses of RabbitMQ. No server listens at the first address.
func TestPurge_SeveralAddresses_UsesOneThatAnswers(t *testing.T) {
	t.Parallel()
	const dead = "amqp://127.0.0.1:1/"
	live, err := url.Parse(servers.AMQPURI(t))
	if err != nil {
		t.Fatal("the URI of the test's server cannot be parsed")
	}
	password, _ := live.User.Password()
	credentials := map[string][]byte{"username": []byte(live.User.Username()), "password": []byte(password)}
	live.User = nil
	withList := map[string][]byte{"uris": []byte(dead + "\n" + live.String() + "\n")}
	maps.Copy(withList, credentials)
	for name, flags := range map[string][]string{
		"a repeated flag":   {"--rabbitmq-uri", dead, "--rabbitmq-uri", live.String(), "--rabbitmq-secret", secretDirectory(t, credentials)},
		"a list in a flag":  {"--rabbitmq-uri", dead + "," + live.String(), "--rabbitmq-secret", secretDirectory(t, credentials)},
		"a list in a file ": {"--rabbitmq-uri", "", "--rabbitmq-secret", secretDirectory(t, withList)},
	} {
		got := parking(t, append([]string{"purge", "--simulation", servers.Name(t), "--redis-uri", ""}, flags...)...)
		if got.code != exitOK {
			t.Errorf("%s: exit code %d: %s%s", name, got.code, got.stdout, got.stderr)
		}
	}
	got := parking(t, "purge", "--simulation", servers.Name(t), "--redis-uri", "", "--rabbitmq-uri", "amqp://u:hunter2@127.0.0.1:1", "--rabbitmq-uri", "amqp://127.0.0.1:2")
	for _, address := range []string{"127.0.0.1:1: ", "127.0.0.1:2: "} {
		if got.code == exitOK || !strings.Contains(got.stderr, address) || strings.Contains(got.stderr, "hunter2") {
			t.Errorf("without a server at %s exit code %d: %s", address, got.code, got.stderr)
		}
	}
}

// The processes must serve their metrics even if no server listens at the addresses in the plan.
func TestServe_TLSDirectory_ServesOnlyTLSAndReloadsTheCertificate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.json")
	unreachable := planWith(t, func(p *plan.Plan) {
		p.RabbitMQ.URI, p.Redis.URI, p.SummaryAPI.URL = "amqp://127.0.0.1:1", "redis://127.0.0.1:1", "http://127.0.0.1:1"
	})
	if err := plantest.Write(unreachable, path); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"summary API":     {"summaries", "--database", filepath.Join(t.TempDir(), "summaries.db")},
		"processor":       {"process", "--plan", path},
		"entry generator": {"generate", "entry", "--plan", path},
		"exit generator":  {"generate", "exit", "--plan", path},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servesOnlyTLS(t, args...)
		})
	}
}

// servesOnlyTLS checks that a command serves its metrics only over TLS, and that it presents a renewed certificate
// without a restart.
func servesOnlyTLS(t *testing.T, args ...string) {
	t.Helper()
	ca := tlstest.NewAuthority(t, "test CA")
	files := map[string][]byte{}
	files["tls.crt"], files["tls.key"] = ca.Issue(t)
	dir, address := secretDirectory(t, files), servers.FreeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	start(ctx, t, append(args, "--http", address, "--tls-dir", dir)...)

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	presents := func(certificate []byte) bool {
		response, err := client.Get("https://" + address + "/metrics")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		block, _ := pem.Decode(certificate)
		return response.StatusCode == http.StatusOK && bytes.Equal(response.TLS.PeerCertificates[0].Raw, block.Bytes)
	}
	polltest.Until(t, "the process serves metrics over TLS", func() bool { return presents(files["tls.crt"]) })
	plain, err := http.Get("http://" + address + "/healthz")
	if err == nil {
		_ = plain.Body.Close()
		if plain.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS the status is %d, want 400", plain.StatusCode)
		}
	}
	renewed, key := ca.Issue(t)
	for name, content := range map[string][]byte{"tls.crt": renewed, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	polltest.Until(t, "the process presents the renewed certificate", func() bool { return presents(renewed) })
	// The key does not match the certificate, so the server must continue with the last valid certificate.
	if err := os.WriteFile(filepath.Join(dir, "tls.key"), files["tls.key"], 0o600); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the process still presents the renewed certificate", func() bool { return presents(renewed) })
}

func TestServedCertificate_InvalidFiles_KeepsTheLastValidCertificateAndLogsOnce(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewAuthority(t, "test CA")
	files := map[string][]byte{}
	files[certificateFile], files[keyFile] = ca.Issue(t)
	dir, log := secretDirectory(t, files), &bytes.Buffer{}
	c, err := openCertificate(dir, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	presents := func(want []byte) {
		t.Helper()
		for range 3 {
			got, err := c.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			if block, _ := pem.Decode(want); !bytes.Equal(got.Certificate[0], block.Bytes) {
				t.Error("the server presents another certificate than the last valid one")
			}
		}
	}
	presents(files[certificateFile])
	renewed, key := ca.Issue(t)
	write(keyFile, key)
	presents(files[certificateFile])
	for _, want := range []string{"level=ERROR", "the previous certificate remains in use", dir, "correct them"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("the log has %q %d times, want once:\n%s", want, strings.Count(log.String(), want), log)
		}
	}
	write(certificateFile, renewed)
	presents(renewed)
	if strings.Count(log.String(), "The certificate is valid again") != 1 || strings.Count(log.String(), "\n") != 2 {
		t.Errorf("the log is:\n%s\nwant a second line that says that the certificate is valid again", log)
	}
	if err := os.Remove(filepath.Join(dir, certificateFile)); err != nil {
		t.Fatal(err)
	}
	presents(renewed)
	if strings.Count(log.String(), "\n") != 3 {
		t.Errorf("the log is:\n%s\nwant a third line about the missing file", log)
	}
	if _, err := openCertificate(dir, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a process starts without a certificate")
	}
}
