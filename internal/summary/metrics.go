package summary

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/metrics"
)

// instruments are the metrics of a Service.
type instruments struct {
	stored, duplicates, conflicts prometheus.Counter
	commitRows, commitSeconds     prometheus.Histogram
	commitFailures                prometheus.Counter
}

func newInstruments(reg prometheus.Registerer) (*instruments, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: metrics.Namespace, Name: name, Help: help})
	}
	in := &instruments{
		stored:     counter("summaries_stored_total", "Summaries stored, each identifier once."),
		duplicates: counter("summaries_duplicate_total", "Summaries that were stored before and came again."),
		conflicts:  counter("summaries_conflicting_total", "Summaries refused because another is stored under their identifier."),
		commitRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: metrics.Namespace, Name: "summary_commit_rows",
			Help:                        "Summaries in one transaction of the database.",
			Buckets:                     prometheus.ExponentialBuckets(1, 2, 15),
			NativeHistogramBucketFactor: 1.1,
		}),
		commitSeconds: prometheus.NewHistogram(metrics.Latency("summary_commit_seconds",
			"Time of one transaction of the database, durable at its end.")),
		commitFailures: counter("summary_commit_failures_total", "Transactions of the database that failed."),
	}
	return in, metrics.Register(reg, "summary service",
		in.stored, in.duplicates, in.conflicts, in.commitRows, in.commitSeconds, in.commitFailures)
}

// count adds the outcomes of one transaction.
func (in *instruments) count(outcomes []Outcome) {
	var n [Conflicting + 1]int
	for _, o := range outcomes {
		n[o]++
	}
	in.stored.Add(float64(n[Created]))
	in.duplicates.Add(float64(n[Known]))
	in.conflicts.Add(float64(n[Conflicting]))
}
