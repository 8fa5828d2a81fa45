package memory

import (
	"context"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/broker"
)

// session is the period in which a consumer receives and settles deliveries. It corresponds to a connection to
// a server. The mutex of the queue guards it.
type session struct {
	queue       *queue
	consumer    *consumer
	err         error // set when the session is lost; all attempts to settle a delivery then return it
	unsettled   int
	first, last *delivery // the oldest and the latest unsettled delivery
}

func (q *queue) newSession(c *consumer) *session {
	s := &session{queue: q, consumer: c}
	q.sessions[s] = struct{}{}
	return s
}

// deliver records a new delivery of m and returns it.
func (s *session) deliver(m *message) broker.Delivery {
	redelivered := m.delivered
	d := &m.first
	if redelivered {
		d = &delivery{} // the receiver of the first delivery may still use m.first
	}
	m.delivered = true
	*d = delivery{session: s, message: m, previous: s.last}
	if s.last == nil {
		s.first = d
	} else {
		s.last.next = d
	}
	s.last = d
	s.unsettled++
	return broker.Delivery{Message: m.content, Queue: s.queue.name, Redelivered: redelivered, Settler: d}
}

func (s *session) remove(d *delivery) {
	if d.previous == nil {
		s.first = d.next
	} else {
		d.previous.next = d.next
	}
	if d.next == nil {
		s.last = d.previous
	} else {
		d.next.previous = d.previous
	}
	d.previous, d.next = nil, nil
	if s.unsettled == s.consumer.prefetch {
		async.Notify(s.consumer.wake) // the consumer had reached its prefetch limit, and can now receive another message
	}
	s.unsettled--
	s.removeIfDone()
}

// removeIfDone removes the session from the queue if the consumer has ended and all deliveries are settled.
func (s *session) removeIfDone() {
	if s.consumer.ended && s.unsettled == 0 {
		delete(s.queue.sessions, s)
	}
}

// lose ends the session with an error, and returns the unsettled messages to the front of the queue.
func (s *session) lose(err error) {
	s.err = err
	for d := s.last; d != nil; d = d.previous {
		s.queue.ready.PushFront(d.message)
	}
	s.first, s.last, s.unsettled = nil, nil, 0
	delete(s.queue.sessions, s)
	s.queue.wakeOne()
}

// delivery is the broker.Settler of one delivery. The mutex of the queue guards it.
type delivery struct {
	session        *session
	message        *message
	previous, next *delivery
	settled        bool
}

var _ broker.Settler = (*delivery)(nil)

// settle marks the delivery as settled, and calls outcome while the queue is locked.
func (d *delivery) settle(outcome func(*queue, *message)) error {
	s := d.session
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	switch {
	case d.settled:
		return broker.ErrSettled
	case s.err != nil:
		return s.err
	}
	d.settled = true
	s.remove(d)
	outcome(s.queue, d.message)
	return nil
}

// Ack removes the message from the queue.
func (d *delivery) Ack() error {
	return d.settle(func(q *queue, _ *message) { q.leave() })
}

// Requeue returns the message to the front of the queue.
func (d *delivery) Requeue() error {
	return d.settle(func(q *queue, m *message) {
		q.ready.PushFront(m)
		q.wakeOne()
	})
}

// Retry moves the message to the retry queue.
func (d *delivery) Retry(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.settle(func(q *queue, m *message) {
		again := &message{content: m.content}
		again.content.Attempt++
		q.delay(again)
	})
}

// DeadLetter adds the message to the dead letters.
func (d *delivery) DeadLetter(ctx context.Context, reason broker.Reason) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.settle(func(q *queue, m *message) {
		q.dead.add(DeadLetter{Message: m.content, Queue: q.name, Reason: reason.Bounded()})
		q.leave()
	})
}
