package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// maxAdminRequests is the maximum number of pending administrative requests. A request stays pending until the server
// responds, even if its caller no longer waits.
const maxAdminRequests = 8

// Declare creates the exchange and those queues of the simulation that do not exist. It makes one attempt.
// Publish and Consume work without it, because they declare the queues that they need.
func (b *Broker) Declare(ctx context.Context) error {
	return b.administer(ctx, func(a *administration) error {
		channel, err := b.declarer.open(a.connection, b.topology.allRoutes())
		if err != nil {
			return err
		}
		_ = channel.Close() // an error has no effect, because the server has confirmed all declarations
		return nil
	})
}

// Depths counts the ready messages in the simulation's queues. A queue that does not exist counts as empty. Depths does
// not count unsettled deliveries, nor messages that a server is moving from a quorum queue to its dead-letter target,
// because servers report neither. So a retried message may be missing from all counts for a moment. Depths makes one
// attempt. It fails if a queue exists but cannot be read, for example because its node is down. It fails with
// broker.ErrOtherOwner if the queues belong to another simulation.
func (b *Broker) Depths(ctx context.Context) (broker.Depths, error) {
	return administer(ctx, b, func(a *administration) (depths broker.Depths, err error) {
		if err := a.verifyOnce(b.declarer); err != nil {
			return broker.Depths{}, err
		}
		for _, q := range b.topology.queues() {
			// If the caller no longer waits, stop. This lets other administrative requests start, such as readiness checks.
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

// CheckQueue makes one attempt to read the depth of the dead-letter queue. It succeeds if this queue does not exist. It
// fails with broker.ErrOtherOwner if the queues belong to another simulation. Unlike Depths, CheckQueue takes the same
// time with any number of partitions, but it does not notice failures of the event queues and retry queues.
func (b *Broker) CheckQueue(ctx context.Context) error {
	return b.administer(ctx, func(a *administration) error {
		if err := a.verifyOnce(b.declarer); err != nil {
			return err
		}
		var dead int64
		return a.count(b.topology.dead(), &dead)
	})
}

// Exists reports whether the server has an exchange or a queue with a name that the simulation uses. This includes the
// exchange that marks the owner. A queue counts even if it has other settings, with which the simulation cannot use it.
// Exists changes nothing and makes one attempt.
//
// Exists checks the queues of this broker's partitions, in order. It stops after maxGap successive partitions without
// queues. If Delete was interrupted, the only queues left may be those of later partitions, which Exists does not
// reach. Exists then still returns true, because Delete deletes the dead-letter queue and the owner's mark last.
func (b *Broker) Exists(ctx context.Context) (bool, error) {
	return administer(ctx, b, func(a *administration) (bool, error) {
		for _, exchange := range []string{b.topology.exchange, b.topology.ownerExchange()} {
			if found, err := a.hasExchange(exchange); found || err != nil {
				return found, err
			}
		}
		queues, err := existingQueues(b.topology, maxGap, a.hasQueue)
		return len(queues) > 0, err
	})
}

// Delete removes the simulation's exchange and queues, with the messages in them. It makes one attempt. If they belong
// to another simulation, it removes nothing and returns broker.ErrOtherOwner. If a queue or an exchange has one of the
// simulation's names but other settings, the simulation cannot have declared it. Delete then keeps it and logs a
// warning. If a queue is unavailable, for example because its node is down, Delete removes the other queues, keeps the
// owner's mark and returns an error. A publisher or consumer that is still running declares the exchange and the queues
// again.
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
		// Delete the exchange first, so that no message is routed to a queue that is already deleted. Delete
		// the mark last. Otherwise, if the deletion were interrupted, another owner could take over the
		// remaining queues.
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
		return a.deleteExchange(b.topology.ownerExchange())
	})
}

// gapForDelete returns the number of successive partitions without queues after which Delete stops its search for
// queues. It is usually maxGap. If the owner's mark exists but the exchange does not, an earlier Delete may have left
// queues, and they may belong to any partition. Then gapForDelete returns the number of partitions, so Delete checks
// all of them.
func (b *Broker) gapForDelete(a *administration) (int, error) {
	found, err := a.hasExchange(b.topology.exchange)
	if err != nil || found {
		return maxGap, err
	}
	marked, err := a.hasExchange(b.topology.ownerExchange())
	if err != nil || !marked {
		return maxGap, err
	}
	return b.topology.partitions, nil
}

// deleteQueues deletes the given queues of the simulation. It skips unavailable queues. The error then contains the
// reason for the first unavailable queue and the number of unavailable queues, because all reasons would be too long
// for one message.
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
		if err := a.open(); err != nil { // the server closes the channel when it reports that a queue is unavailable
			return errors.Join(first, err)
		}
	}
	if unavailable > 1 {
		return fmt.Errorf("%w; unavailable queues in total: %d", first, unavailable)
	}
	return first
}

// deleteExchange deletes the simulation's exchange. It keeps an exchange with other settings than the simulation
// declares, because another program must have created it.
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

// deleteQueue deletes a queue of the simulation. The parameter variants contains all the settings with which the
// simulation can have declared the queue. deleteQueue keeps a queue with other settings, because another program must
// have created it.
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

