package controllers

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/metrics"
	"github.com/parking-operator/parking-operator/internal/observer"
)

// SimulationMetrics exports the state of every simulation, with the labels namespace and simulation.
//
// Prometheus must set honorLabels to keep these labels. All replicas of the operator export the same series, so
// queries must use the maximum, not the sum.
type SimulationMetrics struct {
	simulations client.Reader
	observer    *observer.Observer

	condition, processed, lost, unexpected, deadLettered, outstanding, messages *prometheus.Desc

	faultsInjected *prometheus.Desc
	faults         *fault.Metrics
}

// NewSimulationMetrics returns the metrics of the simulations in a cache. Their values come from the status and from
// the latest observation of each simulation.
func NewSimulationMetrics(simulations client.Reader, o *observer.Observer) *SimulationMetrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		labels = append([]string{"namespace", "simulation"}, labels...)
		return prometheus.NewDesc(prometheus.BuildFQName(metrics.Namespace, "simulation", name), help, labels, nil)
	}
	return &SimulationMetrics{
		simulations:  simulations,
		observer:     o,
		condition:    describe("condition", "Conditions: 1 when True, 0 when False, absent when Unknown.", "type"),
		processed:    describe("processed", "Events that took effect, including those of external publishers."),
		lost:         describe("lost", "Confirmed events that never took effect; absent until the simulation is complete with empty queues."),
		unexpected:   describe("unexpected", "Exits that found no visit although their plate had entered."),
		deadLettered: describe("dead_lettered", "Dead-lettered messages."),
		outstanding:  describe("outstanding", "Confirmed events that have not taken effect yet."),
		messages:     describe("queue_messages", "Messages in the simulation's queues, by kind of queue (ready, retry or dead). Messages that processors hold are not included.", "queue"),

		faultsInjected: describe("faults_injected", "Occurrences of faults that took effect."),
		faults:         fault.NewMetrics("namespace", "simulation"),
	}
}

// Describe implements prometheus.Collector.
func (m *SimulationMetrics) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.condition, m.processed, m.lost, m.unexpected, m.deadLettered, m.outstanding, m.messages, m.faultsInjected,
	} {
		descriptions <- d
	}
	m.faults.Describe(descriptions)
}

// Collect implements prometheus.Collector. It sends no requests.
func (m *SimulationMetrics) Collect(samples chan<- prometheus.Metric) {
	const cacheTimeout = time.Second // limits how long List waits until the cache has synced for the first time
	ctx, cancel := context.WithTimeout(context.Background(), cacheTimeout)
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
		m.collectFaults(sim, samples)
		if latest := m.observer.Latest(client.ObjectKeyFromObject(sim)); latest != nil {
			m.collectObservation(latest, gauge)
		}
	}
}

// sample is a function that exports the value of a gauge for one simulation.
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
	if f := sim.Status.Faults; f != nil {
		gauge(m.faultsInjected, float64(f.Injected))
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

func (m *SimulationMetrics) collectFaults(sim *v1alpha1.ParkingSimulation, samples chan<- prometheus.Metric) {
	f := sim.Status.Faults
	if f == nil {
		return
	}
	results := make([]fault.Result, 0, len(f.Results))
	for i := range f.Results {
		results = append(results, resultOf(&f.Results[i]))
	}
	m.faults.Collect(samples, results, sim.Namespace, sim.Name)
}

func (m *SimulationMetrics) collectObservation(o *observer.Observation, gauge sample) {
	if o.StoreErr == nil {
		gauge(m.outstanding, float64(o.Report.Outstanding))
	}
	if o.Err() == nil {
		gauge(m.messages, float64(o.Depths.Ready), "ready")
		gauge(m.messages, float64(o.Depths.Retry), "retry")
		gauge(m.messages, float64(o.Depths.Dead), "dead")
	}
}
