package gate

import (
	"context"
	"errors"
	"sync"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// Broker returns a broker that passes calls to inner through the gate g. After a cut, unsettled messages are delivered
// again, and unconfirmed messages are published again.
//
// The gate of a server has a window: the number of unconfirmed messages per queue at which Publish blocks. For the gate
// of a component, window is 0, and Publish blocks while the gate is paused or cut.
func Broker(inner broker.Broker, g *Gate, window int) broker.Broker {
	b := &gatedBroker{Broker: inner, gate: g, window: window, slots: make(map[broker.Queue]chan struct{}), idle: make(chan struct{})}
	b.running, b.stop = context.WithCancel(context.Background())
	return b
}

// gatedBroker passes the calls to a broker through a gate. The embedded broker provides Version, which needs no gate.
type gatedBroker struct {
	broker.Broker
	gate   *Gate
	window int

	running context.Context // a context that ends when Close is called
	stop    context.CancelFunc

	mu sync.Mutex
	// slots contains a channel for each queue, with one element for each unconfirmed message of the queue. If window is
	// 0, slots is empty.
	slots map[broker.Queue]chan struct{}
	// unconfirmed is the number of accepted messages that are not confirmed yet. When the number becomes 0, the channel
	// idle is closed and replaced by a new channel.
	unconfirmed int
	idle        chan struct{}
}

// Close closes the broker. Messages that wait for the gate are dropped.
func (b *gatedBroker) Close() error {
	b.stop()
	return b.Broker.Close()
}

// Publish publishes a message through the gate.
func (b *gatedBroker) Publish(ctx context.Context, q broker.Queue, msg broker.Message, confirmed func()) error {
	if confirmed == nil {
		return b.Broker.Publish(ctx, q, msg, nil) // Publish rejects a nil callback
	}
	done, err := b.accept(ctx, q)
	if err != nil {
		return err
	}
	p := publication{q, msg, confirmed, done}
	if b.window == 0 || b.gate.isUp() {
		return b.publish(ctx, p)
	}
	go func() { _ = b.publish(b.running, p) }() // ignore the error, because Publish has already returned
	return nil
}

// publication is a message that Publish has accepted. The function done must be called when the message is confirmed or
// cannot be published.
type publication struct {
	queue     broker.Queue
	message   broker.Message
	confirmed func()
	done      func()
}

// accept waits until the window of unconfirmed messages of a queue has room for another message. The message then
// counts as unconfirmed until the caller calls done.
func (b *gatedBroker) accept(ctx context.Context, q broker.Queue) (done func(), err error) {
	if b.window == 0 {
		b.count(1)
		return func() { b.count(-1) }, nil
	}
	slots := b.slotsOf(q)
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.running.Done():
		return nil, broker.ErrClosed
	}
	b.count(1)
	return func() {
		<-slots
		b.count(-1)
	}, nil
}

func (b *gatedBroker) slotsOf(q broker.Queue) chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.slots[q] == nil {
		b.slots[q] = make(chan struct{}, b.window)
	}
	return b.slots[q]
}

// publish waits until the gate lets calls through, and then publishes the message.
func (b *gatedBroker) publish(ctx context.Context, p publication) error {
	err := b.attempt(ctx, p)
	if err != nil {
		p.done()
	}
	return err
}

func (b *gatedBroker) attempt(ctx context.Context, p publication) error {
	connection, err := b.gate.await(ctx)
	if errors.Is(err, errDead) {
		return broker.ErrClosed
	}
	if err != nil {
		return err
	}
	return b.Broker.Publish(ctx, p.queue, p.message, func() {
		if b.gate.answers(connection) {
			p.confirmed()
			p.done()
			return
		}
		go b.confirmLater(connection, p)
	})
}

// confirmLater confirms a message when the gate lets the confirm through. If a cut has lost the confirm, confirmLater
// publishes the message again.
func (b *gatedBroker) confirmLater(connection int, p publication) {
	err := b.gate.answer(b.running, connection)
	if errors.Is(err, errLost) {
		_ = b.publish(b.running, p)
		return
	}
	if err == nil {
		p.confirmed()
	}
	p.done()
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

// Consume delivers the messages of queue q. It delivers nothing while the gate blocks or rejects calls.
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

// stream passes on the deliveries of one consumer, unless the gate holds them back.
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
		settler := &gatedSettler{stream: s, inner: d.Settler}
		if connection, err := s.gate.await(ctx); err != nil || !s.add(settler, connection) {
			_ = d.Settler.Requeue() // if the session was lost, Requeue fails, but the broker then requeues the message
			continue
		}
		d.Settler = settler
		select {
		case s.out <- d:
		case <-ctx.Done():
			_ = settler.Requeue()
		}
	}
}

// end marks the stream as ended. An ended stream unregisters itself from the gate as soon as all its deliveries are
// settled.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if len(s.unsettled) == 0 {
		s.remove()
	}
}

// add adds an unsettled delivery. It returns false if the given connection has been cut, because the method lose may
// already have run.
func (s *stream) add(settler *gatedSettler, connection int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, now, _ := s.gate.now(); now != connection {
		return false
	}
	s.unsettled[settler] = struct{}{}
	return true
}

// settle removes a delivery from the set of unsettled deliveries. It returns false if the session of the delivery
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

// lose ends the current session, so that all unsettled messages return to their queue.
func (s *stream) lose() {
	s.mu.Lock()
	lost := s.unsettled
	s.unsettled = make(map[*gatedSettler]struct{})
	for settler := range lost {
		settler.lost = true
	}
	s.mu.Unlock()
	for settler := range lost {
		_ = settler.inner.Requeue() // if the session was lost, Requeue fails, but the broker then requeues the message
	}
}

// gatedSettler settles one delivery. Its calls pass through a Gate, so that faults can be injected.
type gatedSettler struct {
	stream *stream
	inner  broker.Settler
	lost   bool // the session of the delivery is lost; guarded by the mutex of stream
}

// The method do settles the delivery with the function settle. It returns an error if the session of the delivery was
// lost.
func (s *gatedSettler) do(ctx context.Context, settle func() error) error {
	connection, err := s.stream.gate.enter(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return broker.ErrSessionLost
	}
	if !s.stream.settle(s) {
		return broker.ErrSessionLost
	}
	err = settle()
	if err == nil || errors.Is(err, broker.ErrSessionLost) || errors.Is(err, broker.ErrSettled) {
		return err
	}
	// Settling failed, so the delivery is still unsettled.
	if !s.stream.add(s, connection) {
		_ = s.inner.Requeue() // if the session was lost, Requeue fails, but the broker then requeues the message
		return broker.ErrSessionLost
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
