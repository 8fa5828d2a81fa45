package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// The SQLSTATE codes that this package handles. See https://www.postgresql.org/docs/current/errcodes-appendix.html.
const (
	codeUniqueViolation    = "23505"
	codeReadOnly           = "25006"
	classInvalidAuth       = "28" // the class of the SQLSTATE codes for rejected credentials
	codeInvalidAuth        = "28000"
	codeInvalidPassword    = "28P01"
	codeInvalidDatabase    = "3D000"
	codeInvalidSchema      = "3F000"
	codeInsufficientRights = "42501"
	codeUndefinedTable     = "42P01"
	codeDuplicateSchema    = "42P06"
	codeDuplicateTable     = "42P07"
	codeDiskFull           = "53100"
	codeOutOfMemory        = "53200"
	codeTooManyConnections = "53300"
	codeQueryCanceled      = "57014"
	codeAdminShutdown      = "57P01"
	codeCrashShutdown      = "57P02"
	codeCannotConnectNow   = "57P03"
	codeIOError            = "58030"
	codeDataCorrupted      = "XX001"
	codeIndexCorrupted     = "XX002"
)

// code returns the SQLSTATE code of an error, or "" if the error does not come from the server.
func code(err error) string {
	fault, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	if fault.Message == "could not write init file" {
		// If the disk is full, the server may be unable to accept connections, and report this as an internal error.
		return codeDiskFull
	}
	return fault.Code
}

// These errors mean that a connection was established, but that it cannot be used to store summaries.
var (
	errNoSchema = errors.New("current_schema() is null")
	errReplica  = errors.New("pg_is_in_recovery() is true")
	errReadOnly = errors.New("transaction_read_only is on")
)

// isBadInput reports whether the address, the credentials, the permissions or the choice of the database may be the
// cause of err. The parameter answered says whether a server has ever accepted a connection.
func isBadInput(err error, answered bool) bool {
	if _, unusable := errors.AsType[*UnusableError](err); unusable {
		return true
	}
	if binding.IsTemporary(err) {
		return false
	}
	if c := code(err); c != "" {
		return strings.HasPrefix(c, classInvalidAuth) ||
			slices.Contains([]string{codeInvalidDatabase, codeInvalidSchema, codeInsufficientRights, codeReadOnly}, c)
	}
	for _, target := range []error{
		errNoSchema, errReplica, errReadOnly,
		pgconn.ErrStandbyConnection, pgconn.ErrPrimaryConnection, pgconn.ErrReadOnlyConnection, pgconn.ErrReadWriteConnection,
		syscall.ECONNREFUSED,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	if _, isUnknownHost := errors.AsType[*net.DNSError](err); isUnknownHost || isTLSFault(err) || isOtherProtocol(err) {
		return true
	}
	return !answered && isWithoutAnswer(err) // no server has ever answered, so the address may be wrong
}

// isWithoutAnswer reports whether no connection was established, or no answer arrived in time.
func isWithoutAnswer(err error) bool {
	network, _ := errors.AsType[*net.OpError](err)
	isDial := network != nil && network.Op == "dial"
	isTimeout := errors.Is(err, context.DeadlineExceeded) || network != nil && network.Timeout()
	return (isDial || isTimeout) && !errors.Is(err, context.Canceled)
}

func isTLSFault(err error) bool {
	return binding.ExplainTLS(err) != "" || strings.Contains((oneLine{err}).Error(), noTLS)
}

// isOtherProtocol reports whether a server does not answer like PostgreSQL.
func isOtherProtocol(err error) bool {
	text := err.Error()
	return strings.Contains(text, "invalid response to GSSEncRequest") || strings.Contains(text, "unexpected message from server")
}

// describe adds the address and advice, but no password, to an error. The result matches summary.ErrNotReady unless the
// cause is invalid input.
func (d *Database) describe(err error) error {
	if errors.Is(err, puddle.ErrClosedPool) || d.running.Err() != nil {
		return fmt.Errorf("the summary database is %w", summary.ErrClosed)
	}
	b, bindingErr := d.source()
	if bindingErr != nil {
		return bindingErr
	}
	where := "PostgreSQL " + b.Redacted()
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = failed.Unwrap() // ConnectError would add only the user name and the database to the message
	}
	if advice := advise(err); advice != "" {
		where += " " + advice
	}
	described := fmt.Errorf("%s: %w", where, oneLine{err})
	if isBadInput(err, d.answered.Load()) {
		return described
	}
	return summary.NotReady(described)
}