// warnForeign logs that a queue or an exchange was not deleted, because the simulation did not declare it.
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

// administer calls the function work with an administrative channel and returns its result.
//
// The client library cannot cancel a request. If ctx ends first, administer returns the error of ctx, and the
// function work continues in the background until the server answers or the connection ends. administer does
// not close the connection to abort the request, because other requests use the same connection, and the server
// would log an error of the client.
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
		return none, fmt.Errorf("wait for a response from RabbitMQ: %w", ctx.Err())
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

// withChannel calls the function work with a new channel, and closes the channel afterwards. If the server has rejected
// a request, the error contains the remedy.
func withChannel[T any](conn *connection, work func(*administration) (T, error)) (T, error) {
	a := &administration{connection: conn}
	if err := a.open(); err != nil {
		var none T
		return none, withRemedy(lostOr(conn, err))
	}
	defer func() { _ = a.channel.Close() }() // Close fails if the server has closed the channel
	value, err := work(a)
	if err != nil {
		err = withRemedy(lostOr(conn, err))
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

// verifyOnce calls verify, unless d.marked is true: then the server has already confirmed that the queues have the mark
// of this owner. One check is enough, because the owner in a mark never changes. A mark is only removed after its
// queues, and declaring the queues again includes a check of the owner.
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

// maxGap is the number of successive partitions without queues after which a search for queues stops, except in the
// case that gapForDelete describes. It is greater than 1, so that the search finds the other queues even if somebody
// has deleted the queues of a few partitions.
const maxGap = 4

// existingQueues returns the names of the queues for which exists returns true, in the order of allRoutes. It stops
// after gap successive partitions without queues, because for each missing queue the server closes the channel and logs
// an error. 'parking purge' would otherwise cause hundreds of these errors: it does not know the number of partitions,
// so it assumes the maximum.
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

// mayHaveQueue is like hasQueue, but it also returns true if the queue is unavailable.
func (a *administration) mayHaveQueue(name string) (bool, error) {
	found, err := a.hasQueue(name)
	if isUnavailable(err) {
		return true, a.open() // the server closes the channel when it reports this error
	}
	return found, err
}

// found interprets the error of a passive declaration: it reports whether the declared queue or exchange
// exists.
func (a *administration) found(what string, err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case isNotFound(err):
		return false, a.open() // the server closes the channel when it reports this error
	default:
		return false, fmt.Errorf("look for %s: %w", what, err)
	}
}

// count adds the number of ready messages in the queue to *sum. A queue that does not exist adds nothing.
func (a *administration) count(r route, sum *int64) error {
	queue, err := a.channel.QueueDeclarePassive(r.queue, true, false, false, false, nil)
	if isNotFound(err) {
		return a.open() // the server closes the channel when it reports this error
	}
	if err != nil {
		return fmt.Errorf("count the messages of queue %s: %w", r.queue, err)
	}
	*sum += int64(queue.Messages)
	return nil
}

// state is the state of a queue or an exchange on the server: whether it exists, and whether the simulation can have
// declared it.
type state int

const (
	absent  state = iota
	own           // the queue or exchange has the settings with which the simulation declares it
	foreign       // the settings differ from those of the simulation, or another connection uses the queue exclusively
)

// exchangeState returns the state of the simulation's exchange.
func (a *administration) exchangeState(name string) (state, error) {
	if found, err := a.hasExchange(name); !found || err != nil {
		return absent, err
	}
	err := declareExchange(a.channel, name)
	if hasCode(err, amqp.PreconditionFailed) {
		return foreign, a.open() // the server closes the channel when it reports this error
	}
	if err != nil {
		return absent, fmt.Errorf("check the settings of exchange %s: %w", name, err)
	}
	return own, nil
}

// queueState returns the state of an existing queue: own if the queue has one of the given variants of its settings,
// and foreign otherwise. To find out, it declares the queue with each variant. The server accepts only equal settings.
func (a *administration) queueState(name string, variants []amqp.Table) (state, error) {
	for _, args := range variants {
		_, err := a.channel.QueueDeclare(name, true, false, false, false, args)
		switch {
		case err == nil:
			return own, nil
		case !hasCode(err, amqp.PreconditionFailed) && !hasCode(err, amqp.ResourceLocked):
			return absent, fmt.Errorf("check the settings of queue %s: %w", name, err)
		}
		if err := a.open(); err != nil { // the server closes the channel when it reports this error
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

// isNotFound reports whether an error says that a queue or an exchange does not exist. The server uses the same code
// for a queue that is unavailable.
func isNotFound(err error) bool {
	return hasCode(err, amqp.NotFound) && !isUnavailable(err)
}

// isUnavailable reports whether an error says that a queue exists but cannot be used, for example because its node is
// down. The server also uses the code NotFound for a queue that does not exist. Only the texts differ: the list
// remedies contains the texts about unavailable queues, and no other texts with this code.
func isUnavailable(err error) bool {
	refusal, ok := errors.AsType[*amqp.Error](err)
	return ok && refusal.Code == amqp.NotFound && find(refusal).remedy != ""
}
