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
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// These tests run RabbitMQ and Redis on this machine, with the configuration that Build writes for their containers.
// The tests change only paths, ports and host names.

const serverTimeout = 5 * time.Minute

// sandbox is a directory that replaces the root directory of a server's container, so that the server can run on this
// machine.
type sandbox struct {
	t         *testing.T
	objects   []client.Object
	authority certificates.Authority
	// replacer adapts the configuration of a container to this machine: it replaces paths, ports and host names.
	replacer *strings.Replacer
	dir      string
}

// newSandbox builds the objects of a simulation, with certificates for localhost. The argument replacements contains
// pairs of old and new texts.
func newSandbox(t *testing.T, spec string, replacements ...string) *sandbox {
	t.Helper()
	if testing.Short() {
		t.Skip("the test needs a server, and -short was given")
	}
	s := &sandbox{t: t, dir: t.TempDir()}
	in := input(t, "sim", spec)
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

// foreignCertificate returns a certificate of a new authority, which the server does not trust by default.
func foreignCertificate(t *testing.T) resources.CertificateData {
	t.Helper()
	authority := tlstest.NewAuthority(t, "test")
	certificate, key := authority.Issue(t, "localhost")
	return resources.CertificateData{Pair: certificates.Pair{Certificate: certificate, Key: key}, CA: authority.PEM}
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

// command returns a command of a container that runs on this machine. Its environment contains only PATH, the
// container's variables, and the variables in the parameter extra.
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

// start starts a program, and kills the whole process group of the program when the test ends.
func (s *sandbox) start(cmd *exec.Cmd) {
	s.t.Helper()
	output := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return nil } // the cleanup below kills the process and its children
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // the error only says that the process was killed
		if s.t.Failed() {
			s.t.Logf("output of %s:\n%s", cmd.Path, output)
		}
	})
}

// eventually calls the function check repeatedly until check returns nil.
func (s *sandbox) eventually(what string, check func(context.Context) error) {
	s.t.Helper()
	// ctx must last longer than the timeout of polltest. Otherwise, polltest would report the end of ctx instead of the
	// last error of check.
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*serverTimeout)
	defer cancel()
	polltest.UntilNoError(s.t, what, func() error { return check(ctx) })
}

func (s *sandbox) clientConfig() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.authority.Trusted)
	return &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// presents returns an error unless the server at an address presents the given certificate.
func (s *sandbox) presents(ctx context.Context, address string, want resources.CertificateData) error {
	c, err := dialTLS(ctx, address, s.clientConfig(), want)
	if err != nil {
		return err
	}
	return c.Close()
}

// dialTLS connects to a server. It returns an error unless the server presents the given certificate.
func dialTLS(ctx context.Context, address string, config *tls.Config, want resources.CertificateData) (net.Conn, error) {
	pair, err := tls.X509KeyPair(want.Certificate, want.Key)
	if err != nil {
		return nil, err
	}
	dialer := tls.Dialer{Config: config}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if got := c.(*tls.Conn).ConnectionState().PeerCertificates[0]; !got.Equal(pair.Leaf) {
		return nil, errors.Join(fmt.Errorf("%s presents the certificate with number %d, want %d", address, got.SerialNumber, pair.Leaf.SerialNumber), c.Close())
	}
	return c, nil
}

// answer sends a greeting, and returns the beginning of the server's answer.
func answer(c net.Conn, greeting string) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(serverTimeout)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, greeting); err != nil {
		return nil, err
	}
	beginning := make([]byte, 64)
	n, err := c.Read(beginning)
	return beginning[:n], err
}

// plainAnswer connects without TLS, sends a greeting, and returns the beginning of the server's answer.
func plainAnswer(ctx context.Context, address, greeting string) ([]byte, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	return answer(c, greeting)
}

