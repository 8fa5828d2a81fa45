package binding

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Option adds credentials or certificates to a URI. WithFolder and WithTLSFiles return options.
type Option struct {
	// where is the name of the folder or of the files in error messages.
	where string
	// open returns a function that reads the current value of a key.
	open func() keyReader
}

// WithFolder adds the user name, password, token and certificates of a Secret that is mounted at dir. They override
// those in the URI. The files are read again at each call of the source.
func WithFolder(dir string) Option {
	return Option{where: dir, open: func() keyReader { return folderReader(dir) }}
}

// TLSFiles contains the paths of PEM files. If a path is empty, there is no such file.
type TLSFiles struct {
	// CA contains the CA certificates that the client trusts instead of those of the operating system.
	CA string
	// Certificate contains the client's certificate chain. Key contains its private key.
	Certificate, Key string
}

// WithTLSFiles adds certificates from files. The files are read again at each call of the source.
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

// URI returns a Source for a URI that a user has entered. If the URI is invalid, it returns an error that says what
// is wrong and shows an example, but does not quote the URI. URI does not read the files of its options. To check
// them, call the Source.
func URI(s Service, raw string, options ...Option) (Source, error) {
	if _, err := s.parse(raw); err != nil {
		return nil, err
	}
	return func() (Binding, error) {
		// Parse the URI at each call, because callers may modify the result.
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

// firstOf returns a function that looks up a key in each option in turn. It returns the value from the first option
// that has the key.
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

// unreadable adds the names of the folders or files to an error.
func (s Service) unreadable(options []Option, err error) error {
	where := make([]string, len(options))
	for i, option := range options {
		where[i] = option.where
	}
	return fmt.Errorf("read the binding of %s in %s: %w", s.Name, strings.Join(where, " and "), err)
}

// parse parses a URI. It rejects URIs with probable typing errors that would lead to the wrong server.
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
		// If a password contains an unescaped /, ? or #, the host part of the URI ends there. The rest of the
		// password would become the path or the query.
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

// describe explains an error of url.Parse. It omits the quoted part of the URI, because this may be a password.
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
