package binding

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Option adds credentials or TLS material to a URI.
type Option struct {
	// where is the name of the option's source in errors.
	where string
	// open returns a reader of the current values.
	open func() keyReader
}

// WithFolder adds the user name, password, token and TLS material of a Secret that is mounted at dir. They
// replace those of the URI. The source reads the files again at each call.
func WithFolder(dir string) Option {
	return Option{where: dir, open: func() keyReader { return folderReader(dir) }}
}

// TLSFiles names files with PEM blocks. An empty name means no file.
type TLSFiles struct {
	// CA holds the certificates to trust instead of those of the system.
	CA string
	// Certificate and Key hold the client's certificate chain and private key.
	Certificate, Key string
}

// WithTLSFiles adds TLS material from files. The source reads the files again at each call.
func WithTLSFiles(files TLSFiles) Option {
	paths := map[string]string{keyCA: files.CA, keyCertificate: files.Certificate, keyKey: files.Key}
	read := func(key string) (string, error) {
		if paths[key] == "" {
			return "", nil
		}
		return readFile(paths[key])
	}
	return Option{
		where: "the TLS files " + strings.Join(slices.DeleteFunc([]string{files.CA, files.Certificate, files.Key}, isEmpty), ", "),
		open:  func() keyReader { return read },
	}
}

func isEmpty(s string) bool { return s == "" }

// URI returns the source of a binding whose URI a person gave. It fails if the URI is invalid; the error says
// what is wrong, shows an example, and quotes nothing of the URI. URI does not read the files of its options:
// call the source to check them.
func URI(s Service, raw string, options ...Option) (Source, error) {
	if _, err := s.parse(raw); err != nil {
		return nil, err
	}
	return func() (Binding, error) {
		// Parse again, so that callers can change the result.
		u, err := s.parse(raw)
		if err != nil {
			return Binding{}, err
		}
		if len(options) == 0 {
			return Binding{URI: u}, nil
		}
		b, err := s.complete(u, firstOf(options))
		if err != nil {
			return Binding{}, s.unreadable(options, err)
		}
		return b, nil
	}, nil
}

// firstOf returns a reader that takes each key from the first option that has it.
func firstOf(options []Option) keyReader {
	readers := make([]keyReader, len(options))
	for i, option := range options {
		readers[i] = option.open()
	}
	return func(key string) (string, error) {
		for _, read := range readers {
			if value, err := read(key); err != nil || value != "" {
				return value, err
			}
		}
		return "", nil
	}
}

// unreadable wraps an error with the name of the option.
func (s Service) unreadable(options []Option, err error) error {
	where := make([]string, len(options))
	for i, option := range options {
		where[i] = option.where
	}
	return fmt.Errorf("read the binding of %s in %s: %w", s.Name, strings.Join(where, " and "), err)
}

// parse reads a URI. It rejects URIs that would lead to another server than the one meant.
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
		// An unescaped /, ? or # ends the password, and the rest of it lands in the path or query.
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
	return fmt.Errorf("the URI of %s is invalid: %s; it must look like %s", s.Name, what, s.Example)
}

// describe explains an error of url.Parse without the part of the URI that it quotes: that part may be a
// password.
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
