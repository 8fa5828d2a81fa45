package binding

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// These are the keys of a binding. Each key is an entry of a Secret, or a file in the directory at which the Secret is
// mounted.
const (
	keyType             = "type"
	keyURI              = "uri"
	keyURIs             = "uris"
	keyHost             = "host"
	keyPort             = "port"
	keyUsername         = "username"
	keyPassword         = "password"
	keyToken            = "token"
	keyVhost            = "vhost"
	keyDatabase         = "database"
	keyMaster           = "sentinel-master"
	keySentinelUser     = "sentinel-username"
	keySentinelPassword = "sentinel-password"
	keyCA               = "ca.crt"
	keyCertificate      = "tls.crt"
	keyKey              = "tls.key"
)

type keySpec struct {
	name string
	// synonyms are other names for the key.
	synonyms []string
	// substitutes are names of other keys with the same meaning. Each is read only if the key and the substitutes before it
	// have no value.
	substitutes []string
	// lookalike matches other names that people give to the key, in the form that squash returns. It is nil if no other
	// names are known. The value of a key with such a name is not used. Such a key makes the Secret invalid, unless the
	// value is also given under the right name or in the URI.
	lookalike *regexp.Regexp
	// trims is true if white space around a value is allowed, as around PEM blocks.
	trims bool
	// services are the kinds of server that the key is for. For any other kind of server, the key and its synonyms make
	// the binding invalid. There are two exceptions: the key "uris", and the names in the field substitutes. They are
	// ignored.
	services []Service
}

// keyTable lists all keys of a binding. All other entries of a Secret are ignored.
func keyTable() []keySpec {
	servers := []Service{RabbitMQ(), Redis(), PostgreSQL()}
	all := append(slices.Clone(servers), HTTP())
	return []keySpec{
		{name: keyType, services: all},
		{name: keyURI, services: servers, lookalike: likeURI},
		{name: keyURIs, trims: true, services: []Service{RabbitMQ(), Redis()}, lookalike: likeURIs},
		{name: keyHost, substitutes: []string{"hosts", "addresses"}, services: servers, lookalike: likeHost},
		{name: keyPort, services: servers, lookalike: likePort},
		{name: keyUsername, synonyms: []string{"user"}, services: all, lookalike: likeUsername},
		{name: keyPassword, services: all, lookalike: likePassword},
		{name: keyToken, services: []Service{HTTP()}, lookalike: likeToken},
		{name: keyVhost, synonyms: []string{"virtual-host"}, services: []Service{RabbitMQ()}, lookalike: likeVhost},
		{name: keyDatabase, synonyms: []string{"db", "dbname"}, services: []Service{Redis(), PostgreSQL()}, lookalike: likeDatabase},
		{name: keyMaster, services: []Service{Redis()}, lookalike: likeMaster},
		{name: keySentinelUser, services: []Service{Redis()}, lookalike: likeSentinelUser},
		{name: keySentinelPassword, services: []Service{Redis()}, lookalike: likeSentinelPassword},
		{name: keyCA, trims: true, services: all, lookalike: likeCA},
		{name: keyCertificate, trims: true, services: all, lookalike: likeCert},
		{name: keyKey, trims: true, services: all, lookalike: likeKey},
	}
}

// otherNames returns the other names under which the key is read: its synonyms, then its substitutes.
func (k keySpec) otherNames() []string { return slices.Concat(k.synonyms, k.substitutes) }

// Keys returns all names under which the service reads a key. Several names may stand for the same key.
func (s Service) Keys() []string {
	var names []string
	for _, key := range keyTable() {
		if slices.Contains(key.services, s) {
			names = append(append(names, key.name), key.otherNames()...)
		}
	}
	return names
}

// KeyFor returns the key that the given name stands for, or "" if there is none. The name may differ from that of the key
// in case and separators, such as sentinelMaster for sentinel-master. It may also contain "url" where the key has "uri".
func (s Service) KeyFor(name string) string {
	keys := s.Keys()
	if slices.Contains(keys, name) {
		return name
	}
	name = strings.Replace(squash(name), "url", "uri", 1)
	for _, key := range keys {
		if squash(key) == name {
			return key
		}
	}
	return ""
}

// keyReader reads the keys of a Secret.
type keyReader struct {
	// read returns the value of a key without its trailing newline. It returns "" if the key is missing.
	read func(key string) (string, error)
	// names returns the names of all keys of the Secret, including those that are not in keyTable.
	names func() ([]string, error)
}

// values returns the value of each key in keyTable, by the main name of the key. The Secret may store the value under
// another of the key's names. A missing key has the value "". If there is a URI, the key "host" is not read. If the server
// cannot have several URIs, the key "uris" is not read.
func (s Service) values(keys keyReader) (map[string]string, error) {
	values := map[string]string{}
	for _, key := range keyTable() {
		if key.name == keyHost && values[keyURI] != "" || key.name == keyURIs && !slices.Contains(key.services, s) {
			continue
		}
		value, err := s.value(key, keys)
		if err != nil {
			return nil, err
		}
		values[key.name] = value
	}
	return values, nil
}

// isGiven reports whether there is a value for the key, either under its own name or in the URI.
func (k keySpec) isGiven(values map[string]string, u *url.URL) bool {
	if values[k.name] != "" {
		return true
	}
	if u == nil {
		return false
	}
	switch k.name {
	case keyURI, keyURIs, keyHost:
		return true
	case keyPort:
		return u.Port() != "" || values[keyHost] == ""
	case keyUsername:
		return u.User.Username() != ""
	case keyPassword:
		return passwordOf(u) != ""
	case keyVhost, keyDatabase:
		return strings.TrimPrefix(u.Path, "/") != ""
	case keyMaster:
		return u.Query().Has(ParameterMaster)
	case keySentinelUser:
		return u.Query().Has(ParameterSentinelUser)
	case keySentinelPassword:
		return u.Query().Has(ParameterSentinelPassword)
	}
	return false
}

func (s Service) value(key keySpec, keys keyReader) (string, error) {
	var found, foundAs string
	for _, name := range append([]string{key.name}, key.synonyms...) {
		value, err := s.valueAs(name, key, keys)
		switch {
		case err != nil:
			return "", err
		case value == "":
			continue
		case found != "" && found != value:
			return "", fmt.Errorf("keys %q and %q are synonyms but have different values: remove one of them", foundAs, name)
		}
		found, foundAs = value, name
	}
	for _, name := range key.substitutes {
		if found != "" || !slices.Contains(key.services, s) {
			break
		}
		var err error
		if found, err = s.valueAs(name, key, keys); err != nil {
			return "", err
		}
	}
	return found, nil
}

// valueAs reads the value of a key under one of its names.
func (s Service) valueAs(name string, key keySpec, keys keyReader) (string, error) {
	value, err := keys.read(name)
	switch {
	case err != nil || value == "":
		return "", err
	case !slices.Contains(key.services, s):
		return "", fmt.Errorf("key %q does not apply to %s: remove it", name, s.Name)
	case !key.trims && strings.TrimSpace(value) != value:
		return "", fmt.Errorf("the value of key %q starts or ends with white space: remove the white space (echo adds a line end, printf does not)", name)
	}
	return value, nil
}

// withoutLineEnd removes one newline at the end of a value, if there is one.
func withoutLineEnd(value string) string {
	return strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
}
