package rabbitmq

import (
	"maps"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// deadDeliveryLimit is the delivery limit of the dead-letter queue, which drops messages beyond the limit.
const deadDeliveryLimit = 1_000_000

const (
	keyDead       = "dead"
	argDLExchange = "x-dead-letter-exchange"
	argDLKey      = "x-dead-letter-routing-key"
	argDLStrategy = "x-dead-letter-strategy"
	argLimit      = "x-delivery-limit"
	argLocator    = "x-queue-leader-locator"
)

type topology struct {
	exchange      string
	owner         string // the expected owner of the queues; "" disables the check
	partitions    int
	queueType     plan.QueueType
	retryDelay    time.Duration
	deliveryLimit int
}

// route describes a queue: its name, the routing key of its messages, and its arguments.
type route struct {
	queue string
	key   string
	args  amqp.Table
}

// main returns the route of the entry or exit queue q.
func (t topology) main(q broker.Queue) route {
	key := q.String()
	return route{queue: t.exchange + "." + key, key: key, args: t.arguments(t.deliveryLimit, keyDead)}
}

// retry returns the route of the retry queue of q. Messages in the retry queue expire after the retry delay. The server
// then dead-letters them back to q.
func (t topology) retry(q broker.Queue) route {
	key := "retry." + q.String()
	args := t.arguments(t.deliveryLimit, q.String())
	args[amqp.QueueMessageTTLArg] = t.retryDelay.Milliseconds()
	return route{queue: t.exchange + "." + key, key: key, args: args}
}

func (t topology) dead() route {
	return route{queue: t.exchange + "." + keyDead, key: keyDead, args: t.arguments(deadDeliveryLimit, "")}
}

// arguments returns the arguments of a queue. The queue dead-letters its messages with the routing key deadKey. If
// deadKey is empty, the queue drops these messages.
func (t topology) arguments(deliveryLimit int, deadKey string) amqp.Table {
	args := amqp.Table{amqp.QueueTypeArg: string(t.queueType)}
	if deadKey != "" {
		args[argDLExchange] = t.exchange
		args[argDLKey] = deadKey
	}
	// A classic queue does not wait for confirms when it dead-letters. A crash of the node may lose an event that
	// returns from a retry queue.
	if t.queueType != plan.QueueTypeQuorum {
		return args
	}
	args[argLimit] = deliveryLimit
	// By default, the leader is on the node to which the declaring client is connected.
	args[argLocator] = "balanced"
	if deadKey != "" {
		// The dead-letter strategy at-least-once requires the overflow behavior reject-publish.
		args[argDLStrategy] = "at-least-once"
		args[amqp.QueueOverflowArg] = amqp.QueueOverflowRejectPublish
	}
	return args
}

// variants returns the possible arguments of each queue, by the name of the queue.
func (t topology) variants() map[string][]amqp.Table {
	variants := map[string][]amqp.Table{}
	// 'parking purge' does not know the queue type.
	for _, queueType := range []plan.QueueType{plan.QueueTypeQuorum, plan.QueueTypeClassic} {
		t.queueType = queueType
		for _, r := range t.allRoutes() {
			variants[r.queue] = append(variants[r.queue], r.args)
			// Earlier versions of this program set no leader locator.
			if _, located := r.args[argLocator]; located {
				earlier := maps.Clone(r.args)
				delete(earlier, argLocator)
				variants[r.queue] = append(variants[r.queue], earlier)
			}
		}
	}
	return variants
}

// queues returns the queues that processors consume: the entry and exit queues of all partitions.
func (t topology) queues() []broker.Queue {
	queues := make([]broker.Queue, 0, 2*t.partitions)
	for partition := range t.partitions {
		queues = append(queues, t.queuesOf(partition)...)
	}
	return queues
}

// queuesOf returns the entry queue and the exit queue of one partition.
func (t topology) queuesOf(partition int) []broker.Queue {
	var queues []broker.Queue
	for _, eventType := range event.Types() {
		queues = append(queues, broker.Queue{Type: eventType, Partition: partition})
	}
	return queues
}

// routesAround returns the dead-letter queue, q, and the retry queue of q. Each queue comes after the queue to which
// it dead-letters its messages.
func (t topology) routesAround(q broker.Queue) []route {
	return []route{t.dead(), t.main(q), t.retry(q)}
}

// allRoutes returns every route of the simulation. Each queue comes after the queue to which it dead-letters
// its messages.
func (t topology) allRoutes() []route {
	routes := []route{t.dead()}
	for _, q := range t.queues() {
		routes = append(routes, t.main(q), t.retry(q))
	}
	return routes
}

// ownerExchange returns the name of the exchange whose arguments record the owner of the queues.
func (t topology) ownerExchange() string { return t.exchange + ".owner" }
