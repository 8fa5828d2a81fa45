package binding

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// URI returns the source of a service's URI that a person gave. It fails at once when the URI is not
// valid; the error says what is wrong and how one looks, and quotes nothing of it.
func URI(s Service, raw string) (Source, error) {
	if _, err := s.parse(raw); err != nil {
		return nil, err
	}
	return func() (Address, error) {
		// Parsed anew so that no caller can change another's address.
		u, err := s.parse(raw)
		return Address{URI: u}, err
	}, nil
}

// parse reads a URI and refuses what would connect to somewhere else than was meant.
func (s Service) parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, s.invalid(describe(err))
	}
	switch {
	case u.Scheme != s.Scheme && u.Scheme != s.TLSScheme:
		return nil, s.invalid(fmt.Sprintf("it does not begin with %s:// or %s://", s.Scheme, s.TLSScheme))
	case u.Opaque != "" || u.Hostname() == "":
		return nil, s.invalid("it names no host")
	case !validPort(u):
		return nil, s.invalid("its port is not a number from 1 to 65535")
	case strings.Contains(u.EscapedPath()+u.RawQuery, "@") || strings.Contains(raw, "#"):
		// The rest of a password that holds a bare slash, question mark or hash would end up there.
		return nil, s.invalid("it has a /, ? or # before its @; write these as %2F, %3F, %23 in a password")
	}
	return u, nil
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && port > 0
}

func (s Service) invalid(what string) error {
	return fmt.Errorf("the URI of %s is not valid: %s; it looks like %s", s.Name, what, s.Example)
}

// describe says what url.Parse found, without the piece of the URI that its errors quote: that piece may
// be a password.
func describe(err error) string {
	var escape url.EscapeError
	var host url.InvalidHostError
	switch {
	case errors.As(err, &escape):
		return "a % in it is not followed by two hexadecimal digits; write a bare % as %25"
	case errors.As(err, &host):
		return "its host name holds a character that host names cannot have"
	default:
		return "it cannot be parsed; write special characters of the user name and password as %XX"
	}
}
