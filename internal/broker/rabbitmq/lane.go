package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/internal/tally"
	"github.com/parking-operator/parking-operator/internal/outage"
)

// errRefused ends a session in which the broker refused a message, as it does when the queue is full or has
// no leader.
var errRefused = errors.New("the broker refused messages")

// outgoing is a message that the broker is to confirm.
type outgoing struct {
	publishing amqp.Publishing
	confirmed  func()
	number     uint64 // in the tally
	published  bool   // at least once
}

// lane publishes the messages of one routing key over a channel of its own, so that a queue that does not
// confirm delays no other. It keeps each message until it is confirmed.
//
// A session of the lane is one channel. It ends when the channel is lost, or when the broker refuses or
// returns a message. In the latter case the answers to everything published are waited for. What remains
// unconfirmed is published in the next session, after the topology has been declared again.
type lane struct {
	link     *link
	declare  func(*connection) (*amqp.Channel, error) // opens a channel with the topology declared
	exchange string
	key      string
	tally    *tally.Tally
	metrics  *collectors
	outages  *outage.Log
	part     string // of the broker, that the lane is

	slots chan struct{} // one is taken for each unconfirmed message
	wake  chan struct{} // signals that there is something unsent

	mu     sync.Mutex
	unsent []*outgoing // oldest first
}

// put takes m over as soon as there is room in the window. Its error is that of ctx, or ErrClosed.
func (l *lane) put(ctx context.Context, closed <-chan struct{}, m *outgoing) error {
	if err := l.takeSlot(ctx, closed); err != nil {
		return err
	}
	m.number = l.tally.Take()
	l.metrics.unconfirmed.Inc()
	l.mu.Lock()
	l.unsent = append(l.unsent, m)
	l.mu.Unlock()
	signal(l.wake)
	return nil
}

func (l *lane) takeSlot(ctx context.Context, closed <-chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closed:
		return broker.ErrClosed
	}
}

// confirm lets go of a message that the broker has taken responsibility for.
func (l *lane) confirm(m *outgoing) {
	<-l.slots
	l.metrics.unconfirmed.Dec()
	m.confirmed()
	l.tally.Confirm(m.number)
}

// take returns what is unsent, in exchange for an empty slice to collect more in.
func (l *lane) take(empty []*outgoing) []*outgoing {
	l.mu.Lock()
	defer l.mu.Unlock()
	unsent := l.unsent
	l.unsent = empty
	return unsent
}

// putBack returns messages, older than those that are unsent.
func (l *lane) putBack(messages []*outgoing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsent = append(messages, l.unsent...)
}

// run publishes until ctx ends.
func (l *lane) run(ctx context.Context) {
	pause := newBackoff()
	for l.awaitWork(ctx) {
		confirmed, err := l.session(ctx)
		if confirmed > 0 {
			pause.Reset()
		}
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errConnectionLost) { // the link reports that
			l.outages.Fault(l.part, err)
		}
		_ = pause.Wait(ctx, leastPause(err)) // the loop sees for itself whether ctx has ended
	}
}

// awaitWork waits until something is unsent. It reports false when ctx ends before.
func (l *lane) awaitWork(ctx context.Context) bool {
	for !l.hasWork() {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (l *lane) hasWork() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.unsent) > 0
}

// session publishes over one channel for as long as that goes well, and returns why it ended and how many
// messages were confirmed.
func (l *lane) session(ctx context.Context) (confirmed int, err error) {
	conn, err := l.link.get(ctx)
	if err != nil {
		return 0, err
	}
	s, err := l.open(conn)
	if err != nil {
		return 0, lostOr(conn, fmt.Errorf("publish to %s with key %s: %w", l.exchange, l.key, err))
	}
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		s.collect()
	}()
	rest, err := s.send(ctx)
	close(s.inFlight)
	<-collected // every answer comes, at the latest when the connection is closed
	l.putBack(append(s.unconfirmed, rest...))
	_ = s.channel.Close() // it may be closed already
	return s.confirmed, lostOr(conn, fmt.Errorf("publish to %s with key %s: %w", l.exchange, l.key, s.reason(err)))
}

// open opens a channel on which what is published reaches its queue and is confirmed.
func (l *lane) open(conn *connection) (*sending, error) {
	channel, err := l.declare(conn)
	if err != nil {
		return nil, err
	}
	if err := channel.Confirm(false); err != nil {
		_ = channel.Close()
		return nil, fmt.Errorf("ask for confirms: %w", err)
	}
	return &sending{
		lane:     l,
		channel:  channel,
		closes:   channel.NotifyClose(make(chan *amqp.Error, 1)),
		returns:  channel.NotifyReturn(make(chan amqp.Return, 16)),
		inFlight: make(chan flight, cap(l.slots)),
		refused:  make(chan struct{}),
		returned: make(map[string]struct{}),
	}, nil
}

