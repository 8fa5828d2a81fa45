// Package broker defines the interfaces of a message broker. Generators publish events through these interfaces, and
// processors consume the events. Package rabbitmq implements the interfaces with RabbitMQ. Package memory implements
// them within one process, without a server. Both implementations pass the conformance suite of package brokertest.
//
// Delivery is at least once: the broker may deliver a message several times. It may deliver messages in any order. The
// broker confirms a message once the message is as durable as the type of its queue allows. A message stays in its
// queue until one of its deliveries is settled with Ack, Retry or DeadLetter.
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
	// ErrConfig matches errors that last until somebody changes the configuration of the simulation or of the server.
	// Examples are invalid settings, missing permissions, too many queues, and existing queues whose settings or owner
	// differ from those of the simulation.
	ErrConfig = errors.New("the configuration of the broker is invalid")
	// ErrNotReady matches errors of attempts to connect that do not indicate a wrong address or wrong credentials.
	// Examples are a limit on the number of connections, an internal error of the server, too few file descriptors, and
	// a failure of DNS.
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

// Message is an event in its wire format, with the properties of the AMQP message. If an external publisher (a program
// other than the generators of this project) has sent the message, every field except Body may be empty.
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
	// Publish accepts msg for delivery to q. Publish blocks while the window of unconfirmed messages is full. It does
	// not wait until the broker confirms msg.
	//
	// If the connection is lost, or if the broker rejects msg or returns it as unroutable, the implementation publishes
	// msg again under the same ID, until the broker confirms it. Then the implementation calls the callback "confirmed"
	// exactly once, from another goroutine. The callbacks of different messages may be called in any order. A callback
	// must not block, because it would delay the confirms of other messages.
	//
	// If Publish returns an error, it has not accepted msg, and the callback is never called. The error is ErrClosed,
	// the error of ctx, or an error for an invalid argument. The caller must not change msg.Body after the call.
	Publish(ctx context.Context, q Queue, msg Message, confirmed func()) error
	// Flush waits until the broker has confirmed every message that Publish accepted before the call of Flush. If ctx
	// ends first, Flush returns the error of ctx.
	Flush(ctx context.Context) error
}

// Consumer delivers the messages of queues.
type Consumer interface {
	// Consume delivers the messages of q on the returned channel. The parameter prefetch is the maximum number of
	// unsettled deliveries. Consume keeps consuming in the background, and reconnects with backoff, until ctx ends. The
	// channel is then closed. The caller can still settle the received deliveries until the broker is closed.
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

// Settler settles one delivery. Every method returns ErrSettled if the delivery has already been settled. Otherwise, if
// the session has ended, every method returns ErrSessionLost, and the broker delivers the message again.
type Settler interface {
	// Ack removes the message from its queue. Ack does not wait for the server. If the session ends before the server
	// has received the acknowledgement, the broker delivers the message again.
	Ack() error
	// Requeue returns the message to its queue at once.
	Requeue() error
	// Retry moves the message to a retry queue, and increments Message.Attempt. After the retry delay, the message
	// returns to its original queue. Retry publishes a copy of the message, waits until the broker has confirmed the
	// copy, and then acknowledges the original. If Retry returns an error other than ErrSessionLost or ErrSettled, the
	// delivery is still unsettled.
	Retry(ctx context.Context) error
	// DeadLetter moves the message to the dead-letter queue. It adds the reason to the headers, and keeps the body and
	// the properties. Like Retry, DeadLetter publishes a copy and acknowledges the original. It returns the same errors
	// as Retry.
	DeadLetter(ctx context.Context, reason Reason) error
}

// Reason says why a message was dead-lettered.
type Reason struct {
	// Stage is the step of processing that rejected the message: "parse", "summarize" or "post". It is "panic" if the
	// processor panicked while it handled the message, and StageBroker if the broker itself dead-lettered the message.
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
	// DeadLetterReasons counts the reasons of the messages in the dead-letter queue. It returns at most limit reasons,
	// the most frequent first. It examines only a part of the messages if there are many, and leaves all messages in
	// the queue.
	DeadLetterReasons(ctx context.Context, limit int) ([]ReasonCount, error)
	// Delete removes the exchange and the queues of the simulation, with all messages in the queues.
	Delete(ctx context.Context) error
}

// Broker publishes and consumes events, and manages the queues.
type Broker interface {
	Publisher
	Consumer
	Topology
	// Ping returns an error if the server does not respond, or if a connection to the server was lost since the
	// previous call of Ping. It changes nothing on the server. Ping reports each loss only once, so Ping should have a
	// single caller.
	Ping(ctx context.Context) error
	// Version returns the name and version of the server, such as "RabbitMQ 4.1.2". Without a server, it returns "in
	// memory".
	Version(ctx context.Context) (string, error)
	// Close closes every connection. The broker delivers the unsettled messages again, to other consumers.
	Close() error
}
