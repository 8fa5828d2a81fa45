// Package broker defines the interfaces through which generators publish events and processors consume events. Packages
// rabbitmq and memory implement the interfaces.
//
// Delivery is at least once, in any order. The broker confirms a message once the message is as durable as its queue
// allows. A message stays in its queue until one of its deliveries is settled.
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

// Errors of a broker. Use errors.Is to distinguish them.
var (
	// ErrClosed is returned by every method after Close was called.
	ErrClosed = errors.New("broker is closed")
	// ErrSessionLost is returned when a delivery is settled after its session has ended. The caller need not do
	// anything, because the broker delivers the message again.
	ErrSessionLost = errors.New("the session that delivered the message has ended; the message will be delivered again")
	// ErrOtherOwner is returned when the queues are marked as belonging to another simulation of the same name.
	ErrOtherOwner = errors.New("the queues belong to another simulation of the same name")
	// ErrConfig matches errors that last until somebody changes the configuration of the simulation or the server.
	// Examples are missing permissions and queues with other settings.
	ErrConfig = errors.New("the configuration of the broker is invalid")
	// ErrNotReady matches a failure to connect that may end without a change of the configuration. Examples are a
	// connection limit and a failure of DNS.
	ErrNotReady = errors.New("the broker is not ready")
	// ErrSettled is returned when a delivery has already been settled, or is being settled by another call.
	ErrSettled = errors.New("the delivery is already settled")
)

// Queue identifies a queue of events.
type Queue struct {
	Type      event.Type
	Partition int
}

// String returns the name of the queue as <type>.<partition>, such as entry.0.
func (q Queue) String() string { return string(q.Type) + "." + strconv.Itoa(q.Partition) }

// Check returns an error if q is not a queue of a simulation with the given number of partitions.
func (q Queue) Check(partitions int) error {
	if !slices.Contains(event.Types(), q.Type) || q.Partition < 0 || q.Partition >= partitions {
		return fmt.Errorf("queue %s does not exist: there are entry and exit queues for partitions 0 to %d", q, partitions-1)
	}
	return nil
}

// Message is an event in its wire format, with its AMQP properties. Every field except Body may be empty if an external
// publisher has sent the message.
type Message struct {
	// ID is the AMQP message ID. It is the identifier of the event.
	ID string
	// Type is the type of the event.
	Type event.Type
	// AppID names the application that published the message.
	AppID string
	// ContentType is the media type of Body. Empty means event.ContentType.
	ContentType string
	// Timestamp is the instant of publishing. AMQP transmits whole seconds.
	Timestamp time.Time
	// Intent says whether the generator of an exit event expects that a visit exists for this event; see event.Intent.
	// Entry events have no intent.
	Intent event.Intent
	// Scheduled is the time at which the event was due. Latencies are measured from this time. The zero time means
	// unknown.
	Scheduled time.Time
	// Attempt is the number of times that the message has been retried.
	Attempt int
	// Body is the event in its wire format.
	Body []byte
}

// Publisher publishes events, and reports each event that the broker has confirmed.
type Publisher interface {
	// Publish accepts msg for delivery to q. It blocks while q is full or too many messages are unconfirmed, but does
	// not wait for the confirm of msg. After an error, msg is not accepted, and the callback confirmed never runs.
	//
	// The implementation publishes lost, rejected and unroutable messages again, with the same ID. After the confirm,
	// another goroutine calls the callback exactly once. The callback must not block. The caller must not change
	// msg.Body.
	Publish(ctx context.Context, q Queue, msg Message, confirmed func()) error
	// Flush waits until the broker has confirmed every message that Publish accepted before the call of Flush. If ctx
	// ends first, Flush returns the error of ctx.
	Flush(ctx context.Context) error
}

// Consumer delivers the messages of queues. It reconnects with backoff after a failure.
type Consumer interface {
	// Consume delivers the messages of q, at most prefetch of them unsettled. When ctx ends, the channel is closed;
	// received deliveries can be settled until Close.
	Consume(ctx context.Context, q Queue, prefetch int) (<-chan Delivery, error)
}

