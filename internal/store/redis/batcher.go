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
	// maxCalls is the maximum number of calls in a pipeline. The limit keeps the execution time of a pipeline short.
	maxCalls = 128
	// maxPipelines is the maximum number of pipelines in flight. With two pipelines, the server can execute one
	// pipeline while the other is in transit.
	maxPipelines = 2
)

var (
	errClosed     = errors.New("the store is closed")
	errUnanswered = errors.New("the server did not reply to the command")
)

// batcher sends the calls of concurrent callers in shared pipelines. Calls wait only while maxPipelines pipelines are
// in flight.
type batcher struct {
	client  goredis.UniversalClient
	metrics *metrics
	// answered is called after all calls in a command have succeeded. Its argument is the step.part of these calls.
	answered func(part string)
	// stopped is the context of all commands that the batcher sends. It is canceled when the batcher is closed.
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

// shut ends the queued calls with an error. It does not wait for the calls in flight.
func (b *batcher) shut() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.arrived.Broadcast()
}

func (b *batcher) drain() { b.senders.Wait() }

// do sends a call and returns the reply. The caller must not use the call afterwards. If do returns because ctx has
// ended, the server may nevertheless execute the call.
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

// send sends pipelines until the batcher is closed. Each of maxPipelines goroutines runs send.
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
		if s.resend = unknownScripts(s.batch, s.resend[:0]); len(s.resend) > 0 {
			b.metrics.countScriptLoads(len(s.resend))
			s.execute(s.resend, true)
		}
		for _, c := range s.batch {
			c.finish()
		}
		s.reset()
	}
}

// dequeue waits for queued calls and moves up to maxCalls of them to batch. If the batcher is closed, dequeue moves all
// queued calls and returns false.
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

// sender contains the buffers of one goroutine that sends pipelines.
type sender struct {
	*batcher
	batch   []*call // the calls of the current pipeline
	resend  []*call // those calls of the pipeline whose script the server did not know
	bundles []bundle
	// line contains the arguments of all commands in the current pipeline.
	line []any
}

// bundle is a command of a pipeline, and the calls that it executes. These calls have the same script and partition.
type bundle struct {
	calls []*call
	cmd   *goredis.StringSliceCmd
}

// execute sends the calls in one pipeline and sets their replies or errors. Sort the calls by step.order first: a
// command executes only adjacent calls of a step.
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
		_ = pipeline.Process(s.stopped, cmd) // no error is possible, because a pipeline only queues the command
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

// reset removes all references to calls, so that an idle sender does not keep them in memory.
func (s *sender) reset() {
	clear(s.batch)
	clear(s.resend)
	clear(s.bundles)
	clear(s.line)
}

// answer sets the reply or the error of each call in a bundle. If the client library could not connect, the command has
// no result, and the calls get pipelineErr.
func (u *bundle) answer(pipelineErr error) {
	replies, err := u.cmd.Result()
	if err == nil && len(replies) != len(u.calls) {
		if err = errUnanswered; pipelineErr != nil {
			err = pipelineErr
		}
	}
	for i, c := range u.calls {
		if c.err = err; err == nil {
			c.answer(replies[i])
		}
	}
}

// answer sets the result of a call from the reply of the script. A reply that begins with "!" is an error.
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

// stepError is an error that a script returned for one of several calls.
type stepError string

// Error returns the text of the error reply.
func (e stepError) Error() string { return string(e) }

// RedisError implements goredis.Error, the interface of error replies.
func (stepError) RedisError() {}

// unknownScripts adds the calls that failed with NOSCRIPT to resend, and returns resend. A server forgets scripts when
// it restarts, and when it executes SCRIPT FLUSH.
func unknownScripts(batch, resend []*call) []*call {
	for _, c := range batch {
		if goredis.HasErrorPrefix(c.err, "NOSCRIPT") {
			resend = append(resend, c)
		}
	}
	return resend
}

// dropped reports whether the caller no longer waits for the result. If so, dropped puts the call back into its pool.
func (c *call) dropped() bool {
	if c.state.Load() != stateAbandoned {
		return false
	}
	c.end()
	return true
}

// finish wakes the goroutine that waits for the result of a call. If nobody waits any more, finish puts the call back
// into its pool.
func (c *call) finish() {
	if c.state.CompareAndSwap(stateWaiting, stateAnswered) {
		c.answered <- struct{}{}
		return
	}
	c.end()
}
