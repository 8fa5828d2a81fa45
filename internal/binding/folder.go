package binding

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFile is the maximum size of a file, in bytes: what Kubernetes allows a whole Secret.
const maxFile = 1 << 20

// Folder returns the source of a binding that is mounted at dir. One file per key:
//
//   - uri, or host with port: the address.
//   - username and password: the credentials, if uri has none.
//   - vhost (RabbitMQ) or database (Redis): the path, if uri has none.
//   - ca.crt, tls.crt, tls.key: the CA to trust, and the client's certificate and key. Each means TLS.
//   - type: the kind of server. If it names another kind, the binding is invalid.
//
// The source reads every file again at each call and removes one trailing line end. Errors name the folder
// and the key.
func Folder(s Service, dir string) Source {
	option := WithFolder(dir)
	return func() (Binding, error) {
		b, err := s.read(option.open())
		if err != nil {
			return Binding{}, s.unreadable([]Option{option}, err)
		}
		return b, nil
	}
}

// folderReader reads the keys of a mounted Secret, all of the same version.
func folderReader(dir string) keyReader { return secretFiles{dir: snapshot(dir)}.read }

// snapshot resolves the symbolic link that a kubelet replaces when a mounted Secret changes, so that all
// files of one reading belong to one version of the Secret.
func snapshot(dir string) string {
	if version, err := filepath.EvalSymlinks(filepath.Join(dir, "..data")); err == nil {
		return version
	}
	return dir
}

// secretFiles are the files of one version of a mounted Secret.
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

// exists returns an error if the folder itself is missing, so that only a key can be missing.
func (f secretFiles) exists() error {
	info, err := os.Stat(f.dir)
	switch {
	case err != nil:
		return fmt.Errorf("the folder cannot be read; is the Secret mounted there? %w", err)
	case !info.IsDir():
		return errors.New("it is not a folder")
	}
	return nil
}

// readFile returns the content of a file without one trailing line end.
func readFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // nothing was written
	value, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(value) > maxFile {
		return "", fmt.Errorf("the file is longer than %d bytes", maxFile)
	}
	return withoutLineEnd(string(value)), nil
}