// expectNoPlainText fails the test unless the server rejects a client without TLS.
func (s *sandbox) expectNoPlainText(address, protocol string) {
	s.t.Helper()
	got, err := plainAnswer(s.t.Context(), address, tlstest.Greetings()[protocol])
	// A TLS alert begins with the byte 21.
	if len(got) > 0 && got[0] != 21 || len(got) == 0 && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		s.t.Errorf("%s answers %q to a client of %s without TLS (%v)", address, got, protocol, err)
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
	s := newSandbox(t, "redis: {managed: {tls: {}}}", "tls-port 6379", "bind 127.0.0.1\ntls-port "+p.String(), "redis-cli", "redis-cli -p "+p.String(), "sleep 10", "sleep 0.1")
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
	s.expectNoPlainText(p.Address(), "Redis")
	s.eventually("the certificate of the Secret", func(ctx context.Context) error { return s.presents(ctx, p.Address(), first) })

	open, err := tls.Dial("tcp", p.Address(), s.clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	s.start(s.command(container, append(container.Lifecycle.PostStart.Exec.Command, "")))
	second := s.newCertificate()
	// If the key does not match the certificate, the server must keep its first certificate and count a failed attempt
	// to load the second.
	s.writeCertificate("/run/secrets/tls", resources.CertificateData{Pair: certificates.Pair{Certificate: second.Certificate, Key: first.Key}, CA: second.CA})
	statistics := strings.Replace(container.ReadinessProbe.Exec.Command[2], "ping | grep -q PONG", "INFO commandstats | grep 'config.set.*failed_calls=[1-9]'", 1)
	s.eventually("the server to reject the key", func(context.Context) error { return s.command(container, []string{"sh", "-c", statistics}).Run() })
	if err := s.presents(t.Context(), p.Address(), first); err != nil {
		t.Error("after the server has rejected the key:", err)
	}
	s.writeCertificate("/run/secrets/tls", second)
	s.eventually("the new certificate", func(ctx context.Context) error { return s.presents(ctx, p.Address(), second) })
	if _, err := io.WriteString(open, "PING\r\n"); err != nil {
		t.Error("the connection that was opened before the rotation:", err)
	}
	got := make([]byte, 64)
	if n, err := open.Read(got); err != nil || !strings.HasPrefix(string(got[:n]), "-NOAUTH") {
		t.Errorf("the connection that was opened before the rotation answers %q, %v", got[:n], err)
	}
}

type rabbitMQ struct {
	*sandbox

	clients, distribution, metrics, epmd port.Port
	container                            *corev1.Container
	// environment contains the variables that the server needs because it does not run in its container. They
	// supplement the variables of the container.
	environment []string
}

// newRabbitMQ writes the files of the RabbitMQ node that Build configures for the given spec. It does not start the
// node.
func newRabbitMQ(t *testing.T, spec string) *rabbitMQ {
	t.Helper()
	servers.Program(t, "epmd", "hack/install-servers.sh")
	const original = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	if _, err := os.Stat(original); err != nil {
		servers.Program(t, "rabbitmq-server", "hack/install-servers.sh")
	}
	reserved := ports(t, 4)
	r := &rabbitMQ{clients: reserved[0], distribution: reserved[1], metrics: reserved[2], epmd: reserved[3]}
	r.sandbox = newSandbox(t, spec, "ssl.default = 5672", "ssl.default = 127.0.0.1:"+r.clients.String(),
		"tcp.default = 5672", "tcp.default = 127.0.0.1:"+r.clients.String()+"\nprometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = "+r.metrics.String(),
		"{port, 15692}", `{ip, "127.0.0.1"}, {port, `+r.metrics.String()+"}",
		"$(POD_NAME).sim-rabbitmq-nodes.lot.svc.cluster.local", "localhost", "sim-rabbitmq-0.sim-rabbitmq-nodes.lot.svc.cluster.local", "localhost",
		// The test starts epmd itself, so RabbitMQ must not start epmd.
		"+sbwt none", "-start_epmd false +sbwt none",
		// RabbitMQ checks every second, instead of every two minutes, whether the files with its certificates have
		// changed.
		"-proto_dist inet_tls", "-start_epmd false -ssl ssl_pem_cache_clean 1000 -proto_dist inet_tls",
		"-erl_epmd_port 25672", "-erl_epmd_port "+r.distribution.String(), "-name ", "-sname ")
	set := find[*appsv1.StatefulSet](t, r.objects, "sim-rabbitmq")
	r.container = &set.Spec.Template.Spec.Containers[0]
	r.write("/etc/rabbitmq", find[*corev1.ConfigMap](t, r.objects, "sim-rabbitmq").Data)
	r.write("/etc/rabbitmq", textOf(find[*corev1.Secret](t, r.objects, "sim-rabbitmq").Data))
	r.write("/var/lib/rabbitmq", map[string]string{".erlang.cookie": erlangCookie})
	if err := os.Chmod(r.dir+"/var/lib/rabbitmq/.erlang.cookie", 0o400); err != nil {
		t.Fatal(err)
	}
	r.environment = []string{
		"RABBITMQ_DIST_PORT=" + r.distribution.String(), "ERL_EPMD_PORT=" + r.epmd.String(), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_USE_LONGNAME=false", // a long node name needs a domain, which localhost does not have
		"RABBITMQ_CONFIG_FILES=" + r.dir + "/none", "RABBITMQ_CONF_ENV_FILE=" + r.dir + "/none",
	}
	return r
}

func (r *rabbitMQ) run() {
	r.t.Helper()
	r.start(r.command(r.container, []string{"epmd", "-port", r.epmd.String(), "-address", "127.0.0.1"}))
	r.start(r.command(r.container, r.container.Command, r.environment...))
}

// awaitStartup waits until "rabbitmqctl await_startup" succeeds. rabbitmqctl connects to the inter-node port.
func (r *rabbitMQ) awaitStartup() {
	r.t.Helper()
	r.eventually("rabbitmqctl, which connects to the inter-node port", func(context.Context) error {
		output, err := r.command(r.container, []string{"sh", "-c", "/usr/lib/rabbitmq/bin/rabbitmqctl await_startup -t 60"}, r.environment...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, output)
		}
		return err
	})
}

