package redis

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	// maxCalls bounds the calls of one pipeline, so that the server executes it quickly.
	maxCalls = 128
	// maxPipelines bounds the pipelines that are on the wire at the same time: the next one travels while the server
	// executes the first.
	maxPipelines = 2
)

var (
	errClosed     = errors.New("the store is closed")
	errUnanswered = errors.New("the server left the command unanswered")
)

// batcher sends the calls of concurrent callers in shared pipelines, and all calls of one step in one command. It
// never delays a call to fill a pipeline: a call is sent at once if fewer than maxPipelines are on the wire. Calls
// that arrive in the meantime share the next pipeline.
type batcher struct {
	client  goredis.UniversalClient
	metrics *metrics
	// answered is called with the part of each step that the server has executed.
	answered func(part string)
	// stopped is canceled by Close.
	stopped context.Context
	stop    context.CancelFunc
	senders sync.WaitGroup

	mu      sync.Mutex
	arrived sync.Cond
	queue   []*call
	closed  bool
}

func newBatcher(client goredis.UniversalClient, m *metrics, answered func(part string)) *batcher {
	b := &batcher{client: client, metrics: m, answered: answered}
	b.stopped, b.stop = context.WithCancel(context.Background())
	b.arrived.L = &b.mu
	for range maxPipelines {
		b.senders.Go(b.send)
	}
	return b
}

// shut fails the calls that have not been sent. Afterwards drain waits for the ones that have.
func (b *batcher) shut() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.arrived.Broadcast()
}

func (b *batcher) drain() { b.senders.Wait() }

// do sends the call and returns its reply. It returns the call to its pool, sooner or later: the caller must not use
// it again. If the context ends first, the error is that of the context, and the call may or may not be executed.
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
	reply, err := c.reply, c.err
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
	s := sender{batcher: b}
	for {
		var open bool
		if s.batch, open = b.dequeue(s.batch[:0]); !open {
			b.abort(s.batch)
			return
		}
		if s.batch = slices.DeleteFunc(s.batch, (*call).dropped); len(s.batch) == 0 {
			continue
		}
		b.metrics.observePipeline(len(s.batch))
		slices.SortStableFunc(s.batch, func(c, d *call) int { return c.step.order - d.step.order })
		s.execute(s.batch, false)
		if s.again = unknownScripts(s.batch, s.again[:0]); len(s.again) > 0 {
			b.metrics.countScriptLoads(len(s.again))
			s.execute(s.again, true)
		}
		for _, c := range s.batch {
			c.finish()
		}
		s.reset()
	}
}

// dequeue waits for calls and moves up to maxCalls of them from the queue to batch. If the batcher is closed, it
// moves all of them and returns false.
func (b *batcher) dequeue(batch []*call) ([]*call, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) == 0 && !b.closed {
		b.arrived.Wait()
	}
	n := min(len(b.queue), maxCalls)
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

// sender is the state of a goroutine that sends. Its slices are reused.
type sender struct {
	*batcher
	// batch holds the calls of the current pipeline, again those of them that are sent a second time.
	batch, again []*call
	bundles      []bundle
	// line holds the command lines of the bundles.
	line []any
}

// bundle holds the calls of one step in a pipeline. One command executes them.
type bundle struct {
	calls []*call
	cmd   *goredis.StringSliceCmd
}

// execute sends the calls in one pipeline and sets the reply or error of each. It identifies scripts by their source
// or by their hash. Calls of the same step must be adjacent.
func (s *sender) execute(calls []*call, bySource bool) {
	pipeline := s.client.Pipeline()
	s.bundles, s.line = s.bundles[:0], s.line[:0]
	for len(calls) > 0 {
		n := 1
		for n < len(calls) && calls[n].step == calls[0].step {
			n++
		}
		start := len(s.line)
		s.line = calls[0].step.appendCommand(s.line, calls[:n], bySource)
		cmd := goredis.NewStringSliceCmd(s.stopped, s.line[start:len(s.line):len(s.line)]...)
		s.bundles = append(s.bundles, bundle{calls: calls[:n], cmd: cmd})
		_ = pipeline.Process(s.stopped, cmd) // only queues the command, so it cannot fail
		calls = calls[n:]
	}
	start := time.Now()
	_, err := pipeline.Exec(s.stopped)
	s.metrics.observeRoundTrip(time.Since(start))
	for _, u := range s.bundles {
		u.answer(err)
	}
	for _, u := range s.bundles {
		if !slices.ContainsFunc(u.calls, func(c *call) bool { return c.err != nil }) {
			s.answered(u.calls[0].step.part)
		}
	}
}

// reset clears the references to the calls, so that an idle sender does not keep them in memory.
func (s *sender) reset() {
	clear(s.batch)
	clear(s.again)
	clear(s.bundles)
	clear(s.line)
}

// answer sets the reply or error of each call. pipeline is the error of the whole pipeline: if the client cannot
// connect, it does not always set the errors of the commands.
func (u *bundle) answer(pipeline error) {
	replies, err := u.cmd.Result()
	if err == nil && len(replies) != len(u.calls) {
		if err = errUnanswered; pipeline != nil {
			err = pipeline
		}
	}
	for i, c := range u.calls {
		if c.err = err; err == nil {
			c.answer(replies[i])
		}
	}
}

// answer sets the reply or error of a call from the script's reply.
func (c *call) answer(reply string) {
	failure, failed := strings.CutPrefix(reply, "!")
	switch {
	case failed:
		c.err = stepError(failure)
	case reply == "":
		c.err = errUnanswered
	default:
		c.reply = reply
	}
}

// stepError is an error that the script replied to one of several calls.
type stepError string

// Error returns the text of the reply.
func (e stepError) Error() string { return string(e) }

// RedisError marks the error as a reply of the server.
func (stepError) RedisError() {}

// unknownScripts appends to again the calls that failed because the server does not know their script: it was
// restarted, or somebody ran SCRIPT FLUSH. They are sent again with the source of the script, which cannot fail in
// this way.
func unknownScripts(batch, again []*call) []*call {
	for _, c := range batch {
		if goredis.HasErrorPrefix(c.err, "NOSCRIPT") {
			again = append(again, c)
		}
	}
	return again
}

// dropped reports whether the caller of a call has left. If so, it returns the call to its pool.
func (c *call) dropped() bool {
	if c.state.Load() != stateAbandoned {
		return false
	}
	c.end()
	return true
}

// finish wakes the caller of a call. If the caller has left, it returns the call to its pool.
func (c *call) finish() {
	if c.state.CompareAndSwap(stateWaiting, stateAnswered) {
		c.answered <- struct{}{}
		return
	}
	c.end()
}
