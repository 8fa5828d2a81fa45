package gate

import (
	"context"
	"errors"
	"sync"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// Broker returns a broker whose calls all pass through a gate. When the gate cuts the connections, unsettled
// messages are delivered again, and messages whose confirm is lost are published again.
func Broker(inner broker.Broker, g *Gate) broker.Broker {
	return &gatedBroker{Broker: inner, gate: g, idle: make(chan struct{})}
}

// gatedBroker embeds the broker that it wraps, because the methods Version and Close need no gate.
type gatedBroker struct {
	broker.Broker
	gate *Gate

	mu sync.Mutex
	// unconfirmed is the number of published messages that are not confirmed yet. idle is closed when unconfirmed
	// becomes 0.
	unconfirmed int
	idle        chan struct{}
}

// Publish publishes the message. It waits while the gate is paused or cut.
func (b *gatedBroker) Publish(ctx context.Context, q broker.Queue, msg broker.Message, confirmed func()) error {
	if confirmed == nil {
		return b.Broker.Publish(ctx, q, msg, nil) // an error
	}
	b.count(1)
	err := b.publish(ctx, q, msg, func() {
		confirmed()
		b.count(-1)
	})
	if err != nil {
		b.count(-1)
	}
	return err
}

func (b *gatedBroker) publish(ctx context.Context, q broker.Queue, msg broker.Message, confirmed func()) error {
	connection, err := b.gate.await(ctx)
	if errors.Is(err, errDead) {
		return broker.ErrClosed
	}
	if err != nil {
		return err
	}
	return b.Broker.Publish(ctx, q, msg, func() {
		if b.gate.answers(connection) {
			confirmed()
			return
		}
		go b.confirmLater(context.WithoutCancel(ctx), connection, q, msg, confirmed)
	})
}

// confirmLater waits until the gate lets the confirm of a message through, and then calls confirmed. If the gate has
// cut the connection, the confirm is lost, and confirmLater publishes the message again.
func (b *gatedBroker) confirmLater(ctx context.Context, connection int, q broker.Queue, msg broker.Message, confirmed func()) {
	err := b.gate.answer(ctx, connection)
	if errors.Is(err, errLost) {
		err = b.publish(ctx, q, msg, confirmed)
	} else if err == nil {
		confirmed()
	}
	if err != nil { // the publisher was killed, or the broker is closed
		b.count(-1)
	}
}

func (b *gatedBroker) count(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unconfirmed += n
	if b.unconfirmed == 0 {
		close(b.idle)
		b.idle = make(chan struct{})
	}
}

// Flush waits until all published messages are confirmed.
func (b *gatedBroker) Flush(ctx context.Context) error {
	for {
		b.mu.Lock()
		n, idle := b.unconfirmed, b.idle
		b.mu.Unlock()
		if n == 0 {
			return b.Broker.Flush(ctx)
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// The following methods return an error if the gate rejects the call or its result.

func (b *gatedBroker) Declare(ctx context.Context) error {
	return b.gate.call(ctx, func() error { return b.Broker.Declare(ctx) })
}

func (b *gatedBroker) Depths(ctx context.Context) (depths broker.Depths, err error) {
	err = b.gate.call(ctx, func() (err error) {
		depths, err = b.Broker.Depths(ctx)
		return err
	})
	return depths, err
}

func (b *gatedBroker) Ping(ctx context.Context) error {
	return b.gate.ping(ctx, func() error { return b.Broker.Ping(ctx) })
}

func (b *gatedBroker) DeadLetterReasons(ctx context.Context, limit int) (reasons []broker.ReasonCount, err error) {
	err = b.gate.call(ctx, func() (err error) {
		reasons, err = b.Broker.DeadLetterReasons(ctx, limit)
		return err
	})
	return reasons, err
}

func (b *gatedBroker) Delete(ctx context.Context) error {
	return b.gate.call(ctx, func() error { return b.Broker.Delete(ctx) })
}

// Consume delivers the messages of queue q. While the gate is paused or cut, it holds the messages back.
func (b *gatedBroker) Consume(ctx context.Context, q broker.Queue, prefetch int) (<-chan broker.Delivery, error) {
	deliveries, err := b.Broker.Consume(ctx, q, prefetch)
	if err != nil {
		return nil, err
	}
	s := &stream{gate: b.gate, out: make(chan broker.Delivery), unsettled: make(map[*gatedSettler]struct{})}
	s.remove = b.gate.onCut(s.lose)
	go s.run(ctx, deliveries)
	return s.out, nil
}

// stream passes the deliveries of one consumer through the gate.
type stream struct {
	gate   *Gate
	out    chan broker.Delivery
	remove func()

	mu        sync.Mutex
	unsettled map[*gatedSettler]struct{}
	ended     bool
}

func (s *stream) run(ctx context.Context, deliveries <-chan broker.Delivery) {
	defer s.end()
	defer close(s.out)
	for d := range deliveries {
		if _, err := s.gate.await(ctx); err != nil {
			_ = d.Settler.Requeue() // a lost session requeues it by itself
			continue
		}
		settler := &gatedSettler{stream: s, inner: d.Settler}
		s.add(settler)
		d.Settler = settler
		select {
		case s.out <- d:
		case <-ctx.Done():
			_ = settler.Requeue()
		}
	}
}

// end unregisters the stream from the gate as soon as all its deliveries are settled.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if len(s.unsettled) == 0 {
		s.remove()
	}
}

func (s *stream) add(settler *gatedSettler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsettled[settler] = struct{}{}
}

// settle removes a delivery from the list of unsettled ones. It returns false if the session of the delivery
// was lost.
func (s *stream) settle(settler *gatedSettler) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unsettled, settler)
	if s.ended && len(s.unsettled) == 0 {
		s.remove()
	}
	return !settler.lost
}

// lose ends the session, so that all unsettled messages return to their queue.
func (s *stream) lose() {
	s.mu.Lock()
	lost := s.unsettled
	s.unsettled = make(map[*gatedSettler]struct{})
	for settler := range lost {
		settler.lost = true
	}
	s.mu.Unlock()
	for settler := range lost {
		_ = settler.inner.Requeue() // a session that is lost for another reason requeues it, too
	}
}

// gatedSettler settles one delivery through the gate.
type gatedSettler struct {
	stream *stream
	inner  broker.Settler
	lost   bool // the mutex of stream guards it
}

// do calls settle, which settles the delivery. If the session of the delivery was lost, it returns an error instead.
func (s *gatedSettler) do(ctx context.Context, settle func() error) error {
	if _, err := s.stream.gate.enter(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return broker.ErrSessionLost
	}
	if !s.stream.settle(s) {
		return broker.ErrSessionLost
	}
	err := settle()
	if err != nil && !errors.Is(err, broker.ErrSessionLost) && !errors.Is(err, broker.ErrSettled) {
		s.stream.add(s) // it is still unsettled
	}
	return err
}

func (s *gatedSettler) Ack() error { return s.do(context.Background(), s.inner.Ack) }

func (s *gatedSettler) Requeue() error { return s.do(context.Background(), s.inner.Requeue) }

func (s *gatedSettler) Retry(ctx context.Context) error {
	return s.do(ctx, func() error { return s.inner.Retry(ctx) })
}

func (s *gatedSettler) DeadLetter(ctx context.Context, reason broker.Reason) error {
	return s.do(ctx, func() error { return s.inner.DeadLetter(ctx, reason) })
}
