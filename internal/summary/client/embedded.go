package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

const (
	// embeddedInFlight is the default number of concurrent requests. The API can receive the second request while it
	// commits the summaries of the first.
	embeddedInFlight = 2
	// linger is how long the client waits for more summaries if several are queued while a request is in flight.
	linger = 5 * time.Millisecond
	// maxBatch is the maximum number of summaries per request.
	maxBatch = 256
	// maxResult is the maximum number of response bytes per summary: an identifier of 128 bytes and a detail of 256
	// bytes, all escaped.
	maxResult = 4 << 10
	// usualLength is the typical length of an encoded summary in bytes.
	usualLength = 240
)

// Embedded posts summaries to the API of package rest. While the maximum number of requests is in flight, summaries
// queue up for the next request.
type Embedded struct {
	transport transport

	queue chan *item
	// stopping is the context of all requests. Close cancels it.
	stopping context.Context
	stop     context.CancelFunc
	senders  sync.WaitGroup
	// gathering is locked while a goroutine takes the summaries of the next request from the queue.
	gathering sync.Mutex
	inFlight  atomic.Int32 // number of requests without a response
}

// item is a summary that a call of Post has queued.
type item struct {
	ctx     context.Context //nolint:containedctx // the context of the call of Post
	summary event.Summary
	// The channel done receives the result. It is buffered, because Post may already have returned.
	done chan error
}

// NewEmbedded returns a client for the API at config.URL. The caller must close it.
func NewEmbedded(config Config) (*Embedded, error) {
	endpoint, source, err := config.open("/v1/summaries")
	if err != nil {
		return nil, err
	}
	senders := cmp.Or(config.maxInFlight, embeddedInFlight)
	c := &Embedded{
		transport: transport{
			endpoint: endpoint, binding: cachedBinding{source: source}, timeout: cmp.Or(config.timeout, defaultTimeout), connections: senders,
		},
		queue: make(chan *item, maxBatch),
	}
	c.stopping, c.stop = context.WithCancel(context.Background())
	for range senders {
		c.senders.Go(c.send)
	}
	return c, nil
}

// Post makes one attempt to store a summary. The error is a *summary.RejectedError (permanent), a
// *summary.UnavailableError (retry), or the error of ctx.
func (c *Embedded) Post(ctx context.Context, s event.Summary) error {
	it := &item{ctx: ctx, summary: s, done: make(chan error, 1)}
	select {
	case c.queue <- it:
	case <-c.stopping.Done():
		return c.unavailable(summary.ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("wait for the summary API: %w", ctx.Err())
	}
	select {
	case err := <-it.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the summary API: %w", ctx.Err())
	case <-c.stopping.Done():
		return c.unavailable(summary.ErrClosed)
	}
}

// Close cancels the requests in flight and closes the connections. Pending calls of Post fail with
// summary.ErrClosed.
func (c *Embedded) Close() error {
	c.stop()
	c.senders.Wait()
	c.transport.close()
	return nil
}

// send posts queued summaries until the client is closed. One goroutine per concurrent request runs this method.
func (c *Embedded) send() {
	for c.stopping.Err() == nil {
		batch := c.gather()
		c.inFlight.Add(1)
		c.post(batch)
		c.inFlight.Add(-1)
	}
}

// gather waits for queued items, and returns up to maxBatch whose contexts have not ended. It returns nil if none is
// left or the client is closed.
func (c *Embedded) gather() []*item {
	c.gathering.Lock()
	defer c.gathering.Unlock()
	var first *item
	select {
	case first = <-c.queue:
	case <-c.stopping.Done():
		return nil
	}
	if waiting := len(c.queue); 0 < waiting && waiting < maxBatch-1 && c.inFlight.Load() > 0 {
		select {
		case <-time.After(linger):
		case <-c.stopping.Done():
			return nil
		}
	}
	var batch []*item
	for it := first; ; {
		if it.ctx.Err() == nil {
			batch = append(batch, it)
		}
		if len(batch) == maxBatch {
			return batch
		}
		select {
		case it = <-c.queue:
		default:
			return batch
		}
	}
}

func (c *Embedded) post(batch []*item) {
	if len(batch) == 0 {
		return
	}
	r, err := c.request(batch)
	switch {
	case err != nil:
		finish(batch, c.unavailable(err))
	case r.success():
		c.finishEach(batch, r)
	case len(batch) > 1 && (permanent(r.status) && r.isProblem() || r.status == http.StatusRequestEntityTooLarge):
		// The API or a proxy has rejected the whole request. One item or the size of the request may be the cause. So
		// post each half of the batch separately.
		half := len(batch) / 2
		c.post(batch[:half])
		c.post(batch[half:])
	case permanent(r.status) && !r.isProblem():
		// The response comes from a proxy, or from another server at this address, not from the API.
		finish(batch, r.unavailable(c.transport.endpoint))
	default:
		finish(batch, r.failure(c.transport.endpoint))
	}
}

// request sends one request. Each line of the request body contains one item.
func (c *Embedded) request(batch []*item) (*reply, error) {
	body := make([]byte, 0, len(batch)*usualLength)
	for _, it := range batch {
		body = append(event.AppendSummary(body, it.summary), '\n')
	}
	header := http.Header{
		"Content-Type": {typeNDJSON},
		// This header lets package http repeat a request after an idle connection was closed. A header without values
		// is not sent.
		"Idempotency-Key": {},
	}
	return c.transport.send(c.stopping, http.MethodPost, body, header, int64(len(batch))*maxResult)
}

// finishEach sends each item its line of the response. After a missing or wrong line, all remaining items fail with an
// UnavailableError.
func (c *Embedded) finishEach(batch []*item, r *reply) {
	results := results{rest: r.body}
	for i, it := range batch {
		result, err := results.next(it.summary.ID)
		if err != nil {
			finish(batch[i:], c.unavailable(fmt.Errorf("%w (after %d of %d results)", err, i, len(batch))))
			return
		}
		it.done <- c.verdict(result)
	}
}

// verdict returns the error for the result of one summary, or nil if the summary is stored.
func (c *Embedded) verdict(r result) error {
	switch {
	case r.Status == http.StatusCreated, r.Status == http.StatusOK:
		return nil
	case permanent(r.Status), r.Status == http.StatusConflict:
		return &summary.RejectedError{Conflict: r.Status == http.StatusConflict, Detail: describe(r.Status, r.Detail)}
	}
	return c.unavailable(fmt.Errorf("the API responded with %s", describe(r.Status, r.Detail)))
}

func (c *Embedded) unavailable(err error) error {
	if c.stopping.Err() != nil && errors.Is(err, context.Canceled) {
		err = summary.ErrClosed
	}
	return &summary.UnavailableError{Err: wrap(c.transport.endpoint, err)}
}

func finish(batch []*item, err error) {
	for _, it := range batch {
		it.done <- err
	}
}
