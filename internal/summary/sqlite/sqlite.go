package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"modernc.org/sqlite"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

const (
	// lockTimeout is how long a transaction waits for another process to unlock the file.
	lockTimeout = 2 * time.Second
	// maxReaders is the maximum number of concurrent queries. Further queries wait.
	maxReaders = 4
	// cacheKiB is the size of each connection's page cache.
	cacheKiB = 16 << 10
	// checkpointPages is the length of the write-ahead log, in pages of 4 KiB, that triggers a checkpoint. A long log
	// saves writes, because a checkpoint writes each changed page only once.
	checkpointPages = 4000
	// logLimitBytes is the size to which a checkpoint truncates a longer write-ahead log.
	logLimitBytes = 64 << 20
)

// Config is the configuration of a database.
type Config struct {
	// Path is the path of the database file. Open creates the file, but not its directory.
	Path string
	// NoSync, for tests, lets the operating system decide when to write to the disk. Summaries then survive a crash of
	// this process, but not of the machine.
	NoSync bool
	// ReadOnly makes Open use an existing file without changing the file. Insert then fails. SQLite may still create
	// other files in the same directory.
	ReadOnly bool

	// pragmas are additional SQLite settings of the writer's connection, for tests.
	pragmas []string
}

// Database is an SQLite database of summaries. It implements summary.Database.
type Database struct {
	path     string
	writerAt string
	// writer is the connection for inserts. A failed insert sets it to nil, and the next insert opens a new connection.
	writer  *writer
	readers *readers
}

var _ summary.Database = (*Database)(nil)

// Open opens the database. Unless Config.ReadOnly is set, it creates the file if necessary, and fails if it cannot
// write to the file.
func Open(ctx context.Context, c Config) (*Database, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("open the summary database: %w", err)
	}
	d := &Database{path: path, writerAt: c.writerURI(path)}
	if c.ReadOnly {
		d.writerAt = c.readerURI(path)
	}
	if err := d.open(ctx, c); err != nil {
		return nil, fmt.Errorf("open the summary database: %w", describe(path, err))
	}
	return d, nil
}

// open creates a new file with its schema, or checks the schema of an existing file. Then it opens the connections.
func (d *Database) open(ctx context.Context, c Config) error {
	db, err := connect(d.writerAt, 1)
	if err != nil {
		return err
	}
	if err := errors.Join(prepare(ctx, db, d.path, c.ReadOnly), db.Close()); err != nil {
		return err
	}
	if d.readers, err = openReaders(ctx, c.readerURI(d.path)); err != nil || c.ReadOnly {
		return err
	}
	if err := d.insert(ctx, nil, nil); err != nil {
		_ = d.readers.close() // ignore this error, because err is more useful
		return err
	}
	return nil
}

// Close closes all connections to the database.
func (d *Database) Close() error {
	// Close the readers first. SQLite copies the write-ahead log into the database when the last connection is closed,
	// and only the writer's connection can write.
	err := d.readers.close()
	if d.writer != nil {
		err = errors.Join(err, d.writer.close())
	}
	if err != nil {
		return fmt.Errorf("close the summary database: %w", describe(d.path, err))
	}
	return nil
}

// String implements summary.Database.
func (d *Database) String() string { return "SQLite file " + d.path + " (check its volume)" }

// Insert implements summary.Database. Insert must not be called concurrently.
func (d *Database) Insert(ctx context.Context, summaries []event.Summary, outcomes []summary.Outcome) error {
	if err := d.insert(ctx, summaries, outcomes); err != nil {
		return fmt.Errorf("store summaries: %w", describe(d.path, err))
	}
	return nil
}

// insert runs one transaction. If the transaction fails, the next insert uses a new connection, because the old
// connection may have caused the failure.
func (d *Database) insert(ctx context.Context, summaries []event.Summary, outcomes []summary.Outcome) error {
	if d.writer == nil {
		w, err := openWriter(ctx, d.writerAt)
		if err != nil {
			return err
		}
		d.writer = w
	}
	err := d.writer.insert(ctx, summaries, outcomes)
	if err != nil {
		_ = d.writer.close() // ignore this error, because the error of the insert is more useful
		d.writer = nil
	}
	return err
}

// Find implements summary.Database.
func (d *Database) Find(ctx context.Context, id string) (event.Summary, bool, error) {
	found, ok, err := d.readers.findByID(ctx, id)
	if err != nil {
		return event.Summary{}, false, fmt.Errorf("find a summary: %w", describe(d.path, err))
	}
	return found, ok, nil
}

// List implements summary.Database.
func (d *Database) List(ctx context.Context, q summary.Query) (summary.Page, error) {
	page, err := d.readers.list(ctx, q)
	if err != nil {
		return summary.Page{}, fmt.Errorf("list summaries: %w", describe(d.path, err))
	}
	return page, nil
}

// Stats implements summary.Database.
func (d *Database) Stats(ctx context.Context) (summary.Stats, error) {
	stats, err := d.readers.stats(ctx)
	if err != nil {
		return summary.Stats{}, fmt.Errorf("read the totals of the summaries: %w", describe(d.path, err))
	}
	return stats, nil
}

func (c Config) writerURI(path string) string {
	sync := "FULL"
	if c.NoSync {
		sync = "OFF"
	}
	settings := url.Values{
		"_journal_mode": {"WAL"},
		"_synchronous":  {sync},
		"_txlock":       {"immediate"},
		"_pragma": append([]string{
			pragma("wal_autocheckpoint", checkpointPages),
			pragma("journal_size_limit", logLimitBytes),
		}, c.pragmas...),
	}
	return fileURI(path, settings)
}

func (c Config) readerURI(path string) string {
	settings := url.Values{"_query_only": {"true"}}
	if c.ReadOnly {
		settings.Set("mode", "ro")
	}
	return fileURI(path, settings)
}

// fileURI returns the SQLite URI of a file, with the given settings and the settings that all connections have in
// common.
func fileURI(path string, settings url.Values) string {
	settings.Set("_busy_timeout", strconv.FormatInt(lockTimeout.Milliseconds(), 10))
	settings.Add("_pragma", pragma("cache_size", -cacheKiB))
	settings.Set("_dqs", "false")
	settings.Set("_error_rc", "true")
	u := url.URL{Scheme: "file", Path: path, RawQuery: settings.Encode()}
	return u.String()
}

func pragma(name string, value int) string { return fmt.Sprintf("%s(%d)", name, value) }

// connect returns a pool of up to limit connections. Idle connections stay open.
func connect(uri string, limit int) (*sql.DB, error) {
	connector, err := sqlite.NewConnector(uri)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(limit)
	db.SetMaxIdleConns(limit)
	return db, nil
}
