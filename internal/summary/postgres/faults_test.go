package postgres

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// load inserts batches in the background until load.end is called. It repeats each insert until the database accepts
// the batch.
type load struct {
	stop     chan struct{}
	finished sync.WaitGroup

	mu sync.Mutex
	// acceptedBatches is the number of batches for which Insert has returned no error.
	acceptedBatches int
	failures        []error
}

const batchRows = 200

func batchOf(n int) []event.Summary {
	batch := make([]event.Summary, batchRows)
	for i := range batch {
		batch[i] = summarytest.Visit(fmt.Sprintf("%d-%d", n, i), fmt.Sprintf("P-%d", i), n)
	}
	return batch
}

func startLoad(t *testing.T, d *Database) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	l.finished.Go(func() {
		for n := 0; !l.stopped(); {
			if l.record(d.Insert(context.Background(), batchOf(n), make([]summary.Outcome, batchRows))) {
				n++
			} else {
				time.Sleep(50 * time.Millisecond)
			}
		}
	})
	t.Cleanup(l.end)
	return l
}

func (l *load) record(err error) (stored bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures = append(l.failures, err)
		return false
	}
	l.acceptedBatches++
	return true
}

func (l *load) failed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failures)
}

func (l *load) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

func (l *load) end() {
	if !l.stopped() {
		close(l.stop)
	}
	l.finished.Wait()
}

// await waits until the given number of further batches are accepted.
func (l *load) await(t *testing.T, batches int) {
	t.Helper()
	l.mu.Lock()
	want := l.acceptedBatches + batches
	l.mu.Unlock()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		l.mu.Lock()
		accepted, failures := l.acceptedBatches, l.failures
		l.mu.Unlock()
		if accepted >= want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d batches were accepted; the last errors: %v", accepted, want, failures[max(0, len(failures)-3):])
		}
	}
}

// check ends the load and checks that all accepted batches are stored. One more batch may be stored, because Insert
// may fail after the commit.
func (l *load) check(t *testing.T, d *Database) {
	t.Helper()
	l.end()
	stored := summarytest.List(t, d, summary.Query{Limit: 1000})
	byID := map[string]event.Summary{}
	for _, s := range stored {
		byID[s.ID] = s
	}
	for n := range l.acceptedBatches {
		for _, s := range batchOf(n) {
			if byID[s.ID] != s {
				t.Fatalf("summary %s was accepted as %v and is stored as %v", s.ID, s, byID[s.ID])
			}
		}
	}
	if len(stored) != len(byID) || len(stored) > (l.acceptedBatches+1)*batchRows {
		t.Errorf("%d rows with %d different IDs are stored after %d accepted batches", len(stored), len(byID), l.acceptedBatches)
	}
	stats, err := d.Stats(t.Context())
	if err != nil || stats.Count != int64(len(stored)) {
		t.Errorf("the totals count %d summaries (%v), but %d are stored", stats.Count, err, len(stored))
	}
}

func database(t *testing.T, server *servers.Postgres) string {
	t.Helper()
	uri, err := server.CreateDatabase(t.Context(), servers.Name(t))
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks that the error message is one line that contains want but not the password of the URI.
func wantError(t *testing.T, err error, uri, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("error is %v, want %q", err, want)
	}
	u, parseErr := url.Parse(uri)
	must(t, parseErr)
	password, _ := u.User.Password()
	for _, secret := range []string{password, url.QueryEscape(password)} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("error %q contains the password", err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has several lines", err)
	}
}

func insertOne(d *Database, id string) error {
	return d.Insert(context.Background(), []event.Summary{summarytest.Visit(id, "P", 1)}, make([]summary.Outcome, 1))
}

// mustInsert repeats an insert until it succeeds. On a busy machine, an insert may take longer than its timeout.
func mustInsert(t *testing.T, d *Database, id string) {
	t.Helper()
	polltest.UntilNoError(t, "insert "+id, func() error { return insertOne(d, id) })
}

