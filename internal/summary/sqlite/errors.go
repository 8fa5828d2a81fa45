package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// primary is the bit mask of the primary result code in an extended SQLite result code.
const primary = 0xff

// describe adds the path of the database, and advice, to an SQLite error. The result matches summary.ErrNotReady if a
// retry may succeed without another path or file.
func describe(path string, err error) error {
	fault, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory; give the path of a file, such as %s", path, filepath.Join(path, "summaries.db"))
	}
	code := fault.Code() & primary
	described := advise(path, code, err)
	if isNotReady(code) || binding.ExplainFiles(described) != "" {
		return summary.NotReady(described)
	}
	return described
}

// isNotReady reports whether an error with the given primary result code comes from the volume, a lock or this
// process, rather than from the file.
func isNotReady(code int) bool {
	switch code {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL,
		sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		return true
	}
	return false
}

// advise adds the path of the database, and advice for the primary result code, to an SQLite error.
func advise(path string, code int, err error) error {
	switch code {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("the volume of %s is full; enlarge it, or delete files: %w", path, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("another process has locked %s; end that process, or give each process its own file: %w", path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%s is not writable; mount its volume writable, and give the user of this process write permission on the file and its directory: %w", path, err)
	case sqlite3.SQLITE_CANTOPEN:
		if cause := openErrorOf(filepath.Dir(path)); binding.ExplainFiles(cause) != "" {
			return fmt.Errorf("%s cannot be opened: %w; %s", path, cause, binding.ExplainFiles(cause))
		}
		return fmt.Errorf("%s cannot be opened; create its directory, and give the user of this process write permission on the directory: %w", path, err)
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s is not a database; give the path of a new file, or of a database that the parking command created: %w", path, err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%s is damaged; restore it from a backup, or give the path of a new file: %w", path, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("the volume of %s has I/O errors; check the kernel log: %w", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// openErrorOf returns the error of opening a directory, or nil. It tells a missing directory from too many open files,
// for which SQLite reports the same code.
func openErrorOf(directory string) error {
	const needed = 8 // file descriptors: the database, the write-ahead log, the WAL index, the directory, and a reserve
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close() // nothing was written
		}
	}()
	for range needed {
		f, err := os.Open(directory)
		if err != nil {
			return errors.Unwrap(err) // omit the path, because the caller adds the path of the database
		}
		files = append(files, f)
	}
	return nil
}
