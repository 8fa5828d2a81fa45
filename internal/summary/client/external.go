package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

const (
	// externalInFlight is the default limit of concurrent requests.
	externalInFlight = 64
	// maxExternalReply is the maximum number of response bytes that the client reads. Errors quote these bytes.
	maxExternalReply = 4 << 10
)

// External posts summaries to a user's own REST API, one per request. The header Idempotency-Key contains the
// identifier of the summary.
//
// Statuses 2xx and 409 (Conflict) mean that the API has the summary. With the header Retry-After, 409 means that an
// earlier request is still in progress.
type External struct {
	transport transport
	// places limits the number of requests in flight. It contains one element for each such request.
	places chan struct{}
	// accepted is true once the API has accepted at least one summary of this client.
	accepted atomic.Bool
}

// NewExternal returns a client for the external API at config.URL.
func NewExternal(config Config) (*External, error) {
	endpoint, source, err := config.open("")
	if err != nil {
		return nil, err
	}
	places := cmp.Or(config.maxInFlight, externalInFlight)
	return &External{
		transport: transport{
			endpoint: endpoint, binding: cachedBinding{source: source}, timeout: cmp.Or(config.timeout, defaultTimeout),
			connections: places, proxied: true,
		},
		places: make(chan struct{}, places),
	}, nil
}

// Post makes one attempt to post a summary. The error is a *summary.RejectedError (permanent), a
// *summary.UnavailableError (retry), or the error of ctx.
func (c *External) Post(ctx context.Context, s event.Summary) error {
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the summary API: %w", ctx.Err())
	}
	header := http.Header{"Content-Type": {typeJSON}, "Idempotency-Key": {idempotencyKey(s.ID)}}
	r, err := c.transport.send(ctx, http.MethodPost, event.AppendSummary(nil, s), header, maxExternalReply)
	if err != nil {
		return &summary.UnavailableError{Err: wrap(c.transport.endpoint, err)}
	}
	if r.success() || r.status == http.StatusConflict && r.header.Get("Retry-After") == "" {
		c.accepted.Store(true)
		return nil
	}
	// Until the API has accepted a summary, status 400 may come from a proxy or web server because of a wrong host or
	// port.
	if r.status == http.StatusBadRequest && (r.wantsTLS() || !c.accepted.Load()) {
		return r.unavailable(c.transport.endpoint)
	}
	return r.failure(c.transport.endpoint)
}

// Address returns the URL of the API without credentials, for messages.
func (c *External) Address() string { return shown(c.transport.endpoint) }

// Reach returns an error if no server responds at the URL, or only a proxy (status 407). The error says what to do, and
// matches summary.ErrNotReady if the URL is not the cause.
func (c *External) Reach(ctx context.Context) error {
	r, err := c.transport.send(ctx, http.MethodHead, nil, http.Header{}, maxExternalReply)
	if err == nil && r.status == http.StatusBadRequest && c.transport.endpoint.Scheme == "http" {
		// A response to HEAD has no body. Repeat the request as GET to see why the status is 400.
		r, err = c.transport.send(ctx, http.MethodGet, nil, http.Header{}, maxExternalReply)
		if err == nil && r.wantsTLS() {
			return fmt.Errorf("reach the summary API at %s: %s", c.Address(), remedyHTTPS)
		}
	}
	if err == nil {
		return nil
	}
	var refusal proxyError
	if f, ok := errors.AsType[fault](err); ok && f.remedy != "" || errors.As(err, &refusal) {
		return fmt.Errorf("reach the summary API at %s: %w", c.Address(), err)
	}
	return fmt.Errorf("reach the summary API at %s: %w; %s", c.Address(), err, remedyAddress)
}

// Close closes the idle connections. Requests in flight continue.
func (c *External) Close() error {
	c.transport.close()
	return nil
}

// idempotencyKey converts an identifier to a form that is valid in an HTTP header. It returns the identifier of a
// generated event unchanged.
func idempotencyKey(id string) string {
	if !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || r == '%' }) {
		return id
	}
	return url.PathEscape(id)
}
