package rabbitmq

import (
	"context"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// maxAdminRequests is the maximum number of pending administrative requests. A request stays pending until the
// server answers, even if its caller no longer waits.
const maxAdminRequests = 8

// Declare creates the missing exchange and queues of the simulation. It makes one attempt. Publishing and
// consuming do not depend on it: they declare the queues that they need.
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

// Depths counts the messages that are ready in the simulation's queues. A queue that does not exist counts as
// empty. A server does not report unsettled deliveries. It also does not report messages that it is moving from
// a quorum queue to the queue's dead-letter target, so a retried message may be missing from all counts for a
// moment. Depths makes one attempt. It fails with broker.ErrOtherOwner if the queues belong to another
// simulation.
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

// Exists reports whether anything of the simulation exists on the server, for any number of partitions. It
// looks for the exchange, and for the dead-letter queue and the owner's mark, which Delete removes last. It
// changes nothing and makes one attempt.
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

// Delete removes the simulation's exchange and queues with the messages in them. It makes one attempt. It fails
// with broker.ErrOtherOwner, and removes nothing, if they are another simulation's. A publisher or consumer that
// is still at work declares them again.
func (b *Broker) Delete(ctx context.Context) error {
	return b.administer(ctx, func(a *administration) error {
		if err := a.verify(b.declarer); err != nil {
			return err
		}
		b.declarer.marked.Store(false)
		// Delete the exchange first, so that no message is routed to queues that are already deleted. Delete
		// the mark last, so that no other owner takes over the remaining queues if the deletion is interrupted.
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

// administration is a channel for administrative requests.
type administration struct {
	connection *connection
	channel    *amqp.Channel
}

func (b *Broker) administer(ctx context.Context, work func(*administration) error) error {
	_, err := administer(ctx, b, func(a *administration) (struct{}, error) { return struct{}{}, work(a) })
	return err
}

// administer runs work with an administrative channel and returns its result.
//
// The client library cannot cancel a request. If ctx ends first, administer returns the error of ctx. work
// continues in the background until the server answers or the connection ends. administer does not close the
// connection: other requests use it as well, and the server would log that as an error of the client.
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

// acquireAdmin waits until fewer than maxAdminRequests are pending. The caller calls the returned function when
// its request is complete.
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

// withChannel runs work with a new channel, which it closes afterwards.
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

// open opens a channel. It replaces one that the server has closed.
func (a *administration) open() error {
	channel, err := a.connection.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	a.channel = channel
	return nil
}

// verify returns broker.ErrOtherOwner if the simulation is marked as another owner's. It never creates a mark.
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

// hasExchange reports whether an exchange exists.
func (a *administration) hasExchange(name string) (bool, error) {
	err := a.channel.ExchangeDeclarePassive(name, amqp.ExchangeDirect, true, false, false, false, nil)
	return a.found("exchange "+name, err)
}

// hasQueue reports whether a queue exists.
func (a *administration) hasQueue(name string) (bool, error) {
	_, err := a.channel.QueueDeclarePassive(name, true, false, false, false, nil)
	return a.found("queue "+name, err)
}

// found derives from the error of a passive declaration whether the declared object exists.
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

// count adds the number of ready messages of a queue to sum.
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
