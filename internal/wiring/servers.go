package wiring

import (
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/redis"
)

// Servers opens adapters for any number of simulations. The caller passes the binding of each server. Adapters
// connect at their first use.
type Servers struct{ Options Options }

// OpenBroker returns a broker that uses the RabbitMQ server of a binding.
func (s Servers) OpenBroker(p *plan.Plan, at binding.Binding) (broker.Broker, error) {
	return openRabbitMQ(p, binding.Static(at), s.Options)
}

// OpenStore returns a store that uses the Redis server of a binding.
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
