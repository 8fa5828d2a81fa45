package ledger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// texts returns timeline marks in the form "time subject: message".
func texts(marks []timeline.Mark) (all []string) {
	for _, m := range marks {
		all = append(all, m.At.Sub(time.Unix(1000, 0)).String()+" "+m.Subject+": "+m.Message)
	}
	return all
}

func ms(n int) plan.Duration { return plan.Duration(time.Duration(n) * time.Millisecond) }

func TestObjectiveMarker_MeasurementsExceedObjectiveRepeatedly_ObjectiveIsMarkedOnce(t *testing.T) {
	t.Parallel()
	o := &plan.Objectives{}
	o.EndToEndP99, o.ProcessingP99, o.MaxLag = ms(1000), ms(1000), ms(2000)
	var fast, slow, few histogram.Histogram
	for range minMeasured {
		fast.Observe(time.Millisecond)
		slow.Observe(2 * time.Second)
	}
	few.Observe(2 * time.Second)
	for name, tt := range map[string]struct {
		totals timeline.Row
		want   []string
	}{
		"the objectives are met": {timeline.Row{Exit: timeline.Events{EndToEnd: fast.Snapshot(), Lag: 2 * time.Second}}, nil},
		"the p99 is too long":    {timeline.Row{Exit: timeline.Events{EndToEnd: slow.Snapshot()}}, []string{"5s end-to-end p99: 2.00 s, more than the objective of 1 s"}},
		"few events":             {timeline.Row{Exit: timeline.Events{EndToEnd: few.Snapshot()}}, nil},
		"the lag is too long":    {timeline.Row{Entry: timeline.Events{Lag: 3 * time.Second}}, []string{"5s generator lag: 3.00 s, more than the objective of 2 s"}},
	} {
		var got []timeline.Mark
		m := NewObjectiveMarker(func(m timeline.Mark) { got = append(got, m) })
		m.Measured(time.Unix(1005, 0), o, &tt.totals)
		m.Measured(time.Unix(1006, 0), o, &tt.totals)
		if diff := cmp.Diff(tt.want, texts(got)); diff != "" {
			t.Errorf("%s: marks differ (-want +got):\n%s", name, diff)
		}
	}
}

func TestObjectiveMarker_CheckFailsRepeatedly_CheckIsMarkedOnce(t *testing.T) {
	t.Parallel()
	var got []timeline.Mark
	m := NewObjectiveMarker(func(m timeline.Mark) { got = append(got, m) })
	dead := func(message string) Check { return Check{Name: CheckDeadLetters, Message: message} }
	crash := func(name string) Check { return Check{Name: checkFault + name, Message: "not injected"} }
	m.Failed(time.Unix(1001, 0), []Check{dead("3 events were dead-lettered"), crash("a")})
	m.Failed(time.Unix(1002, 0), []Check{dead("4 events were dead-lettered"), crash("a"), crash("b"), {Name: CheckLag, Message: "generator lag is 6 s"}})
	lag := plan.Objectives{PhaseObjectives: plan.PhaseObjectives{MaxLag: ms(1)}}
	// A second lag adds no mark, because CheckLag already has one.
	m.Measured(time.Unix(1003, 0), &lag, &timeline.Row{Entry: timeline.Events{Lag: time.Second}})
	want := []string{"1s dead letters: 3 events were dead-lettered", "1s fault a: not injected", "2s fault b: not injected", "2s generator lag: 6 s"}
	if diff := cmp.Diff(want, texts(got)); diff != "" {
		t.Errorf("marks differ (-want +got):\n%s", diff)
	}
}

func TestMissingMarks_MissedObjectivesHaveNoMark_AddsTheMarks(t *testing.T) {
	t.Parallel()
	// A fault disturbs the simulation from second 4 to second 6. Ten events that are due in second 0 are published in
	// second 1.
	rows := make([]timeline.Row, 10)
	for i := range rows {
		e := timeline.Events{Due: 100, Published: 100}
		switch i {
		case 0:
			e.Published = 90
		case 1:
			e.Published = 110
		case 4, 5:
			e.Published, e.Lag = 20, 3*time.Second
		}
		rows[i] = timeline.Row{Second: int64(1000 + i), Entry: e}
	}
	rows[4].Marks = []timeline.Mark{{At: time.Unix(1004, 0), Kind: timeline.MarkObjective, Subject: CheckLag}}
	e := Evidence{
		Report:   Report{AtRest: true, Lost: 1, MissingEntries: 1, DeadLettered: 1},
		Timeline: rows,
		Faults:   []fault.Account{{Fault: "stall", InjectedAt: time.Unix(1004, 0), HealedAt: time.Unix(1006, 0), RecoveredAt: time.Unix(1006, 0), Outcome: fault.OutcomeRecovered, RecoverySeconds: new(0.0)}},
		Objectives: plan.Objectives{
			PhaseObjectives: plan.PhaseObjectives{MinAchievedPercent: 95, MaxLag: ms(1000)},
			WithoutFaults:   plan.PhaseObjectives{MinAchievedPercent: 95},
			UnderFaults:     plan.PhaseObjectives{MaxLag: ms(1000)},
		},
	}
	e.Latencies = LatenciesOf(rows, nil, &e.Report)
	v := Evaluate(e)
	got := texts(MissingMarks(&e, &v, time.Unix(1012, 0)))
	want := []string{
		"5s achieved rate: below the objective of 95 %: 840 of 1,000 due entries were published (at the end of the run)",
		"5s generator lag under faults: 3.00 s, beyond the objective of 1 s (at the end of the run)",
		"12s lost events: 1 event was lost: confirmed by the broker, but never took effect (1 entry, 0 exits); at most 0 allowed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("marks differ (-want +got):\n%s", diff)
	}
}
