package controllers

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// measured returns the result of a final audit with 100 events that took 1 ms each.
func measured(t *testing.T) *observer.Rest {
	t.Helper()
	var h histogram.Histogram
	for range 100 {
		h.Observe(time.Millisecond)
	}
	return &observer.Rest{
		Report:    ledger.Report{AtRest: true, EntriesConfirmed: 100, EntriesRecorded: 100},
		Latencies: ledger.Latencies{Processing: h.Snapshot(), EndToEnd: h.Snapshot()},
	}
}

// unparsable returns the reason why two messages were dead-lettered: they could not be parsed.
func unparsable() []broker.ReasonCount {
	return []broker.ReasonCount{{Reason: broker.Reason{Stage: "parse", Detail: "no JSON"}, Count: 2}}
}

func TestForeseen_CertainFailure_IsReportedAtOnce(t *testing.T) {
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
			f := foreseen(evidence(&tt.now, plan.Objectives{MaxUnexpected: 8}))
			if got := statusOf(v1alpha1.ConditionObjectivesMet, f); got != tt.want || !strings.Contains(f.message, tt.message) {
				t.Errorf("ObjectivesMet is %s: %s\nwant %s: … %s", got, f.message, tt.want, tt.message)
			}
		})
	}
}

func TestEvaluate_LatenciesAndSummaries_AreChecked(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		objectives plan.Objectives
		edit       func(*observer.Rest)
		want       metav1.ConditionStatus
		message    string
	}{
		"within the objectives": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{ProcessingP99: plan.Duration(5 * time.Millisecond), EndToEndP99: plan.Duration(time.Second)}},
			want:       metav1.ConditionTrue, message: "Every check passed. Measured: processing p50 1.02ms",
		},
		"beyond an objective": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{ProcessingP99: plan.Duration(500 * time.Microsecond)}},
			want:       metav1.ConditionFalse, message: "beyond the objective of 500µs",
		},
		"some events not measured": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Second)}},
			edit:       func(r *observer.Rest) { r.Latencies.Unmeasured = 1 },
			want:       metav1.ConditionTrue, message: "not measured: 1 of the events",
		},
		"without objectives": {want: metav1.ConditionTrue, message: "p99"},
		"without anything measured": {
			edit: func(r *observer.Rest) { r.Latencies = ledger.Latencies{} },
			want: metav1.ConditionTrue, message: "Every check passed",
		},
		"an objective, and nothing measured": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Second)}},
			edit:       func(r *observer.Rest) { r.Latencies = ledger.Latencies{} },
			want:       metav1.ConditionFalse, message: "end-to-end p99 is unknown, so the objective of 1s is not met: no event was measured",
		},
		"an objective, and too many unmeasured": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{ProcessingP99: plan.Duration(time.Second)}},
			edit:       func(r *observer.Rest) { r.Latencies.Unmeasured = 100 },
			want:       metav1.ConditionFalse, message: "processing p99 is unknown, so the objective of 1s is not met: only 100 of 200 events were measured",
		},
		"an objective, and a timeline that cannot be read": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{ProcessingP99: plan.Duration(time.Second)}},
			edit: func(r *observer.Rest) {
				r.Latencies = ledger.Latencies{Err: errors.New("read the timeline: refused")}
			},
			want: metav1.ConditionFalse, message: "no event was measured: read the timeline: refused",
		},
		"a summary API that did not answer": {
			edit: func(r *observer.Rest) {
				r.Summaries = &ledger.SummaryCount{Err: errors.New("count the summaries in pod 10.0.0.1: refused")}
			},
			want: metav1.ConditionFalse, message: "it is unknown whether the summary API holds every summary: count the summaries in pod 10.0.0.1: refused",
		},
		"another number of summaries than the ledger has": {
			edit: func(r *observer.Rest) { r.Summaries = &ledger.SummaryCount{Held: 3} },
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
		"a loss while an objective is not measured": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Second)}},
			edit:       func(r *observer.Rest) { r.Latencies, r.Report.Lost = ledger.Latencies{}, 1 },
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
			verdict := ledger.Evaluate(finalEvidence(&observer.Observation{Rest: r, DeadReasons: unparsable()}, &plan.Plan{Objectives: tt.objectives}, true, nil))
			status := &v1alpha1.ParkingSimulationStatus{
				Verdict: v1alpha1.Verdict(verdict.Outcome), Reasons: verdict.Reasons, Latency: latencyStatus(&r.Latencies),
			}
			f := verdictFinding(status)
			if got := statusOf(v1alpha1.ConditionObjectivesMet, f); got != tt.want || !strings.Contains(f.message, tt.message) {
				t.Errorf("ObjectivesMet is %s: %s\nwant %s: … %s", got, f.message, tt.want, tt.message)
			}
		})
	}
}

