package rabbitmq

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	shared "github.com/parking-operator/parking-operator/internal/metrics"
)

// metrics are the Prometheus metrics of the brokers in this process.
type metrics struct {
	connected   *prometheus.GaugeVec
	connections *prometheus.CounterVec
	blocked     *prometheus.GaugeVec
	unconfirmed prometheus.Gauge
	rejected    prometheus.Counter
	repeated    prometheus.Counter
}

type linkGauges struct {
	connected   prometheus.Gauge
	connections prometheus.Counter
	blocked     prometheus.Gauge
}

const labelRole = "role"

// newMetrics registers the metrics. The registerer may be nil.
func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	const subsystem = "broker"
	options := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: shared.Namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	m := &metrics{
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts(options("connected",
			"Whether there is a connection to the broker, by role: publish, consume or admin.")), []string{labelRole}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts(options("connections_total",
			"Connections opened to the broker, by role.")), []string{labelRole}),
		blocked: prometheus.NewGaugeVec(prometheus.GaugeOpts(options("blocked",
			"Whether the broker blocks publishers because of a resource alarm, by role.")), []string{labelRole}),
		unconfirmed: prometheus.NewGauge(prometheus.GaugeOpts(options("unconfirmed_messages",
			"Messages accepted for publishing that the broker has not confirmed yet."))),
		rejected: prometheus.NewCounter(prometheus.CounterOpts(options("rejected_messages_total",
			"Messages that the broker rejected, or returned as unroutable. Each is published again."))),
		repeated: prometheus.NewCounter(prometheus.CounterOpts(options("republished_messages_total",
			"Messages published again after a rejection or a lost connection."))),
	}
	return m, m.register(registerer)
}

// register registers the collectors, or uses those that another Broker of this process has registered.
func (m *metrics) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	return errors.Join(
		registerOne(registerer, &m.connected), registerOne(registerer, &m.connections),
		registerOne(registerer, &m.blocked), registerOne(registerer, &m.unconfirmed),
		registerOne(registerer, &m.rejected), registerOne(registerer, &m.repeated),
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

func (m *metrics) of(role string) linkGauges {
	return linkGauges{
		connected:   m.connected.WithLabelValues(role),
		connections: m.connections.WithLabelValues(role),
		blocked:     m.blocked.WithLabelValues(role),
	}
}
