package binding

import (
	"fmt"
	"slices"
	"strings"
)

// These are the keys of a binding. Each key is an entry of a Secret, or a file in the folder at which the Secret is
// mounted.
const (
	keyType        = "type"
	keyURI         = "uri"
	keyHost        = "host"
	keyPort        = "port"
	keyUsername    = "username"
	keyPassword    = "password"
	keyToken       = "token"
	keyVhost       = "vhost"
	keyDatabase    = "database"
	keyCA          = "ca.crt"
	keyCertificate = "tls.crt"
	keyKey         = "tls.key"
)

type keySpec struct {
	name string
	// synonyms are other names for the key.
	synonyms []string
	// pem is true if the values of the key are PEM blocks. White space around PEM blocks is allowed.
	pem bool
	// services are the kinds of server that the key is for. Bindings of other kinds must not have this key.
	services []Service
}

// keyTable lists all keys of a binding. All other entries of a Secret are ignored.
func keyTable() []keySpec {
	servers := []Service{RabbitMQ(), Redis()}
	all := append(slices.Clone(servers), HTTP())
	return []keySpec{
		{name: keyType, services: all},
		{name: keyURI, services: servers},
		{name: keyHost, services: servers},
		{name: keyPort, services: servers},
		{name: keyUsername, synonyms: []string{"user"}, services: all},
		{name: keyPassword, services: all},
		{name: keyToken, services: []Service{HTTP()}},
		{name: keyVhost, synonyms: []string{"virtual-host"}, services: []Service{RabbitMQ()}},
		{name: keyDatabase, synonyms: []string{"db"}, services: []Service{Redis()}},
		{name: keyCA, pem: true, services: all},
		{name: keyCertificate, pem: true, services: all},
		{name: keyKey, pem: true, services: all},
	}
}

// Keys returns the names of all keys that apply to the service, including synonyms.
func (s Service) Keys() []string {
	var names []string
	for _, key := range keyTable() {
		if slices.Contains(key.services, s) {
			names = append(append(names, key.name), key.synonyms...)
		}
	}
	return names
}

// keyReader returns the value of a key without its trailing newline. It returns "" if the key is missing.
type keyReader func(key string) (string, error)

// values reads the values of all keys. Synonyms are stored under the main name of the key. A missing key has the
// value "".
func (s Service) values(read keyReader) (map[string]string, error) {
	values := map[string]string{}
	for _, key := range keyTable() {
		value, err := s.value(key, read)
		if err != nil {
			return nil, err
		}
		values[key.name] = value
	}
	return values, nil
}

func (s Service) value(key keySpec, read keyReader) (string, error) {
	var found, foundAs string
	for _, name := range append([]string{key.name}, key.synonyms...) {
		value, err := read(name)
		switch {
		case err != nil:
			return "", err
		case value == "":
			continue
		case !slices.Contains(key.services, s):
			return "", fmt.Errorf("key %q does not apply to %s: remove it", name, s.Name)
		case !key.pem && strings.TrimSpace(value) != value:
			return "", fmt.Errorf("key %q has surplus white space at its start or end: remove it (echo adds a line end, printf does not)", name)
		case found != "" && found != value:
			return "", fmt.Errorf("keys %q and %q mean the same and differ: remove one of them", foundAs, name)
		}
		found, foundAs = value, name
	}
	return found, nil
}

// withoutLineEnd removes one trailing newline.
func withoutLineEnd(value string) string {
	return strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
}
