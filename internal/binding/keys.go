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
	keyURIs             = "uris" // a list, whose URIs may differ only in host and port
	keyHost             = "host" // the address, if neither uri nor uris has a value
	keyPort             = "port"
	keyUsername         = "username"
	keyPassword         = "password"
	keyToken            = "token"
	keyVhost            = "vhost"
	keyDatabase         = "database"
	keyMaster           = "sentinel-master" // the primary, if the address is that of Sentinels
	keySentinelUser     = "sentinel-username"
	keySentinelPassword = "sentinel-password"
	keyCA               = "ca.crt"
	keyCertificate      = "tls.crt"
	keyKey              = "tls.key"
)

type keySpec struct {
	name string
	// synonyms are other names of the key. If several of these names have a value, the values must be equal.
	synonyms []string
	// substitutes are other keys to read if the key and its synonyms have no value. The first substitute with a value
	// is used, even if others differ.
	substitutes []string
	// lookalike matches frequent misspellings of the key in the form that squash returns. It is nil if no misspellings
	// are known.
	lookalike *regexp.Regexp
	// trims is true if white space around the value is allowed, for example around PEM blocks.
	trims bool
	// services are the servers to which the key applies. In a Secret for another server, the key is an error. Only
	// substitutes and the key "uris" are ignored there, because existing Secrets may contain them.
	services []Service
}

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

func (k keySpec) otherNames() []string { return slices.Concat(k.synonyms, k.substitutes) }

// Keys returns the names of all keys that a binding of the service may contain. A key can have several names.
func (s Service) Keys() []string {
	var names []string
	for _, key := range keyTable() {
		if slices.Contains(key.services, s) {
			names = append(append(names, key.name), key.otherNames()...)
		}
	}
	return names
}

// KeyFor returns the key that a name stands for, or "" if no key matches. It ignores spelling differences such as
// sentinelMaster for sentinel-master.
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

type keyReader struct {
	// read returns the value of a key without one trailing newline. It returns "" if the key is missing.
	read func(key string) (string, error)
	// names returns the names of all keys of the Secret, including unknown keys.
	names func() ([]string, error)
}

// values returns the value of each key in keyTable, or "" if the key is missing or ignored.
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

// isGiven reports whether the Secret or the URI contains a value for the key.
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

// valueAs reads the value that is stored under the given name. A key may have several names.
func (s Service) valueAs(name string, key keySpec, keys keyReader) (string, error) {
	value, err := keys.read(name)
	switch {
	case err != nil || value == "":
		return "", err
	case !slices.Contains(key.services, s):
		return "", fmt.Errorf("key %q does not apply to %s: remove it", name, s.Name)
	case !key.trims && strings.TrimSpace(value) != value:
		return "", fmt.Errorf("the value of key %q starts or ends with white space: remove the white space (echo adds a line end; use printf instead)", name)
	}
	return value, nil
}

// withoutLineEnd removes one line end (LF, CRLF or CR) from the end of a value.
func withoutLineEnd(value string) string {
	return strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
}
