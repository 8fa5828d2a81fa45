package kubectl

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

func started() *v1alpha1.ParkingSimulation {
	sim := &v1alpha1.ParkingSimulation{}
	sim.Namespace, sim.Name = "parking", "rush-hour"
	sim.Status.StartTime = new(metav1.NewTime(time.Now().Add(-100 * time.Second)))
	sim.Status.TargetRates = &v1alpha1.TargetRates{Entry: 20, Exit: 10}
	sim.Status.Ledger = &v1alpha1.LedgerStatus{
		ObservedTime: new(metav1.NewTime(sim.Status.StartTime.Add(100 * time.Second))), EntriesConfirmed: 2000, EntriesRecorded: 1990,
	}
	return sim
}

func TestTop_NoSimulations_MessageContainsTheNamespace(t *testing.T) {
	t.Parallel()
	m := newMeter(&cluster{namespace: "nope"}, "", false)
	if got := m.lines(nil, topFlags{}, 80); len(got) != 1 || !strings.Contains(got[0], "in namespace nope") {
		t.Errorf("the output is %q", got)
	}
}

func TestTopMeasure_CoversOnlyTheLast10Seconds(t *testing.T) {
	t.Parallel()
	var latency histogram.Histogram
	latency.Observe(100 * time.Millisecond)
	const now = 1_700_000_000
	data := &liveData{state: view.State{
		At: time.Unix(now, 0), Entry: view.Generator{Rate: 40}, Ledger: &ledger.Report{Outstanding: 7},
		Queues: view.Queues{Ready: new(int64(3)), Retrying: new(int64(1))},
	}}
	// The rate must depend only on the last 10 rows. Each of these rows covers one second and counts 40 events. Each
	// older row counts 1000 events.
	for ago := int64(60); ago > 0; ago-- {
		published := int64(1000)
		if ago <= 10 {
			published = 40
		}
		data.rows = append(data.rows, timeline.Row{Second: now - ago, Entry: timeline.Events{Published: published, EndToEnd: latency.Snapshot()}})
	}
	sim := started()
	row := rowOfStatus(sim)
	if err := newSource(t, sim, data, nil).measure(t.Context(), &row); err != nil {
		t.Fatal(err)
	}
	if !row.Live || *row.Entry.Target != 40 || *row.Backlog != 7 || row.Verdict != "" {
		t.Errorf("the row is %+v", row)
	}
	// The expected rate is 40. One older row with 1000 events may add 100 to the mean over 10 s.
	if rate := *row.Entry.Achieved; rate < 40 || rate > 140 {
		t.Errorf("the rate of the entries is %v", rate)
	}
	if p99 := *row.EndToEndP99Seconds; p99 < 0.08 || p99 > 0.12 {
		t.Errorf("the p99 is %v s", p99)
	}
}

// measured returns the table row of a running simulation whose pod serves the given state and rows.
func measured(t *testing.T, state view.State, rows ...timeline.Row) TopRow {
	t.Helper()
	state.Ledger = &ledger.Report{}
	row := rowOfStatus(started())
	if err := newSource(t, started(), &liveData{state: state, rows: rows}, nil).measure(t.Context(), &row); err != nil {
		t.Fatal(err)
	}
	return row
}

func TestMeasure_RowsAreMissing_RateCoversTheTimeWithCompleteData(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0)
	row := func(ago, published int64) timeline.Row {
		return timeline.Row{Second: at.Unix() - ago, Entry: timeline.Events{Published: published}}
	}
	for name, test := range map[string]struct {
		state     view.State
		rows      []timeline.Row
		low, high float64
	}{
		"one event":                  {view.State{At: at}, []timeline.Row{row(5, 1)}, 0.1, 0.13},
		"paused 6 s ago":             {view.State{At: at}, []timeline.Row{row(10, 20), row(9, 20), row(8, 20), row(7, 20)}, 8, 10},
		"no rows":                    {view.State{At: at}, nil, 0, 0},
		"started 4 s ago":            {view.State{At: at, StartedAt: at.Add(-4 * time.Second)}, []timeline.Row{row(4, 20), row(3, 20), row(2, 20)}, 20, 30},
		"no row for the last second": {view.State{At: at}, []timeline.Row{row(10, 20), row(9, 20), row(8, 20), row(7, 20), row(6, 20), row(5, 20), row(4, 20), row(3, 20), row(2, 20)}, 20, 20},
		"one row of 20 s":            {view.State{At: at}, []timeline.Row{{Second: at.Unix() - 20, Width: 20, Entry: timeline.Events{Published: 400}}}, 20, 20},
	} {
		if rate := *measured(t, test.state, test.rows...).Entry.Achieved; rate < test.low || rate > test.high {
			t.Errorf("%s: the rate is %v, want from %v to %v", name, rate, test.low, test.high)
		}
	}
}

func TestMeasure_ClockOfThisMachineIsWrong_UsesTheClockOfThePod(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-5 * time.Minute, 5 * time.Minute} {
		at := time.Now().Add(ahead).Truncate(time.Second)
		var rows []timeline.Row
		for ago := int64(60); ago > 0; ago-- {
			rows = append(rows, timeline.Row{Second: at.Unix() - ago, Entry: timeline.Events{Published: 40}})
		}
		if row := measured(t, view.State{At: at}, rows...); *row.Entry.Achieved != 40 {
			t.Errorf("the clock of the pod is %s ahead: the row is %s", ahead, row.Entry)
		}
	}
}

