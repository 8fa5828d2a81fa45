//go:build !noservers

package wiring

import (
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/redis"
)

// Servers opens adapters for any number of simulations. Each method takes the binding of the server as an argument. An
// adapter connects when it is first used.
type Servers struct{ Options Options }

// OpenBroker returns a broker adapter for the RabbitMQ server of the binding.
func (s Servers) OpenBroker(p *plan.Plan, at binding.Binding) (broker.Broker, error) {
	return openRabbitMQ(p, binding.Static(at), s.Options)
}

// OpenStore returns a store adapter for the Redis server of the binding.
func (s Servers) OpenStore(p *plan.Plan, at binding.Binding) (store.Store, error) {
	return openRedis(p, binding.Static(at), s.Options)
}

// CheckBinding returns an error if the adapter for RabbitMQ or Redis cannot use a binding, such as one with an unknown
// URI parameter. It does not connect. It accepts every binding of other services.
func CheckBinding(s binding.Service, at binding.Binding) error {
	switch s {
	case binding.RabbitMQ():
		return rabbitmq.CheckBinding(at)
	case binding.Redis():
		return redis.CheckBinding(at)
	}
	return nil
}

// openRabbitMQ returns a RabbitMQ broker, whose field Address the caller must set.
func openRabbitMQ(p *plan.Plan, source binding.Source, o Options) (*Broker, error) {
	b, err := rabbitmq.New(rabbitmq.Config{
		Exchange:   p.Exchange(),
		Owner:      p.Owner,
		Partitions: p.Partitions,
		QueueType:  p.QueueType,
		Component:  o.Component,
	}, rabbitmq.Dependencies{Binding: source, Logger: o.Logger, Registerer: o.Registerer})
	if err != nil {
		return nil, err
	}
	return &Broker{Broker: b, check: b.Check, queue: b.CheckQueue, exists: b.Exists, blocked: b.Blocked}, nil
}

// openRedis returns a Redis store, whose field Address the caller must set.
func openRedis(p *plan.Plan, source binding.Source, o Options) (*Store, error) {
	s, err := redis.New(redis.Config{Simulation: p.Simulation, Owner: p.Owner, Partitions: p.Partitions, Durability: p.Durability},
		redis.Dependencies{Binding: source, Logger: o.Logger, Registerer: o.Registerer})
	if err != nil {
		return nil, err
	}
	return &Store{Store: s, check: s.Check, writable: s.CheckWritable, exists: s.Exists, reserve: s.Reserve}, nil
}
