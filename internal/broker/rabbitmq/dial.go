package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/event"
)

const (
	connectTimeout = 10 * time.Second
	// heartbeat is the heartbeat interval that the client proposes to the server. Client and server use the
	// shorter of their two proposals. Each of them sends data at least twice per interval, so a peer that has
	// been silent for two intervals is considered dead.
	heartbeat = 10 * time.Second
	silence   = 2 * heartbeat
)

// connection is an AMQP connection, and the transport that carries it.
type connection struct {
	*amqp.Connection

	wire *wire
}

// close closes the connection gracefully. If the server does not answer within the timeout, it closes the connection
// forcibly.
func (c *connection) close(timeout time.Duration) {
	force := time.AfterFunc(timeout, c.wire.abort)
	defer force.Stop()
	_ = c.Close() // the connection is closed, also after an error
	<-c.wire.done
}

// dial makes one attempt to connect to the server that the current binding names. Its errors contain the
// address and the remedy, but never the password.
func dial(ctx context.Context, source binding.Source, name string) (*connection, error) {
	address, err := source()
	if err != nil {
		return nil, fmt.Errorf("read the binding of the broker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := connect(ctx, address, name)
	if err != nil {
		return nil, explain(address, err)
	}
	return conn, nil
}

func connect(ctx context.Context, address binding.Binding, name string) (*connection, error) {
	target, err := readTarget(address)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", target.hostPort)
	if err != nil {
		return nil, err
	}
	if target.tls != nil {
		secured := tls.Client(conn, target.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, &tlsError{err}
		}
		conn = secured
	}
	return open(ctx, newWire(conn, silence), target, name)
}

func open(ctx context.Context, w *wire, target target, name string) (*connection, error) {
	giveUp := context.AfterFunc(ctx, w.abort)
	properties := amqp.NewConnectionProperties()
	properties["product"] = event.AppID
	properties.SetClientConnectionName(name)
	conn, err := amqp.Open(w, amqp.Config{
		SASL:       []amqp.Authentication{&target.login},
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
		return nil, err
	}
	return &connection{Connection: conn, wire: w}, nil
}

// target holds the connection parameters that a URI contains.
type target struct {
	hostPort string
	login    amqp.PlainAuth
	vhost    string
	tls      *tls.Config // nil means no TLS
}

// readTarget reads an AMQP URI (https://www.rabbitmq.com/docs/uri-spec).
func readTarget(address binding.Binding) (target, error) {
	uri := address.URI
	if uri == nil {
		return target{}, &configError{errors.New("the binding has no URI")}
	}
	if uri.RawQuery != "" { // the error quotes nothing of it, because a name may be a misplaced password
		return target{}, &configError{errors.New("its URI has query parameters, which are not supported: remove the ? and everything after it")}
	}
	t := target{login: loginOf(uri), vhost: vhostOf(uri)}
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
		return target{}, &configError{errors.New("its scheme must be amqp, or amqps for TLS")}
	}
	if p := uri.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return target{}, &configError{errors.New("its port must be a number from 1 to 65535")}
		}
		port = int(n)
	}
	host := uri.Hostname()
	if host == "" {
		host = "localhost"
	}
	t.hostPort = net.JoinHostPort(host, strconv.Itoa(port))
	return t, nil
}

func loginOf(uri *url.URL) amqp.PlainAuth {
	login := amqp.PlainAuth{Username: "guest", Password: "guest"}
	if uri.User != nil {
		login.Username = uri.User.Username()
		login.Password, _ = uri.User.Password()
	}
	return login
}

// vhostOf returns the virtual host: the path of the URI without its leading slash, or "/" if that is empty.
func vhostOf(uri *url.URL) string {
	if len(uri.Path) <= 1 {
		return "/"
	}
	return uri.Path[1:]
}
