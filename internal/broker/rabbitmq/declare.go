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
)

// declarer declares the exchange and queues of a topology.
type declarer struct {
	topology

	// marked is true once the owner's mark is known to exist on the server and to name this owner.
	marked atomic.Bool

	mu sync.Mutex
	// unlocated holds the queues that exist without the argument x-queue-leader-locator, because an earlier
	// version of this program declared them.
	unlocated map[string]bool
}

func newDeclarer(t topology) *declarer { return &declarer{topology: t, unlocated: map[string]bool{}} }

// errOtherLocator means that a queue exists whose leader locator differs from the one in the declaration.
var errOtherLocator = errors.New("the queue exists with another leader locator")

// open opens a channel and declares the routes on it. When a server rejects a declaration, it closes the
// channel, so each attempt opens a new one.
func (d *declarer) open(conn *connection, routes []route) (*amqp.Channel, error) {
	for range routes { // each of them may need another attempt
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
		return nil, fmt.Errorf("open a channel: %w", err)
	}
	if err := d.declare(channel, routes); err != nil {
		_ = channel.Close() // the server may have closed it
		return nil, err
	}
	return channel, nil
}

// declare creates the exchange and those queues that do not exist, and marks the simulation with its owner.
func (d *declarer) declare(channel *amqp.Channel, routes []route) error {
	if err := d.declareOwner(channel); err != nil {
		return err
	}
	if err := channel.ExchangeDeclare(d.exchange, amqp.ExchangeDirect, true, false, false, false, nil); err != nil {
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

// declareOwner marks the simulation with its owner. It returns an error if the simulation is already marked
// with another owner.
//
// The mark is an exchange whose alternate exchange is named after the owner. Nothing is ever published to it.
// If an exchange is declared again, the server compares its alternate exchange, but no other argument. So
// declaring the mark checks the owner in one atomic step. A queue could not serve as the mark: in a cluster,
// the metadata of a queue may be on one node only, while the metadata of an exchange is on every node. The
// alternate exchange does not exist. Its name begins with the name of the simulation's exchange, because users
// may have permissions only for that prefix.
func (d *declarer) declareOwner(channel *amqp.Channel) error {
	if d.owner == "" {
		return nil
	}
	mark := d.ownerExchange()
	args := amqp.Table{"alternate-exchange": mark + "." + d.owner}
	err := channel.ExchangeDeclare(mark, amqp.ExchangeDirect, true, false, true, false, args)
	if hasCode(err, amqp.PreconditionFailed) {
		return &configError{fmt.Errorf("%w: exchange %s has another owner's mark: give this simulation another name, "+
			"or end the other one and remove it with 'parking purge'", broker.ErrOtherOwner, mark)}
	}
	if err != nil {
		return declareError("exchange "+mark, err)
	}
	d.marked.Store(true)
	return nil
}

// argumentsOf returns the arguments with which to declare the queue of a route. If the queue exists without a
// leader locator, it omits this argument. Otherwise, the server would reject the declaration.
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

// queueError explains why a queue could not be declared. If the leader locator is the cause, it makes the next
// attempt omit the leader locator, or include it again.
func (d *declarer) queueError(r route, err error) error {
	refusal, ok := errors.AsType[*amqp.Error](err)
	if !ok || refusal.Code != amqp.PreconditionFailed || !strings.Contains(refusal.Reason, argLocator) {
		return declareError("queue "+r.queue, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unlocated[r.queue] = !d.unlocated[r.queue] // it may have been deleted and declared again meanwhile
	return errOtherLocator
}

// declareError adds to err what could not be declared, and the remedy if one is known.
func declareError(what string, err error) error {
	refusal, ok := errors.AsType[*amqp.Error](err)
	if !ok {
		return fmt.Errorf("declare %s: %w", what, err)
	}
	remedy, isConfig := declareRemedy(refusal)
	err = fmt.Errorf("declare %s: %w: %s", what, err, remedy)
	if isConfig {
		return &configError{err}
	}
	return err
}

// declareRemedy returns the remedy for a rejected declaration. isConfig is true if the cause is the
// configuration of the simulation or of the server.
func declareRemedy(refusal *amqp.Error) (remedy string, isConfig bool) {
	switch {
	case refusal.Code == amqp.PreconditionFailed && strings.Contains(refusal.Reason, "limit"):
		return "raise the limit with rabbitmqctl set_vhost_limits, or delete unused queues", true
	case refusal.Code == amqp.PreconditionFailed:
		return "it exists with other settings; delete it, or give the simulation another name", true
	case refusal.Code == amqp.AccessRefused:
		return "grant the user permission to configure, write and read it with rabbitmqctl set_permissions", true
	case refusal.Code == amqp.NotFound:
		return "the node that holds it may be down: see 'rabbitmqctl cluster_status'", false
	case refusal.Code == amqp.ResourceLocked:
		return "another connection uses it exclusively: delete it, or give the simulation another name", true
	default:
		return "see the log of RabbitMQ; a quorum queue needs a majority of the nodes", false
	}
}

// Is makes errors.Is(err, broker.ErrConfig) true for every configError.
func (e *configError) Is(target error) bool { return target == broker.ErrConfig }

func hasCode(err error, code int) bool {
	refusal, ok := errors.AsType[*amqp.Error](err)
	return ok && refusal.Code == code
}
