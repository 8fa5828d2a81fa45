package summary

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/metrics"
)

// serviceMetrics are the Prometheus metrics of a Service.
type serviceMetrics struct {
	stored, duplicates, conflicts prometheus.Counter
	commitRows, commitSeconds     prometheus.Histogram
	commitFailures                prometheus.Counter
}

func newServiceMetrics(reg prometheus.Registerer) (*serviceMetrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: metrics.Namespace, Name: name, Help: help})
	}
	m := &serviceMetrics{
		stored:     counter("summaries_stored_total", "Summaries stored. Each identifier counts once."),
		duplicates: counter("summaries_duplicate_total", "Summaries received again after they were stored."),
		conflicts:  counter("summaries_conflicting_total", "Summaries rejected because a different summary with the same identifier is stored."),
		commitRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: metrics.Namespace, Name: "summary_commit_rows",
			Help:                        "Summaries per database transaction.",
			Buckets:                     prometheus.ExponentialBuckets(1, 2, 15),
			NativeHistogramBucketFactor: 1.1,
		}),
		commitSeconds: prometheus.NewHistogram(metrics.Latency("summary_commit_seconds",
			"Duration of a database transaction, including its sync to disk.")),
		commitFailures: counter("summary_commit_failures_total", "Database transactions that failed."),
	}
	return m, metrics.Register(reg, "summary service",
		m.stored, m.duplicates, m.conflicts, m.commitRows, m.commitSeconds, m.commitFailures)
}

// count adds the outcomes of one transaction to the metrics. It returns how many summaries were created.
func (m *serviceMetrics) count(outcomes []Outcome) (created int) {
	var n [Conflicting + 1]int
	for _, o := range outcomes {
		n[o]++
	}
	m.stored.Add(float64(n[Created]))
	m.duplicates.Add(float64(n[Known]))
	m.conflicts.Add(float64(n[Conflicting]))
	return n[Created]
}
