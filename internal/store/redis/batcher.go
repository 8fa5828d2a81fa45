package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	// maxCommands bounds a pipeline, so that one is short work for the server.
	maxCommands = 128
	// maxPipelines are on the wire at a time: while the server works on one, the next travels.
	maxPipelines = 2
)

var (
	errClosed     = errors.New("the store is closed")
	errUnanswered = errors.New("the server left the command unanswered")
)

// batcher sends the calls of concurrent callers in shared pipelines. It never waits for company: a call
// goes at once when fewer than maxPipelines are on the wire; those that come meanwhile go together in the
// next.
type batcher struct {
	client  goredis.UniversalClient
	metrics *metrics
	// answered is called when the server took a step.
	answered func()
	// stopped ends with Close.
	stopped context.Context
	stop    context.CancelFunc
	senders sync.WaitGroup

	mu      sync.Mutex
	arrived sync.Cond
	queue   []*call
	closed  bool
}

func newBatcher(client goredis.UniversalClient, m *metrics, answered func()) *batcher {
	b := &batcher{client: client, metrics: m, answered: answered}
	b.stopped, b.stop = context.WithCancel(context.Background())
	b.arrived.L = &b.mu
	for range maxPipelines {
		b.senders.Go(b.send)
	}
	return b
}

// shut fails the calls that are not yet on the wire; drain then waits for those that are.
func (b *batcher) shut() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.arrived.Broadcast()
}

func (b *batcher) drain() { b.senders.Wait() }

// do sends the call and returns its reply. It ends the call, sooner or later: the caller must not touch
// it again. The error is the context's when that ends first; then the call may or may not be executed.
func (b *batcher) do(ctx context.Context, c *call) (string, error) {
	if err := ctx.Err(); err != nil {
		c.end()
		return "", err
	}
	if !b.enqueue(c) {
		c.end()
		return "", errClosed
	}
	select {
	case <-c.answered:
	case <-ctx.Done():
		if c.state.CompareAndSwap(stateWaiting, stateAbandoned) {
			return "", ctx.Err()
		}
		<-c.answered
	}
	reply, err := c.cmd.Val(), c.err
	c.end()
	return reply, err
}

func (b *batcher) enqueue(c *call) bool {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	b.queue = append(b.queue, c)
	b.mu.Unlock()
	b.arrived.Signal()
	return true
}

// send sends one pipeline after the other until the batcher is closed.
func (b *batcher) send() {
	batch := make([]*call, 0, maxCommands)
	again := make([]*call, 0, maxCommands)
	for {
		var open bool
		if batch, open = b.take(batch[:0]); !open {
			b.abort(batch)
			return
		}
		b.metrics.observePipeline(len(batch))
		b.execute(batch)
		if again = unknownScripts(batch, again[:0]); len(again) > 0 {
			b.metrics.countScriptLoads(len(again))
			b.execute(again)
		}
		for _, c := range batch {
			c.finish()
		}
	}
}

// take waits for calls and moves them from the queue to batch, at most maxCommands. When the batcher is
// closed it takes them all and reports false.
func (b *batcher) take(batch []*call) ([]*call, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) == 0 && !b.closed {
		b.arrived.Wait()
	}
	n := min(len(b.queue), maxCommands)
	if b.closed {
		n = len(b.queue)
	}
	batch = append(batch, b.queue[:n]...)
	rest := copy(b.queue, b.queue[n:])
	clear(b.queue[rest:])
	b.queue = b.queue[:rest]
	return batch, !b.closed
}

func (b *batcher) abort(batch []*call) {
	for _, c := range batch {
		c.err = errClosed
		c.finish()
	}
}

// execute sends the calls that are still wanted in one pipeline and gives each its answer or error.
func (b *batcher) execute(batch []*call) {
	pipeline := b.client.Pipeline()
	for _, c := range batch {
		c.reset()
		if c.state.Load() != stateAbandoned {
			_ = pipeline.Process(b.stopped, c.cmd) // only queues the command: never an error
		}
	}
	start := time.Now()
	_, err := pipeline.Exec(b.stopped)
	b.metrics.observeRoundTrip(time.Since(start))
	for _, c := range batch {
		c.err = c.outcome(err)
	}
	if len(batch) > 0 && batch[0].err == nil {
		b.answered()
	}
}

// outcome returns the call's own error, or that of its pipeline when it has neither answer nor error:
// the client does not pass every failure to connect on to the commands.
func (c *call) outcome(pipeline error) error {
	switch {
	case c.cmd.Err() != nil:
		return c.cmd.Err()
	case c.cmd.Val() != "":
		return nil
	case pipeline != nil:
		return pipeline
	default:
		return errUnanswered
	}
}

// unknownScripts appends to again the calls that failed because the server does not know their script,
// after a restart or SCRIPT FLUSH, and makes these carry it. Sent so they cannot fail for that again.
func unknownScripts(batch, again []*call) []*call {
	for _, c := range batch {
		if goredis.HasErrorPrefix(c.err, "NOSCRIPT") {
			c.bySource()
			again = append(again, c)
		}
	}
	return again
}

// finish hands the call back to its caller, or to its pool when the caller has left.
func (c *call) finish() {
	if c.state.CompareAndSwap(stateWaiting, stateAnswered) {
		c.answered <- struct{}{}
		return
	}
	c.end()
}
