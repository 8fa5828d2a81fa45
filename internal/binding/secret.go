package binding

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Data reads a binding from the data of a Secret. docs/operations.md describes the keys.
func Data(s Service, data map[string][]byte) (Binding, error) {
	return s.read(secretReader(data))
}

// secretReader returns a reader of the keys in the data of a Secret.
func secretReader(data map[string][]byte) keyReader {
	return keyReader{
		read:  func(key string) (string, error) { return withoutLineEnd(string(data[key])), nil },
		names: func() ([]string, error) { return slices.Sorted(maps.Keys(data)), nil },
	}
}

// read builds a binding from the keys of a Secret. The keys must include the address of the server.
func (s Service) read(keys keyReader) (Binding, error) {
	values, err := s.values(keys)
	if err != nil {
		return Binding{}, err
	}
	if err := s.checkType(values[keyType]); err != nil {
		return Binding{}, err
	}
	b, err := s.locate(values)
	// Report a misspelled key first, because it can be the reason why the address is missing.
	if err := cmp.Or(s.checkLookalikes(keys, values, b.URI), err); err != nil {
		return Binding{}, err
	}
	from := addressKey(values)
	for _, part := range []struct{ key, inURI string }{{keyUsername, b.URI.User.Username()}, {keyPassword, passwordOf(b.URI)}} {
		if value := values[part.key]; value != "" && part.inURI != "" && value != part.inURI {
			return Binding{}, fmt.Errorf("the value of key %q differs from the %s in key %q: remove one of the two values", part.key, part.key, from)
		}
	}
	return s.bind(b, from, keys, values)
}

// addressKey returns the key of a Secret from which the server's address is read.
func addressKey(values map[string]string) string {
	for _, key := range []string{keyURI, keyURIs} {
		if values[key] != "" {
			return key
		}
	}
	return keyHost
}

// complete adds the values of a Secret to a binding whose URI is not from the Secret. Credentials in the Secret replace
// those in the URI.
func (s Service) complete(b Binding, keys keyReader) (Binding, error) {
	values, err := s.values(keys)
	if err == nil {
		err = s.checkLookalikes(keys, values, b.URI)
	}
	if err != nil {
		return Binding{}, err
	}
	if err := s.checkType(values[keyType]); err != nil {
		return Binding{}, err
	}
	return s.bind(b, "", keys, values)
}

// passwordOf returns the password in a URI, or "" if the URI has no password.
func passwordOf(u *url.URL) string {
	password, _ := u.User.Password()
	return password
}

// bind adds the values of a Secret to a binding. The parameter from is the key that contains the URI, or "" if the URI
// is not in the Secret.
func (s Service) bind(b Binding, from string, keys keyReader, values map[string]string) (Binding, error) {
	if values[keyUsername] != "" || values[keyPassword] != "" {
		b.URI.User = url.UserPassword(cmp.Or(values[keyUsername], b.URI.User.Username()), cmp.Or(values[keyPassword], passwordOf(b.URI)))
	}
	b.Token, b.CA = values[keyToken], pemBlocks(values[keyCA])
	b.Certificate, b.Key = pemBlocks(values[keyCertificate]), pemBlocks(values[keyKey])
	if strings.ContainsFunc(b.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Binding{}, fmt.Errorf("the value of key %q contains characters that a bearer token cannot contain", keyToken)
	}
	if err := addPath(b.URI, from, keyVhost, values[keyVhost]); err != nil {
		return Binding{}, err
	}
	if db := values[keyDatabase]; db != "" && s == Redis() {
		if _, err := strconv.ParseUint(db, 10, 31); err != nil {
			return Binding{}, fmt.Errorf("the value of key %q must be the number of a database, such as 0", keyDatabase)
		}
	}
	if err := addPath(b.URI, from, keyDatabase, values[keyDatabase]); err != nil {
		return Binding{}, err
	}
	if err := addSentinel(b.URI, from, values); err != nil {
		return Binding{}, err
	}
	if err := b.checkTLS(); err != nil {
		return Binding{}, err
	}
	if err := s.secure(b); err != nil {
		return Binding{}, err
	}
	return b, s.checkTLSSwitch(keys, from, b.URI)
}

