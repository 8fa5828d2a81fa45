package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

const (
	// applicationID marks a database file as created by this program. It is "park" in ASCII.
	applicationID = 0x7061726b
	// schemaVersion is the version of the database schema. Each file stores this version as its user_version.
	schemaVersion = 1
)

// schema creates the tables. Instants and durations are in nanoseconds, except the column "seconds".
//
// The index of plates is divided into sections of 4096 rows. Inserts change only the last section, although plates
// arrive in random order. A search by plate must look into all sections.
const schema = `
CREATE TABLE summaries (
	seq      INTEGER PRIMARY KEY, -- the order of storing
	id       TEXT NOT NULL UNIQUE,
	plate    TEXT NOT NULL,
	entry_at INTEGER NOT NULL,
	exit_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX summaries_by_exit ON summaries (exit_at);

CREATE INDEX summaries_by_plate ON summaries (seq >> 12, plate);

CREATE TABLE totals (
	one        INTEGER PRIMARY KEY CHECK (one = 1),
	summaries  INTEGER NOT NULL,
	seconds    INTEGER NOT NULL, -- the sum of all durations, whole seconds
	nanos      INTEGER NOT NULL, -- and the remaining nanoseconds
	shortest   INTEGER NOT NULL,
	longest    INTEGER NOT NULL,
	first_exit INTEGER NOT NULL,
	last_exit  INTEGER NOT NULL
) STRICT;

INSERT INTO totals VALUES (1, 0, 0, 0,
	 9223372036854775807, -9223372036854775807 - 1,
	 9223372036854775807, -9223372036854775807 - 1);
`

// identity contains the application ID, the schema version and the number of tables and indexes of a file. All
// these fields are zero in a new file.
type identity struct {
	application, version, tables int64
}

// prepare creates the schema in a new file. In an existing file, and always if readOnly is true, it only checks the
// application ID and the schema version.
func prepare(ctx context.Context, db *sql.DB, path string, readOnly bool) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // Rollback has no effect after the commit
	id, err := identify(ctx, tx)
	if err != nil {
		return err
	}
	if id != (identity{}) || readOnly {
		return id.check(path)
	}
	create := fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d;", schema, applicationID, schemaVersion)
	if _, err := tx.ExecContext(ctx, create); err != nil {
		return err
	}
	return tx.Commit()
}

func identify(ctx context.Context, tx *sql.Tx) (identity, error) {
	var id identity
	for _, value := range []struct {
		query  string
		result *int64
	}{
		{"PRAGMA application_id", &id.application},
		{"PRAGMA user_version", &id.version},
		{"SELECT count(*) FROM sqlite_schema", &id.tables},
	} {
		if err := tx.QueryRowContext(ctx, value.query).Scan(value.result); err != nil {
			return identity{}, err
		}
	}
	return id, nil
}

// check returns an error if this version of the program cannot use the file.
func (id identity) check(path string) error {
	switch {
	case id == (identity{}): // the file is empty, and was not initialized because it was opened read-only
		return fmt.Errorf("%s is empty: give the path of a database that the parking command created", path)
	case id.application != applicationID:
		return fmt.Errorf("%s is a database of another program: give the path of a new file, or of a database that the parking command created", path)
	case id.version != schemaVersion:
		return fmt.Errorf("%s has schema version %d, but this version of the parking command supports version %d only: "+
			"use the version that created the file, or give the path of a new file", path, id.version, schemaVersion)
	}
	return nil
}
