package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3/lock"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestAdvise_ConnectionFails_NamesTheCause(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"too many open files":                {fmt.Errorf("dial error: %w", os.NewSyscallError("socket", syscall.EMFILE)), "ulimit -n"},
		"too many open files in a lookup":    {unresolved(net.DNSError{Err: "dial udp 192.0.2.53:53: socket: too many open files", IsTemporary: true}), "ulimit -n"},
		"a DNS server that does not respond": {unresolved(net.DNSError{Err: "i/o timeout", IsTimeout: true}), "check the DNS"},
		"a host that does not exist":         {unresolved(net.DNSError{Err: "no such host", IsNotFound: true}), "correct the host name"},
		"a port without a listener":          {fmt.Errorf("dial error: %w", os.NewSyscallError("connect", syscall.ECONNREFUSED)), "check the host and the port"},
	} {
		if got := advise(tt.err); !strings.HasPrefix(got, "cannot be reached") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: the advice is %q, want %q", name, got, tt.want)
		}
	}
}

// A server accepts no writes if it is a replica, or if default_transaction_read_only is on. Some errors do not say
// which of the two is the cause.
func TestAdvise_ReadOnlyServer_NamesBothCausesUnlessOneIsKnown(t *testing.T) {
	t.Parallel()
	const replica, setting = "wait for the failover", "set default_transaction_read_only to off"
	for name, tt := range map[string]struct {
		err               error
		isReplica, hasSet bool
	}{
		"a server that rejects a write":    {&pgconn.PgError{Code: codeReadOnly}, true, true},
		"a server that pgx rejects":        {pgconn.ErrReadOnlyConnection, true, true},
		"a replica that pgx rejects":       {pgconn.ErrStandbyConnection, true, false},
		"a replica":                        {errReplica, true, false},
		"a primary that accepts no writes": {errReadOnly, false, true},
	} {
		if got := advise(tt.err); strings.Contains(got, replica) != tt.isReplica || strings.Contains(got, setting) != tt.hasSet {
			t.Errorf("%s: the advice is %q", name, got)
		}
	}
}

func TestOneLine_AttemptsWithAndWithoutTLS_ErrorNamesEachCauseOnce(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string]string{
		"a:1 (a): refused\n\ta:1 (a): refused\n\tb:1 (b): refused\n\tb:1 (b): refused":                                  "a:1 (a): refused; b:1 (b): refused",
		"hostname resolving error: lookup a: no such host\nlookup a: no such host":                                      "hostname resolving error: lookup a: no such host",
		"a:1 (a): tls error: server refused TLS connection\na:1 (a): FATAL: no":                                         "a:1 (a): FATAL: no",
		"a:1 (a): tls error: server refused TLS connection\nb:1 (b): tls error: server refused TLS connection":          "a:1 (a): tls error: server refused TLS connection; b:1 (b): tls error: server refused TLS connection",
		"a:1 (a): FATAL: no pg_hba.conf entry, SSL encryption\na:1 (a): FATAL: no pg_hba.conf entry, no SSL encryption": "a:1 (a): FATAL: no pg_hba.conf entry, SSL encryption; a:1 (a): FATAL: no pg_hba.conf entry, no SSL encryption",
	} {
		if got := (oneLine{errors.New(lines)}).Error(); got != want {
			t.Errorf("the line is %q, want %q", got, want)
		}
	}
}

// Without sslmode in the URI, pgx tries each address twice: with TLS and without. The error must nevertheless name each
// address once.
func TestDatabasePrepare_NothingListens_ErrorNamesTheAddressOnce(t *testing.T) {
	t.Parallel()
	uri := "postgres://u:s3cret@" + servers.FreeAddress(t) + "/d"
	err := open(t, uri).Prepare(t.Context())
	wantError(t, err, uri, "cannot be reached; check that it runs")
	if n := strings.Count(err.Error(), "connection refused"); n != 1 {
		t.Errorf("the error names %d refused connections, want 1: %v", n, err)
	}
}

