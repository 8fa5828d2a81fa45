package resources_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/certificates"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/privateserver/port"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/test/servers"
)

// These tests start RabbitMQ and Redis with the configuration, the commands and the environment that Build returns. They
// replace only paths, ports and host names, because there are no containers.

const serverTimeout = 5 * time.Minute

// sandbox is the directory of a server, in place of the root directory of its container.
type sandbox struct {
	t         *testing.T
	objects   []client.Object
	authority certificates.Authority
	// replacer replaces paths, ports and host names of the container by those on this machine: in the files, the
	// arguments and the environment of the server.
	replacer *strings.Replacer
	dir      string
}

// newSandbox builds the objects of a simulation whose servers use TLS, and writes the files that a container mounts.
// The replacements are pairs of old and new texts for the replacer of the sandbox. The certificate is valid for
// localhost.
func newSandbox(t *testing.T, replacements ...string) *sandbox {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs a server, and -short was given")
	}
	s := &sandbox{t: t, dir: t.TempDir()}
	in := input(t, "sim", "rabbitmq: {managed: {tls: {}}}, redis: {managed: {tls: {}}}")
	var err error
	if s.authority, err = certificates.RenewAuthority(certificates.Authority{}, "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	in.Credentials.Certificates = map[string]resources.CertificateData{}
	for _, c := range resources.Certificates(in.Simulation, "") {
		in.Credentials.Certificates[c.Secret] = s.newCertificate()
	}
	s.objects = build(t, in)
	s.replacer = strings.NewReplacer(append(replacements, "/etc/", s.dir+"/etc/", "/var/", s.dir+"/var/", "/run/", s.dir+"/run/", "/data", s.dir+"/data")...)
	return s
}

func (s *sandbox) newCertificate() resources.CertificateData {
	s.t.Helper()
	pair, err := s.authority.Renew(certificates.Pair{}, []string{"localhost"}, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return resources.CertificateData{Pair: pair, CA: s.authority.Trusted}
}

// write writes the data of a ConfigMap or Secret to the directory at which the container mounts it.
func (s *sandbox) write(mountPath string, data map[string]string) {
	s.t.Helper()
	path := s.dir + mountPath
	if err := os.MkdirAll(path, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for name, content := range data {
		if err := os.WriteFile(filepath.Join(path, name), []byte(s.replacer.Replace(content)), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// writeCertificate writes a certificate to the directory at which the container mounts it.
func (s *sandbox) writeCertificate(mountPath string, c resources.CertificateData) {
	s.t.Helper()
	s.write(mountPath, map[string]string{"tls.crt": string(c.Certificate), "tls.key": string(c.Key), "ca.crt": string(c.CA)})
}

func textOf(data map[string][]byte) map[string]string {
	texts := map[string]string{}
	for key, value := range data {
		texts[key] = string(value)
	}
	return texts
}

// command returns a command of a container, to be run on this machine. Its environment contains only PATH, the variables of
// the container, and the given extra variables.
func (s *sandbox) command(c *corev1.Container, args []string, extra ...string) *exec.Cmd {
	s.t.Helper()
	replaced := make([]string, len(args))
	for i, arg := range args {
		replaced[i] = s.replacer.Replace(arg)
	}
	cmd := exec.CommandContext(s.t.Context(), replaced[0], replaced[1:]...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
	for _, v := range c.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+s.replacer.Replace(v.Value))
	}
	cmd.Env = append(cmd.Env, extra...)
	return cmd
}

// start starts a program that runs until the test ends. Then the whole process group of the program is killed.
func (s *sandbox) start(cmd *exec.Cmd) {
	s.t.Helper()
	output := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return nil } // the cleanup below kills the whole process group
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // killed
		if s.t.Failed() {
			s.t.Logf("output of %s:\n%s", cmd.Path, output)
		}
	})
}

// eventually calls check until it returns nil.
func (s *sandbox) eventually(what string, check func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*serverTimeout) // longer than the timeout of polltest
	defer cancel()
	polltest.UntilNoErrorEvery(s.t, 100*time.Millisecond, what, func() error { return check(ctx) })
}

func (s *sandbox) clientConfig() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.authority.Trusted)
	return &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// presents returns an error unless the server at an address presents the given certificate.
