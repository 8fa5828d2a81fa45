// Package broker is the port through which generators publish events and processors consume them.
// Package rabbitmq implements it on a RabbitMQ server, package memory inside one process; both pass the
// conformance suite of package brokertest.
//
// The guarantees are those of at-least-once delivery. A message is confirmed only when it is as durable
// as the queue's type makes it, it stays in its queue until a delivery of it is settled, and it may be
// delivered more than once and in any order.
package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/excerpt"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrClosed is returned by every operation after Close.
	ErrClosed = errors.New("broker is closed")
	// ErrSessionLost is returned when a delivery is settled after the connection or channel that
	// delivered it has gone. The broker delivers the message again; nothing is to be done.
	ErrSessionLost = errors.New("the session that delivered the message is gone; it will be delivered again")
	// ErrOtherOwner is returned when the simulation's queues are marked as those of another owner.
	ErrOtherOwner = errors.New("the queues belong to another simulation of the same name")
	// ErrConfig matches errors that last until somebody changes the configuration of the simulation or of the
	// server: invalid settings, missing permissions, exceeded limits, queues with other settings or another
	// owner.
	ErrConfig = errors.New("the configuration of the broker is invalid")
	// ErrSettled is returned when a delivery is settled that was settled before, or is just being settled.
	ErrSettled = errors.New("the delivery has been settled before")
)

// Queue names one of the queues from which events are consumed.
type Queue struct {
	Type      event.Type
	Partition int
}

// String returns <type>.<partition>, such as entry.0.
func (q Queue) String() string { return string(q.Type) + "." + strconv.Itoa(q.Partition) }

// Check returns an error when a simulation with that many partitions has no such queue.
func (q Queue) Check(partitions int) error {
	if !slices.Contains(event.Types(), q.Type) || q.Partition < 0 || q.Partition >= partitions {
		return fmt.Errorf("queue %s does not exist: there are entry and exit queues for partitions 0 to %d", q, partitions-1)
	}
	return nil
}

// Message is an event on the wire with the properties that travel beside its body. Every field but
// Body may be empty in a message that a stranger published.
type Message struct {
	// ID is the AMQP message id: the event's identifier.
	ID string
	// Type is the event's type.
	Type event.Type
	// AppID names the application that published the message.
	AppID string
	// ContentType is the media type of Body; empty means event.ContentType.
	ContentType string
	// Timestamp is the instant of publishing. The wire keeps whole seconds.
	Timestamp time.Time
	// Intent is what the generator meant an exit to do.
	Intent event.Intent
	// Scheduled is the instant at which the schedule wanted the event, from which latency counts.
	// The zero time means unknown.
	Scheduled time.Time
	// Attempt counts how many times the message went through the retry queue.
	Attempt int
	// Body is the event in its wire format.
	Body []byte
}

// Publisher publishes events and learns which of them the broker has taken responsibility for.
type Publisher interface {
	// Publish hands msg over for delivery to q. It returns as soon as msg is inside the bounded window
	// of unconfirmed messages, and blocks while that is full. The implementation keeps msg until the
	// broker confirms it: across connection losses, refusals and unroutable returns it publishes it again
	// under the same ID. Then it calls confirmed exactly once, from a goroutine of its own, possibly out
	// of order; confirmed must not block. When Publish returns an error (of ctx, or ErrClosed) the message
	// was not taken and confirmed is never called. msg.Body must not be changed after the call.
	Publish(ctx context.Context, q Queue, msg Message, confirmed func()) error
	// Flush waits until everything handed over before has been confirmed, or ctx ends.
	Flush(ctx context.Context) error
}

// Consumer delivers the messages of queues.
type Consumer interface {
	// Consume delivers q's messages on the returned channel, with at most prefetch of them unsettled at a
	// time. It reconnects for ever, with backoff. When ctx ends it stops consuming and closes the
	// channel; what was delivered before can still be settled, until the broker is closed.
	Consume(ctx context.Context, q Queue, prefetch int) (<-chan Delivery, error)
}

