package document

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile atomically creates or replaces a regular file. It follows links and keeps permissions. Usually, every user
// can read a new file, so the text must not contain credentials.
func WriteFile(path string, text []byte) error { return named(path, writeFile(path, text)) }

func writeFile(path string, text []byte) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return writeInPlace(path, text)
	}
	path = linked(path)
	file, err := createNextTo(path)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil && info != nil {
		err = file.Chmod(info.Mode().Perm())
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// writeInPlace writes to a file that is not regular, such as a device. It fails for a directory.
func writeInPlace(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}

// CheckWritable returns an error if WriteFile cannot write to the path. It skips devices and named pipes, because
// opening a pipe waits for its reader.
func CheckWritable(path string) error { return named(path, checkWritable(path)) }

func checkWritable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return errors.New("this is a directory: name a file")
	case err == nil && !info.Mode().IsRegular():
		return nil
	}
	file, err := createNextTo(linked(path))
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// named returns an error that names the given path. The original error may name a temporary file, or the target of a
// link.
func named(path string, err error) error {
	if err == nil {
		return nil
	}
	cause := err
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		cause = failed.Err
	} else if failed, ok := errors.AsType[*os.LinkError](err); ok {
		cause = failed.Err
	}
	return fmt.Errorf("write %s: %w", path, cause)
}

// linked returns the path of the file that a symbolic link points to, or the path itself if the path is not a link.
func linked(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	return path
}

// createNextTo creates a temporary file in the directory of path. The files of os.CreateTemp are unsuitable, because
// only their owner can read them.
func createNextTo(path string) (*os.File, error) {
	const mode = 0o666 // reduced by the umask of the process
	// The random name and O_EXCL prevent another user from placing a symbolic link there and redirecting the text.
	// Split keeps a directory such as missing/.. as it is. A cleaned path would be writable, but os.Rename would fail.
	directory, base := filepath.Split(path)
	return os.OpenFile(directory+fmt.Sprintf(".%s.%s.tmp", base, rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}
