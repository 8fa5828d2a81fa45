package processor

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/memory"
)

// chaos decides at random when the fake servers of a test inject faults.
type chaos struct {
	mu     sync.Mutex
	rng    *rand.Rand
	chance int // the probability of a fault, in percent
}

func newChaos(seed uint64, percent int) *chaos {
	return &chaos{rng: rand.New(rand.NewPCG(seed, 0)), chance: percent}
}

func (c *chaos) calm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chance = 0
}

// strikes decides at random whether the caller must inject a fault.
func (c *chaos) strikes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(100) < c.chance
}

// below returns a random number in [0, n).
func (c *chaos) below(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

// linger sleeps for a short random time, so that concurrent calls run in a random order.
func (c *chaos) linger(ctx context.Context) {
	select {
	case <-time.After(time.Duration(c.below(20)) * time.Millisecond):
	case <-ctx.Done():
	}
}

// chaoticBroker is a fake broker that can lose the session of a queue at any time. It then redelivers all unsettled
// messages, even those still being processed.
type chaoticBroker struct {
	*chaos
	mu     sync.Mutex
	queues map[broker.Queue]*chaoticQueue
	dead   []broker.Message
	reason map[string]broker.Reason // the reason for each dead letter, by message body
	// waiting is the number of messages in the retry queues.
	waiting int
}

type chaoticQueue struct {
	ready   []broker.Message
	session int
	// unsettled contains the messages that were delivered in the current session and are not settled yet, by delivery
	// number.
	unsettled map[int]broker.Message
	delivered int
	wake      chan struct{}
}

const retryDelay = 500 * time.Millisecond

func newChaoticBroker(c *chaos, partitions int) *chaoticBroker {
	b := &chaoticBroker{chaos: c, queues: make(map[broker.Queue]*chaoticQueue), reason: make(map[string]broker.Reason)}
	for p := range partitions {
		for _, t := range event.Types() {
			b.queues[broker.Queue{Type: t, Partition: p}] = &chaoticQueue{
				unsettled: make(map[int]broker.Message), wake: make(chan struct{}, 1),
			}
		}
	}
	return b
}

func (b *chaoticBroker) publish(q broker.Queue, msg broker.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queues[q].add(msg)
}

// add appends a message to the queue. The caller holds the lock of the broker.
func (q *chaoticQueue) add(msg broker.Message) {
	q.ready = append(q.ready, msg)
	q.signal()
}

// signal wakes the delivery loop when a message is ready, or when the prefetch limit allows another delivery.
func (q *chaoticQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// loseSession ends the session of the queue and requeues the unsettled messages. The caller holds the lock of the
// broker.
func (q *chaoticQueue) loseSession() {
	q.session++
	for _, msg := range q.unsettled {
		q.add(msg)
	}
	clear(q.unsettled)
}

func (b *chaoticBroker) loseSomeSession() {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.below(len(b.queues))
	for _, q := range b.queues {
		if n == 0 {
			q.loseSession()
		}
		n--
	}
}

// loseEverySession ends the sessions of all queues, as a crash of the processor does.
func (b *chaoticBroker) loseEverySession() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range b.queues {
		q.loseSession()
	}
}

// left returns the number of messages that are not settled, including messages in the retry queues.
func (b *chaoticBroker) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.waiting
	for _, q := range b.queues {
		n += len(q.ready) + len(q.unsettled)
	}
	return n
}

func (b *chaoticBroker) Consume(ctx context.Context, at broker.Queue, prefetch int) (<-chan broker.Delivery, error) {
	q := b.queues[at]
	deliveries := make(chan broker.Delivery, prefetch)
	go func() {
		defer close(deliveries)
		for ctx.Err() == nil {
			if d, ok := b.next(at, q, prefetch); ok {
				deliveries <- d
				continue
			}
			select {
			case <-q.wake:
			case <-ctx.Done():
			}
		}
	}()
	return deliveries, nil
}

func (b *chaoticBroker) next(at broker.Queue, q *chaoticQueue, prefetch int) (broker.Delivery, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(q.ready) == 0 || len(q.unsettled) >= prefetch {
		return broker.Delivery{}, false
	}
	i := b.below(len(q.ready)) // deliver the messages in a random order
	msg := q.ready[i]
	q.ready = slices.Delete(q.ready, i, i+1)
	q.delivered++
	q.unsettled[q.delivered] = msg
	return broker.Delivery{
		Message: msg, Queue: at,
		Settler: &chaoticSettler{broker: b, queue: q, at: at, session: q.session, number: q.delivered, msg: msg},
	}, true
}

type chaoticSettler struct {
	broker          *chaoticBroker
	queue           *chaoticQueue
	at              broker.Queue
	session, number int
	msg             broker.Message
}

// settle calls move, and removes the message from s.queue unless the session is lost in between.
func (s *chaoticSettler) settle(move func()) error {
	b := s.broker
	lost := b.strikes()
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, unsettled := s.queue.unsettled[s.number]; !unsettled || s.session != s.queue.session {
		return broker.ErrSessionLost
	}
	move()
	if lost {
		s.queue.loseSession()
		return broker.ErrSessionLost
	}
	delete(s.queue.unsettled, s.number)
	s.queue.signal()
	return nil
}

