package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

const (
	// externalInFlight is how many requests an external API gets at a time unless told otherwise.
	externalInFlight = 64
	// maxExternalReply is how much is read of an external API's answer, to quote from it.
	maxExternalReply = 4 << 10
)

// External posts summaries to a REST API of the user's own, one JSON request per summary.
//
// Each request has the summary's identifier as its Idempotency-Key, because a summary whose answer did not
// arrive is posted again. Any 2xx accepts the summary, whatever the body. So does 409 Conflict: most APIs say
// with it that they have what is posted. One that says with it that the first request with the same key is
// still being processed has to send Retry-After as well; the summary is then posted again.
type External struct {
	transport transport
	// places has one element for each request under way.
	places chan struct{}
}

// NewExternal returns a client for the API at o.URL.
func NewExternal(o Options) (*External, error) {
	endpoint, source, err := o.open("")
	if err != nil {
		return nil, err
	}
	places := cmp.Or(o.maxInFlight, externalInFlight)
	return &External{
		transport: transport{
			endpoint: endpoint, binding: cachedBinding{source: source}, timeout: cmp.Or(o.timeout, defaultTimeout),
			connections: places, proxied: true,
		},
		places: make(chan struct{}, places),
	}, nil
}

// Post makes one attempt to post the summary. It returns nil once the API has accepted it; a
// *summary.RejectedError when the API refuses it for good, by 400, 413 or 422; a *summary.UnavailableError
// when it is to be posted again; or the error of ctx.
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
		return nil
	}
	if r.wantsTLS() {
		return r.unavailable(c.transport.endpoint) // nothing has looked at the summary
	}
	return r.failure(c.transport.endpoint)
}

// Address is where the API is; it may be printed.
func (c *External) Address() string { return shown(c.transport.endpoint) }

// Reach returns nil when something answers at the API's address, whatever it says: that nobody does is worth knowing
// before there is a summary. It asks by HEAD, which changes nothing. Its error says what to do.
func (c *External) Reach(ctx context.Context) error {
	r, err := c.transport.send(ctx, http.MethodHead, nil, http.Header{}, maxExternalReply)
	if err == nil && r.status == http.StatusBadRequest && c.transport.endpoint.Scheme == "http" {
		// An answer to HEAD has no body that says why.
		r, err = c.transport.send(ctx, http.MethodGet, nil, http.Header{}, maxExternalReply)
		if err == nil && r.wantsTLS() {
			return fmt.Errorf("reach the summary API at %s: %s", c.Address(), remedyHTTPS)
		}
	}
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[fault](err); ok && f.remedy != "" {
		return fmt.Errorf("reach the summary API at %s: %w", c.Address(), err)
	}
	remedy := cmp.Or(binding.ExplainTLS(err), "start the API there, or correct the address")
	return fmt.Errorf("reach the summary API at %s: %w; %s", c.Address(), err, remedy)
}

// Close gives up the idle connections.
func (c *External) Close() error {
	c.transport.close()
	return nil
}

// idempotencyKey returns the identifier as the value of a header: with everything but visible ASCII, and the
// percent sign itself, percent-encoded. Identifiers that this system makes stay as they are.
func idempotencyKey(id string) string {
	if !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || r == '%' }) {
		return id
	}
	return url.PathEscape(id)
}
