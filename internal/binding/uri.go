package binding

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// URI returns a Source for a URI or, for RabbitMQ and Redis, a list of URIs. The error says what is wrong with raw, but
// does not quote raw.
//
// If dir is not "", the Source also reads the Secret in this directory. The credentials in the Secret replace those in
// raw. Only the Source returns errors about the Secret.
func URI(s Service, raw, dir string) (Source, error) {
	if _, err := s.parseList(raw); err != nil {
		return nil, err
	}
	return func() (Binding, error) {
		// Parse the URI at each call, because callers may modify the result.
		b, err := s.parseList(raw)
		if err != nil || dir == "" {
			return b, err
		}
		b, err = s.complete(b, directoryReader(dir))
		if err != nil {
			return Binding{}, s.unreadable(dir, err)
		}
		return b, nil
	}, nil
}

// unreadable adds the name of the directory to an error.
func (s Service) unreadable(dir string, err error) error {
	return fmt.Errorf("read the binding of %s in %s: %w", s.Name, dir, err)
}

// parse parses a URI. It rejects URIs with likely typos that would make the client connect to the wrong server.
func (s Service) parse(raw string) (*url.URL, error) {
	if mistake := s.mistakeIn(raw); mistake != "" {
		return nil, s.invalid(mistake)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, s.invalid(describe(err))
	}
	switch {
	case u.Scheme != s.Scheme && u.Scheme != s.TLSScheme:
		return nil, s.invalid(s.wrongScheme())
	case u.Opaque != "" || u.Hostname() == "":
		return nil, s.invalid("the URI has no host")
	case !validPort(u):
		return nil, s.invalid("the port is not a number from 1 to 65535")
	case strings.Contains(u.EscapedPath()+u.RawQuery, "@") || strings.Contains(raw, "#"):
		// An unescaped /, ? or # in a password ends the authority part of the URI. The rest would become the path, the
		// query or the fragment.
		return nil, s.invalid("there is a /, ? or # before the @; in a password, write these characters as %2F, %3F and %23")
	}
	return u, nil
}

// mistakeIn describes a mistake in a URI for which url.Parse has no good error. It returns "" if it finds no mistake.
func (s Service) mistakeIn(raw string) string {
	switch {
	case !strings.Contains(raw, "://"):
		return s.wrongScheme()
	case s.takesList() && !strings.Contains(raw, "?") && strings.HasSuffix(strings.TrimSpace(raw), ","):
		return "the URI ends with a comma; remove the comma"
	case s.takesList() && strings.Contains(hostOf(raw), ","):
		return "there are several hosts in one URI; give one URI for each host, separated by commas"
	}
	if address, err := netip.ParseAddr(hostOf(raw)); err == nil && address.Is6() {
		return "the host is an IPv6 address without brackets; write the host as [::1]"
	}
	return ""
}

// hostOf returns the host and port of a URI that may be invalid.
func hostOf(raw string) string {
	_, rest, _ := strings.Cut(raw, "://")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return rest[strings.LastIndex(rest, "@")+1:]
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	return isPort(u.Port())
}

func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// wrongScheme returns the error text for a URI with a wrong or missing scheme.
func (s Service) wrongScheme() string {
	return fmt.Sprintf("it does not begin with %s:// or %s://", s.Scheme, s.TLSScheme)
}

func (s Service) invalid(what string) error {
	return fmt.Errorf("the URI of %s is invalid: %s; it must look like %s", s.Name, what, s.Example)
}

// describe explains an error of url.Parse. It does not quote the URI, because the quoted part may be a password.
func describe(err error) string {
	var escape url.EscapeError
	var host url.InvalidHostError
	switch {
	case errors.As(err, &escape):
		return "a % is not followed by two hexadecimal digits; write a bare % as %25"
	case errors.As(err, &host):
		return "the host name contains a character that is not allowed in host names"
	default:
		return "the syntax is wrong; write special characters of the user name and password as %XX"
	}
}
