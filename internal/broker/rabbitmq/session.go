package rabbitmq

import (
	"runtime"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/broker"
)

// gapPatience is the maximum time that an acknowledgement waits for an earlier, unsettled delivery.
const gapPatience = 250 * time.Millisecond

// session consumes from one queue over one AMQP channel. After the setup, only run uses the channel.
type session struct {
	channel  *amqp.Channel
	queue    string
	tag      string // the consumer tag
	prefetch int
	closes   <-chan *amqp.Error
	wake     chan struct{}
	done     chan struct{} // closed when the session has ended
	reason   error         // why the server closed the AMQP channel, or nil; valid when the session has ended

	mu        sync.Mutex
	err       error // why deliveries can no longer be settled, or nil
	retiring  bool  // whether the session must cancel the consumer
	cancelled bool  // whether the session has already requested to cancel the consumer
	// unanswered is true if settlements were sent after the cancellation of the consumer. The session must then call
	// flush at its end.
	unanswered bool
	drained    bool // true if the session will receive no more deliveries
	// first and last are the ends of a linked list of all deliveries that the server still regards as unsettled, in the
	// order of their tags.
	first, last *delivery
	// settled contains the settled deliveries whose settlements have not been sent yet, in the order in which they were
	// settled.
	settled []*delivery
}

// verdict says whether and how a delivery was settled.
type verdict uint8

const (
	unsettled verdict = iota
	reserved          // a copy is being published to another queue
	acknowledged
	requeued
)

func newSession(channel *amqp.Channel, queue, tag string, prefetch int) *session {
	return &session{
		channel: channel, queue: queue, tag: tag, prefetch: prefetch,
		closes: channel.NotifyClose(make(chan *amqp.Error, 1)),
		wake:   make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// add appends d to the list of unsettled deliveries.
func (s *session) add(d *delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.previous = s.last
	if s.last == nil {
		s.first = d
	} else {
		s.last.next = d
	}
	s.last = d
}

// settle changes the verdict of a delivery. It returns broker.ErrSettled if the current verdict is not the expected
// one.
func (s *session) settle(d *delivery, from, to verdict) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case d.verdict != from:
		return broker.ErrSettled
	case s.err != nil:
		return s.err
	}
	d.verdict = to
	if to == acknowledged || to == requeued {
		s.settled = append(s.settled, d)
		async.Notify(s.wake)
	}
	return nil
}

// finish makes the session send the pending settlements and then end. Later calls of settle return the error of the
// first finish.
func (s *session) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	async.Notify(s.wake)
}

// retire makes the session cancel its consumer, and end once all deliveries are settled.
func (s *session) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retiring = true
	async.Notify(s.wake)
}

func (s *session) markDrained() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drained = true
	async.Notify(s.wake)
}

// run sends settlements to the server until the session ends.
func (s *session) run() {
	defer close(s.done)
	defer s.finish(broker.ErrSessionLost)
	defer s.close()
	patience := time.NewTimer(gapPatience)
	defer patience.Stop()
	var out outbox
	for !out.last {
		select {
		case <-s.wake:
		case <-patience.C:
		case s.reason = <-s.closes:
			return
		}
		runtime.Gosched() // let other goroutines settle more deliveries, because one request can acknowledge many
		s.plan(&out, time.Now())
		if err := s.send(&out); err != nil {
			return
		}
		if out.patience > 0 {
			patience.Reset(out.patience)
		}
	}
}

// close closes the channel, and records why if the server has already closed it.
func (s *session) close() {
	_ = s.channel.Close() // Close fails if the server has already closed the channel
	// This receive does not block: the client library closes s.closes when it closes the AMQP channel.
	if reason := <-s.closes; reason != nil && s.reason == nil {
		s.reason = reason
	}
}

