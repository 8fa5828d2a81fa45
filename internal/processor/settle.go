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

// action says how to settle a delivery after its message is processed.
type action uint8

const (
	// acknowledge waits until the effect is durable, and then acknowledges the delivery.
	acknowledge action = iota + 1
	// retryLater moves the message to the retry queue.
	retryLater
	// deadLetter counts the message durably and moves it to the dead-letter queue.
	deadLetter
	// processAgain processes the message again after a backoff, without returning it to the broker.
	processAgain
)

// decide returns the action for the failure f, or for the outcome o if f is nil.
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

// deadLetterKey returns the key by which all deliveries of a dead letter are counted once.
func deadLetterKey(f *Failure, body []byte) string {
	if f.EventID != "" {
		return f.EventID
	}
	digest := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(digest[:])
}

// work is a delivery that is being processed, and the state of its processing.
type work struct {
	delivery broker.Delivery
	// mark identifies the server process of the store before the effect. It is set before the work is pushed to a settler.
	mark store.Mark
	// effectAt is when this process made the event take effect, or zero. A later duplicate does not change it, because
	// the store has kept the effect.
	effectAt time.Time
}

// settler acknowledges the finished deliveries of one event type and partition in batches. The prefetch count limits
// the size of a batch.
type settler struct {
	pipeline  *pipeline
	partition int

	mu        sync.Mutex
	arrived   sync.Cond // signaled when collected is no longer empty, and when the settler is closed
	collected []work
	spare     []work // the previous batch, kept to reuse its memory
	closed    bool
}

func newSettler(p *pipeline, partition int) *settler {
	s := &settler{pipeline: p, partition: partition}
	s.arrived.L = &s.mu
	return s
}

// push adds a processed delivery to the next batch. It does not block.
func (s *settler) push(w work) {
	s.mu.Lock()
	s.collected = append(s.collected, w)
	first := len(s.collected) == 1
	s.mu.Unlock()
	if first {
		s.arrived.Signal()
	}
}

// close ends the settler: run settles all deliveries that were pushed before, and returns.
func (s *settler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.arrived.Signal()
}

// run settles the pushed deliveries. It returns when the settler is closed and all deliveries are settled.
func (s *settler) run(ctx context.Context) {
	for {
		batch := s.nextBatch()
		if len(batch) == 0 {
			return
		}
		s.settle(ctx, batch)
		clear(batch) // let the garbage collector free the bodies of the messages
	}
}

// nextBatch waits for finished deliveries and returns all of them. It returns an empty batch once the settler is
// closed and no delivery is left.
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

// settle settles a batch, in one group per mark. Marks differ only if the store restarted or failed over during the
// batch.
func (s *settler) settle(ctx context.Context, batch []work) {
	for len(batch) > 0 {
		n := groupByMark(batch)
		s.settleSince(ctx, batch[0].mark, batch[:n])
		batch = batch[n:]
	}
}

// groupByMark moves all deliveries with the same store.Mark as the first delivery to the front of the batch. It returns
// the number of these deliveries.
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

// settleSince acknowledges deliveries once their effects are durable. If the store has restarted since the mark was
// read, it processes the messages again.
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
		s.pipeline.processAll(ctx, slices.Clone(batch)) // a copy, because the settler reuses the memory of batch
	default: // the drain timeout has expired
		for i := range batch {
			s.pipeline.requeue(ctx, &batch[i].delivery)
		}
	}
}

// isOver reports whether a delivery cannot be settled any more: it is already settled, or its session has ended and the
// broker delivers the message again.
func isOver(err error) bool {
	return errors.Is(err, broker.ErrSessionLost) || errors.Is(err, broker.ErrClosed) || errors.Is(err, broker.ErrSettled)
}
