package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
)

// configError is an error that lasts until somebody changes the configuration. Its text must say what to
// change, because remedyOf adds nothing.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

type tlsError struct{ error }

func (e *tlsError) Unwrap() error { return e.error }

// failure is a failed attempt to connect to one address of the server.
type failure struct {
	endpoint string // the host and port in the URI
	address  string // the IP address; "" if the host has only one
	err      error
}

func (f failure) label() string {
	if f.address == "" {
		return f.endpoint
	}
	return fmt.Sprintf("%s (%s)", f.endpoint, f.address)
}

// connectError contains the failures of all addresses of a server. Its text is one line.
type connectError struct {
	where    string // the URI of the server, without credentials
	failures []failure
}

// explain adds addresses and remedies to the failures. The error is one line. It contains no password, because
// neither the client library nor the network receives the URI.
func explain(b binding.Binding, failures []failure) error {
	slices.SortFunc(failures, func(a, b failure) int { return strings.Compare(a.label(), b.label()) })
	return &connectError{where: b.Redacted(), failures: failures}
}

func (e *connectError) Error() string {
	parts := make([]string, len(e.failures))
	for i, f := range e.failures {
		parts[i] = f.err.Error()
		if len(e.failures) > 1 {
			parts[i] = f.label() + ": " + parts[i]
		}
		remedy := remedyOf(f.err)
		if i+1 < len(e.failures) && remedyOf(e.failures[i+1].err) == remedy {
			continue // the next failure adds the same remedy
		}
		if remedy != "" {
			parts[i] += ": " + remedy
		}
	}
	return fmt.Sprintf("connect to the broker at %s: %s", e.where, strings.Join(parts, "; "))
}

func (e *connectError) Unwrap() []error {
	causes := make([]error, len(e.failures))
	for i, f := range e.failures {
		causes[i] = f.err
	}
	return causes
}

// Is makes errors.Is(err, broker.ErrNotReady) true if the failure of at least one address is temporary.
func (e *connectError) Is(target error) bool {
	return target == broker.ErrNotReady && slices.ContainsFunc(e.failures, func(f failure) bool { return isNotReady(f.err) })
}

// isNotReady reports whether a failure has a temporary cause, such as a connection limit. It returns false if the
// address, the credentials or the permissions may be wrong.
func isNotReady(err error) bool {
	if binding.IsTemporary(err) {
		return true
	}
	server, ok := errors.AsType[*amqp.Error](err)
	if !ok {
		return false
	}
	row := find(server)
	return row.remedy != "" && !row.isConfig
}

const checkPort = "check that RabbitMQ listens on the port, and whether it requires TLS (amqps) or a client certificate (tls.crt and tls.key)"

func remedyOf(err error) string {
	var config *configError
	var handshake *tlsError
	var server *amqp.Error
	switch {
	case errors.As(err, &config):
		return ""
	case errors.As(err, &handshake), binding.ExplainTLS(err) != "":
		return cmp.Or(binding.ExplainTLS(err), "check that the port speaks TLS, and that the server's certificate is valid")
	case binding.ExplainFiles(err) != "":
		return binding.ExplainFiles(err)
	case binding.ExplainName(err) != "":
		return binding.ExplainName(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start RabbitMQ there, or correct the host or port"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "check that RabbitMQ runs there, and that no firewall or network policy blocks the connection"
	case errors.As(err, &server):
		return serverRemedy(server)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return checkPort
	default:
		return ""
	}
}

// serverRemedy returns the remedy for an error during the login.
func serverRemedy(err *amqp.Error) string {
	row := find(err)
	switch {
	case row.remedy != "":
		return row.remedy
	case err.Code == amqp.FrameError, err.Code == amqp.ChannelError:
		// The client library uses these codes if the connection is lost.
		return checkPort
	default:
		return "see the log of RabbitMQ"
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