// dialNode connects to the inter-node port, with a client certificate if one is given. It returns an error unless the
// node presents the wanted certificate.
func (r *rabbitMQ) dialNode(ctx context.Context, want resources.CertificateData, own ...resources.CertificateData) (net.Conn, error) {
	config := r.clientConfig()
	for _, c := range own {
		pair, err := tls.X509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, err
		}
		// Set GetClientCertificate instead of Certificates. With Certificates, the client would present the certificate
		// only if the server lists the authority that issued it.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return dialTLS(ctx, r.distribution.Address(), config, want)
}

// admits returns an error unless the node accepts the greeting of another node. A TLS 1.3 handshake alone succeeds
// for the client even if the server rejects its certificate.
func (r *rabbitMQ) admits(ctx context.Context, want resources.CertificateData, own ...resources.CertificateData) error {
	c, err := r.dialNode(ctx, want, own...)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	// Over TLS, the length in front of the greeting takes four bytes instead of two.
	got, err := answer(c, "\x00\x00"+tlstest.Greetings()["Erlang distribution"])
	if err == nil && !strings.Contains(string(got), "sok") {
		err = fmt.Errorf("the answer is %q", got)
	}
	return err
}

// expectAlert fails the test unless the error is a TLS alert of the inter-node port.
func (r *rabbitMQ) expectAlert(client string, err error) {
	r.t.Helper()
	if err == nil || !strings.Contains(err.Error(), "remote error: tls:") {
		r.t.Errorf("the inter-node port answers %s with the error %v, want a TLS alert", client, err)
	}
}

