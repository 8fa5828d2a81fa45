package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/rawconn"
)

const (
	connectTimeout = 10 * time.Second
	// nextTimeout is the timeout of an attempt to connect if there is another address to try.
	nextTimeout = 5 * time.Second
	// versionDelay is how long an attempt runs before the client also tries the other IP version. net.Dialer uses the
	// same delay by default.
	versionDelay = 300 * time.Millisecond
	// heartbeat is the heartbeat interval that the client proposes to the server. Client and server use the shorter of
	// their two proposals.
	heartbeat = 10 * time.Second
	// silence is how long the server may send nothing before the client closes the connection: two heartbeat intervals,
	// as AMQP specifies.
	silence = 2 * heartbeat
)

// connection is an AMQP connection, and the transport that carries it.
type connection struct {
	*amqp.Connection

	wire *wire
	// reason returns why the connection was closed; nil means that this program has closed it. Call reason only if
	// IsClosed returns true, because reason blocks until then.
	reason func() *amqp.Error
}

func newConnection(conn *amqp.Connection, w *wire) *connection {
	// The buffer keeps the error until somebody calls reason.
	closes := conn.NotifyClose(make(chan *amqp.Error, 1))
	return &connection{Connection: conn, wire: w, reason: sync.OnceValue(func() *amqp.Error { return <-closes })}
}

// close closes the connection: gracefully if the server responds within the timeout, and forcibly otherwise.
func (c *connection) close(timeout time.Duration) {
	force := time.AfterFunc(timeout, c.wire.abort)
	defer force.Stop()
	_ = c.Close() // Close closes the connection even if it returns an error
	<-c.wire.done
}

// dialer opens connections to the server. Tests replace the functions in the fields lookup and dialTCP, so that the
// tests need no network.
type dialer struct {
	binding binding.Source
	// component is the name of this process in the server's list of connections.
	component string
	// lookup returns the IP addresses of a host.
	lookup  func(ctx context.Context, host string) ([]string, error)
	dialTCP func(ctx context.Context, network, address string) (net.Conn, error)
	log     *slog.Logger
}

func newDialer(source binding.Source, component string, log *slog.Logger) *dialer {
	return &dialer{
		binding: source, component: component, log: log,
		lookup: net.DefaultResolver.LookupHost, dialTCP: (&net.Dialer{}).DialContext,
	}
}

// dial tries each IP address of each endpoint once until it has a connection. The error contains the addresses and the
// remedies, but never the password.
func (d *dialer) dial(ctx context.Context, role string) (*connection, error) {
	b, err := d.binding()
	if err != nil {
		return nil, fmt.Errorf("look up the addresses and credentials of the broker: %w", err)
	}
	targets, err := readTargets(b)
	if err != nil {
		return nil, explain(b, []failure{{err: err}})
	}
	// A random order spreads the clients over the nodes of a cluster, even when they reconnect after a node has failed.
	rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	var failures []failure
	for i, target := range targets {
		conn, failed := d.dialTarget(ctx, target, len(targets)-i-1, role)
		if conn != nil {
			return conn, nil
		}
		// Continue after a rejected login: a node rejects correct credentials if it cannot reach its authentication
		// backend, such as an LDAP server.
		failures = append(failures, failed...)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, explain(b, failures)
}

// dialTarget tries each IP address of a target. The argument others is the number of targets that may still be tried.
func (d *dialer) dialTarget(ctx context.Context, target target, others int, role string) (*connection, []failure) {
	addresses, err := d.addresses(ctx, target.host, others)
	if err != nil {
		return nil, []failure{{endpoint: target.hostPort(), err: err}}
	}
	var failures []failure
	for i, address := range addresses {
		conn, address, err := d.connect(ctx, target, address, otherVersion(addresses[i:]), len(addresses)-i-1+others, role)
		if err == nil {
			d.log.Debug("Connected to the broker", "role", role, "endpoint", target.hostPort(), "address", address)
			return conn, nil
		}
		failed := failure{endpoint: target.hostPort(), err: err}
		if len(addresses) > 1 {
			failed.address = address
		}
		failures = append(failures, failed)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failures
}

// addresses returns the IP addresses of a host in the order in which to try them. The lookup leaves enough time for
// the given number of other targets.
func (d *dialer) addresses(ctx context.Context, host string, others int) ([]string, error) {
	if net.ParseIP(host) != nil {
		return []string{host}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout(ctx, others))
	defer cancel()
	found, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	// The IP version that the resolver prefers comes first, because the other version may have no route.
	isFirstVersion := func(address string) bool { return strings.Contains(address, ":") == strings.Contains(found[0], ":") }
	preferred := slices.DeleteFunc(slices.Clone(found), func(address string) bool { return !isFirstVersion(address) })
	rest := slices.DeleteFunc(slices.Clone(found), isFirstVersion)
	for _, list := range [][]string{preferred, rest} {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	return append(preferred, rest...), nil
}

// otherVersion returns the first address whose IP version differs from that of addresses[0]. It returns "" if all
// addresses have the same version.
func otherVersion(addresses []string) string {
	for _, address := range addresses[1:] {
		if strings.Contains(address, ":") != strings.Contains(addresses[0], ":") {
			return address
		}
	}
	return ""
}

// attemptTimeout returns the timeout of one attempt to connect. If ctx has a deadline, this attempt and the given
// number of other attempts share the remaining time equally.
func attemptTimeout(ctx context.Context, others int) time.Duration {
	timeout := connectTimeout
	if others > 0 {
		timeout = nextTimeout
	}
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/time.Duration(others+1))
	}
	return timeout
}

// connect makes one attempt to connect to the address or to the fallback; see dialEither. The returned string is the
// address of the open connection, or the address at which the attempt failed.
func (d *dialer) connect(ctx context.Context, target target, address, fallback string, others int, role string) (*connection, string, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout(ctx, others))
	defer cancel()
	transport, address, err := d.dialEither(ctx, target.port, address, fallback)
	if err != nil {
		return nil, address, err
	}
	conn, err := d.handshake(ctx, transport, target, role)
	return conn, address, err
}

