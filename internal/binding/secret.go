package binding

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Data reads a binding from the data of a Secret. The comment on Folder documents the keys. Errors name the invalid
// key and never quote a value.
func Data(s Service, data map[string][]byte) (Binding, error) {
	return s.read(func(key string) (string, error) { return withoutLineEnd(string(data[key])), nil })
}

// read builds a binding from the keys of a Secret. The keys must include the address of the server.
func (s Service) read(read keyReader) (Binding, error) {
	values, err := s.values(read)
	if err != nil {
		return Binding{}, err
	}
	if err := s.checkType(values[keyType]); err != nil {
		return Binding{}, err
	}
	u, err := s.locate(values)
	if err != nil {
		return Binding{}, err
	}
	if u.User == nil {
		u.User = userOf(values)
	}
	return s.bind(u, values)
}

// complete builds a binding from a URI and from a Secret with credentials and TLS certificates. If both contain a
// user name and password, those in the Secret are used.
func (s Service) complete(u *url.URL, read keyReader) (Binding, error) {
	values, err := s.values(read)
	if err != nil {
		return Binding{}, err
	}
	if err := s.checkType(values[keyType]); err != nil {
		return Binding{}, err
	}
	if user := userOf(values); user != nil {
		u.User = user
	}
	return s.bind(u, values)
}

// userOf returns the user name and password in a Secret. It returns nil if the Secret has neither of them.
func userOf(values map[string]string) *url.Userinfo {
	if values[keyUsername] == "" && values[keyPassword] == "" {
		return nil
	}
	return url.UserPassword(values[keyUsername], values[keyPassword])
}

// bind builds a binding from a URI and the values of the keys. The URI must already contain the user name and
// password, because bind ignores the keys for them.
func (s Service) bind(u *url.URL, values map[string]string) (Binding, error) {
	b := Binding{
		URI: u, Token: values[keyToken],
		CA: pemBlocks(values[keyCA]), Certificate: pemBlocks(values[keyCertificate]), Key: pemBlocks(values[keyKey]),
	}
	if strings.ContainsFunc(b.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Binding{}, fmt.Errorf("key %q holds characters that a token cannot have", keyToken)
	}
	if err := addPath(u, keyVhost, values[keyVhost]); err != nil {
		return Binding{}, err
	}
	if db := values[keyDatabase]; db != "" {
		if _, err := strconv.ParseUint(db, 10, 31); err != nil {
			return Binding{}, fmt.Errorf("key %q is not the number of a database, such as 0", keyDatabase)
		}
	}
	if err := addPath(u, keyDatabase, values[keyDatabase]); err != nil {
		return Binding{}, err
	}
	if err := b.checkTLS(); err != nil {
		return Binding{}, err
	}
	return b, s.secure(b)
}

// pemBlocks converts a value to bytes. It returns nil for an empty value, because nil means in a Binding that there
// is no value.
func pemBlocks(value string) []byte {
	if value == "" {
		return nil
	}
	return []byte(value)
}

// addPath sets the path of a URI to the virtual host or database in a Secret. If the URI already has a different
// path, addPath returns an error.
func addPath(u *url.URL, key, value string) error {
	if value == "" {
		return nil
	}
	if path := strings.TrimPrefix(u.Path, "/"); path != "" && path != value {
		return fmt.Errorf("key %q differs from the path of key %q: remove one of them", key, keyURI)
	}
	u.Path, u.RawPath = "/"+value, "/"+url.PathEscape(value)
	return nil
}

// secure changes the scheme of the URI to the scheme for TLS if the binding contains certificates. It does not do so
// for a summary API: because the user has explicitly written http://, it returns an error.
func (s Service) secure(b Binding) error {
	if b.CA == nil && b.Certificate == nil || b.URI.Scheme == s.TLSScheme {
		return nil
	}
	if s == HTTP() {
		return fmt.Errorf("keys %q, %q and %q need TLS, but the URL begins with http://: use https://, or remove them",
			keyCA, keyCertificate, keyKey)
	}
	b.URI.Scheme = s.TLSScheme
	return nil
}

// checkType returns an error if a Secret is meant for a different kind of server. It accepts unknown types.
func (s Service) checkType(name string) error {
	if other := serviceOfType(name); other != "" && other != s.Name {
		return fmt.Errorf("key %q says that this is the Secret of a %s server", keyType, other)
	}
	return nil
}

// serviceOfType returns the name of the server for a value of the key "type". It returns "" if the value is unknown.
func serviceOfType(t string) string {
	switch strings.ToLower(t) {
	case "rabbitmq":
		return RabbitMQ().Name
	case "redis", "valkey":
		return Redis().Name
	}
	return ""
}

// locate returns the URI from the key "uri", or from the keys "host" and "port". It does not add the user name and
// password from the keys "username" and "password".
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

// CheckFolder returns an error if the Secret that is mounted at dir cannot be used together with a URI. It cannot be
// used if the folder cannot be read, if a key is invalid, or if no key is for this kind of server.
func (s Service) CheckFolder(dir string) error {
	option := WithFolder(dir)
	b, err := s.complete(&url.URL{Scheme: s.TLSScheme}, option.open())
	if err == nil && b.URI.User == nil && b.Token == "" && b.CA == nil && b.Certificate == nil {
		err = errors.New("it has none of the files " + strings.Join(s.Keys(), ", ") + ", or they are empty")
	}
	if err != nil {
		return s.unreadable([]Option{option}, err)
	}
	return nil
}
