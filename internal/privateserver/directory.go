package privateserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	directoryPrefix = "parking-server-"
	lockName        = "lock"
)

type directory struct {
	root      string // the root directory for chroot; empty if the server runs without chroot
	host      string // absolute path of the directory outside the chroot
	inner     string // absolute path of the directory, as the server sees it after a chroot
	lock      *os.File
	temporary bool // true if close removes the directory
}

// openDirectory creates and locks dir, or a temporary directory if dir is empty. If root is not empty, the server
// runs in this chroot, which must contain dir.
func openDirectory(root, dir string) (*directory, error) {
	f := &directory{root: root, host: dir, temporary: dir == ""}
	if err := f.make(); err != nil {
		return nil, err
	}
	f.inner = strings.TrimPrefix(f.host, strings.TrimSuffix(root, "/"))
	if root != "" && f.inner == f.host {
		return nil, fmt.Errorf("the server's directory %s must be below its root %s", f.host, root)
	}
	lock, err := tryLock(filepath.Join(f.host, lockName))
	if err != nil {
		return nil, fmt.Errorf("the server's directory %s is in use: %w", f.host, err)
	}
	f.lock = lock
	return f, nil
}

func (f *directory) make() error {
	var err error
	if f.temporary {
		base := os.TempDir()
		if f.root != "" {
			base = filepath.Join(f.root, "tmp")
		}
		removeAbandoned(base)
		f.host, err = os.MkdirTemp(base, directoryPrefix)
	} else if f.host, err = filepath.Abs(f.host); err == nil {
		err = os.MkdirAll(f.host, 0o700)
	}
	if err != nil {
		return fmt.Errorf("create the server's directory: %w", err)
	}
	return nil
}

// write writes a file in the directory, and creates missing parent directories. Only the owner can read the file.
func (f *directory) write(name, content string) error {
	path := filepath.Join(f.host, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write the server's configuration: %w", err)
	}
	return writePrivate(path, content)
}

func writePrivate(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write the server's configuration: %w", err)
	}
	return nil
}

// tail concatenates all files whose names match the pattern, and returns the last lines of the result.
func (f *directory) tail(pattern string) string {
	const maxLines = 25
	all := f.lines(pattern)
	return strings.Join(all[max(0, len(all)-maxLines):], "\n")
}

// errors returns the first lines of the first errors in a RabbitMQ log. Later errors are usually consequences of the
// first ones.
func (f *directory) errors(pattern string) string {
	const maxErrors, maxLines = 30, 3
	var found []string
	entries, lines, last := 0, 0, ""
	for _, line := range f.lines(pattern) {
		when, _, isError := strings.Cut(line, " [error] ")
		if !isError {
			continue
		}
		if when != last {
			entries, lines, last = entries+1, 0, when
		}
		if lines++; lines <= maxLines && entries <= maxErrors {
			found = append(found, line)
		}
	}
	return strings.Join(found, "\n")
}

// lines returns the lines of all files whose names match the pattern.
func (f *directory) lines(pattern string) (all []string) {
	names, err := filepath.Glob(filepath.Join(f.host, pattern))
	if err != nil {
		return nil
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil {
			all = append(all, strings.Split(strings.TrimSpace(string(text)), "\n")...)
		}
	}
	return all
}

func (f *directory) close() error {
	err := f.lock.Close()
	if f.temporary {
		err = errors.Join(err, os.RemoveAll(f.host))
	}
	return err
}

// removeAbandoned removes the directories below base that are left over from processes that were killed.
func removeAbandoned(base string) {
	names, err := filepath.Glob(filepath.Join(base, directoryPrefix+"*"))
	if err != nil {
		return
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue // the owner of a new directory may not have locked it yet
		}
		if lock, err := tryLock(filepath.Join(name, lockName)); err == nil {
			_ = os.RemoveAll(name) // if the removal fails, the next call of removeAbandoned repeats it
			_ = lock.Close()
		}
	}
}

// tryLock locks the file at path. If the file does not exist, tryLock creates it. The lock is released when the file
// is closed or the process ends.
func tryLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
