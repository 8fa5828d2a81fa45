package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// primary masks the primary result code in an extended one.
const primary = 0xff

// describe adds to an error of the database what to do about it.
func describe(path string, err error) error {
	fault, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch fault.Code() & primary {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("the volume of %s is full; enlarge it, or remove something from it: %w", path, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("another process has locked %s; end it, or give each a file of its own: %w", path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%s cannot be written to; mount its volume writable, and make its folder this user's: %w", path, err)
	case sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%s cannot be opened; its folder must exist, and be this user's: %w", path, err)
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s is not a database; give the path of a new file, or of one made by parking: %w", path, err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%s is damaged; restore it from a copy, or give the path of a new file: %w", path, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("the volume of %s fails; look at the kernel's log: %w", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
