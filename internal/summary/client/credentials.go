package client

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/binding"
)

// freshness is for how long credentials are used before they are read again. A rotated Secret so costs a
// few attempts at most, and a stream of requests a few reads a second.
const freshness = time.Second

// authorize adds the credentials of the binding to a request. A token takes precedence over a user name.
func authorize(r *http.Request, b binding.Binding) {
	switch user := b.URI.User; {
	case b.Token != "":
		r.Header.Set("Authorization", "Bearer "+b.Token)
	case user != nil:
		password, _ := user.Password()
		r.SetBasicAuth(user.Username(), password)
	}
}

// redact removes the secrets of a request from a text that its server sent, which may quote them.
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

// cachedBinding reads the binding of the API at most once per freshness.
type cachedBinding struct {
	source binding.Source

	mu     sync.Mutex
	readAt time.Time
	last   binding.Binding
}

// read returns the binding as it was a moment ago.
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

// expire makes the next read a fresh one. Call it when the API rejects the credentials.
func (c *cachedBinding) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readAt = time.Time{}
}
