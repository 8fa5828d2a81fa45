package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"math"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// maxBuffered is the maximum capacity of a consumer's Go channel.
const maxBuffered = 64

// consumer delivers the messages of one queue. When a session ends, the consumer opens another session.
type consumer struct {
	broker   *Broker
	queue    broker.Queue
	prefetch int
	out      chan broker.Delivery
}

// Consume implements broker.Consumer, with a prefetch from 1 to 65535. When ctx ends, deliveries that the caller has
// not received return to the queue at once.
func (b *Broker) Consume(ctx context.Context, q broker.Queue, prefetch int) (<-chan broker.Delivery, error) {
	if err := q.Check(b.topology.partitions); err != nil {
		return nil, err
	}
	if prefetch < 1 || prefetch > math.MaxUint16 {
		return nil, fmt.Errorf("consume %s: the prefetch %d is not between 1 and %d", b.topology.main(q).queue, prefetch, math.MaxUint16)
	}
	c := &consumer{
		broker: b, queue: q, prefetch: prefetch,
		out: make(chan broker.Delivery, min(prefetch, maxBuffered)),
	}
	if !b.start(func() { c.run(ctx) }) {
		return nil, broker.ErrClosed
	}
	return c.out, nil
}

// part returns the name of the consumer in the outage log.
func (c *consumer) part() string { return "consume " + c.queue.String() }

// run delivers messages until ctx ends or the broker is closed.
func (c *consumer) run(ctx context.Context) {
	defer close(c.out)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(c.broker.running, cancel)
	defer stop()
	defer c.broker.outages.Fine(c.part()) // an ended consumer must not count as failed

	delay := newRetries()
	for ctx.Err() == nil {
		delivered, err := c.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if delivered > 0 {
			delay.Reset()
		}
		if !errors.Is(err, errConnectionLost) { // the link logs a lost connection
			c.broker.outages.Fault(c.part(), err)
		}
		_ = delay.wait(ctx, err) // an error means that ctx has ended, and then the loop ends
	}
}

// session delivers messages over one AMQP channel until the channel is closed, the server cancels the consumer, or ctx
// ends. The error says why the session ended.
func (c *consumer) session(ctx context.Context) (delivered int, err error) {
	conn, err := c.broker.consume.get(ctx)
	if err != nil {
		return 0, err
	}
	s, deliveries, err := c.openUntilDone(ctx, conn)
	if err != nil {
		return 0, lostOr(conn, err)
	}
	c.broker.outages.Fine(c.broker.consume.part, c.part())
	for {
		select {
		case d, open := <-deliveries:
			if !open {
				return delivered, lostOr(conn, c.end(s))
			}
			sent, err := c.deliver(ctx, s, &d)
			if sent {
				delivered++
			}
			if err == nil {
				continue
			}
		case <-ctx.Done():
		}
		c.retire(s, deliveries)
		return delivered, ctx.Err()
	}
}

// openUntilDone opens a session, but returns at once if ctx ends. A background goroutine then waits for the response
// and requeues the deliveries.
func (c *consumer) openUntilDone(ctx context.Context, conn *connection) (*session, <-chan amqp.Delivery, error) {
	type result struct {
		session    *session
		deliveries <-chan amqp.Delivery
		err        error
	}
	opened := make(chan result)
	started := c.broker.start(func() {
		s, deliveries, err := c.open(conn)
		select {
		case opened <- result{s, deliveries, err}:
		case <-ctx.Done():
			if err == nil {
				s.retire()
				c.requeueAll(s, deliveries)
			}
		}
	})
	if !started {
		return nil, nil, broker.ErrClosed
	}
	select {
	case r := <-opened:
		return r.session, r.deliveries, r.err
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// open opens a channel, declares the queue, and starts to consume from the queue.
func (c *consumer) open(conn *connection) (*session, <-chan amqp.Delivery, error) {
	channel, err := c.broker.declarer.open(conn, c.broker.topology.routesAround(c.queue))
	if err != nil {
		return nil, nil, err
	}
	s, deliveries, err := c.subscribe(channel)
	if err != nil {
		_ = channel.Close() // the server may have closed the channel already
		return nil, nil, err
	}
	return s, deliveries, nil
}

func (c *consumer) subscribe(channel *amqp.Channel) (*session, <-chan amqp.Delivery, error) {
	if err := channel.Qos(c.prefetch, 0, false); err != nil {
		return nil, nil, fmt.Errorf("set the prefetch: %w", err)
	}
	queue, tag := c.broker.topology.main(c.queue).queue, c.broker.config.Component
	s := newSession(channel, queue, tag, c.prefetch)
	deliveries, err := channel.Consume(queue, tag, false, false, false, false, nil)
	if err != nil {
		return nil, nil, withRemedy(fmt.Errorf("consume %s: %w", queue, err))
	}
	if !c.broker.adopt(s) {
		return nil, nil, broker.ErrClosed
	}
	return s, deliveries, nil
}

// adopt starts the goroutine of a session. It returns false if the broker is closed.
func (b *Broker) adopt(s *session) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosed {
		return false
	}
	b.sessions[s] = struct{}{}
	b.work.Go(func() {
		s.run()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.sessions, s)
	})
	return true
}

// deliver sends a message to c.out. It returns false without an error if the session has ended, and an error if ctx has
// ended.
func (c *consumer) deliver(ctx context.Context, s *session, original *amqp.Delivery) (sent bool, err error) {
	d := c.track(s, original)
	select {
	case c.out <- broker.Delivery{
		Message: decode(&d.original), Queue: c.queue, Redelivered: d.original.Redelivered, Settler: d,
	}:
		return true, nil
	case <-s.done:
		return false, nil
	case <-ctx.Done():
		_ = d.Requeue() // if Requeue fails, the session is lost, and the server itself requeues the message
		return false, ctx.Err()
	}
}

func (c *consumer) track(s *session, original *amqp.Delivery) *delivery {
	d := &delivery{
		broker: c.broker, session: s, queue: c.queue,
		tag: original.DeliveryTag, original: *original,
	}
	s.add(d)
	return d
}

// end ends a session after the server has closed its channel or cancelled its consumer. It returns the reason.
func (c *consumer) end(s *session) error {
	s.finish(broker.ErrSessionLost)
	<-s.done
	c.withdraw()
	queue := c.broker.topology.main(c.queue).queue
	if s.reason != nil {
		return withRemedy(fmt.Errorf("consume %s: %w", queue, s.reason))
	}
	// When a queue is deleted or moved, the server cancels the consumer but leaves the channel open.
	return fmt.Errorf("consume %s: the broker cancelled the consumer: %w", queue, errQueueGone)
}

// retire cancels the consumer and requeues the deliveries that the caller has not received yet. The session ends when
// the caller has settled all others.
func (c *consumer) retire(s *session, deliveries <-chan amqp.Delivery) {
	s.retire()
	c.withdraw()
	c.broker.start(func() { c.requeueAll(s, deliveries) })
}

// requeueAll requeues the remaining deliveries of a session whose consumer is being canceled.
func (c *consumer) requeueAll(s *session, deliveries <-chan amqp.Delivery) {
	for d := range deliveries {
		_ = c.track(s, &d).Requeue() // Requeue fails only if the session is lost; the server then requeues the message
	}
	s.markDrained()
}

// withdraw requeues the deliveries that are still in the consumer's Go channel.
func (c *consumer) withdraw() {
	for {
		select {
		case d := <-c.out:
			_ = d.Settler.Requeue() // Requeue fails only if the session is lost; the server then requeues the message
		default:
			return
		}
	}
}
