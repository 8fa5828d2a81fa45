package binding

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFile is the maximum size of a file in bytes. Kubernetes limits a Secret to the same size.
const maxFile = 1 << 20

// Directory returns a source that reads the files of a mounted Secret at each call. docs/operations.md describes the
// keys.
func Directory(s Service, dir string) Source {
	return func() (Binding, error) {
		b, err := s.read(directoryReader(dir))
		if err != nil {
			return Binding{}, s.unreadable(dir, err)
		}
		return b, nil
	}
}

// directoryReader returns a reader of the keys of a mounted Secret. All values are from the same version of the Secret.
func directoryReader(dir string) keyReader {
	files := secretFiles{dir: snapshot(dir)}
	return keyReader{read: files.read, names: files.names}
}

// snapshot resolves the symbolic link "..data", which the kubelet replaces when the Secret changes. All files in the
// result are from one version of the Secret.
func snapshot(dir string) string {
	if version, err := filepath.EvalSymlinks(filepath.Join(dir, "..data")); err == nil {
		return version
	}
	// A directory without the link "..data" is not a mounted Secret. Its files are read directly.
	return dir
}

type secretFiles struct {
	dir string
}

func (f secretFiles) read(key string) (string, error) {
	value, err := readFile(filepath.Join(f.dir, key))
	if errors.Is(err, fs.ErrNotExist) {
		return "", f.exists()
	}
	if err != nil {
		return "", fmt.Errorf("key %q: %w", key, err)
	}
	return value, nil
}

// names returns the keys. It omits the files of the kubelet, whose names begin with two dots.
func (f secretFiles) names() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "..") {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// exists returns an error if the directory is missing or is not a directory. Without this check, a missing mount would
// look like an empty Secret.
func (f secretFiles) exists() error {
	info, err := os.Stat(f.dir)
	switch {
	case err != nil:
		return fmt.Errorf("the directory cannot be read; check that the Secret is mounted there: %w", err)
	case !info.IsDir():
		return errors.New("this path is not a directory")
	}
	return nil
}

// readFile returns the content of a file without one trailing newline.
func readFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	value, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(value) > maxFile {
		return "", fmt.Errorf("the file is longer than %d bytes", maxFile)
	}
	return withoutLineEnd(string(value)), nil
}
