package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/binding"
)

// configError is an error that lasts until somebody changes the configuration. Its text names the remedy.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// tlsError is an error of the TLS handshake.
type tlsError struct{ error }

func (e *tlsError) Unwrap() error { return e.error }

// explain adds the address and the remedy to an error that occurred while connecting. The resulting error is
// one line. It contains no password, because err comes from the client library or the network, which never see
// the URI.
func explain(address binding.Binding, err error) error {
	if remedy := remedyOf(err); remedy != "" {
		return fmt.Errorf("connect to the broker at %s: %w: %s", address.Redacted(), err, remedy)
	}
	return fmt.Errorf("connect to the broker at %s: %w", address.Redacted(), err)
}

func remedyOf(err error) string {
	var config *configError
	var handshake *tlsError
	var name *net.DNSError
	var server *amqp.Error
	switch {
	case errors.As(err, &config):
		return ""
	case errors.As(err, &handshake), binding.ExplainTLS(err) != "":
		return cmp.Or(binding.ExplainTLS(err), "check that the port speaks TLS, and that the server's certificate is valid")
	case errors.As(err, &name):
		return "correct the host name"
	case binding.ExplainFiles(err) != "":
		return binding.ExplainFiles(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start RabbitMQ there, or correct the host or port"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "check that RabbitMQ runs there, and that no firewall or network policy blocks the connection"
	case errors.As(err, &server):
		return serverRemedy(server)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "check that RabbitMQ listens on the port, and whether it requires TLS (amqps)"
	default:
		return ""
	}
}

// serverRemedy returns the remedy for a login that the server rejected. While a connection is being opened, the
// client library reports every failure as an amqp.Error.
func serverRemedy(err *amqp.Error) string {
	switch {
	case err.Code == amqp.NotAllowed && strings.Contains(err.Reason, "not found"):
		return "create it with rabbitmqctl add_vhost, or correct the path of the URI"
	case err.Code == amqp.NotAllowed && strings.Contains(err.Reason, "refused"):
		return "grant it with rabbitmqctl set_permissions"
	case err.Code == amqp.NotAllowed:
		return "see the limits of the user and of the virtual host"
	case err.Code == amqp.AccessRefused:
		return "correct the user name or password"
	case err.Code == amqp.FrameError, err.Code == amqp.ChannelError:
		return "check that RabbitMQ listens on the port, and whether it requires TLS (amqps)"
	default:
		return "see the broker's log"
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
