package processor

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/latency"
	"github.com/parking-operator/parking-operator/internal/metrics"
)

const (
	labelType    = "event_type"
	labelOutcome = "outcome"
	labelStage   = "stage"
)

// instruments are the metrics of one event type, resolved once so that an event costs no lookup. Beside
// what Prometheus reads they keep histograms of their own, from which Stats has its quantiles.
type instruments struct {
	outcomes [outcomes]*outcomeInstruments // nil where the event type has no such outcome
	failures map[Stage]*failureInstruments

	endToEnd        prometheus.Observer
	endToEndLatency latency.Histogram
}

type outcomeInstruments struct {
	total   prometheus.Counter
	seconds prometheus.Observer
	latency latency.Histogram
}

type failureInstruments struct {
	total prometheus.Counter
	count atomic.Uint64
}

// newInstruments registers the metrics and returns those of each event type. Every series exists from
// the start, so that rates are right from the first event on.
func newInstruments(reg prometheus.Registerer, inFlight func() int64) (map[event.Type]*instruments, error) {
	seconds := prometheus.NewHistogramVec(metrics.Latency("event_processing_seconds",
		"Time in ProcessMessage, by what it came to; failures included."), []string{labelType, labelOutcome})
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metrics.Namespace, Name: "events_processed_total",
		Help: "Calls of ProcessMessage, by what they came to. Each call counts once, so an event that is tried again counts again.",
	}, []string{labelType, labelOutcome})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metrics.Namespace, Name: "event_errors_total",
		Help: "Failures in the pipeline, by the stage at which they happened.",
	}, []string{labelType, labelStage})
	endToEnd := prometheus.NewHistogramVec(metrics.Latency("event_end_to_end_seconds",
		"Time from the instant at which an event was scheduled to its effect; only events that say when."), []string{labelType})
	flight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: metrics.Namespace, Name: "processor_in_flight",
		Help: "Deliveries that were handed to this process and are not settled yet.",
	}, func() float64 { return float64(inFlight()) })

	if err := metrics.Register(reg, "processor", seconds, total, failures, endToEnd, flight); err != nil {
		return nil, err
	}
	byType := make(map[event.Type]*instruments)
	for _, t := range event.Types() {
		in := &instruments{
			failures: make(map[Stage]*failureInstruments),
			endToEnd: endToEnd.WithLabelValues(string(t)),
		}
		for _, o := range Outcomes(t) {
			in.outcomes[o] = &outcomeInstruments{
				total:   total.WithLabelValues(string(t), o.String()),
				seconds: seconds.WithLabelValues(string(t), o.String()),
			}
		}
		for _, stage := range Stages() {
			in.failures[stage] = &failureInstruments{total: failures.WithLabelValues(string(t), string(stage))}
		}
		byType[t] = in
	}
	return byType, nil
}

// has reports whether events of this type can have the outcome.
func (in *instruments) has(o Outcome) bool { return o < outcomes && in.outcomes[o] != nil }

// processed counts a call of ProcessMessage that took from start to end. The zero time of scheduled means
// that the event does not say when it was due.
func (in *instruments) processed(o Outcome, start, end, scheduled time.Time) {
	took := end.Sub(start)
	out := in.outcomes[o]
	out.total.Inc()
	out.seconds.Observe(took.Seconds())
	out.latency.Observe(took)
	if o.isEffect() && !scheduled.IsZero() {
		late := max(end.Sub(scheduled), 0) // clocks of different machines may disagree
		in.endToEnd.Observe(late.Seconds())
		in.endToEndLatency.Observe(late)
	}
}

// failed counts a failure.
func (in *instruments) failed(stage Stage) {
	f, ok := in.failures[stage]
	if !ok {
		f = in.failures[StageStore] // a handler's own stage: the series are fixed
	}
	f.total.Inc()
	f.count.Add(1)
}

// Stats is what a processor has done so far.
type Stats struct {
	Entry, Exit TypeStats
}

// TypeStats is what a processor has done with events of one type.
type TypeStats struct {
	// Outcomes counts calls of ProcessMessage by what they came to, Failures by the stage at which
	// something failed.
	Outcomes map[Outcome]uint64
	Failures map[Stage]uint64
	// Processing is the time in ProcessMessage, over all outcomes. EndToEnd is the time from the scheduled
	// instant to the effect.
	Processing latency.Snapshot
	EndToEnd   latency.Snapshot
}

// Processing is the time in ProcessMessage over both event types.
func (s Stats) Processing() latency.Snapshot {
	return latency.Merge(s.Entry.Processing, s.Exit.Processing)
}

// EndToEnd is the time from the scheduled instant to the effect over both event types.
func (s Stats) EndToEnd() latency.Snapshot {
	return latency.Merge(s.Entry.EndToEnd, s.Exit.EndToEnd)
}

// Processed counts the calls of ProcessMessage over both event types.
func (s Stats) Processed() uint64 { return s.Entry.Processing.Count() + s.Exit.Processing.Count() }

func (in *instruments) stats() TypeStats {
	s := TypeStats{Outcomes: make(map[Outcome]uint64), Failures: make(map[Stage]uint64)}
	var processing []latency.Snapshot
	for o, out := range in.outcomes {
		if out == nil {
			continue
		}
		measured := out.latency.Snapshot()
		s.Outcomes[Outcome(o)] = measured.Count()
		processing = append(processing, measured)
	}
	for stage, f := range in.failures {
		s.Failures[stage] = f.count.Load()
	}
	s.Processing = latency.Merge(processing...)
	s.EndToEnd = in.endToEndLatency.Snapshot()
	return s
}
