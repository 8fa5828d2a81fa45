package client

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/binding"
)

// The keys of the Secret.
const (
	keyToken    = "token"
	keyUsername = "username"
	keyPassword = "password"
	keyCA       = "ca.crt"
)

// freshness is for how long credentials are used before they are read again. A rotated Secret so costs a
// few attempts at most, and a stream of requests a few reads a second.
const freshness = time.Second

// credentials are what the API asks of its clients, and what these trust.
type credentials struct {
	token, username, password string
	// ca is the PEM of the certificates to trust; empty means the system's.
	ca string
}

// authorize adds the credentials to a request. A token goes before a user name, and both before what the
// URL has.
func (c *credentials) authorize(r *http.Request) {
	switch {
	case c.token != "":
		r.Header.Set("Authorization", "Bearer "+c.token)
	case c.username != "" || c.password != "":
		r.SetBasicAuth(c.username, c.password)
	case r.URL.User != nil:
		password, _ := r.URL.User.Password()
		r.SetBasicAuth(r.URL.User.Username(), password)
	}
}

// redact removes the secrets of a request from a text that its server sent, which may have quoted them.
func (c *credentials) redact(text string, r *http.Request) string {
	_, encoded, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	_, password, _ := r.BasicAuth()
	for _, secret := range []string{c.token, encoded, password} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return text
}

// secret reads credentials from a folder.
type secret struct {
	dir string

	mu     sync.Mutex
	readAt time.Time
	last   credentials
}

// read returns the credentials as they were a moment ago. Without a folder there are none.
func (s *secret) read() (credentials, error) {
	if s.dir == "" {
		return credentials{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.readAt.IsZero() && time.Since(s.readAt) < freshness {
		return s.last, nil
	}
	c, err := readCredentials(s.dir)
	if err != nil {
		return credentials{}, err
	}
	s.readAt, s.last = time.Now(), c
	return c, nil
}

// expire makes the next reading a fresh one, because the API refused what was read.
func (s *secret) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readAt = time.Time{}
}

func readCredentials(dir string) (credentials, error) {
	values, err := binding.Keys(dir, keyToken, keyUsername, keyPassword, keyCA)
	if err != nil {
		return credentials{}, err
	}
	c := credentials{
		token: strings.TrimSpace(values[keyToken]), username: values[keyUsername], password: values[keyPassword],
		ca: values[keyCA],
	}
	if strings.ContainsFunc(c.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return credentials{}, fmt.Errorf("read the Secret in %s: key %q holds characters that a token cannot have", dir, keyToken)
	}
	return c, nil
}

// CheckSecret returns why the folder SecretDir cannot serve: it cannot be read, or has none of the files that
// are of use. It is nil when none is named.
func (o Options) CheckSecret() error {
	if o.SecretDir == "" {
		return nil
	}
	c, err := readCredentials(o.SecretDir)
	if err != nil {
		return err
	}
	if c == (credentials{}) {
		return fmt.Errorf("the folder %s has none of the files %s, %s, %s, %s, or they are empty",
			o.SecretDir, keyToken, keyUsername, keyPassword, keyCA)
	}
	_, err = c.pool()
	return err
}

// pool returns the certificates to trust, nil for the system's.
func (c *credentials) pool() (*x509.CertPool, error) {
	if c.ca == "" {
		return nil, nil //nolint:nilnil // is what package tls calls the system's
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.ca)) {
		return nil, errors.New("key " + keyCA + " of the Secret holds no PEM certificate")
	}
	return pool, nil
}
