//go:build !noservers

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/postgres"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const (
	flagDatabase       = "database"
	flagDatabaseURI    = "database-uri"
	flagDatabaseSecret = "database-secret"
	flagDatabaseSchema = "database-schema"
	envDatabase        = "PARKING_DATABASE_URI"
)

// postgresFlags select a PostgreSQL database.
type postgresFlags struct {
	ref plan.BindingRef
	// variable is the environment variable from which the URI was read, or "" if a flag sets the URI.
	variable string
	schema   string
	// The function changed reports whether the user has set the given flag on the command line.
	changed func(flag string) bool
}

func (f *postgresFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.changed = flags.Changed
	flags.StringVar(&f.ref.URI, flagDatabaseURI, "", "`URI` of a PostgreSQL database, postgres:// or postgresql:// (default $"+envDatabase+")")
	flags.StringVar(&f.ref.SecretDir, flagDatabaseSecret, "", "`directory` with files for PostgreSQL: username, password, ca.crt, tls.crt, tls.key; if no URI is given, also either uri, or host, port and database")
	flags.StringVar(&f.schema, flagDatabaseSchema, "", "`name` of the PostgreSQL schema for the tables; created if it does not exist (default: the user's schema, usually public)")
	_ = cmd.MarkFlagDirname(flagDatabaseSecret) // cannot fail, because the flag exists
}

// fromEnvironment reads the URI from PARKING_DATABASE_URI, unless a flag sets the URI or selects the SQLite file. The
// flag --database-secret does not prevent this, because the Secret may contain only credentials.
func (f *postgresFlags) fromEnvironment(getenv func(string) string) {
	if !f.changed(flagDatabase) && !f.changed(flagDatabaseURI) {
		f.ref.URI, f.variable = getenv(envDatabase), envDatabase
	}
}

// source returns the name of the flag or of the environment variable that selects PostgreSQL.
func (f *postgresFlags) source() string {
	return sourceOf(f.ref, f.variable, flagDatabaseURI, flagDatabaseSecret)
}

func (f *postgresFlags) any() bool { return f.ref != (plan.BindingRef{}) }

// open opens the database and creates or migrates its tables. If the server is only unavailable, it returns both the
// database and an error.
func (f *postgresFlags) open(ctx context.Context) (*postgres.Database, error) {
	unsetPostgresVariables()
	source, err := f.binding()
	if err != nil {
		return nil, badInput(err)
	}
	db, err := postgres.New(postgres.Config{Schema: f.schema}, postgres.Dependencies{Binding: source})
	if err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", f.source(), err))
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err = db.Prepare(ctx)
	if _, unusable := errors.AsType[*postgres.UnusableError](err); unusable {
		return nil, badInput(errors.Join(fmt.Errorf("%s: %w", f.source(), err), db.Close()))
	}
	return db, err
}

// binding returns the binding that the flags select. Its errors name the invalid flag.
func (f *postgresFlags) binding() (binding.Source, error) {
	if err := postgres.CheckSchema(f.schema); err != nil {
		return nil, fmt.Errorf("--%s: %w", flagDatabaseSchema, err)
	}
	source, err := wiring.Source(binding.PostgreSQL(), f.ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.source(), err)
	}
	// A URI from a flag or from the environment is already checked, so this error is about a file of the Secret.
	if _, err := source(); err != nil {
		return nil, fmt.Errorf("--%s: %w", flagDatabaseSecret, err)
	}
	return source, nil
}

// unsetPostgresVariables removes variables such as PGPASSWORD from the environment, because the PostgreSQL library
// would use them.
func unsetPostgresVariables() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name) // cannot fail, because the variable is set
		}
	}
}

// openDatabaseOf opens PostgreSQL if flags or the environment select it, and otherwise an SQLite file. An unavailable
// PostgreSQL is not an error: each request tries again.
func (c *cli) openDatabaseOf(ctx context.Context, s service, pg *postgresFlags, file string) (summary.Database, error) {
	pg.fromEnvironment(c.getenv)
	switch {
	case pg.any() && pg.changed(flagDatabase):
		return nil, badInput(fmt.Errorf("--%s and %s cannot be combined: choose SQLite or PostgreSQL", flagDatabase, pg.source()))
	case pg.any():
		db, err := pg.open(ctx)
		if db == nil {
			return nil, err
		}
		if err != nil {
			s.log.Warn("The summary database is unavailable; the process becomes ready once the database is available", "error", err)
		}
		return db, nil
	case pg.schema != "":
		return nil, badInput(fmt.Errorf("--%s needs --%s or --%s: SQLite has no schemas", flagDatabaseSchema, flagDatabaseURI, flagDatabaseSecret))
	}
	db, err := openSQLite(ctx, file)
	if err != nil {
		return nil, badInputUnlessNotReady(fmt.Errorf("--%s: %w", flagDatabase, err))
	}
	return db, nil
}
