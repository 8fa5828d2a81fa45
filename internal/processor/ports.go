package processor

import (
	"context"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Handler processes the messages of one event type. It is called concurrently.
type Handler interface {
	// ProcessMessage applies the effect of one message. It may be called again with the same message, after a
	// failure or a redelivery, and must not apply the effect twice.
	//
	// Errors are created by Transient or Permanent. Any other error is treated as a transient failure of the
	// store. If the error is permanent and the store was called before, the completion contains Partition and
	// Mark.
	ProcessMessage(ctx context.Context, msg broker.Message) (Completion, error)
}

// Completion is the result of processing a message, and the condition for settling its delivery.
type Completion struct {
	Outcome Outcome
	// Partition is the partition of the store that holds the effect. Mark is its mark from before the effect.
	// Mark is zero if the store was not called.
	Partition int
	Mark      store.Mark
}

// Consumer delivers the messages of queues. broker.Consumer documents its behavior.
type Consumer interface {
	Consume(ctx context.Context, q broker.Queue, prefetch int) (<-chan broker.Delivery, error)
}

// EntryStore records entries.
type EntryStore interface {
	Marker
	RecordEntry(ctx context.Context, s store.EntryStep) (store.Result, error)
}

// ExitStore matches exits with entries and keeps the summaries until they are settled.
type ExitStore interface {
	Marker
	RecordExit(ctx context.Context, s store.ExitStep) (store.ExitResult, error)
	SettleSummary(ctx context.Context, partition int, exitID string) (store.Result, error)
}

// Marker returns marks. A wait for durability that starts from a mark detects whether the store has
// restarted since.
type Marker interface {
	Mark(ctx context.Context, partition int) (store.Mark, error)
}

// Durability waits until effects survive a crash of the store. store.Durability documents its behavior.
type Durability interface {
	Marker
	WaitDurable(ctx context.Context, partition int, mark store.Mark) error
}

// DeadLetters counts dead letters, once per key.
type DeadLetters interface {
	RecordDeadLetter(ctx context.Context, partition int, key string) error
}

// Poster posts summaries to the summary API. Post returns nil once the API has accepted the summary, or if
// it had accepted it before. Post limits its own duration, so it returns an error if the API does not
// answer.
//
// An error with a method Permanent() bool that returns true means that the API will never accept the
// summary. Every other error is retried. An error with a method RetryAfter() time.Duration sets the minimum
// delay of the retry.
type Poster interface {
	Post(ctx context.Context, s event.Summary) error
}