// pemBlocks converts a value to bytes. It returns nil for an empty value, because nil means "no value" in a Binding.
func pemBlocks(value string) []byte {
	if value == "" {
		return nil
	}
	return []byte(value)
}

// addPath sets the path of a URI to the virtual host or database in a Secret. If the URI already has a different
// path, addPath returns an error.
func addPath(u *url.URL, from, key, value string) error {
	if value == "" {
		return nil
	}
	if path := strings.TrimPrefix(u.Path, "/"); path != "" && path != value {
		return fmt.Errorf("the value of key %q differs from the path of the URI%s: remove one of the two values", key, inKey(from))
	}
	u.Path, u.RawPath = "/"+value, "/"+url.PathEscape(value)
	return nil
}

// inKey returns a phrase for error messages, such as: in key "uri". It returns "" if key is "".
func inKey(key string) string {
	if key == "" {
		return ""
	}
	return fmt.Sprintf(" in key %q", key)
}

// These are the parameters of a Redis URI for Sentinels. The user name and password before the host are those of Redis.
const (
	ParameterMaster           = "master_name"       // the name of the primary
	ParameterSentinelUser     = "sentinel_username" // the user name for the Sentinels
	ParameterSentinelPassword = "sentinel_password" // the password for the Sentinels
)

// addSentinel adds the keys for Sentinels to a URI. It returns an error if the URI contradicts a key.
func addSentinel(u *url.URL, from string, values map[string]string) error {
	for _, p := range []struct{ key, parameter string }{
		{keyMaster, ParameterMaster}, {keySentinelUser, ParameterSentinelUser}, {keySentinelPassword, ParameterSentinelPassword},
	} {
		value := values[p.key]
		if value == "" {
			continue
		}
		query := u.Query()
		if given := query.Get(p.parameter); given != "" && given != value {
			return fmt.Errorf("the value of key %q differs from the parameter %s of the URI%s: remove one of the two values", p.key, p.parameter, inKey(from))
		}
		query.Set(p.parameter, value)
		u.RawQuery = query.Encode()
	}
	return nil
}

// secure makes the URI use TLS if the binding has certificates.
func (s Service) secure(b Binding) error {
	switch {
	case b.CA == nil && b.Certificate == nil:
		return nil
	case s == PostgreSQL():
		return requireSSL(b.URI)
	case b.URI.Scheme == s.TLSScheme:
		return nil
	case s == HTTP():
		// Do not change the URL of a user.
		return fmt.Errorf("keys %q, %q and %q need TLS, but the URL begins with http://: use https://, or remove these keys",
			keyCA, keyCertificate, keyKey)
	}
	b.URI.Scheme = s.TLSScheme
	return nil
}

// parameterSSLMode is the parameter of a PostgreSQL URI that selects TLS.
const parameterSSLMode = "sslmode"

