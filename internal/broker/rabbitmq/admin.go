package rabbitmq

import (
	"context"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// maxAdminRequests is the maximum number of pending administrative requests. A request stays pending until the
// server answers it, even if its caller has given up.
const maxAdminRequests = 8

// Declare creates the exchange and those queues of the simulation that do not exist. It makes one attempt.
// Publish and Consume work without it, because they declare the queues that they need.
func (b *Broker) Declare(ctx context.Context) error {
	return b.administer(ctx, func(a *administration) error {
		channel, err := b.declarer.open(a.connection, b.topology.allRoutes())
		if err != nil {
			return err
		}
		_ = channel.Close() // the answers are in
		return nil
	})
}

// Depths counts the ready messages in the simulation's queues. A queue that does not exist counts as empty.
// Unsettled deliveries are not counted, because a server does not report them. A server also does not report
// messages that it is moving from a quorum queue to its dead-letter target. So a retried message may be missing
// from all counts for a moment. Depths makes one attempt. It fails with broker.ErrOtherOwner if the queues
// belong to another simulation.
func (b *Broker) Depths(ctx context.Context) (broker.Depths, error) {
	return administer(ctx, b, func(a *administration) (depths broker.Depths, err error) {
		if !b.declarer.marked.Load() { // afterwards the mark can only be removed
			if err := a.verify(b.declarer); err != nil {
				return broker.Depths{}, err
			}
		}
		for _, q := range b.topology.queues() {
			if err := a.count(b.topology.main(q), &depths.Ready); err != nil {
				return broker.Depths{}, err
			}
			if err := a.count(b.topology.retry(q), &depths.Retry); err != nil {
				return broker.Depths{}, err
			}
		}
		return depths, a.count(b.topology.dead(), &depths.Dead)
	})
}

// Exists reports whether the server still holds the exchange, the dead-letter queue or the owner's mark of the
// simulation. Delete removes the dead-letter queue and the mark last. So the result does not depend on the
// number of partitions. Exists changes nothing and makes one attempt.
func (b *Broker) Exists(ctx context.Context) (bool, error) {
	return administer(ctx, b, func(a *administration) (bool, error) {
		for _, exchange := range []string{b.topology.exchange, b.topology.ownerExchange()} {
			if found, err := a.hasExchange(exchange); found || err != nil {
				return found, err
			}
		}
		return a.hasQueue(b.topology.dead().queue)
	})
}

// Delete removes the simulation's exchange and queues, with the messages in them. It makes one attempt. If they
// belong to another simulation, it removes nothing and returns broker.ErrOtherOwner. A publisher or consumer
// that still runs declares the exchange and queues again.
func (b *Broker) Delete(ctx context.Context) error {
	return b.administer(ctx, func(a *administration) error {
		if err := a.verify(b.declarer); err != nil {
			return err
		}
		b.declarer.marked.Store(false)
		// Delete the exchange first, so that no message is routed to a queue that is already deleted. Delete
		// the mark last. Otherwise, if the deletion were interrupted, another owner could take over the
		// remaining queues.
		if err := a.deleteExchange(b.topology.exchange); err != nil {
			return err
		}
		for _, q := range b.topology.queues() {
			for _, r := range []route{b.topology.main(q), b.topology.retry(q)} {
				if err := a.deleteQueue(r); err != nil {
					return err
				}
			}
		}
		if err := a.deleteQueue(b.topology.dead()); err != nil {
			return err
		}
		return a.deleteExchange(b.topology.ownerExchange())
	})
}

// administration is a channel for administrative requests, with its connection.
type administration struct {
	connection *connection
	channel    *amqp.Channel
}

func (b *Broker) administer(ctx context.Context, work func(*administration) error) error {
	_, err := administer(ctx, b, func(a *administration) (struct{}, error) { return struct{}{}, work(a) })
	return err
}

// administer calls the function work with an administrative channel and returns its result.
//
// The client library cannot cancel a request. If ctx ends first, administer returns the error of ctx, and the
// function work continues in the background until the server answers or the connection ends. administer does
// not close the connection to stop it. Other requests use the same connection, and the server would log the
// closing as an error of the client.
func administer[T any](ctx context.Context, b *Broker, work func(*administration) (T, error)) (T, error) {
	var none T
	release, err := b.acquireAdmin(ctx)
	if err != nil {
		return none, err
	}
	conn, err := b.admin.try(ctx)
	if err != nil {
		release()
		return none, err
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	started := b.start(func() {
		defer release()
		value, err := withChannel(conn, work)
		done <- result{value, err}
	})
	if !started {
		release()
		return none, broker.ErrClosed
	}
	select {
	case r := <-done:
		if r.err != nil && b.running.Err() != nil {
			return none, broker.ErrClosed
		}
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("wait for an answer of RabbitMQ: %w", ctx.Err())
	}
}

// acquireAdmin waits until fewer than maxAdminRequests are pending. The caller must call release when its
// request is complete.
func (b *Broker) acquireAdmin(ctx context.Context) (release func(), err error) {
	select {
	case b.adminSlots <- struct{}{}:
		return func() { <-b.adminSlots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for RabbitMQ to answer earlier requests: %w", ctx.Err())
	case <-b.running.Done():
		return nil, broker.ErrClosed
	}
}

// withChannel calls the function work with a new channel, and closes the channel afterwards.
func withChannel[T any](conn *connection, work func(*administration) (T, error)) (T, error) {
	a := &administration{connection: conn}
	if err := a.open(); err != nil {
		var none T
		return none, lostOr(conn, err)
	}
	defer func() { _ = a.channel.Close() }() // the answers are in; the server may have closed it
	value, err := work(a)
	if err != nil {
		err = lostOr(conn, err)
	}
	return value, err
}

// open opens a channel. It is also called to replace a channel that the server has closed.
func (a *administration) open() error {
	channel, err := a.connection.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	a.channel = channel
	return nil
}

// verify returns broker.ErrOtherOwner if the simulation is marked with another owner. It never creates a mark.
func (a *administration) verify(d *declarer) error {
	if d.owner == "" {
		return nil
	}
	marked, err := a.hasExchange(d.ownerExchange())
	if err != nil || !marked {
		return err
	}
	return d.declareOwner(a.channel)
}

func (a *administration) hasExchange(name string) (bool, error) {
	err := a.channel.ExchangeDeclarePassive(name, amqp.ExchangeDirect, true, false, false, false, nil)
	return a.found("exchange "+name, err)
}

func (a *administration) hasQueue(name string) (bool, error) {
	_, err := a.channel.QueueDeclarePassive(name, true, false, false, false, nil)
	return a.found("queue "+name, err)
}

// found interprets the error of a passive declaration: it reports whether the declared queue or exchange
// exists.
func (a *administration) found(what string, err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case isNotFound(err):
		return false, a.open() // the server has closed the channel with its answer
	default:
		return false, fmt.Errorf("look for %s: %w", what, err)
	}
}

// count adds the number of ready messages in the queue to *sum. A queue that does not exist adds nothing.
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

func (a *administration) deleteQueue(r route) error {
	if _, err := a.channel.QueueDelete(r.queue, false, false, false); err != nil && !isNotFound(err) {
		return fmt.Errorf("delete queue %s: %w", r.queue, err)
	}
	return nil
}

func (a *administration) deleteExchange(name string) error {
	if err := a.channel.ExchangeDelete(name, false, false); err != nil && !isNotFound(err) {
		return fmt.Errorf("delete exchange %s: %w", name, err)
	}
	return nil
}

func isNotFound(err error) bool { return hasCode(err, amqp.NotFound) }
