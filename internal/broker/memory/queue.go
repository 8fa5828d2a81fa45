package memory

import (
	"context"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/internal/tally"
	"github.com/parking-operator/parking-operator/internal/ring"
)

type message struct {
	content   broker.Message
	delivered bool
	first     delivery // stored here to save an allocation: nearly every message is delivered only once
}

// queue is a queue and its retry queue. One mutex guards both.
type queue struct {
	name   broker.Queue
	config Config
	dead   *deadLetters
	tally  *tally.Tally

	mu        sync.Mutex
	closed    bool
	ready     ring.Ring[*message]
	retries   ring.Ring[retry]
	messages  int // number of messages that are ready, delivered but unsettled, or waiting for a retry
	consumers map[*consumer]struct{}
	idle      ring.Ring[*consumer] // consumers that wait for a message, longest wait first; can contain ended consumers
	sessions  map[*session]struct{}

	confirms    []pendingConfirm // confirm callbacks that have not been called yet
	unconfirmed int
	confirming  bool          // whether a goroutine is calling confirm callbacks
	room        chan struct{} // closed when a publisher may find room; nil if no publisher waits for room
}

// pendingConfirm is a confirm callback that was passed to Publish and has not been called yet.
type pendingConfirm struct {
	call   func()
	number uint64 // identifies the message in the tally of unconfirmed messages
}

// retry is a message in the retry queue.
type retry struct {
	message *message
	due     time.Time
}

func newQueue(name broker.Queue, config Config, dead *deadLetters, counts *tally.Tally) *queue {
	return &queue{
		name: name, config: config, dead: dead, tally: counts,
		consumers: make(map[*consumer]struct{}), sessions: make(map[*session]struct{}),
	}
}

// publish appends m to the queue. It blocks until there is room.
func (q *queue) publish(ctx context.Context, closed <-chan struct{}, m *message, confirmed func()) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		room, err := q.tryPublish(m, confirmed)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-closed:
			return broker.ErrClosed
		}
	}
}

// tryPublish appends m to the queue. If there is no room, it returns a channel that is closed when the caller should
// try again.
func (q *queue) tryPublish(m *message, confirmed func()) (room <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, broker.ErrClosed
	}
	if q.messages >= q.config.Limit || q.unconfirmed >= q.config.Window {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		return q.room, nil
	}
	q.messages++
	q.ready.PushBack(m)
	q.wakeOne()
	q.unconfirmed++
	q.confirms = append(q.confirms, pendingConfirm{call: confirmed, number: q.tally.Accept()})
	if !q.confirming {
		q.confirming = true
		go q.confirm()
	}
	return nil, nil
}

// confirm calls all pending confirm callbacks, including those that are added while it runs.
func (q *queue) confirm() {
	var batch []pendingConfirm
	for {
		batch = q.nextConfirms(batch)
		if len(batch) == 0 {
			return
		}
		for _, c := range batch {
			c.call()
			q.tally.Confirm(c.number)
		}
	}
}

// nextConfirms returns the pending callbacks. The argument previous contains those of the last call, which must have
// run. Its memory is reused.
func (q *queue) nextConfirms(previous []pendingConfirm) []pendingConfirm {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unconfirmed -= len(previous)
	q.signalRoom()
	clear(previous)
	batch := q.confirms
	q.confirms = previous[:0]
	q.confirming = len(batch) > 0
	return batch
}

// signalRoom wakes the publishers that wait for room.
func (q *queue) signalRoom() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// wakeOne wakes the consumer that has waited longest for a message.
func (q *queue) wakeOne() {
	for q.idle.Len() > 0 {
		c := q.idle.PopFront()
		c.idle = false
		if !c.ended {
			async.Notify(c.wake)
			return
		}
	}
}

func (q *queue) leave() {
	q.messages--
	q.signalRoom()
}

// delay adds m to the retry queue.
func (q *queue) delay(m *message) {
	q.retries.PushBack(retry{message: m, due: time.Now().Add(q.config.RetryDelay)})
	if q.retries.Len() == 1 {
		time.AfterFunc(q.config.RetryDelay, q.releaseRetries)
	}
}

// releaseRetries moves the due retries to the main queue. The first retry is due first, because all retries have the
// same delay.
func (q *queue) releaseRetries() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for q.retries.Len() > 0 {
		if wait := q.retries.Front().due.Sub(now); wait > 0 {
			time.AfterFunc(wait, q.releaseRetries)
			return
		}
		q.ready.PushBack(q.retries.PopFront().message)
		q.wakeOne()
	}
}

func (q *queue) depths() (ready, retrying int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.messages - q.retries.Len(), q.retries.Len()
}

// interrupt ends every session. Unsettled messages return to the queue.
func (q *queue) interrupt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.loseSessions(broker.ErrSessionLost)
}

func (q *queue) loseSessions(err error) {
	for s := range q.sessions {
		s.lose(err)
	}
	for c := range q.consumers {
		c.session = q.newSession(c)
		async.Notify(c.wake)
	}
}

func (q *queue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(broker.ErrSessionLost)
}

func (q *queue) drop(err error) {
	q.loseSessions(err)
	q.ready, q.retries, q.messages = ring.Ring[*message]{}, ring.Ring[retry]{}, 0
	q.signalRoom()
}

// close removes every message. After close, all operations fail with broker.ErrClosed.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.drop(broker.ErrClosed)
}