func (s *chaoticSettler) Ack() error     { return s.settle(func() {}) }
func (s *chaoticSettler) Requeue() error { return s.settle(func() { s.queue.add(s.msg) }) }

func (s *chaoticSettler) Retry(ctx context.Context) error {
	s.broker.linger(ctx)
	if s.broker.strikes() {
		return errors.New("the copy was not confirmed")
	}
	return s.settle(func() {
		again := s.msg
		again.Attempt++
		s.broker.waiting++
		time.AfterFunc(retryDelay, func() {
			s.broker.mu.Lock()
			defer s.broker.mu.Unlock()
			s.broker.waiting--
			s.queue.add(again)
		})
	})
}

func (s *chaoticSettler) DeadLetter(ctx context.Context, r broker.Reason) error {
	s.broker.linger(ctx)
	if s.broker.strikes() {
		return errors.New("the copy was not confirmed")
	}
	return s.settle(func() {
		s.broker.dead = append(s.broker.dead, s.msg)
		s.broker.reason[string(s.msg.Body)] = r
	})
}

// chaoticStore is an in-memory store that injects faults. Its calls are slow. A call can fail before or after it takes
// effect.
type chaoticStore struct {
	*chaos
	partitions int

	mu      sync.Mutex
	state   *memory.Store
	history []func(*memory.Store) // the calls that took effect, in order
	durable int                   // the length of the prefix of s.history that survives a crash
	epoch   int
	crashes int
}

func newChaoticStore(c *chaos, partitions int) *chaoticStore {
	return &chaoticStore{chaos: c, partitions: partitions, state: memory.New(memory.Config{Partitions: partitions})}
}

// crash resets the store to a random earlier state that includes all durable effects.
func (s *chaoticStore) crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = s.history[:s.durable+s.below(len(s.history)-s.durable+1)]
	s.durable = len(s.history)
	s.state = memory.New(memory.Config{Partitions: s.partitions})
	for _, step := range s.history {
		step(s.state)
	}
	s.epoch++
	s.crashes++
}

// take runs a step. At random, it returns ErrUnavailable instead of running the step, or although it has run the step.
func take[R any](ctx context.Context, s *chaoticStore, step func(context.Context, *memory.Store) (R, error)) (R, error) {
	var none R
	s.linger(ctx)
	if s.strikes() {
		return none, store.ErrUnavailable
	}
	s.mu.Lock()
	answer, err := step(ctx, s.state)
	if err == nil {
		s.history = append(s.history, func(m *memory.Store) { _, _ = step(context.Background(), m) })
	}
	s.mu.Unlock()
	s.linger(ctx)
	if s.strikes() {
		return none, store.ErrUnavailable
	}
	return answer, err
}

func (s *chaoticStore) RecordEntry(ctx context.Context, e store.EntryStep) (store.Result, error) {
	return take(ctx, s, func(ctx context.Context, m *memory.Store) (store.Result, error) { return m.RecordEntry(ctx, e) })
}

func (s *chaoticStore) RecordExit(ctx context.Context, e store.ExitStep) (store.ExitResult, error) {
	return take(ctx, s, func(ctx context.Context, m *memory.Store) (store.ExitResult, error) { return m.RecordExit(ctx, e) })
}

func (s *chaoticStore) SettleSummary(ctx context.Context, partition int, id string) (store.Result, error) {
	return take(ctx, s, func(ctx context.Context, m *memory.Store) (store.Result, error) {
		return m.SettleSummary(ctx, partition, id)
	})
}

func (s *chaoticStore) RecordDeadLetter(ctx context.Context, partition int, key string) error {
	_, err := take(ctx, s, func(ctx context.Context, m *memory.Store) (struct{}, error) {
		return struct{}{}, m.RecordDeadLetter(ctx, partition, key)
	})
	return err
}

func (s *chaoticStore) Mark(context.Context, int) (store.Mark, error) {
	if s.strikes() {
		return store.Mark{}, store.ErrUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mark(), nil
}

func (s *chaoticStore) mark() store.Mark { return store.Mark{Epoch: string(rune('a' + s.epoch))} }

func (s *chaoticStore) WaitDurable(ctx context.Context, _ int, mark store.Mark) error {
	s.linger(ctx)
	if s.strikes() {
		return store.ErrUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if mark != s.mark() {
		return store.ErrRolledBack
	}
	s.durable = len(s.history)
	return ctx.Err()
}

// chaoticAPI is a fake summary API. Sometimes it stores a summary and still returns an error.
type chaoticAPI struct {
	*chaos
	rejects func(plate string) bool // reports whether the API permanently rejects the summaries of a plate

	mu        sync.Mutex
	summaries map[string]event.Summary
	conflicts []string
}

var errRejected error = verdict(true)

func (a *chaoticAPI) Post(ctx context.Context, s event.Summary) error {
	a.linger(ctx)
	if a.strikes() {
		return errDown
	}
	if a.rejects(s.Plate) {
		return errRejected
	}
	a.mu.Lock()
	if before, known := a.summaries[s.ID]; known && before != s {
		a.conflicts = append(a.conflicts, s.ID)
	}
	a.summaries[s.ID] = s
	a.mu.Unlock()
	if a.strikes() {
		a.linger(ctx)
		return errors.New("the answer did not come in time")
	}
	return ctx.Err()
}
