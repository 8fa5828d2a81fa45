package generator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	shared "github.com/parking-operator/parking-operator/internal/metrics"
)

// intents returns all intents that events of the given type can have.
func intents(t event.Type) []event.Intent {
	if t == event.TypeEntry {
		return []event.Intent{event.IntentNone}
	}
	return []event.Intent{event.IntentMatched, event.IntentUnmatched}
}

func intentLabel(i event.Intent) string {
	if i == event.IntentNone {
		return "none"
	}
	return string(i)
}

// metrics contains the metrics that are updated while events are published. Only generators of exits set the fields
// starved and pool.
type metrics struct {
	published map[event.Intent]prometheus.Counter
	confirm   prometheus.Histogram
	starved   prometheus.Counter
	pool      prometheus.Gauge
}

func newMetrics(t event.Type) *metrics {
	m := &metrics{
		published: make(map[event.Intent]prometheus.Counter),
		confirm: prometheus.NewHistogram(shared.Latency("publish_confirm_seconds",
			"Time from publishing an event to its confirmation by the broker.")),
	}
	for _, intent := range intents(t) {
		m.published[intent] = prometheus.NewCounter(prometheus.CounterOpts{
			Namespace:   shared.Namespace,
			Name:        "events_published_total",
			Help:        "Generated events that the broker has confirmed.",
			ConstLabels: prometheus.Labels{"intent": intentLabel(intent)},
		})
	}
	if t == event.TypeExit {
		m.starved = prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: shared.Namespace,
			Name:      "generator_starved_total",
			Help:      "Exits that needed the plate of a parked vehicle, but were not published, because no such plate was available.",
		})
		m.pool = prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: shared.Namespace,
			Name:      "pool_plates",
			Help:      "Plates of parked vehicles that are available to exits, in all partitions. Every exit generator reports the same number.",
		})
	}
	return m
}

// register registers the metrics of a generator. A nil Registerer means no metrics.
func (m *metrics) register(r prometheus.Registerer, t event.Type, p *pacer) error {
	if r == nil {
		return nil
	}
	collectors := []prometheus.Collector{
		m.confirm,
		// The lag is a gauge, because a histogram would not change while publishing is blocked.
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: shared.Namespace,
			Name:      "generator_lag_seconds",
			Help:      "How long the next event has been due. 0 when no event is due.",
		}, func() float64 { return p.lag(time.Now()).Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: shared.Namespace,
			Name:      "generator_target_rate",
			Help:      "Current target rate of this process, in events per second.",
		}, func() float64 { return p.rate(time.Now()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: shared.Namespace,
			Name:      "generator_missed_total",
			Help:      "Events that were overdue when the schedule paused or ended, or when the process stopped. These events were skipped.",
		}, func() float64 { return float64(p.progress(time.Now()).missed) }),
	}
	for _, c := range m.published {
		collectors = append(collectors, c)
	}
	typed := prometheus.WrapRegistererWith(prometheus.Labels{"event_type": string(t)}, r)
	if err := shared.Register(typed, "generator", collectors...); err != nil {
		return err
	}
	if t == event.TypeExit {
		return shared.Register(r, "generator", m.starved, m.pool)
	}
	return nil
}