// Delivery is one delivery of a message. Exactly one of its settling methods is to be called, once.
type Delivery struct {
	Message     Message
	Queue       Queue
	Redelivered bool
	// Settler settles this delivery on the very session that made it.
	Settler Settler
}

// Settler settles the delivery it was made for. Every method returns ErrSessionLost when the session
// has gone, in which case the message is delivered again, and ErrSettled when the delivery has been
// settled before.
type Settler interface {
	// Ack removes the message from its queue. Acknowledgements are coalesced: Ack does not wait for the
	// server, and one that is lost with its session means another delivery.
	Ack() error
	// Requeue gives the message back to its queue at once.
	Requeue() error
	// Retry moves the message to the retry queue of its partition with Attempt incremented; it comes back
	// to its queue after the retry delay. Retry returns when the broker has confirmed the copy and the
	// original is acknowledged. On any other error than ErrSessionLost the delivery is still unsettled.
	Retry(ctx context.Context) error
	// DeadLetter moves the message, body and properties unchanged, to the dead-letter queue with the
	// reason in its headers. It returns and fails as Retry does.
	DeadLetter(ctx context.Context, reason Reason) error
}

// Reason says why a message was dead-lettered.
type Reason struct {
	// Stage is the stage of the pipeline that refused the message: parse, summarize, post or panic; or
	// StageBroker.
	Stage string
	// Detail is one sentence for a person. Implementations cut it to 1024 bytes.
	Detail string
}

// StageBroker is the stage of a message that the broker dead-lettered on its own account.
const StageBroker = "broker"

// String returns <stage>: <detail>, on one line.
func (r Reason) String() string {
	text := r.Stage
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
}

// ReasonCount says how many messages were dead-lettered for one reason.
type ReasonCount struct {
	Reason Reason
	Count  int64
}

// MaxDetail is the longest Reason.Detail, in bytes.
const MaxDetail = 1024

// Bounded returns the reason with its texts cut, at the end of a character, to what implementations keep.
func (r Reason) Bounded() Reason {
	const maxStage = 255
	return Reason{Stage: excerpt.Of(r.Stage, maxStage), Detail: excerpt.Of(r.Detail, MaxDetail)}
}

// CountReasons gathers equal reasons and returns at most limit of them, the most frequent first.
func CountReasons(reasons iter.Seq[Reason], limit int) []ReasonCount {
	counts := map[Reason]int64{}
	for r := range reasons {
		counts[r]++
	}
	all := make([]ReasonCount, 0, len(counts))
	for r, n := range counts {
		all = append(all, ReasonCount{Reason: r, Count: n})
	}
	slices.SortFunc(all, func(a, b ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason.String(), b.Reason.String()))
	})
	return all[:min(limit, len(all))]
}

// Depths are message counts of a simulation's queues, for telling whether it is at rest.
type Depths struct {
	// Ready counts messages waiting in the entry and exit queues; those delivered but not yet settled are
	// counted only where the implementation can see them.
	Ready int64
	// Retry counts messages waiting for another attempt, Dead those in the dead-letter queue.
	Retry int64
	Dead  int64
}

// Topology manages a simulation's exchange and queues.
type Topology interface {
	// Declare creates what is missing. It is idempotent.
	Declare(ctx context.Context) error
	// Depths counts the messages in the simulation's queues.
	Depths(ctx context.Context) (Depths, error)
	// DeadLetterReasons returns the reasons in the dead-letter queue, at most limit of them and the most
	// frequent first. It looks into a bounded number of messages and leaves them where they are.
	DeadLetterReasons(ctx context.Context, limit int) ([]ReasonCount, error)
	// Delete removes every exchange and queue of the simulation, with the messages in them.
	Delete(ctx context.Context) error
}

// Broker is everything an implementation offers.
type Broker interface {
	Publisher
	Consumer
	Topology
	// Close releases every connection. What is unsettled is delivered again, elsewhere.
	Close() error
}
