package processor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/store"
)

// action is the way to settle a delivery after its message was processed.
type action uint8

const (
	// acknowledge the delivery after its effect is durable.
	acknowledge action = iota + 1
	// retryLater moves the message to the retry queue.
	retryLater
	// deadLetter moves the message to the dead-letter queue after it was counted durably.
	deadLetter
	// processAgain processes the message again after a backoff and keeps the delivery.
	processAgain
)

// decide returns the action for an outcome, or for a failure if f is not nil.
func decide(o Outcome, f *Failure) action {
	switch {
	case f == nil && o == OutcomeEarly:
		return retryLater
	case f == nil:
		return acknowledge
	case f.permanent:
		return deadLetter
	default:
		return processAgain
	}
}

// deadLetterKey returns the key by which a dead letter counts once, however often it is delivered. It is the
// identifier of the event, or a digest of the body if the identifier is unknown.
func deadLetterKey(f *Failure, body []byte) string {
	if f.EventID != "" {
		return f.EventID
	}
	digest := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(digest[:])
}

// work is a delivery that is being processed.
type work struct {
	delivery broker.Delivery
	// mark is from before the latest effect. It is set when the delivery waits for durability.
	mark store.Mark
	// effectAt is when the event took effect, zero if it did not take effect in this process. It stays when the
	// event is processed again and turns out to be a duplicate: the store has not lost the effect.
	effectAt time.Time
}

// settler acknowledges the finished deliveries of one event type and partition of the store. While it waits
// for the durability of one batch it collects the next, so that one wait covers many deliveries. The
// prefetch of the consumers bounds their number.
type settler struct {
	pipeline  *pipeline
	partition int

	mu        sync.Mutex
	arrived   sync.Cond // signalled when collected is no longer empty, or closed is set
	collected []work
	spare     []work // the previous batch, whose memory is reused
	closed    bool
}

func newSettler(p *pipeline, partition int) *settler {
	s := &settler{pipeline: p, partition: partition}
	s.arrived.L = &s.mu
	return s
}

// push adds a finished delivery. It does not block.
func (s *settler) push(w work) {
	s.mu.Lock()
	s.collected = append(s.collected, w)
	first := len(s.collected) == 1
	s.mu.Unlock()
	if first {
		s.arrived.Signal()
	}
}

// close makes run return after it has settled everything pushed before.
func (s *settler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.arrived.Signal()
}

// run settles the pushed deliveries until close.
func (s *settler) run(ctx context.Context) {
	for {
		batch := s.nextBatch()
		if len(batch) == 0 {
			return
		}
		s.settle(ctx, batch)
		clear(batch) // release the bodies
	}
}

// nextBatch waits for finished deliveries and returns all that were collected. After close it returns none.
func (s *settler) nextBatch() []work {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.collected) == 0 && !s.closed {
		s.arrived.Wait()
	}
	batch := s.collected
	s.collected, s.spare = s.spare[:0], batch
	return batch
}

// settle settles a batch. It handles deliveries with different marks separately. That is rare: their marks
// differ if the store restarted between them.
func (s *settler) settle(ctx context.Context, batch []work) {
	for len(batch) > 0 {
		n := groupByMark(batch)
		s.settleSince(ctx, batch[0].mark, batch[:n])
		batch = batch[n:]
	}
}

// groupByMark moves the deliveries with the mark of the first one to the front and returns their number.
func groupByMark(batch []work) int {
	n := 1
	for i := 1; i < len(batch); i++ {
		if batch[i].mark == batch[0].mark {
			batch[n], batch[i] = batch[i], batch[n]
			n++
		}
	}
	return n
}

// settleSince settles deliveries that took effect after mark.
func (s *settler) settleSince(ctx context.Context, mark store.Mark, batch []work) {
	err := s.pipeline.untilAnswered(ctx, func() error {
		return s.pipeline.durability.WaitDurable(ctx, s.partition, mark)
	})
	switch {
	case err == nil:
		for i := range batch {
			w := &batch[i]
			if !w.effectAt.IsZero() {
				s.pipeline.metrics.recordEffect(w.effectAt, w.delivery.Message.Scheduled)
			}
			s.pipeline.recordSettled(ctx, &w.delivery, w.delivery.Settler.Ack())
		}
		s.pipeline.flight.end(len(batch))
	case errors.Is(err, store.ErrRolledBack):
		s.pipeline.reportRollback()
		s.pipeline.processAll(ctx, slices.Clone(batch)) // run reuses the memory of the batch
	default: // the drain timeout is over
		for i := range batch {
			s.pipeline.requeue(ctx, &batch[i].delivery)
		}
	}
}

// isOver reports whether a delivery cannot be settled any more: its session has ended, or it is settled
// already. If it is not settled, the broker delivers the message again.
func isOver(err error) bool {
	return errors.Is(err, broker.ErrSessionLost) || errors.Is(err, broker.ErrClosed) || errors.Is(err, broker.ErrSettled)
}
