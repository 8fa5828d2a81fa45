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

// declarer declares exchanges and queues. All publishers and consumers of a Broker share one declarer, because the
// declarer remembers facts about existing queues.
type declarer struct {
	topology

	// marked is true once the server has confirmed that the owner exchange, which records the owner of the queues,
	// names the owner of this simulation; see declareOwner.
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

// maxBalanced is the maximum number of queues for which a server balances the leaders. If there are more queues, the
// server selects the node of each leader at random.
const maxBalanced = 1000

// spread declares all quorum queues of the simulation one after the other, so that their leaders are spread over the
// nodes. It does this once per declarer.
//
// A server places the leader of a new queue on the node that leads the fewest queues. It does not count queues that are
// being declared, so concurrent declarations could place all leaders on one node. Several processes may call spread at
// the same time: they declare the queues in the same order, so they usually declare the same queue at the same time,
// which does no harm.
//
// spread returns an error only if the connection is closed. It ignores all other errors, because each caller later
// declares the queues that it needs.
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

// open opens a channel and declares the routes on it. If an existing queue has a different leader locator, the server
// closes the channel. Then open tries again on a new channel, with the leader locator omitted or added for this queue;
// see queueError. It retries at most once per route.
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

// declareOwner records the owner of the simulation's queues: it declares the owner exchange, whose argument
// alternate-exchange contains the owner. If the exchange exists and names another owner, declareOwner returns
// broker.ErrOtherOwner.
//
// The declaration is atomic: the server rejects it if the exchange exists with another alternate exchange. The server
// compares no other argument. A queue could not store the owner, because the server cannot check a classic queue whose
// node is down.
//
// Nothing is ever published to the owner exchange, and its alternate exchange is never created. The name of the
// alternate exchange begins with the name of the simulation's exchange, because the permissions of a RabbitMQ user may
// cover only names with this prefix.
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

// argumentsOf returns the arguments with which to declare the queue of a route. It omits the leader locator if the
// queue exists without a leader locator, because the server rejects declarations that differ from the queue.
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

// queueError returns the error for a rejected declaration of a queue. Some servers reject a declaration with the
// argument x-queue-leader-locator if the existing queue lacks the argument, and the reverse. In this case, queueError
// returns errOtherLocator, and the next declaration of this queue omits or adds the argument.
func (d *declarer) queueError(r route, err error) error {
	refusal, ok := errors.AsType[*amqp.Error](err)
	if !ok || refusal.Code != amqp.PreconditionFailed || !strings.Contains(refusal.Reason, argLocator) {
		return declareError("queue "+r.queue, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// Toggle the value. It would be wrong to always set it to true, because another client may have replaced the queue
	// by one with a leader locator.
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