func TestInsert_ServerKilledRepeatedly_KeepsAcceptedSummaries(t *testing.T) {
	t.Parallel()
	// The server's setting synchronous_commit=off must have no effect: Insert must return only after the commit is
	// durable.
	server := servers.NewPostgres(t, servers.PostgresOptions{Config: []string{"synchronous_commit=off"}})
	d := open(t, database(t, server))
	l := startLoad(t, d)
	for range 3 {
		l.await(t, 10)
		before := l.failed()
		must(t, server.Kill())
		polltest.Until(t, "an insert fails, because the server was killed", func() bool { return l.failed() > before })
		must(t, server.Start(t.Context()))
	}
	l.await(t, 10)
	l.check(t, d)
}

// The URI lists both servers. The primary confirms a commit only after the replica has stored the transaction. So a
// failover loses no accepted summary.
func TestInsert_FailoverToSynchronousReplica_KeepsAcceptedSummaries(t *testing.T) {
	t.Parallel()
	primary := servers.NewPostgres(t, servers.PostgresOptions{})
	uri := database(t, primary)
	replica := servers.NewPostgres(t, servers.PostgresOptions{Primary: primary})
	must(t, primary.Exec(t.Context(), "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"))

	onReplica := open(t, strings.Replace(uri, primary.Address(), replica.Address(), 1))
	wantError(t, insertOne(onReplica, "r"), uri, "is a read-only replica; wait for the failover")

	both := strings.Replace(uri, primary.Address(), primary.Address()+","+replica.Address(), 1)
	d := open(t, both)
	l := startLoad(t, d)
	l.await(t, 10)
	must(t, primary.Kill())
	must(t, replica.Promote(t.Context()))
	l.await(t, 10)
	l.check(t, d)
	polltest.UntilNoError(t, "insert at the promoted replica", func() error { return insertOne(onReplica, "r") })
}

