package generator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/metrics"
)

// intents are the intents that events of a type carry.
func intents(t event.Type) []event.Intent {
	if t == event.TypeEntry {
		return []event.Intent{event.IntentNone}
	}
	return []event.Intent{event.IntentMatched, event.IntentUnmatched}
}

// intentLabel is the value of the metric label intent.
func intentLabel(i event.Intent) string {
	if i == event.IntentNone {
		return "none"
	}
	return string(i)
}

// instruments are the metrics of a generator that are counted event by event.
type instruments struct {
	published map[event.Intent]prometheus.Counter
	confirm   prometheus.Histogram
	starved   prometheus.Counter
	pool      prometheus.Gauge
}

func newInstruments(t event.Type) *instruments {
	in := &instruments{
		published: make(map[event.Intent]prometheus.Counter),
		confirm: prometheus.NewHistogram(metrics.Latency("publish_confirm_seconds",
			"Time from the publishing of an event to the broker's confirm.")),
	}
	for _, intent := range intents(t) {
		in.published[intent] = prometheus.NewCounter(prometheus.CounterOpts{
			Namespace:   metrics.Namespace,
			Name:        "events_published_total",
			Help:        "Generated events that the broker has confirmed.",
			ConstLabels: prometheus.Labels{"intent": intentLabel(intent)},
		})
	}
	if t == event.TypeExit {
		in.starved = prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: metrics.Namespace,
			Name:      "generator_starved_total",
			Help:      "Exits drawn to match for which no plate was available, so that none was published.",
		})
		in.pool = prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: metrics.Namespace,
			Name:      "pool_plates",
			Help:      "Plates of all partitions that entered and are not claimed; every exit generator reports all of them.",
		})
	}
	return in
}

// register registers the instruments and the metrics that are read from the pacer at each scrape. Without a
// registerer it does nothing.
//
// Lag is a gauge that is computed when it is read: it rises while publishing is blocked, when nothing
// would be there to be observed by a histogram, and costs nothing per event. What lateness events had in
// the end is part of parking_event_end_to_end_seconds.
func (in *instruments) register(r prometheus.Registerer, t event.Type, p *pacer) error {
	if r == nil {
		return nil
	}
	collectors := []prometheus.Collector{
		in.confirm,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: metrics.Namespace,
			Name:      "generator_lag_seconds",
			Help:      "How long ago the event was due that is to be published next; 0 when none is due.",
		}, func() float64 { return p.lag(time.Now()).Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: metrics.Namespace,
			Name:      "generator_target_rate",
			Help:      "Events per second for which the schedule asks this process at present.",
		}, func() float64 { return p.rate(time.Now()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: metrics.Namespace,
			Name:      "generator_missed_total",
			Help:      "Events that were overdue when their schedule came to rest, so that they were given up.",
		}, func() float64 { return float64(p.progress(time.Now()).missed) }),
	}
	for _, c := range in.published {
		collectors = append(collectors, c)
	}
	typed := prometheus.WrapRegistererWith(prometheus.Labels{"event_type": string(t)}, r)
	if err := metrics.Register(typed, "generator", collectors...); err != nil {
		return err
	}
	if t == event.TypeExit {
		return metrics.Register(r, "generator", in.starved, in.pool)
	}
	return nil
}
