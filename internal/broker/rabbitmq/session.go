package rabbitmq

import (
	"runtime"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// gapPatience is how long an acknowledgement beyond a gap waits for the gap to close.
const gapPatience = 250 * time.Millisecond

// session is one consuming channel, with the deliveries that came over it and that the server believes to
// be unsettled. After it is set up, a single goroutine talks to the channel.
//
// Acknowledgements are coalesced. Whoever settles a delivery only marks it and wakes the goroutine, which
// sends what has been marked by then: one acknowledgement for the longest prefix of settled deliveries.
// What is settled beyond a gap, a delivery that takes longer, waits for the gap to close, as it usually does
// soon, but no longer than gapPatience, and only while it is less than half of the prefetch; then each
// is acknowledged by itself. So a message that takes long stalls no other, and the server seldom gets single
// acknowledgements, which cost it half as much again as the delivery itself.
type session struct {
	channel  *amqp.Channel
	tag      string // the consumer's
	prefetch int
	closes   <-chan *amqp.Error
	wake     chan struct{}
	done     chan struct{} // closed when the session has ended
	reason   error         // why the channel was closed, if the server did; readable when the session has ended

	mu        sync.Mutex
	err       error // what settling returns since the session is to end
	retiring  bool  // no more deliveries are wanted
	cancelled bool  // the server knows that
	drained   bool  // no more deliveries come
	// first and last are the ends of the list of deliveries that the server believes to be unsettled, in
	// the order of their tags. Those among them that are in fact settled are also in settled, in the order
	// of settling.
	first, last *delivery
	settled     []*delivery
}

// verdict is what becomes of a delivery.
type verdict uint8

const (
	unsettled verdict = iota
	reserved          // being moved to another queue, acknowledged thereafter
	acknowledged
	requeued
)

func newSession(channel *amqp.Channel, tag string, prefetch int) *session {
	return &session{
		channel: channel, tag: tag, prefetch: prefetch,
		closes: channel.NotifyClose(make(chan *amqp.Error, 1)),
		wake:   make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// add appends a delivery to the list.
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

// settle decides on a delivery. It is the transition from one verdict to another.
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
		signal(s.wake)
	}
	return nil
}

// finish makes the session end as soon as what has been settled is sent. From now on settling returns err.
func (s *session) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	signal(s.wake)
}

// retire stops the deliveries and lets the session live on until all are settled.
func (s *session) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retiring = true
	signal(s.wake)
}

// markDrained says that no more deliveries come.
func (s *session) markDrained() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drained = true
	signal(s.wake)
}

// run sends what is settled until the session ends.
func (s *session) run() {
	defer close(s.done)
	defer s.finish(broker.ErrSessionLost)
	defer func() { _ = s.channel.Close() }() // it may be closed already
	patience := time.NewTimer(gapPatience)
	defer patience.Stop()
	var out outbox
	for !out.last {
		select {
		case <-s.wake:
		case <-patience.C:
		case reason, lost := <-s.closes:
			if lost {
				s.reason = reason
			}
			return
		}
		runtime.Gosched() // whoever is about to settle comes along
		s.plan(&out, time.Now())
		if err := s.send(&out); err != nil {
			return
		}
		if out.patience > 0 {
			patience.Reset(out.patience)
		}
	}
}

// outbox is what there is to tell the server.
type outbox struct {
	requeues []uint64
	prefix   uint64 // to be acknowledged with everything before it; 0 for none
	singles  []uint64
	patience time.Duration // how long to wait for a gap to close; 0 for no gap
	cancel   bool          // no more deliveries are wanted
	last     bool          // the session ends with this
}

// plan decides what to tell the server now, and takes that from the list.
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
}

// planSingles decides which of the settled deliveries beyond a gap have waited long enough.
func (s *session) planSingles(out *outbox, now time.Time) {
	isRemoved := func(d *delivery) bool { return d.removed }
	s.settled = slices.DeleteFunc(s.settled, isRemoved)
	if len(s.settled) == 0 {
		return
	}
	for i := len(s.settled) - 1; i >= 0 && s.settled[i].waiting.IsZero(); i-- {
		s.settled[i].waiting = now
	}
	all := out.cancel || out.last || len(s.settled) > s.prefetch/2
	for _, d := range s.settled {
		if patience := gapPatience - now.Sub(d.waiting); !all && patience > 0 {
			out.patience = patience
			break // those behind were settled later
		}
		out.singles = append(out.singles, d.tag)
		s.remove(d)
	}
	s.settled = slices.DeleteFunc(s.settled, isRemoved)
}

// remove takes a delivery out of the list.
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

// send tells the server. What is requeued precedes the prefix, which may reach beyond it.
//
// The consumer is cancelled last. A channel passes no more than some 30 acknowledgements at a time on to a
// quorum queue, and forgets those that it holds back when it is closed. It answers a cancellation when the
// queue has taken what was passed on, and then passes on the rest.
func (s *session) send(out *outbox) error {
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
	if out.cancel {
		return s.channel.Cancel(s.tag, false)
	}
	return nil
}
