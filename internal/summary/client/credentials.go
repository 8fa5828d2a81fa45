package client

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/binding"
)

// freshness is the maximum age of cached credentials. With one second, only few requests fail after a Secret is
// rotated.
const freshness = time.Second

// authorize adds the credentials of the binding to a request. A token takes precedence over a user name and password.
func authorize(r *http.Request, b binding.Binding) {
	switch user := b.URI.User; {
	case b.Token != "":
		r.Header.Set("Authorization", "Bearer "+b.Token)
	case user != nil:
		password, _ := user.Password()
		r.SetBasicAuth(user.Username(), password)
	}
}

// redact removes the credentials of a request from a text sent by the server, because the server may quote the request.
func redact(text string, r *http.Request, b binding.Binding) string {
	_, encoded, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	_, password, _ := r.BasicAuth()
	for _, secret := range []string{b.Token, encoded, password} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return text
}

// cachedBinding caches the binding of the API for the duration freshness.
type cachedBinding struct {
	source binding.Source

	mu     sync.Mutex
	readAt time.Time
	last   binding.Binding
}

// read returns the cached binding, or reads the binding if the cached one is too old.
func (c *cachedBinding) read() (binding.Binding, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.readAt.IsZero() && time.Since(c.readAt) < freshness {
		return c.last, nil
	}
	b, err := c.source()
	if err != nil {
		return binding.Binding{}, err
	}
	c.readAt, c.last = time.Now(), b
	return b, nil
}

// expire discards the cached binding. Call it after the API rejects the credentials.
func (c *cachedBinding) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readAt = time.Time{}
}