// Delivery is one delivery of a message. The receiver must settle it by calling one method of its Settler once.
type Delivery struct {
	Message     Message
	Queue       Queue
	Redelivered bool
	// Settler settles this delivery in the session that delivered it.
	Settler Settler
}

// Settler settles one delivery. ErrSettled means that the delivery is already settled, and ErrSessionLost that its
// session has ended. After any other error, the delivery is still unsettled.
type Settler interface {
	// Ack removes the message from its queue, without waiting for the server. The broker delivers the message again if
	// the acknowledgement is lost.
	Ack() error
	// Requeue returns the message to its queue at once.
	Requeue() error
	// Retry publishes a copy with an incremented Attempt to a retry queue, waits for its confirm, and acknowledges the
	// original. After the retry delay, the copy returns to the original queue.
	Retry(ctx context.Context) error
	// DeadLetter moves the message to the dead-letter queue in the same way as Retry. The headers of the copy contain
	// the reason.
	DeadLetter(ctx context.Context, reason Reason) error
}

// Reason says why a message was dead-lettered.
type Reason struct {
	// Stage is the step that rejected the message: "parse", "summarize" or "post". It is "panic" after a panic of the
	// processor, and StageBroker if the broker itself dead-lettered the message.
	Stage string
	// Detail is one sentence for human readers. Implementations truncate it to MaxDetail bytes.
	Detail string
}

// StageBroker is the value of Reason.Stage for messages that the broker itself dead-lettered.
const StageBroker = "broker"

// String returns <stage>: <detail>, on one line.
func (r Reason) String() string {
	text := r.Stage
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
}

// ReasonCount is the number of messages that were dead-lettered for one reason.
type ReasonCount struct {
	Reason Reason
	Count  int64
}

// MaxDetail is the maximum length of Reason.Detail, in bytes.
const MaxDetail = 1024

// Bounded returns the reason with Stage and Detail truncated to their maximum lengths. It never splits a UTF-8
// character.
func (r Reason) Bounded() Reason {
	const maxStage = 255
	return Reason{Stage: excerpt.Of(r.Stage, maxStage), Detail: excerpt.Of(r.Detail, MaxDetail)}
}

// CountReasons counts how often each reason occurs. It returns at most limit reasons, the most frequent first.
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

// Depths are the numbers of messages in a simulation's queues.
type Depths struct {
	// Ready counts the messages in the entry and exit queues. It includes unsettled deliveries only if the
	// implementation knows their number.
	Ready int64
	// Retry counts the messages in the retry queues. Dead counts the messages in the dead-letter queue.
	Retry int64
	Dead  int64
}

// Topology manages a simulation's exchange and queues.
type Topology interface {
	// Declare creates the exchange and queues that do not exist. It is idempotent.
	Declare(ctx context.Context) error
	// Depths returns the numbers of messages in the simulation's queues.
	Depths(ctx context.Context) (Depths, error)
	// DeadLetterReasons returns the most frequent reasons in the dead-letter queue, at most limit. It leaves the
	// messages in the queue, and may examine only a part of them.
	DeadLetterReasons(ctx context.Context, limit int) ([]ReasonCount, error)
	// Delete removes the exchange and the queues of the simulation, with all messages in the queues.
	Delete(ctx context.Context) error
}

// Broker publishes and consumes events, and manages the queues.
type Broker interface {
	Publisher
	Consumer
	Topology
	// Ping fails if the server does not respond, or if a connection was lost since the previous call. Each loss is
	// reported once, so only one caller should use Ping.
	Ping(ctx context.Context) error
	// Version returns the name and version of the server, such as "RabbitMQ 4.1.2". Without a server, it returns "in
	// memory".
	Version(ctx context.Context) (string, error)
	// Close closes every connection. The broker delivers the unsettled messages again, to other consumers.
	Close() error
}
