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
	// SecretDir is a folder with the files token, or username and password, to log in with, and ca.crt, the
	// PEM certificates to trust instead of the system's. All of them are optional, and what is there is read
	// again when it changes. Empty means none.
	SecretDir string

	// timeout of a request and maxInFlight, the bound of requests under way at a time, replace the client's own, for
	// tests.
	timeout     time.Duration
	maxInFlight int
}

// endpoint returns the address to post to: the URL, with path added to it.
func (o Options) endpoint(path string) (*url.URL, error) {
	source, err := binding.URI(binding.HTTP(), o.URL)
	if err != nil {
		return nil, err
	}
	address, err := source()
	if err != nil {
		return nil, err
	}
	if path != "" {
		address.URI = address.URI.JoinPath(path)
	}
	return address.URI, nil
}

// shown returns what of an address may be printed.
func shown(u *url.URL) string { return binding.Address{URI: u}.Redacted() }

// wrap names the address that a request failed at.
func wrap(u *url.URL, err error) error {
	return fmt.Errorf("post to the summary API at %s: %w", shown(u), err)
}