func TestInsert_ServerFault_ErrorSaysWhatToDoAndNextInsertSucceeds(t *testing.T) {
	t.Parallel()
	server := servers.NewPostgres(t, servers.PostgresOptions{})
	name := func(uri string) string {
		u, err := url.Parse(uri)
		must(t, err)
		return pgx.Identifier{u.User.Username()}.Sanitize()
	}
	tests := []struct {
		name string
		// The SQL statements in inject cause a fault, and those in heal end it. The superuser runs both. USER stands
		// for the name of the tested database and of its owner.
		inject, heal []string
		want         string
	}{
		{"a server that becomes read-only",
			[]string{"ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"},
			[]string{"ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"},
			"accepts no writes, although it is not a replica; set default_transaction_read_only to off"},
		{"no free connections",
			[]string{"ALTER ROLE USER CONNECTION LIMIT 0", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = trim('USER', '\"')"},
			[]string{"ALTER ROLE USER CONNECTION LIMIT -1"},
			"has no free connections; raise max_connections or the connection limit of the user (each replica needs 5)"},
		{"missing rights",
			[]string{"ALTER DATABASE USER OWNER TO postgres", "REVOKE ALL ON DATABASE USER FROM USER, public", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = trim('USER', '\"')"},
			[]string{"ALTER DATABASE USER OWNER TO USER", "GRANT ALL ON DATABASE USER TO USER"},
			"denies a permission; make the user the owner"},
		{"a user who may not log in",
			[]string{"ALTER ROLE USER NOLOGIN", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = trim('USER', '\"')"},
			[]string{"ALTER ROLE USER LOGIN"},
			"rejects the credentials"},
	}
	for _, tt := range tests { // not in parallel, because some faults affect all databases of the server
		t.Run(tt.name, func(t *testing.T) {
			uri := database(t, server)
			execute := func(statements []string) {
				for _, statement := range statements {
					must(t, server.Exec(t.Context(), strings.ReplaceAll(statement, "USER", name(uri))))
				}
			}
			d := open(t, uri)
			mustInsert(t, d, "before")
			execute(tt.inject)
			polltest.UntilNoError(t, "the reason is in the error", func() error {
				err := insertOne(d, "during")
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					return fmt.Errorf("error is %w, want %q", err, tt.want)
				}
				wantError(t, err, uri, tt.want)
				return nil
			})
			execute(tt.heal)
			polltest.UntilNoError(t, "insert after the fault", func() error { return insertOne(d, "during") })
			if got := summarytest.IDs(summarytest.List(t, d, summary.Query{Limit: 10})); strings.Join(got, " ") != "before during" {
				t.Errorf("%q are stored, want before and during", got)
			}
		})
	}
}

func TestInsert_ServerDoesNotAnswer_ReturnsAnError(t *testing.T) {
	t.Parallel()
	server := servers.NewPostgres(t, servers.PostgresOptions{})
	uri := database(t, server)
	d := open(t, uri)
	mustInsert(t, d, "before")
	must(t, server.Stop(t.Context()))
	_ = insertOne(d, "a") // ignore the error, which may come from an old connection to the stopped server
	wantError(t, insertOne(d, "a"), uri, "cannot be reached; check that it runs")
	must(t, server.Start(t.Context()))
	mustInsert(t, d, "a")
}

func TestInsert_DiskFull_FailsUntilTheVolumeIsEnlarged(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		servers.SkipOrFail(t, "only root can mount a small volume")
	}
	server := servers.NewPostgres(t, servers.PostgresOptions{VolumeMiB: 48, Config: []string{"autovacuum=off"}})
	uri := database(t, server)
	d := open(t, uri)
	var err error
	n := 0
	for ; err == nil && n < 2000; n++ {
		err = d.Insert(t.Context(), batchOf(n), make([]summary.Outcome, batchRows))
	}
	wantError(t, err, uri, "has a full disk; enlarge its volume, or delete data")
	n-- // do not count the last batch, which failed
	stats, err := d.Stats(t.Context())
	if err != nil || stats.Count != int64(n*batchRows) {
		t.Errorf("%d summaries are stored on the full disk (%v), want %d", stats.Count, err, n*batchRows)
	}
	must(t, server.ResizeVolume(512))
	polltest.UntilNoError(t, "insert after the disk was enlarged", func() error {
		return d.Insert(t.Context(), batchOf(n), make([]summary.Outcome, batchRows))
	})
	if stats, err := d.Stats(t.Context()); err != nil || stats.Count != int64((n+1)*batchRows) {
		t.Errorf("%d summaries are stored in the end (%v), want %d", stats.Count, err, (n+1)*batchRows)
	}
}

func TestInsert_PasswordRotated_UsesTheNewPassword(t *testing.T) {
	t.Parallel()
	server := servers.NewPostgres(t, servers.PostgresOptions{})
	uri := database(t, server)
	u, err := url.Parse(uri)
	must(t, err)
	old, _ := u.User.Password()
	dir := t.TempDir()
	write := func(key, value string) {
		must(t, os.WriteFile(filepath.Join(dir, key), []byte(value+"\n"), 0o600))
	}
	write("host", u.Hostname())
	write("port", u.Port())
	write("dbname", strings.TrimPrefix(u.Path, "/"))
	write("username", u.User.Username())
	write("password", old)
	d, err := New(Config{}, Dependencies{Binding: binding.Directory(binding.PostgreSQL(), dir)})
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	mustInsert(t, d, "before")

	user := pgx.Identifier{u.User.Username()}.Sanitize()
	must(t, server.Exec(t.Context(), "ALTER ROLE "+user+" PASSWORD 'rotated'"))
	mustInsert(t, d, "open connections stay")
	must(t, server.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+u.User.Username()+"'"))
	polltest.UntilNoError(t, "the old password is rejected", func() error {
		err := insertOne(d, "after")
		if err == nil || !strings.Contains(err.Error(), "rejects the credentials; correct the user name and the password") {
			return fmt.Errorf("error is %w", err)
		}
		wantError(t, err, uri, "rejects the credentials")
		return nil
	})
	write("password", "rotated")
	mustInsert(t, d, "after")
	var accepted []event.Summary
	for _, id := range []string{"before", "open connections stay", "after"} {
		accepted = append(accepted, summarytest.Visit(id, "P", 1))
	}
	if stored := summarytest.List(t, d, summary.Query{Limit: 10}); !slices.Equal(stored, accepted) {
		t.Errorf("%v are stored, want %v", stored, accepted)
	}
}

