package processor

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/histogram"
	shared "github.com/parking-operator/parking-operator/internal/metrics"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	labelType    = "event_type"
	labelOutcome = "outcome"
	labelStage   = "stage"
)

// metrics are the metrics of one event type. Their series are looked up once, at the start.
type metrics struct {
	outcomes [outcomes]*outcomeMetrics // nil for outcomes that are impossible for the event type
	failures map[Stage]*failureMetrics

	endToEnd prometheus.Observer

	// redeliveries counts the deliveries of messages that had been delivered before. effects counts the events that
	// took effect.
	redeliveries, effects atomic.Uint64
	// measured contains the histograms that Stats and Totals return. They are not exported to Prometheus.
	measured struct{ processing, endToEnd histogram.Histogram }
}

type outcomeMetrics struct {
	total   prometheus.Counter
	seconds prometheus.Observer
	count   atomic.Uint64
}

type failureMetrics struct {
	total prometheus.Counter
	count atomic.Uint64
}

// newMetrics registers the metrics and returns them by event type. It creates every series at once, so that rates
// are correct from the first event on.
func newMetrics(reg prometheus.Registerer, inFlight func() int64) (map[event.Type]*metrics, error) {
	seconds := prometheus.NewHistogramVec(shared.Latency("event_processing_seconds",
		"Duration of the calls of ProcessMessage, by outcome. Failed calls are included."), []string{labelType, labelOutcome})
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: shared.Namespace, Name: "events_processed_total",
		Help: "Calls of ProcessMessage, by outcome. A retried event counts once per call.",
	}, []string{labelType, labelOutcome})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: shared.Namespace, Name: "event_errors_total",
		Help: "Failures in the pipeline, by stage.",
	}, []string{labelType, labelStage})
	endToEnd := prometheus.NewHistogramVec(shared.Latency("event_end_to_end_seconds",
		"Time between the due time of an event and its effect. Only events that carry their due time are measured."), []string{labelType})
	flight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: shared.Namespace, Name: "processor_in_flight",
		Help: "Deliveries that this process has received and not settled.",
	}, func() float64 { return float64(inFlight()) })

	if err := shared.Register(reg, "processor", seconds, total, failures, endToEnd, flight); err != nil {
		return nil, err
	}
	byType := make(map[event.Type]*metrics)
	for _, t := range event.Types() {
		m := &metrics{
			failures: make(map[Stage]*failureMetrics),
			endToEnd: endToEnd.WithLabelValues(string(t)),
		}
		for _, o := range Outcomes(t) {
			m.outcomes[o] = &outcomeMetrics{
				total:   total.WithLabelValues(string(t), o.String()),
				seconds: seconds.WithLabelValues(string(t), o.String()),
			}
		}
		for _, stage := range Stages() {
			m.failures[stage] = &failureMetrics{total: failures.WithLabelValues(string(t), string(stage))}
		}
		byType[t] = m
	}
	return byType, nil
}

// isPossible reports whether the outcome is possible for the event type of the metrics.
func (m *metrics) isPossible(o Outcome) bool { return o < outcomes && m.outcomes[o] != nil }

func (m *metrics) recordCall(o Outcome, took time.Duration) {
	out := m.outcomes[o]
	out.total.Inc()
	out.seconds.Observe(took.Seconds())
	out.count.Add(1)
	m.measured.processing.Observe(took)
}

// clockDifference is how long before its due time an event may seem to take effect, because the clock of its generator
// is ahead. If it seems to take effect earlier, its end-to-end latency is not measured.
const clockDifference = time.Second

// recordEffect records a durable effect. scheduled is the due time of the event, or zero if unknown.
func (m *metrics) recordEffect(at, scheduled time.Time) {
	m.effects.Add(1)
	if !scheduled.IsZero() && at.Sub(scheduled) >= -clockDifference {
		// The computed latency is negative if the generator's clock is ahead of the processor's clock.
		late := max(at.Sub(scheduled), 0)
		m.endToEnd.Observe(late.Seconds())
		m.measured.endToEnd.Observe(late)
	}
}

// recordFailure counts a failure. It counts a failure at an unknown stage as a failure of the store.
func (m *metrics) recordFailure(stage Stage) {
	f, ok := m.failures[stage]
	if !ok {
		f = m.failures[StageStore]
	}
	f.total.Inc()
	f.count.Add(1)
}

// Stats are the counts of a processor since its start.
type Stats struct {
	Entry, Exit TypeStats
}

// TypeStats are the counts of one event type.
type TypeStats struct {
	// Outcomes counts the calls of ProcessMessage by outcome. Failures counts the failures by stage.
	Outcomes map[Outcome]uint64
	Failures map[Stage]uint64
	// Redeliveries counts the deliveries of messages that had been delivered before. Effects counts the events that
	// took effect.
	Redeliveries, Effects uint64
	// Processing is the distribution of the durations of all calls of ProcessMessage, whatever their outcome.
	Processing histogram.Snapshot
	// EndToEnd is the distribution of the times between the due time of an event and its effect.
	EndToEnd histogram.Snapshot
}

// Processing returns the distribution of the durations of all calls of ProcessMessage. It includes entries and
// exits.
func (s Stats) Processing() histogram.Snapshot {
	return histogram.Merge(s.Entry.Processing, s.Exit.Processing)
}

// EndToEnd returns the distribution of the times between the due time of an event and its effect. It includes entries
// and exits.
func (s Stats) EndToEnd() histogram.Snapshot {
	return histogram.Merge(s.Entry.EndToEnd, s.Exit.EndToEnd)
}

// Processed returns the number of calls of ProcessMessage, for entries and exits together.
func (s Stats) Processed() uint64 { return s.Entry.Processing.Count() + s.Exit.Processing.Count() }

func (m *metrics) stats() TypeStats {
	s := TypeStats{
		Outcomes:     make(map[Outcome]uint64),
		Failures:     make(map[Stage]uint64),
		Redeliveries: m.redeliveries.Load(),
		Effects:      m.effects.Load(),
		Processing:   m.measured.processing.Snapshot(),
		EndToEnd:     m.measured.endToEnd.Snapshot(),
	}
	for o, out := range m.outcomes {
		if out != nil {
			s.Outcomes[Outcome(o)] = out.count.Load()
		}
	}
	for stage, f := range m.failures {
		s.Failures[stage] = f.count.Load()
	}
	return s
}

// events converts the counts of one event type to the form that a timeline needs.
func (s *TypeStats) events() timeline.Events {
	e := timeline.Events{
		Redeliveries: int64(s.Redeliveries),
		Effects:      int64(s.Effects),
		Outcomes:     make(map[string]int64, len(s.Outcomes)),
		Errors:       make(map[string]int64, len(s.Failures)),
		Processing:   s.Processing,
		EndToEnd:     s.EndToEnd,
	}
	for o, n := range s.Outcomes {
		e.Outcomes[o.String()] = int64(n)
	}
	for stage, n := range s.Failures {
		e.Errors[string(stage)] = int64(n)
	}
	return e
}