func TestRowOfStatus_ShowsRatesBacklogAndVerdict(t *testing.T) {
	t.Parallel()
	sim := started()
	row := rowOfStatus(sim)
	if *row.Entry.Achieved != 20 || *row.Entry.Target != 20 || *row.Backlog != 10 || row.Lost != nil || row.EndToEndP99Seconds != nil || row.Verdict != "" {
		t.Errorf("the row of a running simulation is %+v", row)
	}
	sim.Status.CompletionTime, sim.Status.Verdict = new(metav1.Now()), v1alpha1.VerdictPass
	sim.Status.Ledger.Lost = new(int64(0))
	sim.Status.Latency = &v1alpha1.LatencyStatus{EndToEnd: &v1alpha1.LatencySummary{P99: *v1alpha1.NewDuration(time.Second)}}
	row = rowOfStatus(sim)
	if row.Entry.Target != nil || *row.Backlog != 0 || *row.Lost != 0 || *row.EndToEndP99Seconds != 1 || row.Verdict != "PASS" {
		t.Errorf("the row of a complete simulation is %+v", row)
	}
}

func TestTopLines_RenderATable(t *testing.T) {
	t.Parallel()
	row := rowOfStatus(started())
	row.Note = "no processor runs"
	got := strings.Join(topLines([]TopRow{row}, topFlags{allNamespaces: true}, 100), "\n")
	want := strings.TrimSpace(`
NAMESPACE   NAME        STATUS   ENTRY/S        EXIT/S        P99   BACKLOG   LOST   VERDICT
parking     rush-hour   –        20.0 of 20.0   0.0 of 10.0   –     10        –      –

parking/rush-hour: no live data: no processor runs`)
	if got != want {
		t.Errorf("the table is\n%s\nnot\n%s", got, want)
	}
	row.Note = "connect to pod a: forbidden; ask an administrator to add this rule to one of your Roles: " + onCore("pods/portforward", "get,create").String()
	narrow := topLines([]TopRow{row}, topFlags{allNamespaces: true}, 80)
	for _, line := range narrow {
		if terminal.Width(line) > 80 {
			t.Errorf("%q is too wide for a terminal of 80 columns", line)
		}
	}
	if text := strings.Join(narrow, " "); !strings.Contains(text, `verbs: ["get", "create"]}`) || !strings.Contains(text, "VERDICT") {
		t.Errorf("the narrow table is incomplete:\n%s", text)
	}
}

func TestTopLines_OutputWide_ShowsTheProcessingLatency(t *testing.T) {
	t.Parallel()
	row := rowOfStatus(started())
	row.ProcessingP99Seconds = new(0.004)
	got := topLines([]TopRow{row}, topFlags{output: outputFlag{format: outputWide}}, 200)
	if !strings.HasSuffix(got[0], "VERDICT   PROCESSING P99") || !strings.HasSuffix(got[1], "4.00 ms") {
		t.Errorf("the table is %q", got)
	}
}

func TestAudit_RunningSimulation_ChecksLagAndAchievedRate(t *testing.T) {
	t.Parallel()
	sim := started()
	sim.Spec.Objectives.MaxLag, sim.Spec.Objectives.MinAchievedPercent = new(v1alpha1.Duration("1s")), new(int32(95))
	data := &liveData{
		state: view.State{Ledger: &ledger.Report{EntriesConfirmed: 5, EntriesRecorded: 5}},
		rows:  []timeline.Row{{Second: 100, Entry: timeline.Events{Due: 10, Published: 5, Lag: 3 * time.Second}}},
	}
	a, err := newSource(t, sim, data, nil).audit(t.Context(), sim)
	if err != nil {
		t.Fatal(err)
	}
	failed := map[string]string{}
	for _, c := range a.Checks {
		if c.Outcome == ledger.Failed {
			failed[c.Name] = c.Got
		}
	}
	if failed["generator lag"] == "" || failed["achieved rate"] == "" {
		t.Errorf("the failed checks are %q", failed)
	}
}

func TestAudit_RunningSimulation_UsesLiveData(t *testing.T) {
	t.Parallel()
	var latency histogram.Histogram
	latency.Observe(100 * time.Millisecond)
	data := &liveData{
		state: view.State{Ledger: &ledger.Report{EntriesConfirmed: 2, EntriesRecorded: 1, Outstanding: 1}},
		rows:  []timeline.Row{{Second: 100, Entry: timeline.Events{EndToEnd: latency.Snapshot()}}},
	}
	sim := started()
	a, err := newSource(t, sim, data, nil).audit(t.Context(), sim)
	if err != nil {
		t.Fatal(err)
	}
	if a.Outcome != ledger.Fail || !a.Running || a.Ledger.Outstanding != 1 || a.Latencies.EndToEnd == nil || a.Simulation != "parking.rush-hour" {
		t.Errorf("the audit is %+v", a)
	}
}
