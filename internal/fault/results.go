package fault

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/metrics"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Result summarizes all occurrences of faults that have the same target and the same action.
type Result struct {
	Target plan.FaultTarget `json:"target"`
	Action plan.FaultAction `json:"action"`
	// Injected counts the occurrences that took effect.
	Injected int64 `json:"injected"`
	// InProgress counts the occurrences whose outcome is not final. Each of the fields Recovered, NotRecovered,
	// NotInjected and Aborted counts the occurrences with the outcome of the same name.
	InProgress   int64 `json:"inProgress,omitempty"`
	Recovered    int64 `json:"recovered"`
	NotRecovered int64 `json:"notRecovered"`
	NotInjected  int64 `json:"notInjected"`
	Aborted      int64 `json:"aborted"`
	// RecoverySeconds is the sum of the recovery times of the occurrences counted in Recovered. SlowestSeconds is the
	// longest of these times.
	RecoverySeconds float64 `json:"recoverySeconds"`
	SlowestSeconds  float64 `json:"slowestSeconds"`
	// Redeliveries and DuplicatesSuppressed are the sums of the Account fields with the same names, over all
	// occurrences.
	Redeliveries         int64 `json:"redeliveries"`
	DuplicatesSuppressed int64 `json:"duplicatesSuppressed"`
}

// Total summarizes all occurrences of one fault. A fault whose target or action was edited has one Total for each
// combination.
type Total struct {
	Fault string `json:"fault"`
	Result
}

// Totals adds the occurrences in the given accounts to the totals in h. The result is sorted by fault, target and
// action.
func Totals(h History, accounts []Account) []Total {
	totals := slices.Clone(h.Totals)
	for i := range accounts {
		a := &accounts[i]
		one := Total{Fault: a.Fault, Result: Result{Target: a.Target, Action: a.Action}}
		one.count(a)
		totals = append(totals, one)
	}
	return sum(totals, func(a, b *Total) int {
		return cmp.Or(cmp.Compare(a.Fault, b.Fault), compareKinds(&a.Result, &b.Result))
	},
		func(t *Total) *Result { return &t.Result })
}

// Results adds up the totals of all faults that have the same target and the same action. The results are sorted by
// target and action.
func Results(totals []Total) []Result {
	results := make([]Result, 0, len(totals))
	for i := range totals {
		results = append(results, totals[i].Result)
	}
	return sum(results, compareKinds, func(r *Result) *Result { return r })
}

func compareKinds(a, b *Result) int {
	return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Action, b.Action))
}

// sum sorts a list. It replaces elements that compare as equal by one element with the sum of their results.
func sum[E any](list []E, compare func(a, b *E) int, result func(*E) *Result) []E {
	slices.SortStableFunc(list, func(a, b E) int { return compare(&a, &b) })
	sums := list[:0]
	for i := range list {
		if n := len(sums); n > 0 && compare(&sums[n-1], &list[i]) == 0 {
			result(&sums[n-1]).add(result(&list[i]))
			continue
		}
		sums = append(sums, list[i])
	}
	return sums
}

// Occurrences returns the sum of the counts of all outcomes.
func (r *Result) Occurrences() int64 {
	return r.InProgress + r.Recovered + r.NotRecovered + r.NotInjected + r.Aborted
}

func (r *Result) add(o *Result) {
	r.Injected += o.Injected
	r.InProgress += o.InProgress
	r.Recovered += o.Recovered
	r.NotRecovered += o.NotRecovered
	r.NotInjected += o.NotInjected
	r.Aborted += o.Aborted
	r.RecoverySeconds += o.RecoverySeconds
	r.SlowestSeconds = max(r.SlowestSeconds, o.SlowestSeconds)
	r.Redeliveries += o.Redeliveries
	r.DuplicatesSuppressed += o.DuplicatesSuppressed
}

func (r *Result) count(a *Account) {
	if !a.InjectedAt.IsZero() {
		r.Injected++
	}
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
		r.RecoverySeconds += *a.RecoverySeconds
		r.SlowestSeconds = max(r.SlowestSeconds, *a.RecoverySeconds)
	}
	r.Redeliveries += a.Redeliveries
	r.DuplicatesSuppressed += a.DuplicatesSuppressed
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

// Collect sends the values of the metrics. labels contains the values of the labels whose names were passed to
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
		samples <- prometheus.MustNewConstSummary(m.recovery, uint64(r.Recovered), r.RecoverySeconds, nil, values...)
		if r.Recovered > 0 {
			gauge(m.slowest, r.SlowestSeconds)
		}
	}
}