// outbox is a batch of requests that the session sends to the server, mostly settlements.
type outbox struct {
	requeues []uint64
	prefix   uint64 // acknowledge all deliveries up to this tag; 0 for none
	singles  []uint64
	patience time.Duration // the time until the oldest waiting acknowledgement must be sent; 0 if none waits
	cancel   bool          // whether to cancel the consumer of this session
	flush    bool          // whether to call flush after the other requests
	last     bool          // whether this is the last outbox of the session
}

// plan fills the outbox with the settlements that are due.
func (s *session) plan(out *outbox, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*out = outbox{requeues: out.requeues[:0], singles: out.singles[:0]}
	for _, d := range s.settled {
		if d.verdict == requeued {
			out.requeues = append(out.requeues, d.tag)
			s.remove(d)
		}
	}
	for s.first != nil && s.first.verdict == acknowledged {
		out.prefix = s.first.tag
		s.remove(s.first)
	}
	out.last = s.err != nil || (s.drained && s.first == nil)
	out.cancel = !s.cancelled && (s.retiring || out.last)
	s.cancelled = s.cancelled || out.cancel
	s.planSingles(out, now)
	s.unanswered = !out.cancel && (s.unanswered || s.cancelled && out.settles())
	out.flush = out.last && s.unanswered
}

// settles reports whether the outbox contains acknowledgements or requeues.
func (out *outbox) settles() bool {
	return len(out.requeues) > 0 || out.prefix > 0 || len(out.singles) > 0
}

// planSingles plans individual acknowledgements of deliveries that have waited too long for an earlier delivery to be
// settled. Individual acknowledgements are expensive for the server.
func (s *session) planSingles(out *outbox, now time.Time) {
	isRemoved := func(d *delivery) bool { return d.removed }
	s.settled = slices.DeleteFunc(s.settled, isRemoved)
	if len(s.settled) == 0 {
		return
	}
	for i := len(s.settled) - 1; i >= 0 && s.settled[i].waiting.IsZero(); i-- {
		s.settled[i].waiting = now
	}
	// Waiting deliveries count toward the prefetch. If they use more than half of it, acknowledge all of them now, so
	// that the server continues to deliver messages.
	all := out.cancel || out.last || len(s.settled) > s.prefetch/2
	for _, d := range s.settled {
		if patience := gapPatience - now.Sub(d.waiting); !all && patience > 0 {
			out.patience = patience
			break // later deliveries have not waited longer than this delivery, so they are not due either
		}
		out.singles = append(out.singles, d.tag)
		s.remove(d)
	}
	s.settled = slices.DeleteFunc(s.settled, isRemoved)
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
	d.previous, d.next, d.removed = nil, nil, true
}

// send sends the requests in the outbox. If the leader of the queue changes, settlements can be lost, and the queue
// delivers the messages again.
func (s *session) send(out *outbox) error {
	// Requeue first, because the acknowledgement below includes all earlier deliveries that are still unsettled.
	for _, tag := range out.requeues {
		if err := s.channel.Nack(tag, false, true); err != nil {
			return err
		}
	}
	if out.prefix > 0 {
		if err := s.channel.Ack(out.prefix, true); err != nil {
			return err
		}
	}
	for _, tag := range out.singles {
		if err := s.channel.Ack(tag, false); err != nil {
			return err
		}
	}
	// Wait until the queue has received all settlements. Closing the channel would discard settlements that the
	// server has not forwarded to the queue: it forwards at most 32 at a time to a quorum queue (SOFT_LIMIT in
	// rabbit_fifo_client.erl).
	switch {
	case out.cancel:
		return s.channel.Cancel(s.tag, false)
	case out.flush:
		return s.flush()
	}
	return nil
}

// flush sends basic.get and waits for the answer. The queue answers only after it has received all earlier
// settlements. If the answer contains a message, flush requeues it.
func (s *session) flush() error {
	d, ok, err := s.channel.Get(s.queue, false)
	if err != nil || !ok {
		return err
	}
	return s.channel.Nack(d.DeliveryTag, false, true)
}
