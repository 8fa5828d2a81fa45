package rabbitmq

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/metrics"
)

// collectors are the adapter's metrics.
type collectors struct {
	connected   *prometheus.GaugeVec
	connections *prometheus.CounterVec
	blocked     *prometheus.GaugeVec
	unconfirmed prometheus.Gauge
	refused     prometheus.Counter
	repeated    prometheus.Counter
}

// linkGauges are the metrics of one link.
type linkGauges struct {
	connected   prometheus.Gauge
	connections prometheus.Counter
	blocked     prometheus.Gauge
}

const labelRole = "role"

func newCollectors(registerer prometheus.Registerer) (*collectors, error) {
	const subsystem = "broker"
	options := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: metrics.Namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	c := &collectors{
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts(options("connected",
			"Whether the connection to the broker stands, by role: publish, consume or admin.")), []string{labelRole}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts(options("connections_total",
			"Connections made to the broker, by role.")), []string{labelRole}),
		blocked: prometheus.NewGaugeVec(prometheus.GaugeOpts(options("blocked",
			"Whether the broker accepts no messages because of a resource alarm, by role.")), []string{labelRole}),
		unconfirmed: prometheus.NewGauge(prometheus.GaugeOpts(options("unconfirmed_messages",
			"Messages handed over for publishing that the broker has not confirmed yet."))),
		refused: prometheus.NewCounter(prometheus.CounterOpts(options("refused_messages_total",
			"Publishings that the broker refused or returned as unroutable; each is published again."))),
		repeated: prometheus.NewCounter(prometheus.CounterOpts(options("republished_messages_total",
			"Publishings of a message that had been published before, after a refusal or a lost connection."))),
	}
	return c, c.register(registerer)
}

// register makes a broker that is not the first of its process count with the collectors of the first.
func (c *collectors) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	return errors.Join(
		registerOne(registerer, &c.connected), registerOne(registerer, &c.connections),
		registerOne(registerer, &c.blocked), registerOne(registerer, &c.unconfirmed),
		registerOne(registerer, &c.refused), registerOne(registerer, &c.repeated),
	)
}

func registerOne[C prometheus.Collector](registerer prometheus.Registerer, collector *C) error {
	err := registerer.Register(*collector)
	registered, ok := errors.AsType[prometheus.AlreadyRegisteredError](err)
	if !ok {
		return err
	}
	existing, same := registered.ExistingCollector.(C)
	if !same {
		return err
	}
	*collector = existing
	return nil
}

func (c *collectors) of(role string) linkGauges {
	return linkGauges{
		connected:   c.connected.WithLabelValues(role),
		connections: c.connections.WithLabelValues(role),
		blocked:     c.blocked.WithLabelValues(role),
	}
}
