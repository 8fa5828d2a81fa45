package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// delivery implements broker.Settler for one delivery of a session.
type delivery struct {
	broker   *Broker
	session  *session
	queue    broker.Queue
	tag      uint64
	original amqp.Delivery

	// The mutex of the session guards the following fields.
	previous, next *delivery
	verdict        verdict
	removed        bool
	waiting        time.Time // when the acknowledgement began to wait for an earlier delivery
}

var _ broker.Settler = (*delivery)(nil)

// Ack marks the delivery as acknowledged. The session sends the acknowledgement to the server later.
func (d *delivery) Ack() error { return d.session.settle(d, unsettled, acknowledged) }

// Requeue marks the delivery as requeued. The session sends the request to the server later.
func (d *delivery) Requeue() error { return d.session.settle(d, unsettled, requeued) }

// Retry publishes a copy of the message to the retry queue and acknowledges the original.
func (d *delivery) Retry(ctx context.Context) error {
	to := laneID{kind: toRetry, of: d.queue}
	if err := d.move(ctx, to, func() amqp.Publishing { return retryOf(&d.original) }); err != nil {
		return fmt.Errorf("move message %q to the retry queue: %w", d.original.MessageId, err)
	}
	return nil
}

// DeadLetter publishes a copy of the message to the dead-letter queue and acknowledges the original.
func (d *delivery) DeadLetter(ctx context.Context, reason broker.Reason) error {
	to := laneID{kind: toDead}
	if err := d.move(ctx, to, func() amqp.Publishing { return deadLetterOf(&d.original, reason) }); err != nil {
		return fmt.Errorf("move message %q to the dead-letter queue: %w", d.original.MessageId, err)
	}
	return nil
}

// move publishes a copy, waits for its confirm, and acknowledges the delivery. If move fails, the delivery is unsettled
// again, but the copy may exist.
func (d *delivery) move(ctx context.Context, to laneID, publishing func() amqp.Publishing) error {
	if err := d.session.settle(d, unsettled, reserved); err != nil {
		return err
	}
	if err := d.publish(ctx, to, publishing()); err != nil {
		return errors.Join(err, d.session.settle(d, reserved, unsettled))
	}
	return d.session.settle(d, reserved, acknowledged)
}

func (d *delivery) publish(ctx context.Context, to laneID, publishing amqp.Publishing) error {
	confirmed := make(chan struct{})
	if err := d.broker.put(ctx, to, publishing, func() { close(confirmed) }); err != nil {
		return err
	}
	select {
	case <-confirmed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.broker.running.Done():
		return broker.ErrClosed
	}
}
