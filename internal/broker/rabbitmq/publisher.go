package rabbitmq

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// laneID identifies a lane: the publisher for one queue.
type laneID struct {
	kind laneKind
	of   broker.Queue // the entry or exit queue; unset for the dead-letter queue
}

// laneKind is the kind of queue to which a message is published.
type laneKind int

const (
	toQueue laneKind = iota // to an entry or exit queue
	toRetry                 // to the retry queue of an entry or exit queue
	toDead                  // to the dead-letter queue
)

// Publish implements broker.Publisher. Each queue has its own window of unconfirmed messages. A property or body that
// is too long causes an error.
func (b *Broker) Publish(ctx context.Context, q broker.Queue, msg broker.Message, confirmed func()) error {
	publishing, err := encode(msg)
	if err != nil {
		return fmt.Errorf("publish message %q: %w", msg.ID, err)
	}
	if confirmed == nil {
		return errors.New(`publish: the callback "confirmed" is nil`)
	}
	return b.put(ctx, laneID{kind: toQueue, of: q}, publishing, confirmed)
}

func (b *Broker) put(ctx context.Context, id laneID, publishing amqp.Publishing, confirmed func()) error {
	l, err := b.lane(id)
	if err != nil {
		return err
	}
	return l.put(ctx, b.running.Done(), &outgoing{publishing: publishing, confirmed: confirmed})
}

// Flush waits until the broker has confirmed all messages that were accepted before the call of Flush.
func (b *Broker) Flush(ctx context.Context) error {
	if b.running.Err() != nil {
		return broker.ErrClosed
	}
	return b.unconfirmed.Wait(ctx, b.running.Done())
}

// lane returns the lane with the given ID. The first call for an ID starts the lane.
func (b *Broker) lane(id laneID) (*lane, error) {
	b.mu.RLock()
	l, closed := b.lanes[id], b.isClosed
	b.mu.RUnlock()
	if closed {
		return nil, broker.ErrClosed
	}
	if l != nil {
		return l, nil
	}
	return b.newLane(id)
}

func (b *Broker) newLane(id laneID) (*lane, error) {
	if id.kind != toDead {
		if err := id.of.Check(b.topology.partitions); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosed {
		return nil, broker.ErrClosed
	}
	if l := b.lanes[id]; l != nil {
		return l, nil
	}
	key, routes := b.routesOf(id)
	l := &lane{
		link:     b.publish,
		declare:  func(conn *connection) (*amqp.Channel, error) { return b.declarer.open(conn, routes) },
		exchange: b.topology.exchange,
		key:      key,
		tally:    &b.unconfirmed,
		metrics:  b.metrics,
		outages:  b.outages,
		part:     "publish " + key,
		slots:    make(chan struct{}, b.config.Window),
		wake:     make(chan struct{}, 1),
	}
	b.lanes[id] = l
	b.work.Go(func() { l.run(b.running) })
	return l, nil
}

// routesOf returns the routing key of a lane, and the queues that the lane declares.
func (b *Broker) routesOf(id laneID) (key string, routes []route) {
	switch id.kind {
	case toRetry:
		return b.topology.retry(id.of).key, b.topology.routesAround(id.of)
	case toDead:
		return keyDead, []route{b.topology.dead()}
	default:
		return b.topology.main(id.of).key, b.topology.routesAround(id.of)
	}
}
