package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// primary is a bit mask. It extracts the primary result code from an extended SQLite result code.
const primary = 0xff

// describe adds the path of the database, and advice, to an SQLite error.
func describe(path string, err error) error {
	fault, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory; give the path of a file, such as %s", path, filepath.Join(path, "summaries.db"))
	}
	switch fault.Code() & primary {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("the volume of %s is full; enlarge it, or delete files: %w", path, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("another process has locked %s; end that process, or give each process its own file: %w", path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%s is not writable; mount its volume writable, and give the user of this process write permission on the file and its directory: %w", path, err)
	case sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%s cannot be opened; create its directory, and give the user of this process write permission on it: %w", path, err)
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s is not a database; give the path of a new file, or of a database that parking created: %w", path, err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%s is damaged; restore it from a backup, or give the path of a new file: %w", path, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("the volume of %s has I/O errors; check the kernel log: %w", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