func TestEvaluate_PublishedEvents_AreComparedWithSchedules(t *testing.T) {
	t.Parallel()
	const minute = plan.Duration(time.Minute)
	entries := func(rate int64, s plan.Schedule) *plan.Plan {
		s.Rate, s.Replicas = rate, 1
		return &plan.Plan{Duration: 2 * minute, Entry: plan.Entry{Schedule: s}}
	}
	exits := func(minStay plan.Duration) *plan.Plan {
		return &plan.Plan{Duration: 2 * minute, Exit: plan.Exit{Schedule: plan.Schedule{Rate: 1, Replicas: 1}, MinStay: minStay}}
	}
	ramp := plan.Schedule{Stages: []plan.Stage{{Duration: minute, Rate: 2}}}
	for name, tt := range map[string]struct {
		plan    *plan.Plan
		edit    func(*ledger.Report)
		edited  bool
		message string
	}{
		"nothing of it":                {entries(100, plan.Schedule{}), nothing, false, "the schedule of the entries was not kept: 12000 of 12000 due events were missed (100 %)"},
		"half of it":                   {entries(2, plan.Schedule{}), nil, false, "the schedule of the entries was not kept: 80 of 180 due events were missed (44.4 %)"},
		"all but a late start":         {entries(1, plan.Schedule{}), nil, false, ""},
		"a ramp":                       {entries(0, ramp), nil, false, "the schedule of the entries was not kept: 65 of 165 due events were missed (39.4 %)"},
		"nothing of a short one":       {&plan.Plan{Duration: plan.Duration(time.Second), Entry: plan.Entry{Schedule: plan.Schedule{Rate: 5, Replicas: 1}}}, nothing, false, "the schedule of the entries was not kept: 5 of 5 due events were missed"},
		"none was due":                 {entries(0, plan.Schedule{}), nothing, false, ""},
		"no generators":                {&plan.Plan{Duration: minute, Entry: plan.Entry{Schedule: plan.Schedule{Rate: 5}}}, nothing, false, ""},
		"an edit while it ran":         {entries(2, plan.Schedule{}), nil, true, ""},
		"no exits":                     {exits(0), nothing, false, "the schedule of the exits was not kept: 119 of 119 due events were missed"},
		"exits before minStay":         {exits(2 * minute), nothing, false, ""},
		"starved exits were attempted": {exits(0), func(r *ledger.Report) { r.Starved = 100 }, false, ""},
		"random arrivals":              {entries(1, plan.Schedule{Arrivals: plan.ArrivalsPoisson}), func(r *ledger.Report) { r.EntriesConfirmed, r.EntriesRecorded = 75, 75 }, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := measured(t)
			if tt.edit != nil {
				tt.edit(&r.Report)
			}
			verdict := ledger.Evaluate(finalEvidence(&observer.Observation{Rest: r}, tt.plan, !tt.edited, nil))
			reasons := strings.Join(verdict.Reasons, "; ")
			if (tt.message == "") != (verdict.Outcome == ledger.Pass) || !strings.Contains(reasons, tt.message) {
				t.Errorf("the verdict is %s: %s\nwant %q", verdict.Outcome, reasons, tt.message)
			}
		})
	}
}

// The function nothing changes a ledger so that it is the ledger of a simulation without events.
func nothing(r *ledger.Report) { r.EntriesConfirmed, r.EntriesRecorded = 0, 0 }

func TestCompleteFinding_DurationEditedAfterCompletion_IsReported(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		duration *v1alpha1.Duration
		ignored  bool
	}{
		"the same":                 {v1alpha1.NewDuration(90 * time.Second), false},
		"the same in other words":  {new(v1alpha1.Duration("1.5m")), false},
		"raised":                   {v1alpha1.NewDuration(time.Hour), true},
		"raised by less than idle": {v1alpha1.NewDuration(95 * time.Second), true},
		"lowered":                  {v1alpha1.NewDuration(time.Minute), true},
		"removed":                  {nil, true},
	} {
		sim := &v1alpha1.ParkingSimulation{}
		sim.Spec.Duration = tt.duration
		sim.Status.StartTime = wholeSeconds(start)
		sim.Status.EndTime = wholeSeconds(start.Add(90 * time.Second))
		sim.Status.CompletionTime = wholeSeconds(start.Add(100 * time.Second))
		f := (&scope{sim: sim}).completeFinding()
		if got := strings.Contains(f.message, editIgnored); got != tt.ignored || f.state != ready {
			t.Errorf("%s: the message is %q, want it to mention the edit: %t", name, f.message, tt.ignored)
		}
	}
}
