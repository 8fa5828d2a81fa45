package fault

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/metrics"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Result summarizes all occurrences of faults that have the same target and the same action.
type Result struct {
	Target plan.FaultTarget
	Action plan.FaultAction
	// InProgress counts the occurrences whose outcome is not final. Each of the other fields counts the
	// occurrences with the outcome that it is named after.
	InProgress, Recovered, NotRecovered, NotInjected, Aborted int
	// Recovery is the sum of the recovery times of the occurrences counted in Recovered. Slowest is the longest
	// of these times.
	Recovery, Slowest time.Duration
}

// Results returns one Result for each combination of target and action that occurs, sorted by target and
// action.
func Results(accounts []Account) []Result {
	type key struct {
		target plan.FaultTarget
		action plan.FaultAction
	}
	byKey := map[key]*Result{}
	for i := range accounts {
		a := &accounts[i]
		k := key{a.Target, a.Action}
		if byKey[k] == nil {
			byKey[k] = &Result{Target: a.Target, Action: a.Action}
		}
		byKey[k].count(a)
	}
	results := make([]Result, 0, len(byKey))
	for _, r := range byKey {
		results = append(results, *r)
	}
	slices.SortFunc(results, func(a, b Result) int { return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Action, b.Action)) })
	return results
}

func (r *Result) count(a *Account) {
	switch a.Outcome {
	case OutcomeInjecting, OutcomeActive, OutcomeRecovering:
		r.InProgress++
	case OutcomeRecovered:
		r.Recovered++
	case OutcomeNotRecovered:
		r.NotRecovered++
	case OutcomeNotInjected:
		r.NotInjected++
	case OutcomeAborted:
		r.Aborted++
	}
	if a.Outcome == OutcomeRecovered && a.RecoverySeconds != nil {
		took := time.Duration(*a.RecoverySeconds * float64(time.Second))
		r.Recovery += took
		r.Slowest = max(r.Slowest, took)
	}
}

// Metrics exports a list of Results as Prometheus metrics.
type Metrics struct {
	faults, inProgress, recovery, slowest *prometheus.Desc
}

// NewMetrics returns Metrics. The metrics have the given labels, in addition to the labels target and action.
func NewMetrics(labels ...string) *Metrics {
	describe := func(name, help string, more ...string) *prometheus.Desc {
		all := slices.Concat(labels, []string{"target", "action"}, more)
		return prometheus.NewDesc(prometheus.BuildFQName(metrics.Namespace, "simulation", name), help, all, nil)
	}
	return &Metrics{
		faults:     describe("faults", "Occurrences of faults by outcome: Recovered, NotRecovered, NotInjected or Aborted.", "outcome"),
		inProgress: describe("faults_in_progress", "Occurrences of faults that are in effect, or from which the simulation has not recovered yet."),
		recovery:   describe("fault_recovery_seconds", "Time that the simulation took to recover from faults."),
		slowest:    describe("fault_recovery_max_seconds", "Longest time that the simulation took to recover from a fault."),
	}
}

// Describe sends the descriptions of the metrics to the channel, as prometheus.Collector requires.
func (m *Metrics) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.faults, m.inProgress, m.recovery, m.slowest} {
		descriptions <- d
	}
}

// Collect sends the values of the metrics. labels contains the values of the labels that were passed to
// NewMetrics.
func (m *Metrics) Collect(samples chan<- prometheus.Metric, results []Result, labels ...string) {
	for i := range results {
		r := &results[i]
		values := slices.Concat(labels, []string{string(r.Target), string(r.Action)})
		gauge := func(d *prometheus.Desc, value float64, more ...string) {
			samples <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, slices.Concat(values, more)...)
		}
		gauge(m.faults, float64(r.Recovered), string(OutcomeRecovered))
		gauge(m.faults, float64(r.NotRecovered), string(OutcomeNotRecovered))
		gauge(m.faults, float64(r.NotInjected), string(OutcomeNotInjected))
		gauge(m.faults, float64(r.Aborted), string(OutcomeAborted))
		gauge(m.inProgress, float64(r.InProgress))
		samples <- prometheus.MustNewConstSummary(m.recovery, uint64(r.Recovered), r.Recovery.Seconds(), nil, values...)
		if r.Recovered > 0 {
			gauge(m.slowest, r.Slowest.Seconds())
		}
	}
}
