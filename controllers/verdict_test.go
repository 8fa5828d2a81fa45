package controllers

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/latency"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// measured returns the final audit of a simulation whose hundred events took 1 ms each.
func measured(t *testing.T) *observer.Rest {
	t.Helper()
	var h latency.Histogram
	for range 100 {
		h.Observe(time.Millisecond)
	}
	return &observer.Rest{
		Report:      ledger.Report{AtRest: true, EntriesConfirmed: 100, EntriesRecorded: 100},
		Measurement: observer.Measurement{Processing: h.Snapshot(), EndToEnd: h.Snapshot()},
	}
}

// unparsable returns the reason of two dead-lettered messages.
func unparsable() []broker.ReasonCount {
	return []broker.ReasonCount{{Reason: broker.Reason{Stage: "parse", Detail: "no JSON"}, Count: 2}}
}

func TestForeseen_ReportsAVerdictOfFailAsSoonAsItIsCertain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		now     observer.Observation
		want    metav1.ConditionStatus
		message string
	}{
		"nothing is wrong": {
			now:  observer.Observation{Report: ledger.Report{Outstanding: 7, Outbox: 3}, Depths: broker.Depths{Ready: 5, Retry: 2}},
			want: metav1.ConditionUnknown, message: "when the simulation is complete",
		},
		"messages were dead-lettered": {
			now:  observer.Observation{Depths: broker.Depths{Dead: 2}, DeadReasons: unparsable()},
			want: metav1.ConditionFalse, message: "2 events were dead-lettered: 2 × parse: no JSON",
		},
		"Redis has lost data": {
			now:  observer.Observation{Report: ledger.Report{ForgottenRuns: 1, UnmatchedUnexpected: 9}},
			want: metav1.ConditionFalse, message: "the store has lost data of the simulation: it is unknown",
		},
		"more exits than allowed found no visit": {
			now:  observer.Observation{Report: ledger.Report{UnmatchedUnexpected: 9}},
			want: metav1.ConditionFalse, message: "9 exits found no visit",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := foreseen(&tt.now, plan.Objectives{MaxUnexpected: 8})
			if got := statusOf(v1alpha1.ConditionObjectivesMet, f); got != tt.want || !strings.Contains(f.message, tt.message) {
				t.Errorf("ObjectivesMet is %s: %s\nwant %s: … %s", got, f.message, tt.want, tt.message)
			}
		})
	}
}

func TestEvaluate_LatenciesAndSummaries(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		objectives plan.Objectives
		edit       func(*observer.Rest)
		want       metav1.ConditionStatus
		message    string
	}{
		"within the objectives": {
			objectives: plan.Objectives{ProcessingP99: plan.Duration(5 * time.Millisecond), EndToEndP99: plan.Duration(time.Second)},
			want:       metav1.ConditionTrue, message: "Every check passed. Measured: processing p50 99",
		},
		"beyond an objective": {
			objectives: plan.Objectives{ProcessingP99: plan.Duration(500 * time.Microsecond)},
			want:       metav1.ConditionFalse, message: "beyond the objective of 500µs",
		},
		"without objectives": {want: metav1.ConditionTrue, message: "p99"},
		"without anything measured": {
			edit: func(r *observer.Rest) { r.Measurement = observer.Measurement{} },
			want: metav1.ConditionTrue, message: "Every check passed",
		},
		"an objective, and nothing measured": {
			objectives: plan.Objectives{EndToEndP99: plan.Duration(time.Second)},
			edit:       func(r *observer.Rest) { r.Measurement = observer.Measurement{} },
			want:       metav1.ConditionFalse, message: "end-to-end p99 is unknown, so the objective of 1s is not met: no event was measured",
		},
		"an objective, and too many unmeasured": {
			objectives: plan.Objectives{ProcessingP99: plan.Duration(time.Second)},
			edit:       func(r *observer.Rest) { r.Report.EntriesRecorded, r.Report.EntriesConfirmed = 200, 200 },
			want:       metav1.ConditionFalse, message: "processing p99 is unknown, so the objective of 1s is not met: only 100 of 200 events were measured",
		},
		"an objective, and a processor that did not answer": {
			objectives: plan.Objectives{ProcessingP99: plan.Duration(time.Second)},
			edit: func(r *observer.Rest) {
				r.Measurement, r.MeasureErr = observer.Measurement{}, errors.New("measure pod 10.0.0.1: refused")
			},
			want: metav1.ConditionFalse, message: "no event was measured: measure pod 10.0.0.1: refused",
		},
		"a summary API that did not answer": {
			edit: func(r *observer.Rest) {
				r.Measurement.Summaries = &ledger.SummaryCount{Err: errors.New("measure pod 10.0.0.1: refused")}
			},
			want: metav1.ConditionFalse, message: "it is unknown whether the summary API holds every summary: measure pod 10.0.0.1: refused",
		},
		"another number of summaries than the ledger has": {
			edit: func(r *observer.Rest) { r.Measurement.Summaries = &ledger.SummaryCount{Held: 3} },
			want: metav1.ConditionFalse, message: "the summary API holds 3 summaries of this simulation but accepted 0",
		},
		"dead letters with their reasons": {
			edit: func(r *observer.Rest) { r.Report.DeadLettered = 3 },
			want: metav1.ConditionFalse, message: "3 events were dead-lettered: 2 × parse: no JSON; others",
		},
		"data that Redis has lost": {
			edit: func(r *observer.Rest) { r.Report.DataLostAt = new(time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)) },
			want: metav1.ConditionFalse, message: "the store has lost data of the simulation, noticed at 2026-05-04T08:00:00Z",
		},
		"a loss beside an objective that is open": {
			objectives: plan.Objectives{EndToEndP99: plan.Duration(time.Second)},
			edit:       func(r *observer.Rest) { r.Measurement, r.Report.Lost = observer.Measurement{}, 1 },
			want:       metav1.ConditionFalse, message: "1 event was lost",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := measured(t)
			if tt.edit != nil {
				tt.edit(r)
			}
			verdict := evaluate(&observer.Observation{Rest: r, DeadReasons: unparsable()}, tt.objectives)
			status := &v1alpha1.ParkingSimulationStatus{
				Verdict: v1alpha1.Verdict(verdict.Outcome), Reasons: verdict.Reasons, Latency: latencyStatus(r),
			}
			f := verdictFinding(status)
			if got := statusOf(v1alpha1.ConditionObjectivesMet, f); got != tt.want || !strings.Contains(f.message, tt.message) {
				t.Errorf("ObjectivesMet is %s: %s\nwant %s: … %s", got, f.message, tt.want, tt.message)
			}
		})
	}
}
