package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/internal/tally"
	"github.com/parking-operator/parking-operator/internal/outage"
)

// errRejected ends a session in which the broker has rejected a message.
var errRejected = errors.New("the broker rejected messages: the queue may be full, or without a leader")

// outgoing is a message that was accepted for publishing and that the broker has not confirmed yet.
type outgoing struct {
	publishing amqp.Publishing
	confirmed  func()
	number     uint64 // identifies the message in the tally of unconfirmed messages
	published  bool   // whether the message was published at least once
}

// lane publishes the messages of one routing key on its own channel, so that a queue without confirms does not delay
// other queues.
type lane struct {
	link     *link
	declare  func(*connection) (*amqp.Channel, error) // opens a channel and declares the queues and the exchange
	exchange string
	key      string
	tally    *tally.Tally
	metrics  *metrics
	outages  *outage.Log
	part     string // the name of the lane in the outage log

	slots chan struct{} // a semaphore: each unconfirmed message holds a slot
	wake  chan struct{} // receives a value when a message is added to unsent

	mu     sync.Mutex
	unsent []*outgoing // oldest first
}

// put accepts m. It blocks while the window of unconfirmed messages is full. It returns an error only if ctx ends or
// the broker is closed.
func (l *lane) put(ctx context.Context, closed <-chan struct{}, m *outgoing) error {
	if err := l.acquireSlot(ctx, closed); err != nil {
		return err
	}
	m.number = l.tally.Accept()
	l.metrics.unconfirmed.Inc()
	l.mu.Lock()
	l.unsent = append(l.unsent, m)
	l.mu.Unlock()
	async.Notify(l.wake)
	return nil
}

func (l *lane) acquireSlot(ctx context.Context, closed <-chan struct{}) error {
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

// confirm handles the confirm of m: it frees the slot for another message and calls the callback of m.
func (l *lane) confirm(m *outgoing) {
	<-l.slots
	l.metrics.unconfirmed.Dec()
	m.confirmed()
	l.tally.Confirm(m.number)
}

// swapUnsent returns the unsent messages, and replaces them with the given empty slice.
func (l *lane) swapUnsent(empty []*outgoing) []*outgoing {
	l.mu.Lock()
	defer l.mu.Unlock()
	unsent := l.unsent
	l.unsent = empty
	return unsent
}

// putBack puts the given messages in front of the unsent messages, because the given messages are older.
func (l *lane) putBack(messages []*outgoing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsent = append(messages, l.unsent...)
}

// run publishes messages until ctx ends.
func (l *lane) run(ctx context.Context) {
	delay := newRetries()
	for l.awaitWork(ctx) {
		confirmed, err := l.session(ctx)
		if confirmed > 0 {
			delay.Reset()
		}
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errConnectionLost) { // the link logs a lost connection
			l.outages.Fault(l.part, err)
		}
		_ = delay.wait(ctx, err) // fails only if ctx has ended, which ends the loop
	}
}

// awaitWork waits until the lane has a message to publish. It returns false if ctx ends first.
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

// session publishes messages on one channel until the channel is lost, the broker rejects or returns a message, or ctx
// ends. The next session publishes the unconfirmed messages again.
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
	// This wait always ends: when the AMQP channel closes, the client library reports all messages as unconfirmed.
	<-collected
	l.putBack(append(s.unconfirmed, rest...))
	_ = s.channel.Close() // the server may have closed the channel already
	return s.confirmed, lostOr(conn, fmt.Errorf("publish to %s with key %s: %w", l.exchange, l.key, s.reason(err)))
}

// open opens a channel, declares the queues, and enables publisher confirms on the channel.
func (l *lane) open(conn *connection) (*sending, error) {
	channel, err := l.declare(conn)
	if err != nil {
		return nil, err
	}
	if err := channel.Confirm(false); err != nil {
		_ = channel.Close()
		return nil, fmt.Errorf("enable confirms: %w", err)
	}
	return &sending{
		lane:    l,
		channel: channel,
		closes:  channel.NotifyClose(make(chan *amqp.Error, 1)),
		// The Go channel must never be full. The client library would discard a return after 5 s, and the message
		// would count as confirmed.
		returns:  channel.NotifyReturn(make(chan amqp.Return, cap(l.slots))),
		inFlight: make(chan flight, cap(l.slots)),
		refused:  make(chan struct{}),
		returned: make(map[string]struct{}),
	}, nil
}

