package processor

import (
	"context"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Handler processes the messages of one event type. Its method must be safe for concurrent use.
type Handler interface {
	// ProcessMessage applies the effect of one message, at most once even if the call is repeated. Errors come from
	// Transient or Permanent; any other error counts as a transient failure of the store.
	//
	// With a permanent error, Completion must still contain Partition and Mark if the store was called, because any
	// effect must be durable before the message is dead-lettered.
	ProcessMessage(ctx context.Context, msg broker.Message) (Completion, error)
}

// Completion is the result of processing a message. It also says what must be durable before the delivery is
// settled.
type Completion struct {
	Outcome Outcome
	// Partition is the partition of the store in which the event took effect.
	Partition int
	// Mark identifies the server process of the partition before the effect. It is zero if the handler did not call the
	// store.
	Mark store.Mark
}

// Consumer receives the messages of queues. See broker.Consumer.
type Consumer interface {
	Consume(ctx context.Context, q broker.Queue, prefetch int) (<-chan broker.Delivery, error)
}

// EntryStore records entries.
type EntryStore interface {
	Marker
	RecordEntry(ctx context.Context, s store.EntryStep) (store.Result, error)
}

// ExitStore matches exits with entries and stores the summaries until the summary API has accepted them.
type ExitStore interface {
	Marker
	RecordExit(ctx context.Context, s store.ExitStep) (store.ExitResult, error)
	SettleSummary(ctx context.Context, partition int, exitID string) (store.Result, error)
}

// Marker returns the store.Mark of a partition.
type Marker interface {
	Mark(ctx context.Context, partition int) (store.Mark, error)
}

// Durability waits until effects survive a crash of the store. See store.Durability.
type Durability interface {
	Marker
	WaitDurable(ctx context.Context, partition int, mark store.Mark) error
}

// DeadLetters counts dead letters. All deliveries of a dead letter have the same key, and a key is counted only once.
type DeadLetters interface {
	RecordDeadLetter(ctx context.Context, partition int, key string) error
}

// Poster posts summaries to the summary API. Post returns nil if the API accepts the summary or did so before. Post
// has its own timeout.
//
// If the error has a method Permanent() bool that returns true, the API will never accept the summary. Other errors are
// retried.
//
// If the error has a method RetryAfter() time.Duration, its result is the minimum delay before the retry, up to
// maxRetryAfter.
type Poster interface {
	Post(ctx context.Context, s event.Summary) error
}
