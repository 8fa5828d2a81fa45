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
	// maxCalls bounds a pipeline, so that one is short work for the server.
	maxCalls = 128
	// maxPipelines are on the wire at a time: while the server works on one, the next travels.
	maxPipelines = 2
)

var (
	errClosed     = errors.New("the store is closed")
	errUnanswered = errors.New("the server left the command unanswered")
)

// batcher sends the calls of concurrent callers in shared pipelines, those of the same step in one command.
// It never waits for company: a call goes at once when fewer than maxPipelines are on the wire; those that
// come meanwhile go together in the next.
type batcher struct {
	client  goredis.UniversalClient
	metrics *metrics
	// answered is called with the part of each step that the server has run.
	answered func(part string)
	// stopped ends with Close.
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
		if s.batch, open = b.take(s.batch[:0]); !open {
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
		s.forget()
	}
}

// take waits for calls and moves them from the queue to batch, at most maxCalls. When the batcher is
// closed it takes them all and reports false.
func (b *batcher) take(batch []*call) ([]*call, bool) {
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

// sender is the state of a goroutine that sends, with memory that it uses again.
type sender struct {
	*batcher
	// batch are the calls of the pipeline under way, again those of them that are sent a second time.
	batch, again []*call
	bundles      []bundle
	// line is the memory of the bundles' command lines.
	line []any
}

// bundle is the calls of one step in a pipeline, which one command takes.
type bundle struct {
	calls []*call
	cmd   *goredis.StringSliceCmd
}

// execute sends the calls in one pipeline, with their scripts or with the hashes of these, and gives each its reply
// or error. Those of the same step are next to each other.
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
		_ = pipeline.Process(s.stopped, cmd) // only queues the command: never an error
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

// forget lets go of what was sent, so that idleness keeps nothing alive.
func (s *sender) forget() {
	clear(s.batch)
	clear(s.again)
	clear(s.bundles)
	clear(s.line)
}

// answer gives each call its reply or error; pipeline is the error of the whole pipeline, which the client does not
// always pass on to the commands when it cannot connect.
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

// answer takes what the script replied to this call.
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

// stepError is the server's error in one of several steps.
type stepError string

// Error returns what the server said.
func (e stepError) Error() string { return string(e) }

// RedisError marks it as the server's.
func (stepError) RedisError() {}

// unknownScripts appends to again the calls that failed because the server does not know their script, after a
// restart or SCRIPT FLUSH. Sent with it they cannot fail for that again.
func unknownScripts(batch, again []*call) []*call {
	for _, c := range batch {
		if goredis.HasErrorPrefix(c.err, "NOSCRIPT") {
			again = append(again, c)
		}
	}
	return again
}

// dropped ends a call whose caller has left, and reports whether it did.
func (c *call) dropped() bool {
	if c.state.Load() != stateAbandoned {
		return false
	}
	c.end()
	return true
}

// finish hands the call back to its caller, or to its pool when the caller has left.
func (c *call) finish() {
	if c.state.CompareAndSwap(stateWaiting, stateAnswered) {
		c.answered <- struct{}{}
		return
	}
	c.end()
}