// The greetings of package tlstest are complete messages, which servers without TLS answer. If they did not
// answer, expectNoPlainText would prove nothing.
func TestPlainTextGreeting_ServerWithoutTLS_Answers(t *testing.T) {
	t.Parallel()
	cache, err := url.Parse(servers.NewRedis(t, servers.RedisOptions{}).URI())
	if err != nil {
		t.Fatal(err)
	}
	r := newRabbitMQ(t, "rabbitmq: {managed: {}}")
	r.run()
	addresses := map[string]string{
		"AMQP": r.clients.Address(), "HTTP": r.metrics.Address(), "Erlang distribution": r.distribution.Address(), "epmd": r.epmd.Address(),
		"Redis": cache.Host,
	}
	for protocol, greeting := range tlstest.Greetings() {
		r.eventually("an answer to the greeting of "+protocol, func(ctx context.Context) error {
			got, err := plainAnswer(ctx, addresses[protocol], greeting)
			if err == nil && got[0] == 21 {
				err = fmt.Errorf("the answer is a TLS alert: %q", got)
			}
			return err
		})
	}
}

func TestRabbitMQTLS_ServesOnlyTLSAndReloadsItsCertificates(t *testing.T) {
	t.Parallel()
	r := newRabbitMQ(t, "rabbitmq: {managed: {tls: {}}}")
	first := r.newCertificate()
	r.writeCertificate("/run/secrets/tls", first)
	r.writeCertificate("/run/secrets/nodes-tls", r.newCertificate())
	r.run()
	r.eventually("the certificate of the Secret", func(ctx context.Context) error { return r.presents(ctx, r.clients.Address(), first) })
	r.expectNoPlainText(r.clients.Address(), "AMQP")
	r.eventually("the certificate of the metrics", func(ctx context.Context) error { return r.presents(ctx, r.metrics.Address(), first) })
	r.expectNoPlainText(r.metrics.Address(), "HTTP")
	r.awaitStartup()
	connection, err := amqp.DialTLS("amqps://parking:"+brokerPassword+"@"+r.clients.Address()+"/", r.clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()

	second := r.newCertificate()
	r.writeCertificate("/run/secrets/tls", resources.CertificateData{Pair: certificates.Pair{Certificate: second.Certificate, Key: first.Key}, CA: second.CA})
	r.eventually("new connections to fail, because the key does not match the certificate", func(ctx context.Context) error {
		if r.presents(ctx, r.clients.Address(), first) == nil {
			return errors.New("the server still presents its certificate")
		}
		return nil
	})
	if _, err := connection.Channel(); err != nil {
		t.Error("the connection that was opened before the wrong key was written:", err)
	}
	r.writeCertificate("/run/secrets/tls", second)
	r.eventually("the new certificate", func(ctx context.Context) error { return r.presents(ctx, r.clients.Address(), second) })
	r.eventually("the new certificate of the metrics", func(ctx context.Context) error { return r.presents(ctx, r.metrics.Address(), second) })
	if _, err := connection.Channel(); err != nil {
		t.Error("the connection that was opened before the rotation:", err)
	}
}

func TestRabbitMQTLS_BetweenNodes_ServesOnlyNodesAndReloadsItsCertificate(t *testing.T) {
	t.Parallel()
	r := newRabbitMQ(t, "rabbitmq: {managed: {tls: {}}}")
	first, second, foreign := r.newCertificate(), r.newCertificate(), foreignCertificate(t)
	r.writeCertificate("/run/secrets/tls", r.newCertificate())
	r.writeCertificate("/run/secrets/nodes-tls", first)
	r.run()
	r.eventually("the certificate of the nodes", func(ctx context.Context) error { return r.admits(ctx, first, first) })
	r.expectNoPlainText(r.distribution.Address(), "Erlang distribution")
	r.expectAlert("a client without a certificate", r.admits(t.Context(), first))
	r.expectAlert("a client with a certificate of an unknown authority", r.admits(t.Context(), first, foreign))

	// Erlang caches the CA certificates while a connection is open. The node must load changed certificates even
	// then.
	open, err := r.dialNode(t.Context(), first, first)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	second.CA = slices.Concat(second.CA, foreign.CA)
	r.writeCertificate("/run/secrets/nodes-tls", second)
	r.eventually("the new certificate of the nodes", func(ctx context.Context) error { return r.admits(ctx, second, second) })
	r.eventually("the new authority of the nodes", func(ctx context.Context) error { return r.admits(ctx, second, foreign) })
}
