package wiring

import (
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/redis"
)

// Servers opens adapters for any number of simulations. Each method gets the binding of the server. An adapter connects
// when it is first used.
type Servers struct{ Options Options }

// OpenBroker returns a broker adapter for the RabbitMQ server of the binding.
func (s Servers) OpenBroker(p *plan.Plan, at binding.Binding) (broker.Broker, error) {
	return openRabbitMQ(p, binding.Static(at), s.Options)
}

// OpenStore returns a store adapter for the Redis server of the binding.
func (s Servers) OpenStore(p *plan.Plan, at binding.Binding) (store.Store, error) {
	return openRedis(p, binding.Static(at), s.Options)
}

func openRabbitMQ(p *plan.Plan, source binding.Source, o Options) (*rabbitmq.Broker, error) {
	return rabbitmq.New(rabbitmq.Options{
		Address:    source,
		Exchange:   p.Exchange(),
		Owner:      p.Owner,
		Partitions: p.Partitions,
		QueueType:  p.QueueType,
		Component:  o.Component,
		Logger:     o.Logger,
		Registerer: o.Registerer,
	})
}

func openRedis(p *plan.Plan, source binding.Source, o Options) (*redis.Store, error) {
	return redis.New(redis.Options{
		Address:    source,
		Simulation: p.Simulation,
		Partitions: p.Partitions,
		Logger:     o.Logger,
		Registerer: o.Registerer,
	})
}
