package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

const (
	// maxReaders is the maximum number of connections for queries. One further connection is reserved for inserts.
	maxReaders = 4
	// connectTimeout is the timeout of a connection attempt to one host, unless the URI has the parameter
	// connect_timeout.
	connectTimeout = 3 * time.Second
	// timeout limits an insert or a query. It is shorter than the timeout of summary.Service, so that the error names
	// the cause.
	timeout = 8 * time.Second
	// slots is the number of rows in summary_totals, as in its migration. Each process updates a random row, so that
	// processes seldom wait for each other.
	slots = 16
)

// Config is the configuration of a Database.
type Config struct {
	// Schema is the name of the schema with the tables. A missing schema is created; an empty name selects the user's
	// default schema, usually "public".
	Schema string
}

// Dependencies are what a Database needs from other packages.
type Dependencies struct {
	// Binding returns the address, the credentials and the certificates of the server. It is called before each
	// connection attempt.
	Binding binding.Source
}

// Database is a PostgreSQL database of summaries. It implements summary.Database. All its methods, even Insert, are
// safe for concurrent use.
type Database struct {
	source binding.Source
	schema string
	// slot is the number of the row in the table summary_totals that this process updates.
	slot int

	// writer is a pool of one connection for inserts. readers is a separate pool, so that queries do not delay inserts.
	writer, readers *pgxpool.Pool

	// answered is true once a server has accepted a connection, which shows that the address is right.
	answered atomic.Bool

	// prepared is true if the schema has the current version.
	prepared atomic.Bool
	// preparing runs one migration for all goroutines that wait for the schema.
	preparing singleflight.Group
	running   context.Context //nolint:containedctx // the lifetime of this Database
	stop      context.CancelFunc
}

var _ summary.Database = (*Database)(nil)

// New returns a database. It reads the binding, but does not connect to the server. It returns an *UnusableError if the
// binding or the configuration is invalid.
func New(c Config, deps Dependencies) (*Database, error) {
	d := &Database{source: deps.Binding, schema: c.Schema, slot: rand.IntN(slots)}
	if err := CheckSchema(c.Schema); err != nil {
		return nil, &UnusableError{err}
	}
	d.running, d.stop = context.WithCancel(context.Background())
	var err error
	if d.writer, err = d.pool(1); err != nil {
		return nil, &UnusableError{err}
	}
	if d.readers, err = d.pool(maxReaders); err != nil {
		d.writer.Close()
		return nil, &UnusableError{err}
	}
	return d, nil
}

func (d *Database) pool(limit int32) (*pgxpool.Pool, error) {
	// A pool reads the binding when it is created, and again before each connection attempt.
	config, err := pgxpool.ParseConfig("sslmode=disable") // the result of connConfig replaces this setting
	if err != nil {
		return nil, fmt.Errorf("configure the connections to PostgreSQL: %w", err)
	}
	if config.ConnConfig, err = d.connConfig(); err != nil {
		return nil, err
	}
	config.MaxConns = limit
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		current, err := d.connConfig()
		if err == nil {
			*c = *current
		}
		return err
	}
	config.AfterConnect = d.afterConnect
	return pgxpool.NewWithConfig(d.running, config)
}

// connConfig returns the connection settings of the current binding.
func (d *Database) connConfig() (*pgx.ConnConfig, error) {
	b, err := d.source()
	if err != nil {
		return nil, err
	}
	uri, err := completeURI(b.URI)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(uri)
	if err != nil {
		// Do not wrap the error of the parser, because it quotes parts of the URI.
		return nil, fmt.Errorf("the URI of PostgreSQL %s has an invalid parameter: check sslmode, target_session_attrs, connect_timeout and the files that the URI names", b.Redacted())
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if attributes := b.URI.Query().Get("target_session_attrs"); config.ValidateConnect == nil || attributes == "read-write" {
		// After a failover, an address may still lead to the old primary, which accepts no writes.
		config.ValidateConnect = requireWritable
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "parking"
	}
	if err := addCertificates(b, config); err != nil {
		return nil, err
	}
	return config, nil
}

// completeURI adds parameters that keep pgx from reading files such as ~/.pgpass. It rejects a URI without a user,
// because pgx would use the operating system user.
func completeURI(u *url.URL) (string, error) {
	query := u.Query()
	if u.User.Username() == "" && query.Get("user") == "" {
		return "", errors.New("the binding of PostgreSQL has no user name: put it into the URI, as in postgres://user:password@host/database, or into the key username of the Secret")
	}
	complete := *u
	for _, file := range []string{"passfile", "sslcert", "sslkey", "sslrootcert"} {
		if !query.Has(file) {
			complete.RawQuery = strings.TrimPrefix(complete.RawQuery+"&"+file+"=", "&")
		}
	}
	return complete.String(), nil
}

// requireWritable returns an error if the server of a new connection accepts no writes. The error says why.
func requireWritable(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')").ReadAll()
	if err != nil {
		return err
	}
	switch row := results[0].Rows[0]; {
	case string(row[0]) == "t":
		return errReplica
	case string(row[1]) == "on":
		return errReadOnly
	}
	return nil
}

// addCertificates adds the certificates of the binding to the TLS configurations of the first host and of the
// fallbacks.
func addCertificates(b binding.Binding, config *pgx.ConnConfig) error {
	if config.TLSConfig != nil {
		if err := b.AddCertificates(config.TLSConfig); err != nil {
			return err
		}
	}
	for _, fallback := range config.Fallbacks {
		if fallback.TLSConfig == nil {
			continue
		}
		if err := b.AddCertificates(fallback.TLSConfig); err != nil {
			return err
		}
	}
	return nil
}

// afterConnect selects the schema, and makes commits wait for the disk of the server and for synchronous replicas.
func (d *Database) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	d.answered.Store(true)
	_, err := conn.Exec(ctx, `
		SELECT set_config('synchronous_commit', 'on', false)
		WHERE current_setting('synchronous_commit') IN ('off', 'local')
		UNION ALL
		SELECT set_config('search_path', $1, false) WHERE $1 <> ''`,
		pgx.QueryExecModeExec, d.schema)
	return err
}