// The server requires a client certificate with the name of the user, and, except for the database named postgres, a
// password.
func TestDatabase_TLSWithClientCertificate_Connects(t *testing.T) {
	t.Parallel()
	authority, other := tlstest.NewAuthority(t, "test CA"), tlstest.NewAuthority(t, "another CA")
	certificate, key := authority.Issue(t, "127.0.0.1")
	server := servers.NewPostgres(t, servers.PostgresOptions{
		Files:  map[string]string{"ca.crt": string(authority.PEM), "server.crt": string(certificate), "server.key": string(key)},
		Config: []string{"ssl=on", "ssl_ca_file=ca.crt", "ssl_cert_file=server.crt", "ssl_key_file=server.key"},
		HBA: []string{
			"host    all      postgres 127.0.0.1/32 scram-sha-256",
			"hostssl postgres all      127.0.0.1/32 cert",
			"hostssl all      all      127.0.0.1/32 scram-sha-256 clientcert=verify-full",
			"host    all      all      127.0.0.1/32 reject",
		},
	})
	uri := database(t, server)
	withoutPassword, err := url.Parse(uri)
	must(t, err)
	user := withoutPassword.User.Username()
	withoutPassword.User, withoutPassword.Path = url.User(user), "/postgres"
	must(t, server.Exec(t.Context(), "GRANT CREATE ON SCHEMA public TO "+pgx.Identifier{user}.Sanitize()))
	connect := func(uri string, ca, issuer *tlstest.Authority, name string) error {
		keys := map[string][]byte{"ca.crt": ca.PEM}
		if issuer != nil {
			keys["tls.crt"], keys["tls.key"] = issuer.Issue(t, name)
		}
		dir := t.TempDir()
		for name, value := range keys {
			must(t, os.WriteFile(filepath.Join(dir, name), value, 0o600))
		}
		source, err := binding.URI(binding.PostgreSQL(), uri, dir)
		must(t, err)
		d, err := New(Config{}, Dependencies{Binding: source})
		must(t, err)
		defer func() { _ = d.Close() }()
		return insertOne(d, "a")
	}
	must(t, connect(uri, authority, authority, user))
	must(t, connect(withoutPassword.String(), authority, authority, user))
	for name, tt := range map[string]struct {
		ca, issuer *tlstest.Authority
		name       string
		want       string
	}{
		"no client certificate":                  {ca: authority, want: "rejects the credentials"},
		"a client certificate with another name": {ca: authority, issuer: authority, name: "another", want: "the user name and the password or the client certificate"},
		"a client certificate of an unknown CA":  {ca: authority, issuer: other, name: user, want: "use a certificate of a CA that the server trusts"},
		"a server certificate of an unknown CA":  {ca: other, issuer: authority, name: user, want: "put the certificate of that CA into ca.crt"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			// With TLS 1.3, a client that is writing when the server rejects its certificate may see "connection reset
			// by peer" instead of the reason.
			polltest.Until(t, "the connection fails with the reason of the server", func() bool {
				err = connect(uri, tt.ca, tt.issuer, tt.name)
				return err == nil || !strings.Contains(err.Error(), "connection reset by peer")
			})
			wantError(t, err, uri, tt.want)
		})
	}
}
