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
	// maxCalls limits the calls per pipeline, so that the server executes a pipeline quickly.
	maxCalls = 128
	// maxPipelines limits the pipelines that are in flight. With two, the next pipeline is transferred while the
	// server executes the first.
	maxPipelines = 2
)

var (
	errClosed     = errors.New("the store is closed")
	errUnanswered = errors.New("the server did not reply to the command")
)

// batcher sends the calls of concurrent callers in shared pipelines. It combines all calls of a pipeline that have the
// same script and partition in one command. It never delays a call to fill a pipeline: if fewer than maxPipelines
// pipelines are in flight, it sends the call at once. Otherwise calls wait, and share the next pipeline.
type batcher struct {
	client  goredis.UniversalClient
	metrics *metrics
	// answered is a function to call when the server has executed a step. Its argument identifies the step in the outage
	// log.
	answered func(part string)
	// stopped is the context of all commands that the batcher sends. The method shut cancels it.
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

// shut fails the calls that have not been sent yet. Call drain to wait for the calls that have been sent.
func (b *batcher) shut() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.arrived.Broadcast()
}

func (b *batcher) drain() { b.senders.Wait() }

// do sends a call and returns its reply. The caller must not use the call afterwards, because it has been put back
// into its pool. If the context ends first, the error of the context is returned, and the server may or may not
// have executed the call.
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

// send sends pipelines until the batcher is closed. Several goroutines run it.
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

// dequeue waits for queued calls and moves up to maxCalls of them to batch. If the batcher is closed, it moves all
// calls and returns false.
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

// sender contains the buffers of a goroutine that sends pipelines.
type sender struct {
	*batcher
	// batch contains the calls of the current pipeline. resend contains those of them that must be sent a second time,
	// because the server did not know their script.
	batch, resend []*call
	bundles       []bundle
	// line is a buffer for the arguments of all commands in the pipeline.
	line []any
}

// bundle contains those calls of a pipeline that one command executes, because they are calls of the same step.
type bundle struct {
	calls []*call
	cmd   *goredis.StringSliceCmd
}

// execute sends the calls in one pipeline and sets the reply or the error of each. It identifies scripts either by
// their source or by their hash. It combines only adjacent calls of the same step in one command, so the caller must
// sort the calls by step.
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

// answer sets the reply or the error of each call in a bundle. pipelineErr is the error of the whole pipeline. It
// is needed because the client library does not always set the errors of the commands if it cannot connect.
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

// answer sets the reply or the error of one call from the reply of the script.
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

// RedisError marks the error as a reply of the server. The client library requires this method.
func (stepError) RedisError() {}

// unknownScripts appends to the slice resend the calls that failed because the server did not know their script. This
// happens after a restart of the server or a SCRIPT FLUSH. The sender then sends these calls again with the source of
// the script, so the server need not know the script.
func unknownScripts(batch, resend []*call) []*call {
	for _, c := range batch {
		if goredis.HasErrorPrefix(c.err, "NOSCRIPT") {
			resend = append(resend, c)
		}
	}
	return resend
}

// dropped reports whether the caller of a call no longer waits. If so, it returns the call to its pool.
func (c *call) dropped() bool {
	if c.state.Load() != stateAbandoned {
		return false
	}
	c.end()
	return true
}

// finish wakes the caller of a call. If the caller no longer waits, finish returns the call to its pool.
func (c *call) finish() {
	if c.state.CompareAndSwap(stateWaiting, stateAnswered) {
		c.answered <- struct{}{}
		return
	}
	c.end()
}
