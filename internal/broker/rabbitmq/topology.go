package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// deadDeliveryLimit is the delivery limit of the dead-letter queue. What exceeds it would be dropped, so
// it is out of reach of a person who looks at dead letters and puts them back.
const deadDeliveryLimit = 1_000_000

// topology names a simulation's exchange and queues and knows their arguments.
type topology struct {
	exchange      string
	partitions    int
	queueType     plan.QueueType
	retryDelay    time.Duration
	deliveryLimit int
}

// route is a queue with the key that the exchange routes to it.
type route struct {
	queue string
	key   string
	args  amqp.Table
}

func (t topology) main(q broker.Queue) route {
	key := q.String()
	return route{queue: t.exchange + "." + key, key: key, args: t.arguments(t.deliveryLimit, keyDead)}
}

// retry is where the messages of q wait for another attempt: they expire after the retry delay, and
// return to q as dead letters do.
func (t topology) retry(q broker.Queue) route {
	key := "retry." + q.String()
	args := t.arguments(t.deliveryLimit, q.String())
	args[amqp.QueueMessageTTLArg] = t.retryDelay.Milliseconds()
	return route{queue: t.exchange + "." + key, key: key, args: args}
}

func (t topology) dead() route {
	return route{queue: t.exchange + "." + keyDead, key: keyDead, args: t.arguments(deadDeliveryLimit, "")}
}

const keyDead = "dead"

// arguments are those of a queue whose dead letters go to the queue with the key deadKey, if any. A
// quorum queue hands them over with confirms, for which it must not drop messages when it is full.
func (t topology) arguments(deliveryLimit int, deadKey string) amqp.Table {
	args := amqp.Table{amqp.QueueTypeArg: string(t.queueType)}
	if deadKey != "" {
		args["x-dead-letter-exchange"] = t.exchange
		args["x-dead-letter-routing-key"] = deadKey
	}
	if t.queueType != plan.QueueTypeQuorum {
		return args
	}
	args["x-delivery-limit"] = deliveryLimit
	if deadKey != "" {
		args["x-dead-letter-strategy"] = "at-least-once"
		args[amqp.QueueOverflowArg] = amqp.QueueOverflowRejectPublish
	}
	return args
}

// queues are those from which events are consumed.
func (t topology) queues() []broker.Queue {
	queues := make([]broker.Queue, 0, 2*t.partitions)
	for partition := range t.partitions {
		for _, eventType := range event.Types() {
			queues = append(queues, broker.Queue{Type: eventType, Partition: partition})
		}
	}
	return queues
}

// around lists what a message of q may be routed to. A dead letter must find its queue, so queues come
// after those to which their dead letters go.
func (t topology) around(q broker.Queue) []route {
	return []route{t.dead(), t.main(q), t.retry(q)}
}

// declare creates the exchange and the routes as far as they do not exist.
func (t topology) declare(channel *amqp.Channel, routes []route) error {
	if err := channel.ExchangeDeclare(t.exchange, amqp.ExchangeDirect, true, false, false, false, nil); err != nil {
		return explainDeclare("exchange "+t.exchange, err)
	}
	for _, r := range routes {
		if _, err := channel.QueueDeclare(r.queue, true, false, false, false, r.args); err != nil {
			return explainDeclare("queue "+r.queue, err)
		}
		if err := channel.QueueBind(r.queue, r.key, t.exchange, false, nil); err != nil {
			return explainDeclare("the binding of queue "+r.queue, err)
		}
	}
	return nil
}

func explainDeclare(what string, err error) error {
	refusal, ok := errors.AsType[*amqp.Error](err)
	if !ok {
		return fmt.Errorf("declare %s: %w", what, err)
	}
	switch refusal.Code {
	case amqp.PreconditionFailed:
		return fmt.Errorf("declare %s: %w: it exists with other settings; delete it, or give the simulation another name", what, err)
	case amqp.AccessRefused:
		return fmt.Errorf("declare %s: %w: grant the user permission to configure, write and read it", what, err)
	default:
		return fmt.Errorf("declare %s: %w", what, err)
	}
}