// Prepare creates or migrates the tables, as the other methods do when necessary. It returns an *UnusableError if this
// program version cannot use the database.
func (d *Database) Prepare(ctx context.Context) error {
	if err := d.prepare(ctx); err != nil {
		return fmt.Errorf("prepare the summary database: %w", d.describe(err))
	}
	return nil
}

// prepare migrates the schema in the background, and waits until the migration has finished or ctx ends. The end of ctx
// does not stop the migration.
func (d *Database) prepare(ctx context.Context) error {
	if d.prepared.Load() {
		return nil
	}
	result := d.preparing.DoChan("", func() (any, error) {
		err := d.migrate(d.running)
		d.prepared.Store(err == nil)
		return nil, err
	})
	select {
	case r := <-result:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("wait for the migration of the tables: %w", ctx.Err())
	}
}

// Close closes all connections. It waits for the calls that are in progress.
func (d *Database) Close() error {
	d.stop()
	_, _, _ = d.preparing.Do("", func() (any, error) { return nil, nil }) // wait until a migration in progress has ended
	d.writer.Close()
	d.readers.Close()
	return nil
}

// String implements summary.Database.
func (d *Database) String() string {
	b, err := d.source()
	if err != nil {
		return "PostgreSQL (" + err.Error() + ")"
	}
	return "PostgreSQL " + b.Redacted() + " (check the server and the network)"
}

// Insert implements summary.Database.
func (d *Database) Insert(ctx context.Context, summaries []event.Summary, outcomes []summary.Outcome) error {
	err := d.call(ctx, func(ctx context.Context) error { return d.insert(ctx, summaries, outcomes) })
	if err != nil {
		return fmt.Errorf("store summaries: %w", err)
	}
	return nil
}

// Find implements summary.Database.
func (d *Database) Find(ctx context.Context, id string) (found event.Summary, ok bool, err error) {
	err = d.call(ctx, func(ctx context.Context) error {
		var err error
		found, ok, err = d.find(ctx, id)
		return err
	})
	if err != nil {
		return event.Summary{}, false, fmt.Errorf("find a summary: %w", err)
	}
	return found, ok, nil
}

// List implements summary.Database.
func (d *Database) List(ctx context.Context, q summary.Query) (page summary.Page, err error) {
	err = d.call(ctx, func(ctx context.Context) error {
		var err error
		page, err = d.list(ctx, q)
		return err
	})
	if err != nil {
		return summary.Page{}, fmt.Errorf("list summaries: %w", err)
	}
	return page, nil
}

// Stats implements summary.Database.
func (d *Database) Stats(ctx context.Context) (stats summary.Stats, err error) {
	err = d.call(ctx, func(ctx context.Context) error {
		var err error
		stats, err = d.stats(ctx)
		return err
	})
	if err != nil {
		return summary.Stats{}, fmt.Errorf("read the totals of the summaries: %w", err)
	}
	return stats, nil
}

// call prepares the schema if necessary and runs an operation with a timeout. It adds the address of the server, and
// advice, to the error.
func (d *Database) call(ctx context.Context, operation func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := d.attempt(limited, operation)
	if d.recover(err) {
		// The second attempt uses new connections and creates missing tables. Only its error says whether the schema is
		// missing.
		err = d.attempt(limited, operation)
		d.recover(err)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil { // the caller's deadline has passed, or the caller has canceled the call
		return fmt.Errorf("%w (%w)", ctx.Err(), d.describe(err))
	}
	return d.describe(err)
}

// attempt prepares the schema if necessary and runs an operation.
func (d *Database) attempt(ctx context.Context, operation func(context.Context) error) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	return operation(ctx)
}

// recover makes the next attempt open new connections if the server accepts no writes or tables are missing. If tables
// are missing, the next attempt also creates them.
func (d *Database) recover(err error) (tablesAreMissing bool) {
	switch code(err) {
	case codeReadOnly: // the server has become a replica, which accepts no writes
		d.writer.Reset()
		d.readers.Reset()
	case codeUndefinedTable, codeInvalidSchema: // the tables were dropped, or a failover has lost them
		d.prepared.Store(false)
		d.writer.Reset()
		d.readers.Reset()
		return true
	}
	return false
}