func (s *sandbox) presents(ctx context.Context, address string, want resources.CertificateData) error {
	dialer := tls.Dialer{Config: s.clientConfig()}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	pair, err := tls.X509KeyPair(want.Certificate, want.Key)
	if err != nil {
		return err
	}
	if got := c.(*tls.Conn).ConnectionState().PeerCertificates[0]; !got.Equal(pair.Leaf) {
		return fmt.Errorf("%s presents the certificate with number %d, want %d", address, got.SerialNumber, pair.Leaf.SerialNumber)
	}
	return nil
}

// expectNoPlainText fails the test if the server answers a client that does not use TLS. A TLS server may answer with an
// alert, which begins with the byte 21, or close the connection.
func (s *sandbox) expectNoPlainText(address, greeting string) {
	s.t.Helper()
	c, err := net.DialTimeout("tcp", address, serverTimeout)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, greeting); err != nil {
		s.t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(serverTimeout)); err != nil {
		s.t.Fatal(err)
	}
	answer := make([]byte, 64)
	if n, err := c.Read(answer); n > 0 && answer[0] != 21 || os.IsTimeout(err) {
		s.t.Errorf("%s answers %q to a client without TLS (%v)", address, answer[:n], err)
	}
}

func ports(t *testing.T, n int) []port.Port {
	t.Helper()
	reserved, err := port.Reserve(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Release(reserved) })
	return reserved
}

func TestRedisTLS_ServesOnlyTLSAndReloadsItsCertificate(t *testing.T) {
	t.Parallel()
	servers.Program(t, "redis-server", "hack/install-servers.sh")
	p := ports(t, 1)[0]
	s := newSandbox(t, "tls-port 6379", "bind 127.0.0.1\ntls-port "+p.String(), "redis-cli", "redis-cli -p "+p.String(), "sleep 10", "sleep 0.1")
	set := find[*appsv1.StatefulSet](t, s.objects, "sim-redis")
	container := &set.Spec.Template.Spec.Containers[0]
	s.write("/etc/redis", find[*corev1.ConfigMap](t, s.objects, "sim-redis").Data)
	s.write("/etc/redis", textOf(find[*corev1.Secret](t, s.objects, "sim-redis").Data))
	s.write("/data", nil)
	first := s.newCertificate()
	s.writeCertificate("/run/secrets/tls", first)
	s.start(s.command(container, container.Command))

	probe := func(p *corev1.Probe) func(context.Context) error {
		return func(context.Context) error { return s.command(container, p.Exec.Command).Run() }
	}
	s.eventually("the readiness probe", probe(container.ReadinessProbe))
	s.eventually("the startup probe", probe(container.StartupProbe))
	s.eventually("the liveness probe", probe(container.LivenessProbe))
	s.expectNoPlainText(p.Address(), "PING\r\n")
	s.eventually("the certificate of the Secret", func(ctx context.Context) error { return s.presents(ctx, p.Address(), first) })

	open, err := tls.Dial("tcp", p.Address(), s.clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	s.start(s.command(container, append(container.Lifecycle.PostStart.Exec.Command, "")))
	second := s.newCertificate()
	// If the key does not fit the certificate, the server keeps the first certificate. It counts the failed attempts to
	// load the new one.
	s.writeCertificate("/run/secrets/tls", resources.CertificateData{Pair: certificates.Pair{Certificate: second.Certificate, Key: first.Key}, CA: second.CA})
	statistics := strings.Replace(container.ReadinessProbe.Exec.Command[2], "ping | grep -q PONG", "INFO commandstats | grep 'config.set.*failed_calls=[1-9]'", 1)
	s.eventually("the server to reject the key", func(context.Context) error { return s.command(container, []string{"sh", "-c", statistics}).Run() })
	if err := s.presents(t.Context(), p.Address(), first); err != nil {
		t.Error("after the key that does not fit:", err)
	}
	s.writeCertificate("/run/secrets/tls", second)
	s.eventually("the new certificate", func(ctx context.Context) error { return s.presents(ctx, p.Address(), second) })
	if _, err := io.WriteString(open, "PING\r\n"); err != nil {
		t.Error("the connection from before the rotation:", err)
	}
	answer := make([]byte, 64)
	if n, err := open.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "-NOAUTH") {
		t.Errorf("the connection from before the rotation answers %q, %v", answer[:n], err)
	}
}

