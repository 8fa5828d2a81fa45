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
	// synonyms are other names of the key. If several of these names have a value, the values must be equal.
	synonyms []string
	// substitutes are names of other keys, which are read only if the key itself and its synonyms have no value. The
	// first substitute with a value is used. All others are ignored, even if their values differ.
	substitutes []string
	// lookalike matches wrong names of the key, such as frequent misspellings, in the normalized form that squash
	// returns. A wrong name makes a Secret invalid, unless the correct key or the URI also contains the setting.
	// lookalike is nil if no wrong names are known.
	lookalike *regexp.Regexp
	// trims is true if white space around the value is allowed, for example around PEM blocks.
	trims bool
	// services are the kinds of server to which the key applies. A Secret for another kind of server is invalid if it
	// contains the key or a synonym. The key "uris" and all substitutes are ignored instead, because existing Secrets
	// may contain them.
	services []Service
}

// keyTable lists all keys of a binding.
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

// KeyFor returns the key with the given name, or "" if there is no such key. It ignores case and separators, and
// accepts url instead of uri. For example, KeyFor("sentinelMaster") returns "sentinel-master".
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
	// read returns the value of a key without one trailing newline. It returns "" if the key is missing.
	read func(key string) (string, error)
	// names returns the names of all keys of the Secret, including unknown keys.
	names func() ([]string, error)
}

// values returns the value of each key of a binding, by the name in its keySpec. The value may come from another key,
// namely a synonym or a substitute. The value is "" if the key is missing or ignored. Two keys are ignored: "host" if
// "uri" has a value, and "uris" unless its keySpec lists the service.
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