// Declare creates what is missing of the simulation's exchange and queues. It tries once. Publishing and
// consuming do not depend on it: they declare what they need.
func (b *Broker) Declare(ctx context.Context) error {
	return b.administer(ctx, func(admin *administration) error {
		routes := []route{b.topology.dead()}
		for _, q := range b.topology.queues() {
			routes = append(routes, b.topology.main(q), b.topology.retry(q))
		}
		return b.topology.declare(admin.channel, routes)
	})
}

// Depths counts the messages that are ready in the simulation's queues; a queue that does not exist has
// none. The server does not tell a client how many are delivered and unsettled, nor how many are on their
// way from a quorum queue to where its dead letters go, so a retry may be in neither count for a moment. It
// tries once.
func (b *Broker) Depths(ctx context.Context) (broker.Depths, error) {
	var depths broker.Depths
	err := b.administer(ctx, func(admin *administration) error {
		for _, q := range b.topology.queues() {
			if err := admin.count(b.topology.main(q), &depths.Ready); err != nil {
				return err
			}
			if err := admin.count(b.topology.retry(q), &depths.Retry); err != nil {
				return err
			}
		}
		return admin.count(b.topology.dead(), &depths.Dead)
	})
	return depths, err
}

// Delete removes the simulation's exchange and queues with the messages in them. It tries once. A
// publisher or consumer that is still at work declares them anew.
func (b *Broker) Delete(ctx context.Context) error {
	return b.administer(ctx, func(admin *administration) error {
		// First the exchange, so that nothing is routed to where something else is already missing.
		if err := admin.channel.ExchangeDelete(b.topology.exchange, false, false); err != nil {
			return fmt.Errorf("delete exchange %s: %w", b.topology.exchange, err)
		}
		for _, q := range b.topology.queues() {
			for _, r := range []route{b.topology.main(q), b.topology.retry(q)} {
				if err := admin.remove(r); err != nil {
					return err
				}
			}
		}
		return admin.remove(b.topology.dead())
	})
}

// administration is a channel for requests about the topology.
type administration struct {
	connection *connection
	channel    *amqp.Channel
}

// administer runs work with a channel of its own. When ctx ends before work does, the connection that
// serves administration is cut, as the client library has no other way to give a request up.
func (b *Broker) administer(ctx context.Context, work func(*administration) error) error {
	conn, err := b.admin.try(ctx)
	if err != nil {
		return err
	}
	giveUp := context.AfterFunc(ctx, conn.wire.abort)
	defer giveUp()
	err = withChannel(conn, work)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func withChannel(conn *connection, work func(*administration) error) error {
	admin := &administration{connection: conn}
	if err := admin.open(); err != nil {
		return err
	}
	defer func() { _ = admin.channel.Close() }() // the answers are in; a channel that is closed already is fine
	return work(admin)
}

func (a *administration) open() error {
	channel, err := a.connection.Channel()
	if err != nil {
		return fmt.Errorf("open a channel to the broker: %w", err)
	}
	a.channel = channel
	return nil
}

func (a *administration) count(r route, sum *int64) error {
	queue, err := a.channel.QueueDeclarePassive(r.queue, true, false, false, false, nil)
	if isNotFound(err) {
		return a.open() // the server has closed the channel with its answer
	}
	if err != nil {
		return fmt.Errorf("count the messages of queue %s: %w", r.queue, err)
	}
	*sum += int64(queue.Messages)
	return nil
}

func (a *administration) remove(r route) error {
	if _, err := a.channel.QueueDelete(r.queue, false, false, false); err != nil && !isNotFound(err) {
		return fmt.Errorf("delete queue %s: %w", r.queue, err)
	}
	return nil
}

func isNotFound(err error) bool {
	refusal, ok := errors.AsType[*amqp.Error](err)
	return ok && refusal.Code == amqp.NotFound
}
