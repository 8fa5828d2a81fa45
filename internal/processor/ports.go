package processor

import (
	"context"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Handler processes the messages of one event type. It is called by many goroutines at once.
type Handler interface {
	// ProcessMessage takes the effect of one message. It may be called again with the same message, after
	// it failed or because of a redelivery, and must then not take the effect twice.
	//
	// An error is made by Transient or Permanent; any other is taken for a transient failure of the store.
	// Beside a permanent one the completion holds Partition and Mark if the store has been asked before.
	ProcessMessage(ctx context.Context, msg broker.Message) (Completion, error)
}

// Completion is what processing a message came to, and what settling its delivery has to wait for.
type Completion struct {
	Outcome Outcome
	// Partition of the store holds the effect. Mark was taken of it before the effect; it is zero when the
	// store was not asked.
	Partition int
	Mark      store.Mark
}

// Consumer delivers the messages of queues; see broker.Consumer for what is expected of it.
type Consumer interface {
	Consume(ctx context.Context, q broker.Queue, prefetch int) (<-chan broker.Delivery, error)
}

// EntryStore records entries.
type EntryStore interface {
	Marker
	RecordEntry(ctx context.Context, s store.EntryStep) (store.Result, error)
}

// ExitStore matches exits with their entries and keeps summaries until they are settled.
type ExitStore interface {
	Marker
	RecordExit(ctx context.Context, s store.ExitStep) (store.ExitResult, error)
	SettleSummary(ctx context.Context, partition int, exitID string) error
}

// Marker names points in the life of the store, from which a durability wait can tell whether the store
// has restarted since.
type Marker interface {
	Mark(ctx context.Context, partition int) (store.Mark, error)
}

// Durability tells when effects survive a crash of the store; see store.Durability.
type Durability interface {
	Marker
	WaitDurable(ctx context.Context, partition int, mark store.Mark) error
}

// DeadLetters counts dead letters, once per key.
type DeadLetters interface {
	RecordDeadLetter(ctx context.Context, partition int, key string) error
}

// Poster hands summaries to the summary API. Post returns nil once the API has accepted the summary, or
// had it before. It bounds its own time: a call that the API does not answer fails after a while.
//
// An error with a method Permanent() bool that returns true says that the API rejects this summary for
// good; every other error is tried again. One with a method RetryAfter() time.Duration says not before
// when.
type Poster interface {
	Post(ctx context.Context, s event.Summary) error
}