func TestRabbitMQTLS_ServesOnlyTLSAndReloadsItsCertificates(t *testing.T) {
	t.Parallel()
	servers.Program(t, "epmd", "hack/install-servers.sh")
	const original = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	if _, err := os.Stat(original); err != nil {
		servers.Program(t, "rabbitmq-server", "hack/install-servers.sh")
	}
	reserved := ports(t, 4)
	clients, distribution, metrics, epmd := reserved[0], reserved[1], reserved[2], reserved[3]
	s := newSandbox(t, "ssl.default = 5672", "ssl.default = 127.0.0.1:"+clients.String(),
		"{port, 15692}", `{ip, "127.0.0.1"}, {port, `+metrics.String()+"}",
		"$(POD_NAME).sim-rabbitmq-nodes.lot.svc.cluster.local", "localhost", "sim-rabbitmq-0.sim-rabbitmq-nodes.lot.svc.cluster.local", "localhost",
		// The test starts epmd itself, so RabbitMQ must not. RabbitMQ checks every second, instead of every two minutes,
		// whether the files with its certificate have changed.
		"-proto_dist inet_tls", "-start_epmd false -ssl ssl_pem_cache_clean 1000 -proto_dist inet_tls")
	set := find[*appsv1.StatefulSet](t, s.objects, "sim-rabbitmq")
	container := &set.Spec.Template.Spec.Containers[0]
	s.write("/etc/rabbitmq", find[*corev1.ConfigMap](t, s.objects, "sim-rabbitmq").Data)
	s.write("/etc/rabbitmq", textOf(find[*corev1.Secret](t, s.objects, "sim-rabbitmq").Data))
	s.write("/var/lib/rabbitmq", map[string]string{".erlang.cookie": erlangCookie})
	if err := os.Chmod(s.dir+"/var/lib/rabbitmq/.erlang.cookie", 0o400); err != nil {
		t.Fatal(err)
	}
	first, nodes := s.newCertificate(), s.newCertificate()
	s.writeCertificate("/run/secrets/tls", first)
	s.writeCertificate("/run/secrets/nodes-tls", nodes)
	extra := []string{
		"RABBITMQ_DIST_PORT=" + distribution.String(), "ERL_EPMD_PORT=" + epmd.String(), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_USE_LONGNAME=false", // long node names need a domain, which localhost does not have
		"RABBITMQ_CONFIG_FILES=" + s.dir + "/none", "RABBITMQ_CONF_ENV_FILE=" + s.dir + "/none",
	}
	s.start(s.command(container, []string{"epmd", "-port", epmd.String(), "-address", "127.0.0.1"}))
	s.start(s.command(container, container.Command, extra...))

	s.eventually("the certificate of the Secret", func(ctx context.Context) error { return s.presents(ctx, clients.Address(), first) })
	s.expectNoPlainText(clients.Address(), "AMQP\x00\x00\x09\x01")
	s.eventually("the certificate of the metrics", func(ctx context.Context) error { return s.presents(ctx, metrics.Address(), first) })
	s.expectNoPlainText(metrics.Address(), "GET /metrics HTTP/1.0\r\n\r\n")
	s.expectNoPlainText(distribution.Address(), "\x00\x07N\x00\x00\x00\x00\x00\x00")
	s.eventually("rabbitmqctl, which connects like another node", func(context.Context) error {
		output, err := s.command(container, []string{"sh", "-c", "/usr/lib/rabbitmq/bin/rabbitmqctl await_startup -t 60"}, extra...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, output)
		}
		return err
	})
	connection, err := amqp.DialTLS("amqps://parking:"+brokerPassword+"@"+clients.Address()+"/", s.clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()

	second, secondNodes := s.newCertificate(), s.newCertificate()
	s.writeCertificate("/run/secrets/tls", resources.CertificateData{Pair: certificates.Pair{Certificate: second.Certificate, Key: first.Key}, CA: second.CA})
	s.eventually("the key that does not fit to end new connections", func(ctx context.Context) error {
		if s.presents(ctx, clients.Address(), first) == nil {
			return errors.New("the server still presents its certificate")
		}
		return nil
	})
	if _, err := connection.Channel(); err != nil {
		t.Error("the connection from before the key that does not fit:", err)
	}
	s.writeCertificate("/run/secrets/tls", second)
	s.writeCertificate("/run/secrets/nodes-tls", secondNodes)
	s.eventually("the new certificate", func(ctx context.Context) error { return s.presents(ctx, clients.Address(), second) })
	s.eventually("the new certificate of the metrics", func(ctx context.Context) error { return s.presents(ctx, metrics.Address(), second) })
	if _, err := connection.Channel(); err != nil {
		t.Error("the connection from before the rotation:", err)
	}
}