func requireSSL(u *url.URL) error {
	query := u.Query()
	switch mode := query.Get(parameterSSLMode); mode {
	case "verify-ca", "verify-full":
		return nil
	case "":
		query.Set(parameterSSLMode, "verify-full")
	case "require":
		// If a CA certificate is given, libpq treats the mode "require" like "verify-ca". Do the same here.
		query.Set(parameterSSLMode, "verify-ca")
	default:
		return fmt.Errorf("keys %q, %q and %q need TLS, but the URI has an %s that permits connections without TLS: remove this parameter, or set it to verify-full",
			keyCA, keyCertificate, keyKey, parameterSSLMode)
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // PostgreSQL clients do not decode "+" as a space
	return nil
}

// checkType returns an error if the value of the key "type" names another kind of server. It accepts unknown values.
func (s Service) checkType(name string) error {
	if other := serviceOfType(name); other != "" && other != s.Name {
		return fmt.Errorf("key %q says that this is the Secret of a %s server, but a Secret for %s is needed", keyType, other, s.Name)
	}
	return nil
}

// serviceOfType returns the kind of server, such as "Redis", for a value of the key "type", such as "valkey". It
// returns "" if the value is unknown.
func serviceOfType(t string) string {
	switch strings.ToLower(t) {
	case "rabbitmq":
		return RabbitMQ().Name
	case "redis", "valkey":
		return Redis().Name
	case "postgres", "postgresql":
		return PostgreSQL().Name
	}
	return ""
}

// locate returns a binding that has only an address. The address is in the keys "uri" and "uris", or in the keys "host"
// and "port".
func (s Service) locate(values map[string]string) (Binding, error) {
	if values[keyURI] != "" || values[keyURIs] != "" {
		return s.locateURIs(values)
	}
	if values[keyHost] == "" {
		return Binding{}, fmt.Errorf("key %q is missing or empty, and so is %q: the Secret needs %s, or %s with %s, %s and %s",
			keyURI, keyHost, keyURI, keyHost, keyPort, keyUsername, keyPassword)
	}
	if port := values[keyPort]; port != "" && !isPort(port) {
		return Binding{}, fmt.Errorf("the value of key %q is not a number from 1 to 65535", keyPort)
	}
	b, err := s.locateHosts(values[keyHost], values[keyPort])
	if err != nil {
		return Binding{}, fmt.Errorf("keys %q and %q do not form a valid address: %w", keyHost, keyPort, err)
	}
	return b, nil
}

// locateURIs returns a binding with the URIs of the keys "uri" and "uris". If "uri" is set, an invalid or contradictory
// "uris" is ignored.
func (s Service) locateURIs(values map[string]string) (Binding, error) {
	if values[keyURI] == "" {
		return s.locateList(values[keyURIs])
	}
	u, err := s.parse(values[keyURI])
	if err != nil {
		return Binding{}, fmt.Errorf("key %q: %w", keyURI, err)
	}
	alone := Binding{URI: u}
	// For a single Redis server, ignore the key "uris", because it may list replicas.
	if values[keyURIs] == "" || s == Redis() && values[keyMaster] == "" && !takesSeveral(u) {
		return alone, nil
	}
	others, err := s.locateList(values[keyURIs])
	if err != nil {
		return alone, nil //nolint:nilerr // the URI alone is enough
	}
	first := *u // a copy, because merge may modify the first URI even if it fails
	uris := []*url.URL{&first}
	for _, endpoint := range others.Endpoints() {
		uris = append(uris, endpoint.URI)
	}
	merged, err := s.merge(uris)
	if err != nil {
		return alone, nil //nolint:nilerr // the URI alone is enough
	}
	return merged, nil
}

// locateList returns a binding with the URIs of the key "uris".
func (s Service) locateList(list string) (Binding, error) {
	b, err := s.parseList(strings.TrimSpace(list))
	if err != nil {
		return Binding{}, fmt.Errorf("key %q: %w", keyURIs, err)
	}
	return b, nil
}

// takesSeveral reports whether a Redis URI is for a cluster or for Sentinels. A binding with such a URI can have
// several endpoints.
func takesSeveral(u *url.URL) bool {
	query := u.Query()
	cluster, err := strconv.ParseBool(query.Get("cluster"))
	return err == nil && cluster || query.Has("addr") || query.Has(ParameterMaster)
}

// CheckDirectory returns an error if the mounted Secret cannot be read, is invalid, or contains neither credentials nor
// certificates. The Secret need not contain a URI.
func (s Service) CheckDirectory(dir string) error {
	if err := s.checkUsable(&url.URL{Scheme: s.TLSScheme}, directoryReader(dir), "files"); err != nil {
		return s.unreadable(dir, err)
	}
	return nil
}

// CheckData returns an error if the data of a Secret cannot be used with the given URI. It returns nil if the URI is
// invalid.
func (s Service) CheckData(raw string, data map[string][]byte) error {
	if u, err := s.parse(raw); err == nil {
		return s.checkUsable(u, secretReader(data), "keys")
	}
	return nil
}

// checkUsable returns an error if a key of the Secret is invalid or contradicts the URI u, or if the Secret contains
// neither credentials nor certificates. noun is the word for the keys in errors: "keys" or "files".
func (s Service) checkUsable(u *url.URL, keys keyReader, noun string) error {
	b, err := s.complete(Binding{URI: u}, keys)
	if err == nil && b.URI.User == nil && b.Token == "" && b.CA == nil && b.Certificate == nil {
		usable := slices.DeleteFunc(s.Keys(), func(key string) bool { return key == keyType })
		err = fmt.Errorf("at least one of the following %s must exist and not be empty: %s", noun, strings.Join(usable, ", "))
	}
	return err
}
