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
	// embeddedInFlight is how many requests are under way at a time unless told otherwise: while one is
	// being committed the next is on its way.
	embeddedInFlight = 2
	// linger is how long a sender waits for more company where it has some while another request is under way:
	// summaries come faster than requests are served then, and a request with its commit costs far more than a summary.
	linger = 5 * time.Millisecond
	// maxBatch bounds the summaries in one request.
	maxBatch = 256
	// maxResult bounds the answer to one summary, for which 128 bytes of an identifier and 256 of a detail,
	// each byte escaped, leave ample room.
	maxResult = 4 << 10
	// usualLength is that of a summary on the wire.
	usualLength = 240
)

// Embedded posts summaries to the API of package rest. Summaries that are posted while requests are under way
// share the next request with those of the next milliseconds; one that is posted alone goes at once.
type Embedded struct {
	transport transport

	queue chan *item
	// stopping ends when the client is closed.
	stopping context.Context
	stop     context.CancelFunc
	senders  sync.WaitGroup
	// gathering is held by the one sender that takes items out of the queue.
	gathering sync.Mutex
	// underWay is the number of senders that wait for the API.
	underWay atomic.Int32
}

// item is a summary on its way.
type item struct {
	ctx     context.Context //nolint:containedctx // of the Post that waits for it
	summary event.Summary
	// done receives the result. It has room for it, so that nobody waits for a Post that has returned.
	done chan error
}

// NewEmbedded returns a client for the API at o.URL, which ends with Close.
func NewEmbedded(o Options) (*Embedded, error) {
	endpoint, source, err := o.open("/v1/summaries")
	if err != nil {
		return nil, err
	}
	senders := cmp.Or(o.maxInFlight, embeddedInFlight)
	c := &Embedded{
		transport: transport{
			endpoint: endpoint, binding: cachedBinding{source: source}, timeout: cmp.Or(o.timeout, defaultTimeout), connections: senders,
		},
		queue: make(chan *item, maxBatch),
	}
	c.stopping, c.stop = context.WithCancel(context.Background())
	for range senders {
		c.senders.Go(c.send)
	}
	return c, nil
}

// Post makes one attempt to post the summary. It returns nil once the API has stored it; a
// *summary.RejectedError when the API refuses it for good, which it also does when another summary has its
// identifier; a *summary.UnavailableError when it is to be posted again; or the error of ctx.
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

// Close abandons what is under way, whose Posts fail with summary.ErrClosed, and gives up the connections.
func (c *Embedded) Close() error {
	c.stop()
	c.senders.Wait()
	c.transport.close()
	return nil
}

// send is one of the senders.
func (c *Embedded) send() {
	for c.stopping.Err() == nil {
		batch := c.gather()
		c.underWay.Add(1)
		c.post(batch)
		c.underWay.Add(-1)
	}
}

// gather waits for an item and returns it with those that follow it closely, but for those whose Post has given up.
// It returns nil when the client is closed.
func (c *Embedded) gather() []*item {
	c.gathering.Lock()
	defer c.gathering.Unlock()
	var first *item
	select {
	case first = <-c.queue:
	case <-c.stopping.Done():
		return nil
	}
	if waiting := len(c.queue); 0 < waiting && waiting < maxBatch-1 && c.underWay.Load() > 0 {
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

// post posts the items in one request and gives each its result. Of several that are refused together, only
// one may be at fault, or their number: they are posted in halves.
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
		half := len(batch) / 2
		c.post(batch[:half])
		c.post(batch[half:])
	case permanent(r.status) && !r.isProblem():
		// Not the API's answer but that of a proxy in between, or of some other server at this address.
		finish(batch, r.unavailable(c.transport.endpoint))
	default:
		finish(batch, r.failure(c.transport.endpoint))
	}
}

// request sends the items, one a line.
func (c *Embedded) request(batch []*item) (*reply, error) {
	body := make([]byte, 0, len(batch)*usualLength)
	for _, it := range batch {
		body = append(event.AppendSummary(body, it.summary), '\n')
	}
	header := http.Header{
		"Content-Type": {typeNDJSON},
		// Not sent: it tells package http that the request may be repeated, on a fresh connection, when the
		// server closed the old one at the moment it was used.
		"Idempotency-Key": {},
	}
	return c.transport.send(c.stopping, http.MethodPost, body, header, int64(len(batch))*maxResult)
}

// finishEach gives each item the result on its line. From the first line on that is missing, or another
// summary's, the answer is not to be trusted, and the items are to be posted again.
func (c *Embedded) finishEach(batch []*item, r *reply) {
	results := results{rest: r.body}
	for i, it := range batch {
		result, err := results.next(it.summary.ID)
		if err != nil {
			finish(batch[i:], c.unavailable(fmt.Errorf("its answer %w (%d of %d summaries)", err, i, len(batch))))
			return
		}
		it.done <- c.verdict(result)
	}
}

// verdict is the error of one result.
func (c *Embedded) verdict(r result) error {
	switch {
	case r.Status == http.StatusCreated, r.Status == http.StatusOK:
		return nil
	case permanent(r.Status), r.Status == http.StatusConflict:
		return &summary.RejectedError{Conflict: r.Status == http.StatusConflict, Detail: describe(r.Status, r.Detail)}
	}
	return c.unavailable(fmt.Errorf("it answers %s", describe(r.Status, r.Detail)))
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
