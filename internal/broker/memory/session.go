package memory

import (
	"context"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// session stands for the connection over which a consumer got its deliveries. It is guarded by the queue's
// mutex.
type session struct {
	queue       *queue
	consumer    *consumer
	err         error // what settling returns, when the session is lost
	unsettled   int
	first, last *delivery // the unsettled ones, the oldest first
}

func (q *queue) newSession(c *consumer) *session {
	s := &session{queue: q, consumer: c}
	q.sessions[s] = struct{}{}
	return s
}

// deliver makes a delivery of m.
func (s *session) deliver(m *message) broker.Delivery {
	redelivered := m.delivered
	d := &m.first
	if redelivered {
		d = &delivery{} // the first belongs to an earlier session
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

// remove takes a delivery that is settled out of the list.
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
		signal(s.consumer.wake) // it has credit again
	}
	s.unsettled--
	s.forgetIfDone()
}

// forgetIfDone lets go of a session in which nothing happens any more.
func (s *session) forgetIfDone() {
	if s.consumer.ended && s.unsettled == 0 {
		delete(s.queue.sessions, s)
	}
}

// lose ends the session: what is unsettled is ready again.
func (s *session) lose(err error) {
	s.err = err
	for d := s.last; d != nil; d = d.previous {
		s.queue.ready.pushFront(d.message)
	}
	s.first, s.last, s.unsettled = nil, nil, 0
	delete(s.queue.sessions, s)
	s.queue.wakeOne()
}

// delivery is the settler of one delivery. It is guarded by the queue's mutex.
type delivery struct {
	session        *session
	message        *message
	previous, next *delivery
	settled        bool
}

var _ broker.Settler = (*delivery)(nil)

// settle takes the delivery out of its session; what becomes of the message is up to outcome, which is
// called with the queue's mutex held.
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

// Ack drops the message.
func (d *delivery) Ack() error {
	return d.settle(func(q *queue, _ *message) { q.leave() })
}

// Requeue makes the message ready again, before all others.
func (d *delivery) Requeue() error {
	return d.settle(func(q *queue, m *message) {
		q.ready.pushFront(m)
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

// DeadLetter moves the message to the dead letters.
func (d *delivery) DeadLetter(ctx context.Context, reason broker.Reason) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.settle(func(q *queue, m *message) {
		q.dead.add(DeadLetter{Message: m.content, Queue: q.name, Reason: reason.Bounded()})
		q.leave()
	})
}