// ErrNotReady changes the exit code of a command, so errors due to invalid input must not match it.
func TestDescribe_ServerFails_MatchesErrNotReadyUnlessInputIsWrong(t *testing.T) {
	t.Parallel()
	d := open(t, "postgres://u@h/d")
	for name, tt := range map[string]struct {
		err        error
		isNotReady bool
	}{
		"a full disk":                        {&pgconn.PgError{Code: codeDiskFull}, true},
		"too many connections":               {&pgconn.PgError{Code: codeTooManyConnections}, true},
		"a server that starts":               {&pgconn.PgError{Code: codeCannotConnectNow}, true},
		"a DNS server that does not respond": {unresolved(net.DNSError{Err: "i/o timeout", IsTimeout: true}), true},
		"a wrong password":                   {&pgconn.PgError{Code: codeInvalidPassword}, false},
		"a missing database":                 {&pgconn.PgError{Code: codeInvalidDatabase}, false},
		"a missing schema":                   {errNoSchema, false},
		"a replica":                          {errReplica, false},
		"a port without a listener":          {os.NewSyscallError("connect", syscall.ECONNREFUSED), false},
		"a host that does not exist":         {unresolved(net.DNSError{Err: "no such host", IsNotFound: true}), false},
		"too many open files":                {fmt.Errorf("dial error: %w", os.NewSyscallError("socket", syscall.EMFILE)), true},
		"a deadlock":                         {&pgconn.PgError{Code: "40P01"}, true},
		"a lock timeout":                     {&pgconn.PgError{Code: "55P03"}, true},
		"missing resources":                  {&pgconn.PgError{Code: "53000"}, true},
		"an idle timeout":                    {&pgconn.PgError{Code: "57P05"}, true},
		"an internal error":                  {&pgconn.PgError{Code: "XX000"}, true},
		"a connection that breaks":           {io.ErrUnexpectedEOF, true},
		"a connection that is reset":         {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, true},
		"a rejected certificate":             {&pgconn.PgError{Code: codeInvalidAuth}, false},
		"a missing permission":               {&pgconn.PgError{Code: codeInsufficientRights}, false},
		"a schema that does not exist":       {&pgconn.PgError{Code: codeInvalidSchema}, false},
		"a server that rejects a write":      {&pgconn.PgError{Code: codeReadOnly}, false},
		"a replica that pgx rejects":         {pgconn.ErrStandbyConnection, false},
		"a primary, but a replica is wanted": {pgconn.ErrPrimaryConnection, false},
		"a primary that accepts no writes":   {errReadOnly, false},
		"a newer schema":                     {unusable("a newer schema"), false},
		"a network without a route":          {fmt.Errorf("dial error: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}), false},
		"an unknown CA":                      {fmt.Errorf("tls error: %w", x509.UnknownAuthorityError{}), false},
		"a server without TLS":               {errors.New("h:5432 (h): " + noTLS), false},
		"another protocol":                   {errors.New("unexpected message from server: 72"), false},
		"a server that is silent":            {fmt.Errorf("failed to receive message: %w", context.DeadlineExceeded), false},
	} {
		if got := errors.Is(d.describe(tt.err), summary.ErrNotReady); got != tt.isNotReady {
			t.Errorf("%s: ErrNotReady is %t, want %t", name, got, tt.isNotReady)
		}
	}
}

// The test holds the lock of the migration until the deadline of Prepare has passed.
func TestDatabasePrepare_AnotherProcessHoldsTheMigrationLock_MatchesErrNotReady(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	conn, err := pgx.Connect(t.Context(), uri)
	must(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock($1)", lock.DefaultLockID)
	must(t, err)
	d := open(t, uri)
	// A busy server may not answer within the first deadline.
	polltest.UntilNoError(t, "the error of Prepare matches ErrNotReady", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Prepare(ctx); !errors.Is(err, summary.ErrNotReady) {
			return fmt.Errorf("it does not match ErrNotReady: %w", err)
		}
		return nil
	})
}

// ErrNotReady would mean that the address is right. A server that never answers may have a wrong address.
func TestDatabasePrepare_ServerIsSilent_DoesNotMatchErrNotReady(t *testing.T) {
	t.Parallel()
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = silent.Close() }()
	d := open(t, "postgres://u@"+silent.Addr().String()+"/d")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := d.Prepare(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, summary.ErrNotReady) {
		t.Errorf("error is %v, want a timeout that does not match ErrNotReady", err)
	}
}

// Credentials must come from the binding only. The certificate file in the home directory is invalid, so connConfig
// would fail if it read the file.
func TestConnConfig_FilesInHomeDirectory_AreIgnored(t *testing.T) { //nolint:paralleltest // it sets HOME
	home := t.TempDir()
	t.Setenv("HOME", home)
	must(t, os.Mkdir(filepath.Join(home, ".postgresql"), 0o700))
	for _, name := range []string{".pgpass", ".postgresql/postgresql.crt", ".postgresql/postgresql.key", ".postgresql/root.crt"} {
		must(t, os.WriteFile(filepath.Join(home, name), []byte("*:*:*:*:s3cret\n"), 0o600))
	}
	config, err := open(t, "postgres://u@h/d").connConfig()
	must(t, err)
	if config.Password != "" {
		t.Errorf("the password is %q, want none", config.Password)
	}
}

// unresolved returns the error of pgx for a host name that was not resolved.
func unresolved(lookup net.DNSError) error {
	return fmt.Errorf("hostname resolving error: %w", &lookup)
}
