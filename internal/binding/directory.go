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

// maxFile is the maximum size of a file in bytes. It equals the maximum size of a Secret.
const maxFile = 1 << 20

// Directory returns a source that reads the binding from the directory at which a Secret is mounted. Each file is one
// key:
//
//   - uri, or host and port: the address. For RabbitMQ and Redis, uris is a list of URIs of the same server, and host
//     may be a list of hosts. Commas or white space separate the items. The URIs may differ only in host and port.
//     A value of uri is enough: the source then ignores host, and only takes further hosts from uris. It ignores uris,
//     without an error, if uris is invalid or contradicts uri, or if uri is that of a single Redis server.
//   - username and password: the credentials. Each may be in the URI instead. If it is in both, the values must be
//     equal.
//   - vhost (RabbitMQ) or database (Redis, PostgreSQL): the path of the URI, if the URI has no path.
//   - sentinel-master (Redis): the name of the primary, if the address is that of Sentinels. sentinel-username and
//     sentinel-password are the credentials for the Sentinels.
//   - ca.crt, tls.crt and tls.key: the CA certificates to trust, the client's certificate, and its private key. Any of
//     these keys enables TLS.
//   - type: the kind of server. If it names RabbitMQ, Redis, Valkey or PostgreSQL, this must be the server that s
//     describes.
//
// Other keys are ignored. But if a key is missing and another key has a similar name, such as hostname or REDIS_DB, the
// source returns an error.
//
// The source reads all files at each call, and removes one trailing newline from each value. Errors name the directory
// and the key.
func Directory(s Service, dir string) Source {
	return func() (Binding, error) {
		b, err := s.read(directoryReader(dir))
		if err != nil {
			return Binding{}, s.unreadable(dir, err)
		}
		return b, nil
	}
}

// directoryReader reads the keys of a mounted Secret. All values that it returns belong to the same version of the
// Secret.
func directoryReader(dir string) keyReader {
	files := secretFiles{dir: snapshot(dir)}
	return keyReader{read: files.read, names: files.names}
}

// snapshot returns the directory with the current version of a mounted Secret. When the Secret changes, the kubelet
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

// names returns the names of the files. It omits those that begin with two dots, which belong to the kubelet.
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

// exists returns an error if dir is not a readable directory. Without this check, a directory that is not mounted would
// look like a Secret without keys.
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

// readFile returns the content of a file. If the file ends with a newline, readFile removes that one newline.
func readFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // ignore the error, because the file was only read
	value, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(value) > maxFile {
		return "", fmt.Errorf("the file is longer than %d bytes", maxFile)
	}
	return withoutLineEnd(string(value)), nil
}
