package rabbitmq

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/metrics"
)

// collectors are the Prometheus collectors of this package.
type collectors struct {
	connected   *prometheus.GaugeVec
	connections *prometheus.CounterVec
	blocked     *prometheus.GaugeVec
	unconfirmed prometheus.Gauge
	refused     prometheus.Counter
	repeated    prometheus.Counter
}

// linkGauges are the metrics of one connection.
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
			"Whether there is a connection to the broker, by role: publish, consume or admin.")), []string{labelRole}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts(options("connections_total",
			"Connections opened to the broker, by role.")), []string{labelRole}),
		blocked: prometheus.NewGaugeVec(prometheus.GaugeOpts(options("blocked",
			"Whether the broker blocks publishers because of a resource alarm, by role.")), []string{labelRole}),
		unconfirmed: prometheus.NewGauge(prometheus.GaugeOpts(options("unconfirmed_messages",
			"Messages accepted for publishing that the broker has not confirmed yet."))),
		refused: prometheus.NewCounter(prometheus.CounterOpts(options("refused_messages_total",
			"Messages that the broker rejected or returned as unroutable. Each is published again."))),
		repeated: prometheus.NewCounter(prometheus.CounterOpts(options("republished_messages_total",
			"Messages published again after a rejection or a lost connection."))),
	}
	return c, c.register(registerer)
}

// register registers the collectors. If another Broker of this process has already registered its own, register
// uses those, so that all brokers of the process share them.
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
