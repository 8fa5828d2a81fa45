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

// declarer is shared by the publishers and consumers of a broker, because it remembers what it has learned about the
// existing queues.
type declarer struct {
	topology

	// marked is true once the server has confirmed that the queues have the mark of this owner.
	marked atomic.Bool

	mu sync.Mutex
	// The field unlocated contains the queues that exist without the argument x-queue-leader-locator, because an
	// earlier version of this program declared them.
	unlocated map[string]bool

	spreading sync.Mutex // spread holds this lock while it declares queues
	isSpread  bool
}

func newDeclarer(t topology) *declarer { return &declarer{topology: t, unlocated: map[string]bool{}} }

// errOtherLocator means that a queue exists whose leader locator differs from the one in the declaration.
var errOtherLocator = errors.New("the queue exists with another leader locator")

// maxBalanced is the maximum number of queues for which a server balances the leaders. With more queues, it selects the
// nodes at random.
const maxBalanced = 1000

// spread declares all quorum queues of the simulation one after the other. It does so once per process.
//
// A server places the leader of a new queue on the node that leads the fewest queues. It does not count queues that are
// being declared at the same time, so it would place the leaders of all of them on one node. Therefore a process must
// not declare its queues concurrently. The processes of a simulation start at the same time, and declare the queues in
// the same order. So at any time, all of them declare the same queue.
//
// spread returns an error only if the connection is closed. It ignores other errors, because its caller declares the
// queues that it needs itself.
func (d *declarer) spread(conn *connection) error {
	routes := d.allRoutes()
	if d.queueType != plan.QueueTypeQuorum || len(routes) > maxBalanced {
		return nil
	}
	d.spreading.Lock()
	defer d.spreading.Unlock()
	if d.isSpread {
		return nil
	}
	channel, err := d.try(conn, routes)
	if err != nil && conn.IsClosed() {
		return err
	}
	d.isSpread = true
	if err == nil {
		_ = channel.Close() // ignore errors, because the server has already answered all declarations
	}
	return nil
}

// open opens a channel and declares the routes on it. If an existing queue has another leader locator, the server
// rejects the declaration and closes the channel. Then open tries again on a new channel, at most once per route.
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
		_ = channel.Close() // Close fails if the server has closed the channel
		return nil, err
	}
	return channel, nil
}

// declare creates the exchange and those queues that do not exist, and marks the simulation with its owner.
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

// declareExchange creates the simulation's exchange, or checks the settings of an existing one.
func declareExchange(channel *amqp.Channel, name string) error {
	return channel.ExchangeDeclare(name, amqp.ExchangeDirect, true, false, false, false, nil)
}

// declareOwner marks the simulation with its owner. It returns an error if the simulation is already marked
// with another owner.
//
// The mark is an exchange whose alternate exchange is named after the owner. Nothing is ever published to it.
// When an exchange is declared again, the server rejects the declaration if it names another alternate
// exchange, but compares no other argument. So declaring the mark checks the owner in one atomic step. A queue
// could not serve as the mark: in a cluster, the metadata of a queue may be on one node only, while the
// metadata of an exchange is on every node. The alternate exchange itself is never created. Its name begins
// with the name of the simulation's exchange, because users may have permissions only for that prefix.
func (d *declarer) declareOwner(channel *amqp.Channel) error {
	if d.owner == "" {
		return nil
	}
	mark := d.ownerExchange()
	args := amqp.Table{"alternate-exchange": mark + "." + d.owner}
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

// argumentsOf returns the arguments with which to declare the queue of a route. If the queue exists without a leader
// locator, the result has none either, because the server rejects declarations that differ from the queue.
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

// queueError explains why a queue could not be declared. An existing queue may have been declared with or without a
// leader locator. If the leader locator is the cause of the error, the next attempt adds the locator if this attempt had
// none, and omits it otherwise.
func (d *declarer) queueError(r route, err error) error {
	refusal, ok := errors.AsType[*amqp.Error](err)
	if !ok || refusal.Code != amqp.PreconditionFailed || !strings.Contains(refusal.Reason, argLocator) {
		return declareError("queue "+r.queue, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// Next time, try the other declaration, even if an earlier attempt already used it: another client may meanwhile
	// have deleted the queue and declared it differently.
	d.unlocated[r.queue] = !d.unlocated[r.queue]
	return errOtherLocator
}

// declareError adds to err what could not be declared, and the remedy if one is known.
func declareError(what string, err error) error {
	return withRemedy(fmt.Errorf("declare %s: %w", what, err))
}

// Is makes errors.Is(err, broker.ErrConfig) true for every configError.
func (e *configError) Is(target error) bool { return target == broker.ErrConfig }

func hasCode(err error, code int) bool {
	refusal, ok := errors.AsType[*amqp.Error](err)
	return ok && refusal.Code == code
}
