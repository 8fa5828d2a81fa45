package memory

import (
	"context"
	"slices"

	"github.com/parking-operator/parking-operator/internal/broker"
)

const (
	// maxBuffered bounds the deliveries that are ready in the Go channel of a consumer.
	maxBuffered = 256
	// maxBatch bounds what a consumer takes from its queue at a time.
	maxBatch = 64
)

// consumer takes messages from its queue and passes them on. The fields below wake are guarded by the
// queue's mutex.
type consumer struct {
	queue    *queue
	prefetch int
	out      chan broker.Delivery
	wake     chan struct{}

	session *session
	idle    bool // it is among those that the queue wakes for a message
	ended   bool
}

func (q *queue) newConsumer(prefetch int) *consumer {
	c := &consumer{
		queue: q, prefetch: prefetch,
		out:  make(chan broker.Delivery, min(prefetch, maxBuffered)),
		wake: make(chan struct{}, 1),
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	c.session = q.newSession(c)
	q.consumers[c] = struct{}{}
	return c
}

// run delivers until ctx ends or the broker is closed.
func (c *consumer) run(ctx context.Context, closed <-chan struct{}) {
	defer close(c.out)
	var batch []broker.Delivery
	for {
		clear(batch)
		batch = c.take(batch[:0])
		if passed := c.pass(ctx, closed, batch); passed < len(batch) {
			c.end(batch[passed:])
			return
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			c.end(nil)
			return
		case <-closed:
			return
		}
	}
}

// take delivers what there is, as far as the prefetch allows. If that is nothing, the queue wakes the
// consumer when there may be something.
func (c *consumer) take(batch []broker.Delivery) []broker.Delivery {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	credit := c.prefetch - c.session.unsettled
	for range min(credit, q.ready.length, maxBatch) {
		batch = append(batch, c.session.deliver(q.ready.popFront()))
	}
	if q.ready.length > 0 {
		q.wakeOne() // others may have credit
	} else if len(batch) == 0 && credit > 0 && !c.idle {
		c.idle = true
		q.idle.pushBack(c)
	}
	return batch
}

// pass sends deliveries and returns how many were sent before ctx ended or the broker was closed.
func (c *consumer) pass(ctx context.Context, closed <-chan struct{}, batch []broker.Delivery) int {
	for i := range batch {
		select {
		case c.out <- batch[i]:
			continue
		default:
		}
		select {
		case c.out <- batch[i]:
		case <-ctx.Done():
			return i
		case <-closed:
			return i
		}
	}
	return len(batch)
}

// end gives back what nobody has received. What has been received can still be settled.
func (c *consumer) end(rest []broker.Delivery) {
	c.leaveQueue()
	rest = append(c.withdraw(), rest...)
	for _, d := range slices.Backward(rest) { // each goes to the front
		_ = d.Settler.Requeue() // a session that is lost has requeued it
	}
}

func (c *consumer) leaveQueue() {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	c.ended = true
	delete(q.consumers, c)
	c.session.forgetIfDone()
	if q.ready.length > 0 {
		q.wakeOne() // this consumer may have been woken for it
	}
}

func (c *consumer) withdraw() []broker.Delivery {
	var unreceived []broker.Delivery
	for {
		select {
		case d := <-c.out:
			unreceived = append(unreceived, d)
		default:
			return unreceived
		}
	}
}