// sending is a session of a lane. One goroutine sends, another one collects the answers.
type sending struct {
	lane    *lane
	channel *amqp.Channel
	closes  <-chan *amqp.Error
	returns <-chan amqp.Return

	inFlight chan flight   // from the sender to the collector
	refused  chan struct{} // closed by the collector when a message stays unconfirmed

	// The collector's, until it ends.
	returned    map[string]struct{} // message ids
	unconfirmed []*outgoing
	confirmed   int
}

// flight is a message that has been published but not answered. The answers are those that the client
// library keeps for each message. Its listener for confirms would do with less, but reports a refused
// message as confirmed when a confirm for several messages follows before the refused one's turn.
type flight struct {
	message *outgoing
	answer  *amqp.DeferredConfirmation
}

// send publishes what the lane has. It returns why it cannot go on, and what it has taken from the lane
// but not published.
func (s *sending) send(ctx context.Context) (rest []*outgoing, err error) {
	var batch []*outgoing
	for {
		clear(batch)
		batch = s.lane.take(batch[:0])
		for i, m := range batch {
			if err := s.publish(m); err != nil {
				return slices.Clone(batch[i:]), err
			}
		}
		select {
		case <-s.lane.wake:
		case <-s.refused:
			return nil, errRefused
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *sending) publish(m *outgoing) error {
	select {
	case <-s.refused:
		return errRefused
	default:
	}
	if m.published {
		s.lane.metrics.repeated.Inc()
	}
	answer, err := s.channel.PublishWithDeferredConfirm(s.lane.exchange, s.lane.key, true, false, m.publishing)
	if err != nil {
		return err
	}
	m.published = true
	s.inFlight <- flight{message: m, answer: answer} // never blocks: each message in it holds a slot
	return nil
}

// collect receives the answers until no more are expected. It has to receive the returns at the same time:
// the library's reader waits for that.
func (s *sending) collect() {
	for {
		select {
		case f, open := <-s.inFlight:
			if !open {
				return
			}
			s.await(f)
		case r, open := <-s.returns:
			s.noteReturn(r, open)
		}
	}
}

// await waits for the answer to f. A message that cannot be routed is returned and then confirmed, so by
// the time of its confirm the return has been noted or waits to be received.
func (s *sending) await(f flight) {
	for answered := false; !answered; {
		select {
		case <-f.answer.Done():
			answered = true
		case r, open := <-s.returns:
			s.noteReturn(r, open)
		}
	}
	for len(s.returns) > 0 {
		r, open := <-s.returns
		s.noteReturn(r, open)
	}
	if _, returned := s.returned[f.message.publishing.MessageId]; returned || !f.answer.Acked() {
		s.refuse(f.message)
		return
	}
	s.confirmed++
	s.lane.outages.Fine(partConnection, s.lane.part)
	s.lane.confirm(f.message)
}

// noteReturn remembers a return by the message id. When several messages share an id, or have none, all
// of them count as returned: published twice is better than lost.
func (s *sending) noteReturn(r amqp.Return, open bool) {
	if !open {
		s.returns = nil // the channel is closed
		return
	}
	s.returned[r.MessageId] = struct{}{}
}

// refuse keeps a message for the next session, which is thereby called for. When a channel is lost, the
// library answers for the server that everything is refused.
func (s *sending) refuse(m *outgoing) {
	if !s.channel.IsClosed() {
		s.lane.metrics.refused.Inc()
	}
	if len(s.unconfirmed) == 0 {
		close(s.refused)
	}
	s.unconfirmed = append(s.unconfirmed, m)
}

// reason is why the server has closed the channel, if it has, or why it has not routed a message, and err
// otherwise.
func (s *sending) reason(err error) error {
	select {
	case closed := <-s.closes:
		if closed != nil {
			return closed
		}
	default:
	}
	if len(s.returned) > 0 {
		return errQueueGone
	}
	return err
}

// errConnectionLost is the end of a session whose connection has gone.
var errConnectionLost = errors.New("connection lost")

func lostOr(conn *connection, err error) error {
	if conn.IsClosed() {
		return errConnectionLost
	}
	return err
}

// signal wakes who waits on a channel of capacity one, now or when it waits next.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
