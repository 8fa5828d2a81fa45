package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"syscall"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/store"
)

// kindObservation identifies observations of the server in the outage log.
const kindObservation = "observation"

// fault is like failure, but for operations that callers repeat until they succeed. If the store is unavailable, fault
// also logs an outage, in which part identifies the operation.
func (s *Store) fault(ctx context.Context, part, doing string, err error) error {
	failure := s.failure(ctx, doing, err)
	if errors.Is(failure, store.ErrUnavailable) && !errors.Is(failure, errClosed) {
		s.outages.Fault(part, s.explain(err))
	}
	return failure
}

// failure adds to an error what the store was doing, and advice if there is any. The error wraps store.ErrUnavailable
// if a retry may succeed.
func (s *Store) failure(ctx context.Context, doing string, err error) error {
	return s.explain(s.classify(ctx, doing, err))
}

func (s *Store) classify(ctx context.Context, doing string, err error) error {
	if s.closed.Load() && errors.Is(err, context.Canceled) {
		err = errClosed // Close has canceled the command
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case errors.Is(err, store.ErrOtherPartitions), errors.Is(err, store.ErrOtherOwner):
		return fmt.Errorf("%s at %s: %w", doing, s.where(), err)
	case refused(err):
		return fmt.Errorf("%s: the store at %s rejected the command: %w", doing, s.where(), err)
	case isNotReady(err):
		return fmt.Errorf("%s: %w (%w) at %s: %w", doing, store.ErrUnavailable, store.ErrNotReady, s.where(), err)
	default:
		return fmt.Errorf("%s: %w at %s: %w", doing, store.ErrUnavailable, s.where(), err)
	}
}

// replies lists the error replies of Redis that have a remedy. The first matching prefix applies. isTemporary is true
// if a retry may succeed, even if only after a repair.
var replies = []struct {
	prefix      string
	isTemporary bool
	remedy      string
}{
	// Replies of a server that rejects a write.
	{"OOM ", true, "the memory of the server is full: raise maxmemory"},
	{"MISCONF ", true, "the server cannot save its data: check its log"},
	{"READONLY ", true, "the server is a replica: give the address of the primary, or wait until a failover has ended"},
	{"UNBLOCKED ", true, "the server has become a replica: wait until the failover has ended"},
	{"NOREPLICAS ", true, "too few replicas are connected: start them, or lower min-replicas-to-write"},
	{"ERR WAITAOF cannot be used when numlocal is set", true, "the server has no append-only file: set appendonly yes, or set redis.durability to Written"},
	// These replies mean that the server is not ready.
	{"LOADING ", true, "the server is loading its data: wait until the data is loaded"},
	{"MASTERDOWN ", true, "the server is a replica that has lost its primary: give the address of the primary, or wait until a failover has ended"},
	{"BUSY ", true, "a script blocks the server: end the script with SCRIPT KILL"},
	{"TRYAGAIN ", true, "the server is moving keys to another node of the cluster: wait until the keys are moved"},
	{"ASK ", true, ""},
	{"MOVED ", true, replyCluster},
	{"CLUSTERDOWN ", true, replyCluster},
	{"ERR max number of clients", true, "raise maxclients, or close unused connections"},
	{"ERR upstream failure", true, "the proxy cannot reach Redis: check both"}, // Envoy
	{"ERR no upstream host", true, "the proxy cannot reach Redis: check both"},
	// These replies mean that the server rejects the client.
	{"DENIED ", true, "the server is in protected mode: set a password, or set protected-mode no"},
	{"NOAUTH ", true, "add the user and password to the URI, redis://user:password@host, or to the Secret"},
	{"WRONGPASS ", true, "correct the user name or password"},
	{"NOPERM ", true, replyPermission},
	{"ERR The user executing the script can't", true, ""}, // no advice: checkServer already names the missing permissions
	// These replies show that the URI leads to the wrong server or to a missing database.
	{"ERR DB index is out of range", false, "the server has no such database: correct the number in the path of the URI"},
	{"ERR This instance has cluster support disabled", false, "the server is not a cluster: remove the parameters cluster=true and addr, and all addresses but one"},
	{replyNoWAITAOF, false, remedyNoWAITAOF},
	{"ERR unknown command", false, "give the address of a Redis or Valkey server, not of a Sentinel or a proxy that lacks the command, and do not rename commands"},
}

const (
	replyCluster = "the server is a node of a cluster: set the parameter cluster=true in the URI if it is missing, " +
		"and check with CLUSTER INFO that the cluster serves all slots"
	replyNoWAITAOF  = "ERR unknown command 'waitaof'"
	remedyNoWAITAOF = "use Redis 7.2 or later or Valkey, or set redis.durability to Written"
	replyPermission = "use ACL SETUSER to allow the user to run the command"
)

// forbidden finds the name of the command in the reply NOPERM, which reports a missing permission.
var forbidden = regexp.MustCompile(`run the '([^' ]+)' command`)

// refused reports whether the server has rejected a command and would also reject every retry. All other errors are
// temporary, or have a cause that an administrator can correct.
func refused(err error) bool {
	reply := replyIn(err)
	for _, row := range replies {
		if strings.HasPrefix(reply, row.prefix) {
			return !row.isTemporary
		}
	}
	return reply != ""
}

// isNotReady reports whether an error has one of the causes that store.ErrNotReady lists.
func isNotReady(err error) bool {
	if binding.IsTemporary(err) {
		return true
	}
	switch codeOf(replyIn(err)) {
	case "OOM", "MISCONF", "NOREPLICAS", "LOADING", "MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN":
		return true
	}
	return strings.HasPrefix(replyIn(err), "ERR max number of clients")
}

// replyIn returns the error reply of the server, or "" if the error is not a reply of the server.
func replyIn(err error) string {
	if rejection, ok := errors.AsType[rejectedConnection](err); ok {
		return string(rejection)
	}
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
	if rejection, ok := errors.AsType[sentinelError](err); ok {
		return rejection.remedy
	}
	if reply := replyIn(err); reply != "" {
		return replyRemedy(reply)
	}
	var network net.Error
	switch {
	case errors.Is(err, errClosed):
		return ""
	case binding.ExplainFiles(err) != "":
		return binding.ExplainFiles(err)
	case binding.ExplainName(err) != "":
		return binding.ExplainName(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start Redis there, or correct the host or port"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "check that Redis runs there, that it uses TLS if and only if the URI begins with rediss, and that no firewall or network policy blocks the connection"
	case binding.ExplainTLS(err) != "":
		return binding.ExplainTLS(err)
	case errors.Is(err, store.ErrUnavailable):
		return "check that Redis listens on the port, and whether it requires TLS (rediss) or a client certificate (tls.crt and tls.key)"
	}
	return ""
}

func replyRemedy(reply string) string {
	for _, row := range replies {
		if strings.HasPrefix(reply, row.prefix) {
			if command := forbidden.FindStringSubmatch(reply); row.remedy == replyPermission && command != nil {
				return "grant the user +" + strings.ToLower(command[1]) + " with ACL SETUSER"
			}
			return row.remedy
		}
	}
	return ""
}

// where returns the URI of the server without credentials and parameters, for messages.
func (s *Store) where() string {
	now, err := s.binding()
	if err != nil {
		return "an unknown server"
	}
	return now.Redacted()
}
