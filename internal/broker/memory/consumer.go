package memory

import (
	"context"
	"slices"

	"github.com/parking-operator/parking-operator/internal/broker"
)

const (
	// maxBuffered is the maximum capacity of a consumer's Go channel. Go allocates the whole buffer when it creates
	// the channel.
	maxBuffered = 256
	// maxBatch is the maximum number of messages taken from a queue under one lock, so that other users of the queue do
	// not wait long.
	maxBatch = 64
)

// consumer sends the messages of its queue to a Go channel. The mutex of the queue guards the fields session, idle and
// ended.
type consumer struct {
	queue    *queue
	prefetch int
	out      chan broker.Delivery
	wake     chan struct{}

	session *session
	idle    bool // whether the list queue.idle contains the consumer
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

// run delivers messages until ctx ends or the broker is closed.
func (c *consumer) run(ctx context.Context, closed <-chan struct{}) {
	defer close(c.out)
	var batch []broker.Delivery
	for {
		clear(batch)
		batch = c.receive(batch[:0])
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

// receive appends ready messages to batch, up to the prefetch. If no message is ready, the consumer becomes idle, and
// the queue wakes the consumer later.
func (c *consumer) receive(batch []broker.Delivery) []broker.Delivery {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	credit := c.prefetch - c.session.unsettled
	for range min(credit, q.ready.Len(), maxBatch) {
		batch = append(batch, c.session.deliver(q.ready.PopFront()))
	}
	if q.ready.Len() > 0 {
		q.wakeOne() // another consumer may have capacity for the remaining messages
	} else if len(batch) == 0 && credit > 0 && !c.idle {
		c.idle = true
		q.idle.PushBack(c)
	}
	return batch
}

// pass sends the batch to c.out and returns how many deliveries it has sent: fewer than len(batch) if ctx ends or the
// broker is closed.
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

// end requeues the deliveries that the caller has not received from the channel. All other deliveries can still
// be settled.
func (c *consumer) end(rest []broker.Delivery) {
	c.leaveQueue()
	rest = append(c.withdraw(), rest...)
	for _, d := range slices.Backward(rest) { // backward, because Requeue adds at the front of the queue
		_ = d.Settler.Requeue() // ignore the error of a lost session, which has already requeued its deliveries
	}
}

func (c *consumer) leaveQueue() {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	c.ended = true
	delete(q.consumers, c)
	c.session.removeIfDone()
	if q.ready.Len() > 0 {
		// The queue may have woken this consumer, which takes no more messages. Wake another one.
		q.wakeOne()
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
