package binding

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// The keys of a binding: each is a file of the folder.
const (
	keyType     = "type"
	keyURI      = "uri"
	keyHost     = "host"
	keyPort     = "port"
	keyUsername = "username"
	keyPassword = "password"
	keyCA       = "ca.crt"
)

// maxFile bounds what is read of a file: the size that Kubernetes allows a whole Secret.
const maxFile = 1 << 20

// Folder returns the source of a service whose binding is mounted at dir: the key uri, or host with
// port, username and password, which also complete a uri that has none. A ca.crt means TLS with these
// certificates. Every file is read anew at each call, one trailing line end is dropped, and errors
// name the folder and the key.
func Folder(s Service, dir string) Source {
	return func() (Address, error) {
		a, err := readFolder(s, dir)
		if err != nil {
			return Address{}, fmt.Errorf("read the binding of %s in %s: %w", s.Name, dir, err)
		}
		return a, nil
	}
}

func readFolder(s Service, dir string) (Address, error) {
	return s.read(secretFiles{dir: snapshot(dir)}.text)
}

// keyReader returns the value of a key, "" when there is no such key.
type keyReader func(key string) (string, error)

// read makes an address of the keys of a binding.
func (s Service) read(text keyReader) (Address, error) {
	u, err := s.address(text)
	if err != nil {
		return Address{}, err
	}
	ca, err := certificates(text)
	if err != nil {
		return Address{}, err
	}
	if ca != nil {
		u.Scheme = s.TLSScheme
	}
	return Address{URI: u, CA: ca}, nil
}

// snapshot resolves the link that a kubelet swaps when a mounted Secret changes, so that all files of one
// reading are of one version of the Secret.
func snapshot(dir string) string {
	if version, err := filepath.EvalSymlinks(filepath.Join(dir, "..data")); err == nil {
		return version
	}
	return dir
}

func (s Service) address(text keyReader) (*url.URL, error) {
	values := map[string]string{}
	for _, key := range []string{keyType, keyURI, keyHost, keyPort, keyUsername, keyPassword} {
		value, err := text(key)
		if err != nil {
			return nil, err
		}
		values[key] = value
	}
	if other := serviceOfType(values[keyType]); other != "" && other != s.Name {
		return nil, fmt.Errorf("key %q says that this is the Secret of a %s server", keyType, other)
	}
	u, err := s.locate(values)
	if err != nil {
		return nil, err
	}
	if u.User == nil && (values[keyUsername] != "" || values[keyPassword] != "") {
		u.User = url.UserPassword(values[keyUsername], values[keyPassword])
	}
	return u, nil
}

// serviceOfType names the service of a binding's type, "" for a type that is not known here.
func serviceOfType(t string) string {
	switch strings.ToLower(t) {
	case "rabbitmq":
		return RabbitMQ().Name
	case "redis", "valkey":
		return Redis().Name
	}
	return ""
}

// locate builds the server's URI, without what key username and password add.
func (s Service) locate(values map[string]string) (*url.URL, error) {
	if values[keyURI] != "" {
		u, err := s.parse(values[keyURI])
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", keyURI, err)
		}
		return u, nil
	}
	host := values[keyHost]
	if host == "" {
		return nil, fmt.Errorf("key %q is missing or empty, and so is %q: the Secret needs %s, or %s with %s, %s and %s",
			keyURI, keyHost, keyURI, keyHost, keyPort, keyUsername, keyPassword)
	}
	if port := values[keyPort]; port != "" {
		host = net.JoinHostPort(host, port)
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	u, err := s.parse(s.Scheme + "://" + host)
	if err != nil {
		return nil, fmt.Errorf("keys %q and %q do not make an address: %w", keyHost, keyPort, err)
	}
	return u, nil
}

// certificates returns the PEM of ca.crt, nil when there is none.
func certificates(text keyReader) ([]byte, error) {
	pem, err := text(keyCA)
	if err != nil || pem == "" {
		return nil, err
	}
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(pem)) {
		return nil, fmt.Errorf("key %q holds no PEM certificate", keyCA)
	}
	return []byte(pem), nil
}

// secretFiles reads the keys of one version of a binding.
type secretFiles struct {
	dir string
}

// text returns the value of a key without its trailing line end, "" when there is no such key.
func (f secretFiles) text(key string) (string, error) {
	file, err := os.Open(filepath.Join(f.dir, key))
	if errors.Is(err, fs.ErrNotExist) {
		return "", f.exists()
	}
	if err != nil {
		return "", fmt.Errorf("key %q: %w", key, err)
	}
	defer func() { _ = file.Close() }() // only read from
	value, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("key %q: %w", key, err)
	}
	if len(value) > maxFile {
		return "", fmt.Errorf("key %q is longer than %d bytes", key, maxFile)
	}
	return withoutLineEnd(string(value)), nil
}

func withoutLineEnd(value string) string {
	return strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
}

// exists tells a folder without the key from no folder at all.
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
