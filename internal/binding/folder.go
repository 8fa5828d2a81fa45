package binding

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFile is the maximum size of a file in bytes. It equals the maximum size of a Secret.
const maxFile = 1 << 20

// Folder returns a source that reads the binding from the folder at which a Secret is mounted. Each file is one key:
//
//   - uri, or host and port: the address.
//   - username and password: the credentials, if the URI contains none.
//   - vhost (RabbitMQ) or database (Redis): the path of the URI, if the URI has no path.
//   - ca.crt, tls.crt and tls.key: the CA certificates to trust, the client's certificate, and its private key. Any of
//     these keys enables TLS.
//   - type: the kind of server. The Secret must be for the kind of server that s describes.
//
// The source reads all files at each call, and removes one trailing newline from each value. Errors name the folder
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

// folderReader reads the keys of a mounted Secret. All values that it returns belong to the same version of the
// Secret.
func folderReader(dir string) keyReader { return secretFiles{dir: snapshot(dir)}.read }

// snapshot returns the folder with the current version of a mounted Secret. When the Secret changes, the kubelet
// replaces a symbolic link. snapshot resolves this link, so that all files that are read later belong to the same
// version.
func snapshot(dir string) string {
	if version, err := filepath.EvalSymlinks(filepath.Join(dir, "..data")); err == nil {
		return version
	}
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

// exists returns an error if dir is not a readable folder. Without this check, a folder that is not mounted would
// look like a Secret without keys.
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

// readFile returns the content of a file without one trailing newline.
func readFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // the file was only read
	value, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(value) > maxFile {
		return "", fmt.Errorf("the file is longer than %d bytes", maxFile)
	}
	return withoutLineEnd(string(value)), nil
}
