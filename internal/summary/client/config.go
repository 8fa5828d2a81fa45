package client

import (
	"fmt"
	"net/url"
	"time"

	"github.com/parking-operator/parking-operator/internal/binding"
)

// defaultTimeout is the timeout of one request. It includes connecting and reading the response.
const defaultTimeout = 5 * time.Second

// Config is the configuration of a client.
type Config struct {
	// URL is the base URL of an embedded API. For an external API it is the complete URL to which summaries are
	// posted.
	URL string
	// SecretDir is a directory with optional files for authentication and TLS, or "". Changed files take effect
	// without a restart.
	//
	//   - token, or username and password: the credentials.
	//   - ca.crt: PEM certificates to trust instead of the system's.
	//   - tls.crt and tls.key: a client certificate and its key.
	SecretDir string

	// timeout and maxInFlight replace the client's request timeout and its limit of concurrent requests, for tests.
	timeout     time.Duration
	maxInFlight int
}

// open returns the URL to which summaries are posted, and the source of the binding. The URL is c.URL plus the given
// path.
func (c Config) open(path string) (*url.URL, binding.Source, error) {
	bare, err := binding.URI(binding.HTTP(), c.URL, "")
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
	source, err := binding.URI(binding.HTTP(), c.URL, c.SecretDir)
	return b.URI, source, err
}

// CheckSecret returns an error if SecretDir is unreadable, contains an invalid file, or lacks both credentials and
// certificates. An empty SecretDir is valid.
func (c Config) CheckSecret() error {
	if c.SecretDir == "" {
		return nil
	}
	return binding.HTTP().CheckDirectory(c.SecretDir)
}

// shown returns a URL without credentials and query, for messages.
func shown(u *url.URL) string { return binding.Binding{URI: u}.Redacted() }

// wrap adds the address of the API to the error of a request.
func wrap(u *url.URL, err error) error {
	return fmt.Errorf("post to the summary API at %s: %w", shown(u), err)
}
