package redis

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	shared "github.com/parking-operator/parking-operator/internal/metrics"
)

// metrics are the Prometheus metrics of the traffic with the server.
type metrics struct {
	calls        prometheus.Histogram
	roundTrip    prometheus.Histogram
	scriptLoads  prometheus.Counter
	observations prometheus.Counter
	restarts     prometheus.Counter
	losses       prometheus.Counter
}

// newMetrics registers the metrics. The registerer r may be nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: shared.Namespace,
			Name:      "store_pipeline_commands",
			Help:      "Number of store operations per pipeline.",
			Buckets:   prometheus.ExponentialBuckets(1, 2, 8),
		}),
		roundTrip: prometheus.NewHistogram(shared.Latency("store_pipeline_seconds",
			"Time from sending a pipeline to the store until the last reply arrives, including connecting and retrying.")),
		scriptLoads:  counter("store_script_loads_total", "Store operations sent with their whole script, because the server had not cached the script."),
		observations: counter("store_durability_observations_total", "Requests that read the state of the server, such as how much of its append-only file is written."),
		restarts:     counter("store_restarts_total", "Observed restarts and failovers of the server."),
		losses:       counter("store_data_losses_total", "Detected losses of the simulation's data in the store."),
	}
	if r == nil {
		return m, nil
	}
	return m, shared.Register(r, "store", m.calls, m.roundTrip, m.scriptLoads, m.observations, m.restarts, m.losses)
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: shared.Namespace, Name: name, Help: help})
}

func (m *metrics) observePipeline(calls int)           { m.calls.Observe(float64(calls)) }
func (m *metrics) observeRoundTrip(took time.Duration) { m.roundTrip.Observe(took.Seconds()) }
func (m *metrics) countScriptLoads(n int)              { m.scriptLoads.Add(float64(n)) }
