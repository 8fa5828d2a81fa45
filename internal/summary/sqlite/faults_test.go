package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
)

func TestOpenDatabase_UnusableFile_ReturnsAnErrorWithTheRemedy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    []string
	}{
		{"a file of a newer version", func(t *testing.T, path string) {
			t.Helper()
			if err := open(t, Config{Path: path}).Close(); err != nil {
				t.Fatal(err)
			}
			execute(t, path, "PRAGMA user_version = 2")
		}, []string{"schema version 2", "supports version 1 only", "use the version that created the file"}},
		{"a database of another program", func(t *testing.T, path string) {
			t.Helper()
			execute(t, path, "CREATE TABLE visits (plate TEXT)")
		}, []string{"a database of another program", "give the path of a new file"}},
		{"a file without a table", func(t *testing.T, path string) {
			t.Helper()
			if err := open(t, Config{Path: path}).Close(); err != nil {
				t.Fatal(err)
			}
			execute(t, path, "DROP TABLE totals")
		}, []string{"no such table: totals"}},
		{"a file that is not a database", func(t *testing.T, path string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(strings.Repeat("this is not a page of a database\n", 100)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"is not a database", "give the path of a new file"}},
		{"a directory", func(t *testing.T, path string) {
			t.Helper()
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"is a directory; give the path of a file, such as", "summaries.db/summaries.db"}},
		{"a path in a directory that does not exist", func(t *testing.T, path string) {
			t.Helper()
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}, []string{"cannot be opened", "create its directory"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "data", "summaries.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			tt.prepare(t, path)
			d, err := Open(t.Context(), Config{Path: path})
			if err == nil {
				_ = d.Close()
				t.Fatal("the database was opened")
			}
			for _, part := range append(tt.want, path) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			if errors.Is(err, summary.ErrNotReady) {
				t.Errorf("%v matches ErrNotReady, although the file is the cause", err)
			}
		})
	}
}

// Callers treat an error that does not match ErrNotReady as invalid input. A full volume or a locked file is not
// invalid input.
func TestOpenDatabase_VolumeFullOrFileLocked_ErrorMatchesErrNotReady(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		pragmas []string
		locked  bool
		want    string
	}{
		{"a full volume", []string{"max_page_count(1)"}, false, "is full; enlarge it"},
		{"a locked file", nil, true, "another process has locked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "summaries.db")
			if tt.locked {
				lock(t, path)
			}
			d, err := Open(t.Context(), Config{Path: path, pragmas: tt.pragmas})
			if err == nil {
				_ = d.Close()
				t.Fatal("the database was opened")
			}
			if !errors.Is(err, summary.ErrNotReady) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want one with %q that matches ErrNotReady", err, tt.want)
			}
		})
	}
}

// lock locks a database file as another process would, until the test ends.
func lock(t *testing.T, path string) {
	t.Helper()
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
}

func TestIsNotReady_ResultCode_IsFalseForErrorsOfThePathOrFile(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]bool{
		sqlite3.SQLITE_CANTOPEN: false, sqlite3.SQLITE_READONLY: false, sqlite3.SQLITE_PERM: false, sqlite3.SQLITE_NOTADB: false, sqlite3.SQLITE_CORRUPT: false,
		sqlite3.SQLITE_ERROR: false, sqlite3.SQLITE_SCHEMA: false,
		sqlite3.SQLITE_FULL: true, sqlite3.SQLITE_BUSY: true, sqlite3.SQLITE_LOCKED: true, sqlite3.SQLITE_IOERR: true, sqlite3.SQLITE_NOMEM: true,
		sqlite3.SQLITE_PROTOCOL: true, sqlite3.SQLITE_INTERRUPT: true,
	} {
		if got := isNotReady(code); got != want {
			t.Errorf("result code %d: not ready is %t, want %t", code, got, want)
		}
	}
}

func execute(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func TestOpenDatabase_ReadOnlyFile_ReturnsAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "summaries.db")
	if err := open(t, Config{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{Path: path, pragmas: []string{"query_only(1)"}})
	if err == nil || !strings.Contains(err.Error(), path+" is not writable") {
		t.Errorf("error is %v, want one that says that the file is not writable", err)
	}
}

func TestOpenDatabase_PathWithSpecialCharacters_Succeeds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "what?_query_only=1#100% ü.db")
	summarytest.Insert(t, open(t, Config{Path: path}), summarytest.Visit("a", "P", 1))
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestInsert_Failure_ErrorContainsRemedyAndNextInsertSucceeds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		pragma string
		want   string
	}{
		{"a full volume", "max_page_count(16)", "is full; enlarge it"},
		{"a volume that is not writable", "query_only(1)", "is not writable; mount its volume writable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := open(t, Config{})
			summarytest.Insert(t, d, summarytest.Visit("before", "P", 1))
			healthy := replaceWriter(t, d, tt.pragma)

			err := insertMany(d)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is %v, want one with %q", err, tt.want)
			}
			if got := summarytest.List(t, d, summary.Query{Limit: 10}); len(got) != 1 {
				t.Errorf("%d summaries are stored after a failed transaction, want the 1 from before", len(got))
			}
			d.writerAt = healthy
			if err := insertMany(d); err != nil {
				t.Fatalf("insert after the fault: %v", err)
			}
			stats, err := d.Stats(t.Context())
			if err != nil || stats.Count != 1+many {
				t.Errorf("%d summaries are stored after the fault (%v), want %d", stats.Count, err, 1+many)
			}
		})
	}
}

// replaceWriter gives the connection for inserts a SQLite setting that makes them fail. It returns the previous value
// of d.writerAt.
func replaceWriter(t *testing.T, d *Database, setting string) (healthy string) {
	t.Helper()
	if err := d.writer.close(); err != nil {
		t.Fatal(err)
	}
	d.writer = nil
	healthy = d.writerAt
	d.writerAt = Config{pragmas: []string{setting}}.writerURI(d.path)
	return healthy
}

// many is the number of summaries that insertMany stores. They do not fit into 16 pages, the maximum size of the
// database in one of the tests.
const many = 1000

func insertMany(d *Database) error {
	batch := make([]event.Summary, many)
	for i := range batch {
		batch[i] = summarytest.Visit(fmt.Sprintf("id-%d", i), "P", i)
	}
	return d.Insert(context.Background(), batch, make([]summary.Outcome, many))
}

func TestInsert_AnotherProcessLocksTheFile_ReturnsAnError(t *testing.T) {
	t.Parallel()
	d := open(t, Config{})
	other, err := sql.Open("sqlite", d.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}

	err = d.Insert(t.Context(), []event.Summary{summarytest.Visit("a", "P", 1)}, make([]summary.Outcome, 1))
	if err == nil || !strings.Contains(err.Error(), "another process has locked "+d.path) {
		t.Errorf("error is %v, want one that says that the database is locked", err)
	}
	if _, err := d.Stats(t.Context()); err != nil {
		t.Errorf("a locked database cannot be read: %v", err)
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	summarytest.Insert(t, d, summarytest.Visit("a", "P", 1))
}
