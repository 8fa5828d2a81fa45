package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// keyProbe is the routing key of the messages that Probe publishes. No queue is bound with this key.
	keyProbe = "probe"
	// blockedInterval is how often Probe checks whether the server has blocked the connection.
	blockedInterval = 50 * time.Millisecond
)

// Probe checks, in one attempt, that Declare succeeds and that the server confirms a message without a queue. Its error
// says what to do.
func (b *Broker) Probe(ctx context.Context) error {
	// Declare makes up to thousands of requests, one for each queue, so repeat Declare only after a failed Probe.
	if !b.probed.Load() {
		if err := b.Declare(ctx); err != nil {
			return err
		}
	}
	err := b.probePublish(ctx)
	b.probed.Store(err == nil)
	return err
}

// probePublish publishes a message that no queue receives. If the server blocks publishers, probePublish returns an
// error and does not wait until the block ends.
func (b *Broker) probePublish(ctx context.Context) error {
	conn, err := b.publish.try(ctx)
	if err != nil {
		return err
	}
	if err := b.publish.blockedError(); err != nil {
		return err // do not wait for an answer: the server does not answer requests while it blocks the connection
	}
	done := make(chan error, 1)
	if !b.start(func() { done <- publishProbe(ctx, conn, b.topology.exchange) }) {
		return errors.New("the broker is closed")
	}
	look := time.NewTicker(blockedInterval)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-look.C:
			if err := b.publish.blockedError(); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("wait until RabbitMQ confirms a message: %w", ctx.Err())
		}
	}
}

func publishProbe(ctx context.Context, conn *connection, exchange string) error {
	if err := publishUnrouted(ctx, conn, exchange); err != nil {
		return withRemedy(lostOr(conn, err))
	}
	return nil
}

func publishUnrouted(ctx context.Context, conn *connection, exchange string) error {
	channel, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	defer func() { _ = channel.Close() }() // Close fails if the server has closed the channel
	if err := channel.Confirm(false); err != nil {
		return fmt.Errorf("enable confirms: %w", err)
	}
	closes := channel.NotifyClose(make(chan *amqp.Error, 1))
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, exchange, keyProbe, false, false, amqp.Publishing{})
	if err != nil {
		return fmt.Errorf("publish a message: %w", err)
	}
	var reason *amqp.Error
	select {
	case <-confirmation.Done():
		if confirmation.Acked() {
			return nil
		}
		// The client library also reports a message as rejected if the channel is lost, but sends the reason first.
		select {
		case reason = <-closes:
		default:
			return errors.New("RabbitMQ rejected a message: see its log")
		}
	case reason = <-closes:
	case <-ctx.Done():
		return fmt.Errorf("wait until RabbitMQ confirms a message: %w", ctx.Err())
	}
	if reason == nil {
		return errors.New("the connection was closed before RabbitMQ confirmed a message")
	}
	return fmt.Errorf("publish to exchange %s: %w", exchange, reason)
}

// Blocked returns an error if the server blocks the connection of this broker's publishers because of a resource alarm.
// It does no I/O.
func (b *Broker) Blocked() error { return b.publish.blockedError() }

// blockedError returns an error if the server blocks the connection because of a resource alarm.
func (l *link) blockedError() error {
	if reason := l.blocked.Load(); reason != nil {
		return fmt.Errorf("RabbitMQ blocks publishers (%s): free memory or disk space on its nodes, "+
			"or change vm_memory_high_watermark or disk_free_limit", *reason)
	}
	return nil
}
