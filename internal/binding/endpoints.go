package binding

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// takesList reports whether users may give a list of URIs. For PostgreSQL, a list is not needed, because one PostgreSQL
// URI can contain several hosts.
func (s Service) takesList() bool { return s == RabbitMQ() || s == Redis() }

// separator matches a separator in a list of URIs, and the scheme of the next URI. A comma without a scheme may be part
// of a password.
var separator = regexp.MustCompile(`[,\s]+([a-zA-Z][a-zA-Z0-9+.-]*://)`)

// splitURIs splits a list of URIs that are separated by commas or white space.
func splitURIs(raw string) []string {
	var uris []string
	start := 0
	for _, match := range separator.FindAllStringSubmatchIndex(raw, -1) {
		uris = append(uris, raw[start:match[0]])
		start = match[2]
	}
	return append(uris, raw[start:])
}

// parseList parses one URI, or a list of URIs such as one for each node of a cluster.
func (s Service) parseList(raw string) (Binding, error) {
	if !s.takesList() {
		u, err := s.parse(raw)
		return Binding{URI: u}, err
	}
	uris := splitURIs(raw)
	parsed := make([]*url.URL, len(uris))
	for i, uri := range uris {
		u, err := s.parse(uri)
		if err != nil {
			if len(uris) > 1 {
				err = fmt.Errorf("URI %d of %d: %w", i+1, len(uris), err)
			}
			return Binding{}, err
		}
		parsed[i] = u
	}
	return s.merge(parsed)
}

// merge combines URIs into one binding. The URIs may differ only in host and port, and some URIs may lack the
// credentials.
func (s Service) merge(uris []*url.URL) (Binding, error) {
	merged := Binding{URI: uris[0]}
	for _, u := range uris[1:] {
		switch {
		case u.Scheme != merged.URI.Scheme:
			return Binding{}, fmt.Errorf("the URIs of %s differ in their scheme: begin all of them with %s://, or all with %s:// for TLS",
				s.Name, s.Scheme, s.TLSScheme)
		case strings.TrimPrefix(u.Path, "/") != strings.TrimPrefix(merged.URI.Path, "/"):
			return Binding{}, fmt.Errorf("the URIs of %s differ in their path: the %s must be the same in all of them", s.Name, s.pathMeaning())
		case u.RawQuery != merged.URI.RawQuery:
			return Binding{}, fmt.Errorf("the URIs of %s differ in their parameters: the text after the ? must be the same in all of them", s.Name)
		case u.User != nil && merged.URI.User != nil && u.User.String() != merged.URI.User.String():
			return Binding{}, fmt.Errorf("the URIs of %s differ in their user name or password: use the same credentials in all URIs, or put them into one URI only", s.Name)
		}
		merged.URI.User = cmp.Or(merged.URI.User, u.User)
		if u.Host != merged.URI.Host && !slices.Contains(merged.Alternatives, u.Host) {
			merged.Alternatives = append(merged.Alternatives, u.Host)
		}
	}
	return merged, nil
}

// pathMeaning returns what the path of a URI names, for error messages.
func (s Service) pathMeaning() string {
	if s == RabbitMQ() {
		return "virtual host"
	}
	return "database"
}

// locateHosts builds a binding from the keys "host" and "port". The port applies to each host in the list that has no
// port of its own.
func (s Service) locateHosts(hosts, port string) (Binding, error) {
	var uris []*url.URL
	for _, host := range strings.FieldsFunc(hosts, isListSeparator) {
		if strings.Contains(host, "://") {
			return Binding{}, fmt.Errorf("key %q contains a URI: use the key %q for it", keyHost, keyURI)
		}
		if _, _, err := net.SplitHostPort(host); err != nil {
			bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
			host = strings.TrimSuffix(net.JoinHostPort(bare, port), ":") // if port is "", clients use the default port
		}
		u, err := s.parse(s.Scheme + "://" + host)
		if err != nil {
			return Binding{}, err
		}
		uris = append(uris, u)
	}
	if len(uris) == 0 {
		return Binding{}, errors.New("the list of hosts is empty")
	}
	b, err := s.merge(uris)
	if err == nil && !s.takesList() {
		b.URI.Host, b.Alternatives = b.hostList(), nil
	}
	return b, err
}

func isListSeparator(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }

// Endpoints returns one binding for each endpoint of b. The first binding is for the host in b.URI. The returned
// bindings have no alternatives.
func (b Binding) Endpoints() []Binding {
	if b.URI == nil {
		return []Binding{b}
	}
	endpoints := make([]Binding, 0, 1+len(b.Alternatives))
	for _, host := range b.hosts() {
		endpoint, uri := b, *b.URI
		uri.Host = host
		endpoint.URI, endpoint.Alternatives = &uri, nil
		endpoints = append(endpoints, endpoint)
	}
	return endpoints
}

// hosts returns the hosts of all endpoints. Each host includes its port, if any.
func (b Binding) hosts() []string { return append([]string{b.URI.Host}, b.Alternatives...) }

func (b Binding) hostList() string { return strings.Join(b.hosts(), ",") }

// hostnames returns the hosts of all endpoints without their ports.
func (b Binding) hostnames() []string {
	var names []string
	for _, endpoint := range b.Endpoints() {
		names = append(names, endpoint.URI.Hostname())
	}
	return names
}
