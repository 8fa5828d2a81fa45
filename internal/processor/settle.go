package processor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/store"
)

// action is what is done with a delivery after its message has been processed.
type action uint8

const (
	// acknowledge once the effect is durable.
	acknowledge action = iota + 1
	// retryLater by way of the retry queue.
	retryLater
	// deadLetter once the dead letter is durably counted.
	deadLetter
	// processAgain after a pause, without letting go of the delivery.
	processAgain
)

// decide is the settle policy: what is done with a delivery whose processing came to the outcome o, or to
// the failure f if that is not nil.
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

// deadLetterKey is the key under which a dead letter is counted once, however often it is delivered: the
// event's identifier, or a digest of a body that has none.
func deadLetterKey(f *Failure, body []byte) string {
	if f.EventID != "" {
		return f.EventID
	}
	digest := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(digest[:])
}

// finished is a delivery whose message took effect after mark.
type finished struct {
	delivery broker.Delivery
	mark     store.Mark
}

// settler acknowledges the finished deliveries of one event type and partition of the store. While it
// waits until some are durable others gather, and one wait then serves all of these. How many there can
// be is bounded by the consumers' prefetch.
type settler struct {
	pipeline  *pipeline
	partition int

	mu       sync.Mutex
	arrived  sync.Cond // signalled when gathered is no longer empty, or closed
	gathered []finished
	spare    []finished // the batch before, for its memory
	closed   bool
}

func newSettler(p *pipeline, partition int) *settler {
	s := &settler{pipeline: p, partition: partition}
	s.arrived.L = &s.mu
	return s
}

// push hands over a finished delivery. It does not block.
func (s *settler) push(f finished) {
	s.mu.Lock()
	s.gathered = append(s.gathered, f)
	first := len(s.gathered) == 1
	s.mu.Unlock()
	if first {
		s.arrived.Signal()
	}
}

// close ends run once everything pushed before is settled.
func (s *settler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.arrived.Signal()
}

// run settles what is pushed until close.
func (s *settler) run(ctx context.Context) {
	for {
		batch := s.take()
		if len(batch) == 0 {
			return
		}
		s.settle(ctx, batch)
		clear(batch) // the bodies need not outlive their messages
	}
}

// take waits for finished deliveries and returns all that have gathered, none after close.
func (s *settler) take() []finished {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.gathered) == 0 && !s.closed {
		s.arrived.Wait()
	}
	batch := s.gathered
	s.gathered, s.spare = s.spare[:0], batch
	return batch
}

// settle settles a batch. Deliveries whose marks differ, because the store restarted between them, are
// told apart; there are hardly ever any.
func (s *settler) settle(ctx context.Context, batch []finished) {
	for len(batch) > 0 {
		n := gatherMark(batch)
		s.settleSince(ctx, batch[0].mark, batch[:n])
		batch = batch[n:]
	}
}

// gatherMark moves the deliveries with the mark of the first to the front and returns how many there are.
func gatherMark(batch []finished) int {
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
func (s *settler) settleSince(ctx context.Context, mark store.Mark, batch []finished) {
	err := s.pipeline.untilAnswered(ctx, func() error {
		return s.pipeline.durability.WaitDurable(ctx, s.partition, mark)
	})
	switch {
	case err == nil:
		for i := range batch {
			s.pipeline.settled(ctx, &batch[i].delivery, batch[i].delivery.Settler.Ack())
		}
		s.pipeline.flight.land(len(batch))
	case errors.Is(err, store.ErrRolledBack):
		s.pipeline.reportRollback()
		deliveries := make([]broker.Delivery, len(batch))
		for i := range batch {
			deliveries[i] = batch[i].delivery
		}
		s.pipeline.processAll(ctx, deliveries)
	default: // the time to drain is over
		for i := range batch {
			s.pipeline.giveBack(ctx, &batch[i].delivery)
		}
	}
}

// isOver reports whether a delivery cannot be settled any more, because its session has gone or because it
// has been settled after all. Unless it has, the broker delivers the message again.
func isOver(err error) bool {
	return errors.Is(err, broker.ErrSessionLost) || errors.Is(err, broker.ErrClosed) || errors.Is(err, broker.ErrSettled)
}
