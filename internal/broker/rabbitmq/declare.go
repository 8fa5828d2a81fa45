package rabbitmq

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/plan"
)

type declarer struct {
	topology

	// marked is true once the server has confirmed that the queues belong to this simulation; see declareOwner.
	marked atomic.Bool

	mu sync.Mutex
	// unlocated contains the existing queues without the argument x-queue-leader-locator. Earlier versions of this
	// program have declared such queues.
	unlocated map[string]bool

	spreading sync.Mutex // locked while the method spread declares queues
	isSpread  bool
}

func newDeclarer(t topology) *declarer { return &declarer{topology: t, unlocated: map[string]bool{}} }

// errOtherLocator means that a declaration was rejected, because the existing queue has another leader locator.
var errOtherLocator = errors.New("the queue exists with another leader locator")

// maxBalanced is the maximum number of queues whose leaders a server balances. If there are more queues, the server
// selects nodes at random.
const maxBalanced = 1000

// spread declares all quorum queues one after the other, once per declarer, so that the server spreads their leaders
// over the nodes.
func (d *declarer) spread(conn *connection) error {
	routes := d.allRoutes()
	if d.queueType != plan.QueueTypeQuorum || len(routes) > maxBalanced {
		return nil
	}
	// When the server counts leaders, it ignores queues that are being declared. Concurrent declarations could place
	// all leaders on one node.
	d.spreading.Lock()
	defer d.spreading.Unlock()
	if d.isSpread {
		return nil
	}
	// Several processes may declare the queues at the same time. They use the same order, so the server usually
	// still spreads the leaders.
	channel, err := d.try(conn, routes)
	// Ignore a failed declaration while the connection is open: each caller later declares the queues that it needs.
	if err != nil && conn.IsClosed() {
		return err
	}
	d.isSpread = true
	if err == nil {
		_ = channel.Close() // ignore errors, because the server has already answered all declarations
	}
	return nil
}

// open opens a channel and declares the routes. After errOtherLocator, it retries on a new channel, at most once per
// route.
func (d *declarer) open(conn *connection, routes []route) (*amqp.Channel, error) {
	if err := d.spread(conn); err != nil {
		return nil, err
	}
	for range routes {
		channel, err := d.try(conn, routes)
		if !errors.Is(err, errOtherLocator) {
			return channel, err
		}
	}
	return d.try(conn, routes)
}

func (d *declarer) try(conn *connection, routes []route) (*amqp.Channel, error) {
	channel, err := conn.Channel()
	if err != nil {
		return nil, withRemedy(fmt.Errorf("open a channel: %w", err))
	}
	if err := d.declare(channel, routes); err != nil {
		_ = channel.Close() // Close fails if the server has already closed the channel
		return nil, err
	}
	return channel, nil
}

// declare creates those exchanges and queues that do not exist. It returns an error if the queues belong to another
// simulation; see declareOwner.
func (d *declarer) declare(channel *amqp.Channel, routes []route) error {
	if err := d.declareOwner(channel); err != nil {
		return err
	}
	if err := declareExchange(channel, d.exchange); err != nil {
		return declareError("exchange "+d.exchange, err)
	}
	for _, r := range routes {
		if _, err := channel.QueueDeclare(r.queue, true, false, false, false, d.argumentsOf(r)); err != nil {
			return d.queueError(r, err)
		}
		if err := channel.QueueBind(r.queue, r.key, d.exchange, false, nil); err != nil {
			return declareError("the binding of queue "+r.queue, err)
		}
	}
	return nil
}

// declareExchange creates the simulation's exchange. It fails if the exchange exists with other settings.
func declareExchange(channel *amqp.Channel, name string) error {
	return channel.ExchangeDeclare(name, amqp.ExchangeDirect, true, false, false, false, nil)
}

// declareOwner declares the owner exchange, whose argument names the owner. It returns broker.ErrOtherOwner if the
// exchange names another owner.
func (d *declarer) declareOwner(channel *amqp.Channel) error {
	if d.owner == "" {
		return nil
	}
	// Record the owner in an exchange, and not in the arguments of the queues: the server cannot check the arguments of
	// a classic queue whose node is down.
	mark := d.ownerExchange()
	// The server compares only this argument of an existing exchange. The alternate exchange never exists. Its name
	// begins with that of the owner exchange, because permissions may be limited to this prefix.
	args := amqp.Table{"alternate-exchange": mark + "." + d.owner}
	// The server checks or creates the exchange in one atomic step, so two simulations cannot both become the owner.
	err := channel.ExchangeDeclare(mark, amqp.ExchangeDirect, true, false, true, false, args)
	if hasCode(err, amqp.PreconditionFailed) {
		return &configError{fmt.Errorf("%w: exchange %s names another owner: give this simulation another name, "+
			"or end the other simulation and remove it with 'parking purge'", broker.ErrOtherOwner, mark)}
	}
	if err != nil {
		return declareError("exchange "+mark, err)
	}
	d.marked.Store(true)
	return nil
}

// argumentsOf returns the arguments with which to declare a queue. It omits the leader locator if the queue exists
// without one.
func (d *declarer) argumentsOf(r route) amqp.Table {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.unlocated[r.queue] {
		return r.args
	}
	args := maps.Clone(r.args)
	delete(args, argLocator)
	return args
}

// queueError returns errOtherLocator if the server rejects a declaration because of the leader locator.
func (d *declarer) queueError(r route, err error) error {
	refusal, ok := errors.AsType[*amqp.Error](err)
	if !ok || refusal.Code != amqp.PreconditionFailed || !strings.Contains(refusal.Reason, argLocator) {
		return declareError("queue "+r.queue, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// The server also rejects a declaration without a leader locator if the existing queue has one.
	d.unlocated[r.queue] = !d.unlocated[r.queue]
	return errOtherLocator
}

// declareError adds to err what could not be declared, and the remedy if a remedy is known.
func declareError(what string, err error) error {
	return withRemedy(fmt.Errorf("declare %s: %w", what, err))
}

// Is makes errors.Is(err, broker.ErrConfig) true for every configError.
func (e *configError) Is(target error) bool { return target == broker.ErrConfig }

func hasCode(err error, code int) bool {
	refusal, ok := errors.AsType[*amqp.Error](err)
	return ok && refusal.Code == code
}