// sending publishes the messages of a lane over one channel. It has two goroutines: the sender publishes messages, and
// the collector receives the confirms.
type sending struct {
	lane    *lane
	channel *amqp.Channel
	closes  <-chan *amqp.Error
	returns <-chan amqp.Return

	inFlight chan flight   // published messages that the sender passes to the collector
	refused  chan struct{} // closed by the collector when a message is rejected or returned, or the AMQP channel is lost

	// Until the collector ends, only the collector uses the following fields.
	returned    map[string]struct{} // the IDs of returned messages
	unconfirmed []*outgoing
	confirmed   int
}

// flight is a published message that the server has not answered yet.
type flight struct {
	message *outgoing
	// Each message in flight has its own answer. A common listener could report a rejected message as confirmed,
	// because one confirm can cover several messages.
	answer *amqp.DeferredConfirmation
}

// send publishes the waiting messages until the session ends. It returns the error that ended the session, and the
// messages that it took but did not publish.
func (s *sending) send(ctx context.Context) (rest []*outgoing, err error) {
	var batch []*outgoing
	for {
		clear(batch)
		batch = s.lane.swapUnsent(batch[:0])
		for i, m := range batch {
			if err := s.publish(m); err != nil {
				return slices.Clone(batch[i:]), err
			}
		}
		select {
		case <-s.lane.wake:
		case <-s.refused:
			return nil, errRejected
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *sending) publish(m *outgoing) error {
	select {
	case <-s.refused:
		return errRejected
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
	s.inFlight <- flight{message: m, answer: answer} // does not block: there is room for all unconfirmed messages
	return nil
}

// collect receives the confirms of all published messages, and the messages that the server returns.
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

// await waits until the server has answered f. The server sends the return of a message before its confirm, so await
// misses no return.
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
		s.keepUnconfirmed(f.message)
		return
	}
	s.confirmed++
	s.lane.outages.Fine(s.lane.link.part, s.lane.part)
	s.lane.confirm(f.message)
}

// noteReturn records the ID of a returned message, so that the next session publishes the message again. If a message
// without an ID is returned, the next session publishes all unconfirmed messages without an ID again.
func (s *sending) noteReturn(r amqp.Return, open bool) {
	if !open {
		s.returns = nil // the library has closed the channel; unlike a closed channel, a nil channel is never ready
		return
	}
	s.returned[r.MessageId] = struct{}{}
}

// keepUnconfirmed keeps a rejected or returned message for the next session, and makes the current session end.
func (s *sending) keepUnconfirmed(m *outgoing) {
	// The client library also reports unanswered messages as rejected when the channel is lost.
	if !s.channel.IsClosed() {
		s.lane.metrics.rejected.Inc()
	}
	if len(s.unconfirmed) == 0 {
		close(s.refused)
	}
	s.unconfirmed = append(s.unconfirmed, m)
}

// reason returns why the session ended: the error with which the server closed the channel, or errQueueGone if no queue
// received a message. Otherwise, it returns err.
func (s *sending) reason(err error) error {
	select {
	case closed := <-s.closes:
		if closed != nil {
			return withRemedy(closed)
		}
	default:
	}
	if len(s.returned) > 0 {
		return errQueueGone
	}
	return err
}

// errConnectionLost ends a session whose connection was lost.
var errConnectionLost = errors.New("the connection to RabbitMQ was lost")

// lostOr returns err if the connection is open. Otherwise, it returns an error that matches errConnectionLost and
// contains the reason.
func lostOr(conn *connection, err error) error {
	if !conn.IsClosed() {
		return err
	}
	reason := conn.reason()
	switch {
	case reason == nil:
		// This program has closed the connection.
		return errConnectionLost
	case errors.Is(err, reason):
		// RabbitMQ closed the connection because of the request that failed with err.
		return &lostError{withRemedy(err)}
	default:
		return &lostError{withRemedy(fmt.Errorf("%w: %w", errConnectionLost, reason))}
	}
}

// lostError is the error of a request or a session whose connection was lost. Its text contains the reason.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

// Is makes errors.Is(err, errConnectionLost) true for every lostError.
func (e *lostError) Is(target error) bool { return target == errConnectionLost }