// oneLine is an error without line breaks. pgx writes one line per connection attempt.
type oneLine struct{ error }

// Error joins the lines and omits repeated ones. It also omits the refusal of TLS if an attempt without TLS follows.
func (e oneLine) Error() string {
	lines := strings.Split(strings.ReplaceAll(e.error.Error(), "\t", ""), "\n")
	var kept []string
	for i, line := range lines {
		address, refused := strings.CutSuffix(line, noTLS)
		retried := refused && i+1 < len(lines) && strings.HasPrefix(lines[i+1], address)
		isRepeated := slices.ContainsFunc(kept, func(other string) bool { return strings.HasSuffix(other, line) })
		if !retried && !isRepeated {
			kept = append(kept, line)
		}
	}
	return excerpt.OneLine(strings.Join(kept, "\n"))
}

// noTLS is the end of the text with which pgx says that a server does not support TLS.
const noTLS = "tls error: server refused TLS connection"

func (e oneLine) Unwrap() error { return e.error }

// advise returns what is wrong with the server and what the user can do, or "" if that is unknown.
func advise(err error) string {
	if advice := adviceFor(code(err)); advice != "" {
		return advice
	}
	if remedy := cmp.Or(binding.ExplainFiles(err), binding.ExplainName(err)); remedy != "" {
		return "cannot be reached: " + remedy
	}
	if remedy := binding.ExplainTLS(err); remedy != "" {
		return "cannot be used with TLS: " + remedy
	}
	var network net.Error
	switch text := (oneLine{err}).Error(); {
	case errors.Is(err, errNoSchema):
		return adviceFor(codeInvalidSchema)
	case errors.Is(err, errReplica), errors.Is(err, pgconn.ErrStandbyConnection):
		return "is a read-only replica; wait for the failover to complete, or use the address of the primary"
	case errors.Is(err, errReadOnly):
		return "accepts no writes, although it is not a replica; set default_transaction_read_only to off for the server, the database and the user"
	case errors.Is(err, pgconn.ErrReadOnlyConnection):
		return adviceFor(codeReadOnly)
	case strings.Contains(text, noTLS):
		return "does not support TLS; enable ssl in postgresql.conf, or remove sslmode and the certificates from the binding"
	case isOtherProtocol(err):
		return "does not answer like PostgreSQL; check the port"
	case errors.Is(err, context.DeadlineExceeded):
		return "does not answer in time; check the network and the load of the server"
	case errors.As(err, &network), strings.Contains(text, "hostname resolving error"), strings.Contains(text, "dial error"):
		return "cannot be reached; check that it runs, and check the host and the port"
	}
	return ""
}

func adviceFor(code string) string {
	switch code {
	case codeInvalidPassword, codeInvalidAuth:
		return "rejects the credentials; correct the user name and the password or the client certificate, and check pg_hba.conf"
	case codeInvalidDatabase:
		return "has no such database; create it, or correct its name"
	case codeInsufficientRights:
		return "denies a permission; make the user the owner of the database, or of the schema and its tables"
	case codeReadOnly:
		return "is read-only; if it is a replica, wait for the failover to complete, or use the address of the primary; otherwise, set default_transaction_read_only to off"
	case codeDiskFull:
		return "has a full disk; enlarge its volume, or delete data"
	case codeOutOfMemory:
		return "has no memory left; give it more memory, or lower its work_mem or max_connections"
	case codeTooManyConnections:
		return fmt.Sprintf("has no free connections; raise max_connections or the connection limit of the user (each replica needs %d), or disconnect other clients", maxReaders+1)
	case codeQueryCanceled:
		return "has cancelled the statement; raise its statement_timeout, and check its load"
	case codeAdminShutdown, codeCrashShutdown, codeCannotConnectNow:
		return "is starting, stopping or recovering; wait, and see its log if this lasts"
	case codeInvalidSchema:
		return "lacks the schema in search_path, or does not let the user use it; create it and grant USAGE on it, correct search_path, or select another schema with --database-schema"
	case codeUndefinedTable: // some tables are missing, but not all: if all are missing, Database.call creates them again
		return "no longer has all tables; drop the whole schema so that all tables are created again, or restore a backup"
	case codeIOError, codeDataCorrupted, codeIndexCorrupted:
		return "has a damaged disk or database; see its log, and restore a backup"
	}
	return ""
}
