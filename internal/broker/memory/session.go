package memory

import (
	"context"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/broker"
)

// session is the period in which a consumer receives deliveries, like a connection to a server. The mutex of
// the queue guards it.
type session struct {
	queue       *queue
	consumer    *consumer
	err         error // the result of settling after the session is lost
	unsettled   int
	first, last *delivery // the unsettled ones, the oldest first
}

func (q *queue) newSession(c *consumer) *session {
	s := &session{queue: q, consumer: c}
	q.sessions[s] = struct{}{}
	return s
}

// deliver returns a new delivery of m.
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

// remove removes a settled delivery from the session's list of unsettled ones.
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
		async.Notify(s.consumer.wake) // the consumer may receive again
	}
	s.unsettled--
	s.removeIfDone()
}

// removeIfDone removes a session that will have no more deliveries.
func (s *session) removeIfDone() {
	if s.consumer.ended && s.unsettled == 0 {
		delete(s.queue.sessions, s)
	}
}

// lose ends the session. Its unsettled messages are ready again.
func (s *session) lose(err error) {
	s.err = err
	for d := s.last; d != nil; d = d.previous {
		s.queue.ready.pushFront(d.message)
	}
	s.first, s.last, s.unsettled = nil, nil, 0
	delete(s.queue.sessions, s)
	s.queue.wakeOne()
}

// delivery settles one delivery. The mutex of the queue guards it.
type delivery struct {
	session        *session
	message        *message
	previous, next *delivery
	settled        bool
}

var _ broker.Settler = (*delivery)(nil)

// settle removes the delivery from its session and then calls outcome. The mutex of the queue is held during
// the call.
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

// Ack removes the message.
func (d *delivery) Ack() error {
	return d.settle(func(q *queue, _ *message) { q.leave() })
}

// Requeue returns the message to the front of the queue.
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