// dialEither connects to the given address. If the address has not answered after versionDelay, dialEither also tries
// the fallback address. An empty fallback is not tried.
func (d *dialer) dialEither(ctx context.Context, port, address, fallback string) (net.Conn, string, error) {
	if fallback == "" {
		conn, err := d.dialTCP(ctx, "tcp", net.JoinHostPort(address, port))
		return conn, address, err
	}
	type result struct {
		conn    net.Conn
		address string
		err     error
	}
	ctx, cancel := context.WithCancel(ctx)
	results, pending := make(chan result, 2), 0
	start := func(address string) {
		pending++
		go func() {
			conn, err := d.dialTCP(ctx, "tcp", net.JoinHostPort(address, port))
			results <- result{conn, address, err}
		}()
	}
	defer func() {
		cancel()
		go func() {
			for range pending {
				if r := <-results; r.conn != nil {
					_ = r.conn.Close()
				}
			}
		}()
	}()
	start(address)
	delay := time.NewTimer(versionDelay)
	defer delay.Stop()
	for {
		select {
		case r := <-results:
			pending--
			// The caller tries all other addresses after a failure of the preferred one.
			if r.err == nil || r.address == address {
				return r.conn, r.address, r.err
			}
		case <-delay.C:
			start(fallback)
		}
	}
}

// handshake opens an AMQP connection on an open TCP connection. If the target needs TLS, the TLS handshake comes first.
func (d *dialer) handshake(ctx context.Context, conn net.Conn, target target, role string) (*connection, error) {
	conn = rawconn.New(conn)
	if target.tls != nil {
		secured := tls.Client(conn, target.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, &tlsError{err}
		}
		conn = secured
	}
	return open(ctx, newWire(conn, silence), target, d.component+" "+role)
}

func open(ctx context.Context, w *wire, target target, name string) (*connection, error) {
	giveUp := context.AfterFunc(ctx, w.abort)
	properties := amqp.NewConnectionProperties()
	properties["product"] = event.AppID
	properties.SetClientConnectionName(name)
	conn, err := amqp.Open(w, amqp.Config{
		SASL:       announced(target.logins, properties),
		Vhost:      target.vhost,
		Heartbeat:  heartbeat,
		Locale:     "en_US",
		Properties: properties,
	})
	if !giveUp() {
		err = ctx.Err()
	}
	if err != nil {
		w.abort()
		<-w.done
		// With TLS 1.3, the server rejects a client certificate after the handshake. The error err may then lack the
		// reason.
		if reason := w.failure(); binding.ExplainTLS(reason) != "" {
			return nil, reason
		}
		if target.isGuest && hasCode(err, amqp.AccessRefused) {
			return nil, explainLogin(target, conn.Config.SASL, err)
		}
		return nil, err
	}
	// Remove the credentials from the configuration, because an open connection does not need them. The client library
	// keeps a private copy, which remains in memory.
	conn.Config.SASL = nil
	return newConnection(conn, w), nil
}

