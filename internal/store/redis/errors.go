package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/store"
)

// kindObservation identifies observations of the server in the outage log.
const kindObservation = "observation"

// fault returns the same error as the method failure, and also logs an outage. It is for steps that callers repeat
// until they succeed. The argument part identifies the step in the outage log.
func (s *Store) fault(ctx context.Context, part, doing string, err error) error {
	failure := s.failure(ctx, doing, err)
	if errors.Is(failure, store.ErrUnavailable) && !errors.Is(failure, errClosed) {
		s.outages.Fault(part, s.explain(err))
	}
	return failure
}

// failure adds to an error what the store was doing, and advice if there is any. If the caller's context has ended,
// it returns the error of the context. If the server will reject the command again in every retry, the error says
// so. All other errors wrap ErrUnavailable.
func (s *Store) failure(ctx context.Context, doing string, err error) error {
	return s.explain(s.classify(ctx, doing, err))
}

func (s *Store) classify(ctx context.Context, doing string, err error) error {
	if s.closed.Load() && errors.Is(err, context.Canceled) {
		err = errClosed // Close has ended the command
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case errors.Is(err, store.ErrOtherPartitions):
		return fmt.Errorf("%s at %s: %w", doing, s.where(), err)
	case refused(err):
		return fmt.Errorf("%s: the store at %s rejected the command: %w", doing, s.where(), err)
	default:
		return fmt.Errorf("%s: %w at %s: %w", doing, store.ErrUnavailable, s.where(), err)
	}
}

// refused reports whether the server rejected a command for good, so that a retry would get the same error. All
// other errors are temporary, or have a cause that an administrator can correct.
func refused(err error) bool {
	reply := replyIn(err)
	switch codeOf(reply) {
	case "",
		"OOM", "MISCONF", "READONLY", "NOREPLICAS", // the server accepts no writes
		"LOADING", "MASTERDOWN", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", // the server is not ready
		"NOAUTH", "WRONGPASS": // the server does not accept the credentials
		return false
	}
	return !strings.HasPrefix(reply, "ERR max number of clients") && !isForbidden(reply)
}

// replyIn returns the error reply of the server, or "" if the error is not a reply of the server.
func replyIn(err error) string {
	var reply goredis.Error
	if !errors.As(err, &reply) {
		return ""
	}
	return reply.Error()
}

// codeOf returns the first word of an error reply, which is its code.
func codeOf(reply string) string {
	code, _, _ := strings.Cut(reply, " ")
	return code
}

// isForbidden reports whether an error reply says that the user lacks a permission. The reply may be to a command
// or to a script.
func isForbidden(reply string) bool {
	return codeOf(reply) == "NOPERM" || strings.HasPrefix(reply, "ERR The user executing the script can't")
}

// explain appends advice to an error, if the store has advice for this error.
func (s *Store) explain(err error) error {
	if remedy := remedyOf(err); remedy != "" {
		return fmt.Errorf("%w; %s", err, remedy)
	}
	return err
}

func remedyOf(err error) string {
	if reply := replyIn(err); reply != "" {
		return replyRemedy(reply)
	}
	var name *net.DNSError
	var network net.Error
	switch {
	case errors.Is(err, errClosed):
		return ""
	case binding.ExplainFiles(err) != "":
		return binding.ExplainFiles(err)
	case errors.As(err, &name):
		return "correct the host name"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start Redis there, or correct the host or port"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "check that Redis runs there, that it uses TLS if and only if the URI begins with rediss, and that no firewall or network policy blocks the connection"
	case binding.ExplainTLS(err) != "":
		return binding.ExplainTLS(err)
	case errors.Is(err, store.ErrUnavailable):
		return "check that Redis listens on the port, and whether it requires TLS (rediss)"
	}
	return ""
}

func replyRemedy(reply string) string {
	switch codeOf(reply) {
	case "NOAUTH":
		return "add the user and password to the URI, redis://user:password@host, or to the Secret"
	case "WRONGPASS":
		return "correct the user name or password"
	case "NOPERM":
		return "grant the user the command with ACL SETUSER"
	case "READONLY":
		return "it is a replica: give the address of the primary, or wait until a failover has ended"
	case "OOM":
		return "its memory is full: raise maxmemory"
	case "MISCONF":
		return "it cannot save its data: check its log"
	case "LOADING":
		return "it is loading its data: wait until it has finished"
	case "MOVED", "CLUSTERDOWN":
		return "it is a node of a cluster: add the parameter cluster=true to the URI, and check CLUSTER INFO"
	}
	switch {
	case strings.HasPrefix(reply, "ERR DB index is out of range"):
		return "the server has no such database: correct the number in the path of the URI"
	case strings.HasPrefix(reply, "ERR This instance has cluster support disabled"):
		return "it is a single server: remove the parameters cluster=true and addr from the URI"
	}
	return ""
}

// where returns the URI of the server without credentials and parameters, for messages.
func (s *Store) where() string {
	now, err := s.address()
	if err != nil {
		return "an unknown server"
	}
	return now.Redacted()
}
