package controllers

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/metrics"
)

// SimulationMetrics are what the operator knows of every simulation, as metrics with the labels namespace
// and simulation: a Prometheus that scrapes the operator is to honor these labels. Several operators
// export the same, so that queries take the maximum rather than the sum. It is a prometheus.Collector.
type SimulationMetrics struct {
	simulations client.Reader
	ledgers     *LedgerReader

	condition, processed, lost, unexpected, deadLettered, outstanding, messages *prometheus.Desc
}

// NewSimulationMetrics returns the metrics of the simulations that a cache holds, and of the latest
// readings of their ledgers.
func NewSimulationMetrics(simulations client.Reader, ledgers *LedgerReader) *SimulationMetrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		labels = append([]string{"namespace", "simulation"}, labels...)
		return prometheus.NewDesc(prometheus.BuildFQName(metrics.Namespace, "simulation", name), help, labels, nil)
	}
	return &SimulationMetrics{
		simulations:  simulations,
		ledgers:      ledgers,
		condition:    describe("condition", "Conditions: 1 when True, 0 when False, absent when Unknown.", "type"),
		processed:    describe("processed", "Events that took effect, whoever published them."),
		lost:         describe("lost", "Confirmed events that never took effect; absent until an audit at rest."),
		unexpected:   describe("unexpected", "Exits that were meant to find their entry, and found none."),
		deadLettered: describe("dead_lettered", "Messages in the dead-letter queue, or moved there."),
		outstanding:  describe("outstanding", "Confirmed events that have not taken effect yet."),
		messages:     describe("queue_messages", "Messages in the simulation's queues: ready, retry or dead.", "queue"),
	}
}

// Describe implements prometheus.Collector.
func (m *SimulationMetrics) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.condition, m.processed, m.lost, m.unexpected, m.deadLettered, m.outstanding, m.messages,
	} {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector. It reads from memory alone.
func (m *SimulationMetrics) Collect(samples chan<- prometheus.Metric) {
	const untilFilled = time.Second
	ctx, cancel := context.WithTimeout(context.Background(), untilFilled)
	defer cancel()
	list := &v1alpha1.ParkingSimulationList{}
	if err := m.simulations.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		samples <- prometheus.NewInvalidMetric(m.condition, err)
		return
	}
	for i := range list.Items {
		sim := &list.Items[i]
		gauge := func(d *prometheus.Desc, value float64, labels ...string) {
			labels = append([]string{sim.Namespace, sim.Name}, labels...)
			samples <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
		}
		m.collectStatus(sim, gauge)
		if latest, _ := m.ledgers.latest(client.ObjectKeyFromObject(sim)); latest != nil {
			m.collectReading(latest, gauge)
		}
	}
}

// sample sends the value of a gauge of one simulation.
type sample func(d *prometheus.Desc, value float64, labels ...string)

func (m *SimulationMetrics) collectStatus(sim *v1alpha1.ParkingSimulation, gauge sample) {
	for _, c := range sim.Status.Conditions {
		switch c.Status {
		case metav1.ConditionTrue:
			gauge(m.condition, 1, c.Type)
		case metav1.ConditionFalse:
			gauge(m.condition, 0, c.Type)
		case metav1.ConditionUnknown:
		}
	}
	l := sim.Status.Ledger
	if l == nil {
		return
	}
	gauge(m.processed, float64(l.Processed))
	gauge(m.unexpected, float64(l.UnmatchedUnexpected))
	gauge(m.deadLettered, float64(l.DeadLettered))
	if l.Lost != nil {
		gauge(m.lost, float64(*l.Lost))
	}
}

func (m *SimulationMetrics) collectReading(r *reading, gauge sample) {
	if r.storeErr == nil {
		gauge(m.outstanding, float64(r.report.Outstanding))
	}
	if r.storeErr == nil && r.brokerErr == nil {
		gauge(m.messages, float64(r.depths.Ready), "ready")
		gauge(m.messages, float64(r.depths.Retry), "retry")
		gauge(m.messages, float64(r.depths.Dead), "dead")
	}
}