// explainLogin explains why a login without a user name has failed.
func explainLogin(target target, tried []amqp.Authentication, err error) error {
	const reason = "the binding has no user name"
	switch {
	case errors.Is(err, amqp.ErrSASL):
		return err // ErrSASL: the client and the server have no login mechanism in common
	case len(target.logins) == 1:
		return fmt.Errorf("log in as guest: %s: %w", reason, err)
	case tried[0].Mechanism() == external:
		return &configError{fmt.Errorf("log in with the client certificate: %s: %w: create a user with the name in the "+
			"client certificate (ssl_cert_login_from in rabbitmq.conf), or put a user name and password into the binding",
			reason, err)}
	default:
		return fmt.Errorf("log in as guest: %s, and the server does not offer the login mechanism %s for client "+
			"certificates: %w", reason, external, err)
	}
}

// external is the SASL mechanism with which the server takes the user name from the client certificate.
const external = "EXTERNAL"

type target struct {
	host, port string
	// logins contains the login mechanisms, in the order of preference.
	logins []amqp.Authentication
	// isGuest is true if the binding has no user name. The client then logs in as guest, unless the server accepts the
	// client certificate.
	isGuest bool
	vhost   string
	tls     *tls.Config // nil means no TLS
}

func (t target) hostPort() string { return net.JoinHostPort(t.host, t.port) }

// CheckBinding returns an error if a broker cannot use the binding. It does not connect.
func CheckBinding(b binding.Binding) error {
	_, err := readTargets(b)
	return err
}

// readTargets returns the connection parameters for each endpoint of a binding.
func readTargets(b binding.Binding) ([]target, error) {
	var targets []target
	for _, endpoint := range b.Endpoints() {
		t, err := readTarget(endpoint)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// readTarget reads an AMQP URI (https://www.rabbitmq.com/docs/uri-spec).
func readTarget(address binding.Binding) (target, error) {
	uri := address.URI
	if uri == nil {
		return target{}, &configError{errors.New("the binding has no URI")}
	}
	if uri.RawQuery != "" {
		// The error does not quote the query, which may contain a misplaced password.
		return target{}, &configError{errors.New("the URI has query parameters, which are not supported: remove the ? and everything after it")}
	}
	t := target{isGuest: uri.User.Username() == "", vhost: vhostOf(uri)}
	port := 5672
	switch uri.Scheme {
	case "amqp":
	case "amqps":
		port = 5671
		secured, err := address.TLSConfig(uri.Hostname())
		if err != nil {
			return target{}, &configError{err}
		}
		t.tls = secured
	default:
		return target{}, &configError{errors.New("the scheme of the URI must be amqp, or amqps for TLS")}
	}
	if p := uri.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return target{}, &configError{errors.New("the port of the URI must be a number from 1 to 65535")}
		}
		port = int(n)
	}
	host := uri.Hostname()
	if host == "" {
		host = "localhost"
	}
	t.host, t.port = host, strconv.Itoa(port)
	t.logins = loginsOf(uri, t.tls)
	return t, nil
}

// loginsOf returns the login mechanisms in the order of preference.
func loginsOf(uri *url.URL, config *tls.Config) []amqp.Authentication {
	if name := uri.User.Username(); name != "" {
		password, _ := uri.User.Password()
		return []amqp.Authentication{&amqp.PlainAuth{Username: name, Password: password}}
	}
	// The user guest is RabbitMQ's default user.
	guest := &amqp.PlainAuth{Username: "guest", Password: "guest"}
	if config != nil && config.GetClientCertificate != nil {
		// A server offers EXTERNAL only if an administrator has enabled it.
		return []amqp.Authentication{&amqp.ExternalAuth{}, guest}
	}
	return []amqp.Authentication{guest}
}

// vhostOf returns the virtual host: the path of the URI without the leading slash. The default is "/".
func vhostOf(uri *url.URL) string {
	if len(uri.Path) <= 1 {
		return "/"
	}
	return uri.Path[1:]
}
