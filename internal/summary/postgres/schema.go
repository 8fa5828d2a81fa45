package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

const (
	// versionTable is the name of the table that holds the version of the schema.
	versionTable = "parking_schema_version"
	// lockPeriod is the pause in seconds between attempts to get the advisory lock, which another process holds during
	// a migration. lockAttempts is the maximum number of attempts.
	lockPeriod, lockAttempts = 1, 600
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaName matches the names of schemas that need no quotes in SQL.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// CheckSchema returns an error if name is not a valid schema name. The empty name is valid.
func CheckSchema(name string) error {
	if name == "" || schemaName.MatchString(name) && !strings.HasPrefix(name, "pg_") {
		return nil
	}
	return fmt.Errorf("the schema name %q is invalid: it must have 1 to 63 lower-case letters, digits and underscores, not begin with a digit, and not begin with pg_", name)
}

// UnusableError means that this version of the program cannot use the database. Retries fail in the same way.
type UnusableError struct{ Err error }

// Error returns the text of the cause.
func (e *UnusableError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UnusableError) Unwrap() error { return e.Err }

func unusable(format string, args ...any) error { return &UnusableError{fmt.Errorf(format, args...)} }

// migrate creates or migrates the schema, in one process at a time. It returns an *UnusableError if a retry cannot
// succeed, for example for a newer schema.
func (d *Database) migrate(ctx context.Context) (err error) {
	config, err := d.connConfig()
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(d.afterConnect))
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := checkEncoding(ctx, db); err != nil {
		return err
	}
	if err := d.createSchema(ctx, db); err != nil {
		return err
	}
	if err := checkSearchPath(ctx, db); err != nil {
		return err
	}
	provider, err := d.provider(db)
	if err != nil {
		return err
	}
	version, err := provider.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	if newest := sources[len(sources)-1].Version; version > newest {
		return unusable("the tables have schema version %d, but this version of parking supports versions up to %d only: "+
			"use the version of parking that migrated the tables, or another schema or database", version, newest)
	}
	// Replicas of the previous program version run on during an upgrade, so a migration must leave the tables usable
	// for them.
	_, err = provider.Up(ctx)
	if fault, ok := errors.AsType[*pgconn.PgError](err); ok && fault.Code == codeDuplicateTable {
		return unusable("the schema contains tables of another program, with names that parking needs: use another schema or database: %w", err)
	}
	return err
}

func (d *Database) provider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockPeriod, lockAttempts))
	if err != nil {
		return nil, err
	}
	// Of the migration libraries with pgx, embedded files and an advisory lock, goose has the fewest dependencies.
	return goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(locker), goose.WithTableName(versionTable))
}

// checkEncoding returns an *UnusableError unless the database can store all Unicode characters.
func checkEncoding(ctx context.Context, db *sql.DB) error {
	var encoding string
	if err := db.QueryRowContext(ctx, "SHOW server_encoding").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return unusable("the database has the encoding %s, and not every plate can be stored in it: create a database with ENCODING 'UTF8'", encoding)
	}
	return nil
}

// checkSearchPath returns errNoSchema if the user has no usable schema. Without this check, goose would look for its
// table in all schemas.
func checkSearchPath(ctx context.Context, db *sql.DB) error {
	var missing bool
	if err := db.QueryRowContext(ctx, "SELECT current_schema() IS NULL").Scan(&missing); err != nil {
		return err
	}
	if missing {
		return errNoSchema
	}
	return nil
}

// createSchema creates the configured schema if the schema does not exist. It does nothing if no schema is configured.
func (d *Database) createSchema(ctx context.Context, db *sql.DB) error {
	if d.schema == "" {
		return nil
	}
	var exists bool
	if err := db.QueryRowContext(ctx, "SELECT to_regnamespace($1) IS NOT NULL", d.schema).Scan(&exists); err != nil || exists {
		return err
	}
	_, err := db.ExecContext(ctx, "CREATE SCHEMA "+pgx.Identifier{d.schema}.Sanitize())
	fault, ok := errors.AsType[*pgconn.PgError](err)
	if ok && (fault.Code == codeDuplicateSchema || fault.Code == codeUniqueViolation) {
		return nil // ignore the error: another process has just created the schema
	}
	return err
}
