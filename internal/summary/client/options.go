package client

import (
	"fmt"
	"net/url"
	"time"

	"github.com/parking-operator/parking-operator/internal/binding"
)

// defaultTimeout bounds one request, from its connection to the end of its answer.
const defaultTimeout = 5 * time.Second

// Options say where the API is and how to reach it.
type Options struct {
	// URL is the base of the embedded API, or the whole address to post to of an external one.
	URL string
	// SecretDir is a folder with the files token, or username and password, to log in with; ca.crt, the PEM
	// certificates to trust instead of the system's; and tls.crt and tls.key, a client certificate. All of them
	// are optional, and changes of them take effect without a restart. Empty means no folder.
	SecretDir string

	// timeout of a request and maxInFlight, the bound of requests under way at a time, replace the client's own, for
	// tests.
	timeout     time.Duration
	maxInFlight int
}

// open returns the address to post to, which is the URL with path added to it, and the source of the binding.
func (o Options) open(path string) (*url.URL, binding.Source, error) {
	bare, err := binding.URI(binding.HTTP(), o.URL)
	if err != nil {
		return nil, nil, err
	}
	b, err := bare()
	if err != nil {
		return nil, nil, err
	}
	if path != "" {
		b.URI = b.URI.JoinPath(path)
	}
	if o.SecretDir == "" {
		return b.URI, bare, nil
	}
	source, err := binding.URI(binding.HTTP(), o.URL, binding.WithFolder(o.SecretDir))
	return b.URI, source, err
}

// CheckSecret returns why the folder SecretDir cannot be used: it cannot be read, a file of it is invalid, or it
// has none of the files. It returns nil if SecretDir is empty.
func (o Options) CheckSecret() error {
	if o.SecretDir == "" {
		return nil
	}
	return binding.HTTP().CheckFolder(o.SecretDir)
}

// shown returns the part of an address that may be printed.
func shown(u *url.URL) string { return binding.Binding{URI: u}.Redacted() }

// wrap names the address that a request failed at.
func wrap(u *url.URL, err error) error {
	return fmt.Errorf("post to the summary API at %s: %w", shown(u), err)
}
