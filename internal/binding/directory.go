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

// Directory returns a source that reads the binding from the directory at which a Secret is mounted. Each file is one
// key:
//
//   - uri: the address.
//   - uris (RabbitMQ, Redis): a list of URIs, for example one for each node of a cluster. The URIs may differ only in
//     host and port. It is enough if one of the URIs contains the credentials. If the key uri also has a value, uris
//     only adds further hosts, and the credentials if uri has none. The source then ignores uris if uris is invalid
//     or contradicts uri. For Redis, the source also ignores uris if uri is the address of a single server:
//     sentinel-master has no value, and uri has none of the parameters cluster=true, addr and master_name.
//   - host and port: the address, if neither uri nor uris has a value. The key host may contain a list of hosts.
//   - username and password: the credentials. They may be in the URI instead.
//   - vhost (RabbitMQ) or database (Redis, PostgreSQL): the virtual host or the database. This setting may be in the
//     path of the URI instead.
//   - sentinel-master (Redis): the name of the primary, if the address is that of Sentinels. The keys sentinel-username
//     and sentinel-password contain the credentials for the Sentinels.
//   - ca.crt, tls.crt and tls.key: the CA certificates to trust, the client's certificate, and its private key. Any of
//     these keys enables TLS.
//   - type: the kind of server. If the value is rabbitmq, redis, valkey, postgres or postgresql, it must be the
//     kind that the parameter s describes. Other values are ignored.
//
// Commas or white space separate the items of a list. If a key and the URI contain the same setting, the two values
// must be equal.
//
// The source ignores unknown keys. But if a key is missing and an unknown key has a similar name, the source returns an
// error. For example, hostname is similar to host, and REDIS_DB is similar to database.
//
// At each call, the source reads all files and removes one trailing newline from each value. Errors name the directory
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

// directoryReader returns a reader of the keys of a mounted Secret. All values are from the same version of the Secret.
func directoryReader(dir string) keyReader {
	files := secretFiles{dir: snapshot(dir)}
	return keyReader{read: files.read, names: files.names}
}

// snapshot resolves the symbolic link "..data" in a directory at which a Secret is mounted. When the Secret changes,
// the kubelet replaces this link. So all files in the resolved directory are from the same version of the Secret. If
// there is no such link, snapshot returns dir.
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

// names returns the names of the files. It omits names that begin with two dots, because these files belong to the
// kubelet.
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
