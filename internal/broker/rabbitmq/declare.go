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

	// marked is true if the owner's mark is known to exist and to name this owner.
	marked atomic.Bool

	mu sync.Mutex
	// unlocated holds the queues that an earlier version declared without the argument x-queue-leader-locator.
	unlocated map[string]bool
}

func newDeclarer(t topology) *declarer { return &declarer{topology: t, unlocated: map[string]bool{}} }

// errOtherLocator says that a queue exists with another leader locator than the one in the declaration.
var errOtherLocator = errors.New("the queue exists with another leader locator")

// open opens a channel and declares the routes on it. A server closes the channel when it rejects a
// declaration, so each attempt needs a new one.
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

// declare creates the exchange and the routes that do not exist, and marks them with the owner.
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

// declareOwner marks the simulation as belonging to the owner. It returns an error if the simulation is marked
// as belonging to another one.
//
// The mark is an exchange whose alternate exchange is named after the owner. Nothing is ever published to it.
// If an exchange is declared again, the server compares its alternate exchange, but no other argument. So
// declaring the mark checks the owner in one atomic step. The metadata of an exchange is on every node of a
// cluster; that of a queue is not. The alternate exchange does not exist. Its name begins with the name of the
// simulation's exchange, because users may have permissions only for that prefix.
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

// argumentsOf returns the arguments with which to declare a route's queue. For a queue that exists without a
// leader locator it omits that argument, because the server would reject the declaration.
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

// queueError explains why a queue could not be declared. If the cause is the leader locator, it records whether
// the queue has one, for the next attempt.
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

// declareError names the queue or exchange that could not be declared, and the remedy.
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

// declareRemedy returns the remedy for a rejected declaration. isConfig reports whether the cause is the
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

// Is reports whether target is broker.ErrConfig.
func (e *configError) Is(target error) bool { return target == broker.ErrConfig }

func hasCode(err error, code int) bool {
	refusal, ok := errors.AsType[*amqp.Error](err)
	return ok && refusal.Code == code
}
