package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// maxAdminRequests limits the pending administrative requests. A request without a response stays pending, even if its
// caller no longer waits.
const maxAdminRequests = 8

// Declare creates the missing exchanges and queues of the simulation, in one attempt. Publish and Consume also declare
// the queues that they use.
func (b *Broker) Declare(ctx context.Context) error {
	return b.administer(ctx, func(a *administration) error {
		channel, err := b.declarer.open(a.connection, b.topology.allRoutes())
		if err != nil {
			return err
		}
		_ = channel.Close() // an error does not matter, because the server has confirmed all declarations
		return nil
	})
}

// Depths counts the ready messages, in one attempt. It fails if a queue is unavailable, and with broker.ErrOtherOwner
// if the queues belong to another simulation.
func (b *Broker) Depths(ctx context.Context) (broker.Depths, error) {
	return administer(ctx, b, func(a *administration) (depths broker.Depths, err error) {
		if err := a.verifyOnce(b.declarer); err != nil {
			return broker.Depths{}, err
		}
		// The server does not count unsettled deliveries, and may omit a retried message for a moment.
		for _, q := range b.topology.queues() {
			// Stop when the caller no longer waits, so that other callers can send their requests.
			if err := ctx.Err(); err != nil {
				return broker.Depths{}, err
			}
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

// CheckQueue checks the owner of the queues, and reads the depth of only the dead-letter queue.
func (b *Broker) CheckQueue(ctx context.Context) error {
	return b.administer(ctx, func(a *administration) error {
		if err := a.verifyOnce(b.declarer); err != nil {
			return err
		}
		var dead int64
		return a.count(b.topology.dead(), &dead)
	})
}

// Exists reports, in one attempt, whether the server has an exchange or queue with a name of the simulation, whatever
// its settings.
func (b *Broker) Exists(ctx context.Context) (bool, error) {
	return administer(ctx, b, func(a *administration) (bool, error) {
		// After a failed Delete, the owner exchange still exists, but the search below may miss the remaining queues.
		for _, exchange := range []string{b.topology.exchange, b.topology.ownerExchange()} {
			if found, err := a.hasExchange(exchange); found || err != nil {
				return found, err
			}
		}
		queues, err := existingQueues(b.topology, maxGap, a.hasQueue)
		return len(queues) > 0, err
	})
}

// Delete removes the simulation's exchanges and queues, except those with other settings. It fails with
// broker.ErrOtherOwner for another owner. A running publisher or consumer creates the queues again.
func (b *Broker) Delete(ctx context.Context) error {
	return b.administer(ctx, func(a *administration) error {
		if err := a.verify(b.declarer); err != nil {
			return err
		}
		b.declarer.marked.Store(false)
		gap, err := b.gapForDelete(a)
		if err != nil {
			return err
		}
		// First delete the exchange that routes messages, and then the queues. Otherwise, the server could confirm and
		// discard a message whose queue is already deleted.
		if err := b.deleteExchange(a); err != nil {
			return err
		}
		queues, err := existingQueues(b.topology, gap, a.mayHaveQueue)
		if err != nil {
			return err
		}
		if err := b.deleteQueues(a, queues); err != nil {
			return err
		}
		// Delete the owner exchange last: without it, another simulation could take over the queues that a failed
		// Delete has left.
		return a.deleteExchange(b.topology.ownerExchange())
	})
}

// gapForDelete returns the number of successive partitions without queues after which Delete stops its search.
func (b *Broker) gapForDelete(a *administration) (int, error) {
	found, err := a.hasExchange(b.topology.exchange)
	if err != nil || found {
		return maxGap, err
	}
	marked, err := a.hasExchange(b.topology.ownerExchange())
	if err != nil || !marked {
		return maxGap, err
	}
	// Only the owner exchange exists, so an earlier call of Delete has failed: any partition may still have queues.
	return b.topology.partitions, nil
}

// deleteQueues continues after an unavailable queue. Its error contains the number of unavailable queues, but the
// reason for only one of them.
func (b *Broker) deleteQueues(a *administration, queues []string) error {
	variants := b.topology.variants()
	var first error
	unavailable := 0
	for _, queue := range slices.Backward(queues) {
		switch err := b.deleteQueue(a, queue, variants[queue]); {
		case err == nil:
			continue
		case !isUnavailable(err):
			return errors.Join(first, err)
		case first == nil:
			first = err
		}
		unavailable++
		if err := a.open(); err != nil { // open a new channel, because the server has closed the previous one
			return errors.Join(first, err)
		}
	}
	if unavailable > 1 {
		return fmt.Errorf("%w; unavailable queues in total: %d", first, unavailable)
	}
	return first
}

// deleteExchange deletes the simulation's exchange if its settings are those of the simulation.
func (b *Broker) deleteExchange(a *administration) error {
	name := b.topology.exchange
	switch state, err := a.exchangeState(name); {
	case err != nil:
		return err
	case state == foreign:
		b.warnForeign("exchange", name)
		return nil
	case state == absent:
		return nil
	}
	return a.deleteExchange(name)
}

// deleteQueue deletes a queue if its arguments equal one of the given variants.
func (b *Broker) deleteQueue(a *administration, name string, variants []amqp.Table) error {
	switch state, err := a.queueState(name, variants); {
	case err != nil:
		return err
	case state == foreign:
		b.warnForeign("queue", name)
		return nil
	}
	return a.deleteQueue(name)
}

// warnForeign logs that Delete has kept a queue or an exchange of another program.
func (b *Broker) warnForeign(kind, name string) {
	b.log.Warn("A queue or exchange was not deleted, because its settings are not those of the simulation; delete it if nothing uses it", kind, name)
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

// administer calls the function work with an administrative channel. If ctx ends before the server answers, administer
// returns, and the function continues in the background.
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
		// The client library cannot cancel the request, and other requests use the same connection.
		return none, fmt.Errorf("wait for a response from RabbitMQ: %w", ctx.Err())
	}
}

// acquireAdmin waits until fewer than maxAdminRequests administrative requests are pending. The caller must call the
// returned function when its own request is complete.
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

// withChannel opens a channel, calls the given function with it, and closes the channel. An error contains the remedy,
// if a remedy is known.
func withChannel[T any](conn *connection, work func(*administration) (T, error)) (T, error) {
	a := &administration{connection: conn}
	if err := a.open(); err != nil {
		var none T
		return none, withRemedy(lostOr(conn, err))
	}
	defer func() { _ = a.channel.Close() }() // Close fails if the server has already closed the channel
	value, err := work(a)
	if err != nil {
		err = withRemedy(lostOr(conn, err))
	}
	return value, err
}

// open opens the channel, or replaces the channel after the server has closed it.
func (a *administration) open() error {
	channel, err := a.connection.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	a.channel = channel
	return nil
}

// verify returns broker.ErrOtherOwner if the owner exchange exists and names another owner.
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

// verifyOnce checks the owner of the queues, unless an earlier check or declaration has confirmed the owner. The owner
// cannot change while the queues exist.
func (a *administration) verifyOnce(d *declarer) error {
	if d.marked.Load() {
		return nil
	}
	return a.verify(d)
}

func (a *administration) hasExchange(name string) (bool, error) {
	err := a.channel.ExchangeDeclarePassive(name, amqp.ExchangeDirect, true, false, false, false, nil)
	return a.found("exchange "+name, err)
}

// maxGap is how many successive partitions without queues end a search. It exceeds 1, because somebody may have deleted
// the queues of a few partitions.
const maxGap = 4

// existingQueues returns the queues that exist, in the order of allRoutes. The search stops after gap successive
// partitions without queues.
func existingQueues(t topology, gap int, exists func(name string) (bool, error)) ([]string, error) {
	var found []string
	look := func(routes ...route) error {
		for _, r := range routes {
			exists, err := exists(r.queue)
			if err != nil {
				return err
			}
			if exists {
				found = append(found, r.queue)
			}
		}
		return nil
	}
	if err := look(t.dead()); err != nil {
		return nil, err
	}
	// Stop after several partitions without queues, because the server logs an error for each missing queue.
	for partition, empty := 0, 0; partition < t.partitions && empty < gap; partition++ {
		before := len(found)
		for _, q := range t.queuesOf(partition) {
			if err := look(t.main(q), t.retry(q)); err != nil {
				return nil, err
			}
		}
		if empty++; len(found) > before {
			empty = 0
		}
	}
	return found, nil
}

func (a *administration) hasQueue(name string) (bool, error) {
	_, err := a.channel.QueueDeclarePassive(name, true, false, false, false, nil)
	if hasCode(err, amqp.ResourceLocked) { // the queue exists, but is exclusive to another connection
		return true, a.open()
	}
	return a.found("queue "+name, err)
}

// mayHaveQueue reports whether a queue exists, or may exist because it is unavailable.
func (a *administration) mayHaveQueue(name string) (bool, error) {
	found, err := a.hasQueue(name)
	if isUnavailable(err) {
		return true, a.open() // the server has closed the channel, because the queue is unavailable
	}
	return found, err
}

// found reports whether a queue or an exchange exists, given the error of its passive declaration.
func (a *administration) found(what string, err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case isNotFound(err):
		return false, a.open() // the server has closed the channel, because the queue or exchange does not exist
	default:
		return false, fmt.Errorf("look for %s: %w", what, err)
	}
}

// count adds the number of ready messages in the queue to *sum. A queue that does not exist counts as empty.
func (a *administration) count(r route, sum *int64) error {
	queue, err := a.channel.QueueDeclarePassive(r.queue, true, false, false, false, nil)
	if isNotFound(err) {
		return a.open() // the server has closed the channel, because the queue does not exist
	}
	if err != nil {
		return fmt.Errorf("count the messages of queue %s: %w", r.queue, err)
	}
	*sum += int64(queue.Messages)
	return nil
}

// state says whether a queue or an exchange exists on the server, and whether it has the settings of the simulation.
type state int

const (
	absent  state = iota
	own           // exists with the settings that the simulation declares
	foreign       // exists with other settings, or is a queue that another connection uses exclusively
)

func (a *administration) exchangeState(name string) (state, error) {
	if found, err := a.hasExchange(name); !found || err != nil {
		return absent, err
	}
	err := declareExchange(a.channel, name)
	if hasCode(err, amqp.PreconditionFailed) {
		return foreign, a.open() // reopen the channel, which the server closes when it rejects a declaration
	}
	if err != nil {
		return absent, fmt.Errorf("check the settings of exchange %s: %w", name, err)
	}
	return own, nil
}

// queueState returns the constant own if the queue has the arguments of one of the variants, and otherwise the
// constant foreign.
func (a *administration) queueState(name string, variants []amqp.Table) (state, error) {
	for _, args := range variants {
		_, err := a.channel.QueueDeclare(name, true, false, false, false, args)
		switch {
		case err == nil:
			return own, nil
		case !hasCode(err, amqp.PreconditionFailed) && !hasCode(err, amqp.ResourceLocked):
			return absent, fmt.Errorf("check the settings of queue %s: %w", name, err)
		}
		if err := a.open(); err != nil { // the server closes the channel when it rejects a declaration
			return absent, err
		}
	}
	return foreign, nil
}

func (a *administration) deleteQueue(name string) error {
	if _, err := a.channel.QueueDelete(name, false, false, false); err != nil && !isNotFound(err) {
		return fmt.Errorf("delete queue %s: %w", name, err)
	}
	return nil
}

func (a *administration) deleteExchange(name string) error {
	if err := a.channel.ExchangeDelete(name, false, false); err != nil && !isNotFound(err) {
		return fmt.Errorf("delete exchange %s: %w", name, err)
	}
	return nil
}

// isNotFound reports whether err says that a queue or an exchange does not exist. It returns false for an unavailable
// queue.
func isNotFound(err error) bool {
	return hasCode(err, amqp.NotFound) && !isUnavailable(err)
}

// isUnavailable reports whether err says that a queue exists but cannot be used, for example because its node is down.
func isUnavailable(err error) bool {
	refusal, ok := errors.AsType[*amqp.Error](err)
	// RabbitMQ also returns NotFound for missing queues, but these have no remedy.
	return ok && refusal.Code == amqp.NotFound && find(refusal).remedy != ""
}
