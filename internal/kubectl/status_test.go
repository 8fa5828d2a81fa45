package kubectl

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

func TestSummaryAPIOf_ReturnsWhereSummariesAreStored(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]v1alpha1.SummaryAPISpec{
		"managed":                    {Managed: &v1alpha1.ManagedSummaryAPI{}},
		"https://visits.example.com": {URL: "https://visits.example.com"},
		"managed, PostgreSQL of Secret summaries-app": {Managed: &v1alpha1.ManagedSummaryAPI{
			Database: &v1alpha1.SummaryDatabase{SecretRef: v1alpha1.SecretReference{Name: "summaries-app"}},
		}},
	} {
		sim := &v1alpha1.ParkingSimulation{Spec: v1alpha1.ParkingSimulationSpec{SummaryAPI: spec}}
		if got := summaryAPIOf(sim); got != want {
			t.Errorf("the summary API is %q, want %q", got, want)
		}
	}
}

// hostile returns a simulation whose status contains characters that control a terminal and that break tables.
func hostile() *v1alpha1.ParkingSimulation {
	const text = "\x1b[2J\u202e\r|\n\tREADY"
	sim := &v1alpha1.ParkingSimulation{}
	sim.Name, sim.Namespace = "rush-hour", "parking"
	sim.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: text, Message: text}}
	sim.Status.Verdict, sim.Status.Reasons, sim.Status.Report = text, []string{text}, text
	sim.Status.Faults = &v1alpha1.FaultsStatus{Active: text, Latest: []v1alpha1.FaultStatus{{Name: text, Hit: []string{text}, HitCount: 1}}}
	return sim
}

// checkClean rejects control characters other than line breaks, and lines that begin with READY.
func checkClean(t *testing.T, what, text string) {
	t.Helper()
	if cleaned := string(terminal.CleanLines([]byte(text))); cleaned != text || strings.Contains(text, "\nREADY") || strings.Contains(text, "\t") {
		t.Errorf("%s prints %q", what, text)
	}
}

func TestStatus_TextFromTheCluster_CannotControlTheTerminal(t *testing.T) {
	t.Parallel()
	sim := hostile()
	var out strings.Builder
	shown := details{
		pods: []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "\x1b[2J"}}}, checks: []ledger.Check{{Name: "\x1b[2J", Kind: ledger.Objective, Got: "\x1b[2J\n\tREADY"}},
	}
	if err := writeStatus(&out, sim, shown); err != nil {
		t.Fatal(err)
	}
	if err := writeStatus(&out, sim, details{podsErr: errors.New("\x1b[2J"), checksErr: errors.New("\x1b[2J")}); err != nil {
		t.Fatal(err)
	}
	checkClean(t, "status of one simulation", out.String())
	checkClean(t, "the list", strings.Join(cells(sim, statusFlags{allNamespaces: true, output: outputFlag{format: outputWide}}), " "))
	row := rowOfStatus(sim)
	row.Note = "\x1b[2J"
	checkClean(t, "top", strings.Join(topLines([]TopRow{row}, topFlags{allNamespaces: true}, 80), "\n"))
	for _, format := range []string{outputJSON, outputYAML} {
		out.Reset()
		if err := writeSimulation(&out, format, sim); err != nil {
			t.Fatal(err)
		}
		checkClean(t, format, out.String())
	}
	if sim.Status.Report != hostile().Status.Report {
		t.Error("the printing changed the simulation")
	}
}

func allObjectives() *v1alpha1.ParkingSimulation {
	sim := started()
	phase := v1alpha1.PhaseObjectivesSpec{
		ProcessingP99: new(v1alpha1.Duration("50ms")), EndToEndP99: new(v1alpha1.Duration("2s")), MaxLag: new(v1alpha1.Duration("3s")),
		MinAchievedPercent: new(int32(95)),
	}
	sim.Spec.Objectives = v1alpha1.ObjectivesSpec{
		PhaseObjectivesSpec: phase, WithoutFaults: phase, UnderFaults: phase, MaxRecovery: new(v1alpha1.Duration("30s")),
		MaxLost: new(int64(0)), MaxUnexpected: new(int64(7)), AbortOnFailure: true,
	}
	return sim
}

func TestObjectivesInStatus_AllObjectives_MatchTheChecksOfTheVerdict(t *testing.T) {
	t.Parallel()
	sim := allObjectives()
	resolved, errs := manifest.Resolve(sim)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	verdict := ledger.Evaluate(ledger.Evidence{Objectives: resolved.Plan.Objectives, Latencies: &ledger.Latencies{}})
	var want, got []string
	for _, c := range verdict.Checks {
		if c.Kind == ledger.Objective {
			want = append(want, c.Name)
		}
	}
	for _, o := range objectivesInStatus(sim) {
		got = append(got, o.name)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the objectives are %q, want %q", got, want)
	}
}

func TestWriteStatus_ShowsEachObjectiveWithItsMeasuredValue(t *testing.T) {
	t.Parallel()
	sim := allObjectives()
	sim.Status.Faults = &v1alpha1.FaultsStatus{Results: []v1alpha1.FaultResult{{SlowestRecovery: new(v1alpha1.Duration("12s"))}}}
	shown := func(d details) string {
		var out strings.Builder
		if err := writeStatus(&out, sim, d); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out.String()), " ")
	}
	running := shown(details{})
	for _, want := range []string{
		"Ends early: once the verdict can only be FAIL", "processing p99 50ms –", "end-to-end p99 2s –", "generator lag 3s –", "achieved rate 95 % –",
		"generator lag without faults 3s –", "achieved rate under faults 95 % –", "recovery 30s 12s", "lost events 0 –", "unexpectedly unmatched exits 7 0",
	} {
		if !strings.Contains(running, want) {
			t.Errorf("the status of a running simulation lacks %q:\n%s", want, running)
		}
	}
	complete := shown(details{checks: []ledger.Check{
		{Name: "generator lag", Kind: ledger.Objective, Want: "at most 3s", Got: "4.1s", Outcome: ledger.Failed},
		{Name: "achieved rate under faults", Kind: ledger.Objective, Want: "at least 95 %", Outcome: ledger.NotMeasured},
		{Name: "data kept", Kind: ledger.Invariant},
	}})
	for _, want := range []string{"generator lag at most 3s 4.1s failed", "achieved rate under faults at least 95 % – " + string(ledger.NotMeasured)} {
		if !strings.Contains(complete, want) || strings.Contains(complete, "data kept") {
			t.Errorf("the status of a complete simulation must contain %q and no invariants:\n%s", want, complete)
		}
	}
	if got := shown(details{checksErr: errors.New("no report")}); !strings.Contains(got, "Not all measured values are shown: no report") {
		t.Errorf("the status without a report is\n%s", got)
	}
	sim.Spec.Objectives = v1alpha1.ObjectivesSpec{}
	if got := shown(details{}); strings.Contains(got, "generator lag") || !strings.Contains(got, "end-to-end p99 – –") {
		t.Errorf("the status without objectives is\n%s", got)
	}
}
