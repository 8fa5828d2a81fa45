package ledger

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/plan"
)

func checkOf(t *testing.T, v Verdict, name string) Check {
	t.Helper()
	i := slices.IndexFunc(v.Checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("the verdict has no check %q: %+v", name, v.Checks)
	}
	return v.Checks[i]
}

func TestEvaluate_EachCheck_ContainsWantAndGot(t *testing.T) {
	t.Parallel()
	v := Evaluate(Evidence{
		Report:     Report{AtRest: true, Lost: 3, MissingEntries: 3, Matched: 2, SummariesStored: 2},
		Objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{ProcessingP99: plan.Duration(5 * time.Millisecond), EndToEndP99: plan.Duration(time.Second)}, MaxLost: 2},
		Latencies:  &Latencies{Processing: latencyOf(100, time.Millisecond)},
		Entries:    &Schedule{Due: 100, Missed: 5},
	})
	for _, want := range []Check{
		{Name: "data kept", Kind: Invariant, Outcome: Passed, Want: "the store keeps all data", Got: "all data"},
		{Name: "lost events", Kind: Objective, Outcome: Failed, Want: "at most 2", Got: "3",
			Message: "3 events were lost: confirmed by the broker, but never took effect (3 entries, 0 exits); at most 2 allowed"},
		{Name: "dead letters", Kind: Invariant, Outcome: Passed, Want: "none", Got: "0"},
		{Name: "one summary per visit", Kind: Invariant, Outcome: Passed, Want: "as many summaries as ended visits", Got: "2 visits, 2 summaries"},
		{Name: "entry schedule", Kind: Invariant, Outcome: Passed, Want: "at most 10 % of the due events missed", Got: "5 %"},
		{Name: "end-to-end p99", Kind: Objective, Outcome: NotMeasured, Want: "at most 1 s",
			Message: "end-to-end p99 is unknown, so the objective of 1 s counts as not met: no event was measured"},
	} {
		if diff := cmp.Diff(want, checkOf(t, v, want.Name)); diff != "" {
			t.Errorf("check (-want +got):\n%s", diff)
		}
	}
	if got := checkOf(t, v, "processing p99"); got.Outcome != Passed || got.Want != "at most 5 ms" || got.Got == "" {
		t.Errorf("the check of a met objective is %+v", got)
	}
	if slices.ContainsFunc(v.Checks, func(c Check) bool { return c.Name == "exit schedule" }) {
		t.Error("the verdict contains a check that does not apply")
	}
}

func TestEvaluate_CheckCannotBeMade_OutcomeIsNotMeasured(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]Evidence{
		"an unreadable ledger": {ReportErr: errors.New("no route")},
		"lost data":            {Report: Report{AtRest: true, ForgottenRuns: 1}, Failures: []error{errors.New("the processor stopped")}},
	} {
		v := Evaluate(e)
		if got := checkOf(t, v, "lost events"); got.Outcome != NotMeasured || got.Message != "" || got.Got != "" || got.Want == "" {
			t.Errorf("%s: the check of lost events is %+v", name, got)
		}
		if len(v.Reasons) != 1 {
			t.Errorf("%s: the reasons are %q, want one reason", name, v.Reasons)
		}
	}
	running := Evaluate(Evidence{Running: true})
	if got := checkOf(t, running, "pending summaries"); got.Outcome != NotMeasured {
		t.Errorf("while the simulation runs, the check of pending summaries is %+v", got)
	}
}
