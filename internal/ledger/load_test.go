package ledger

import (
	"slices"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// loadRows returns a timeline of 600 s with 100 entries and 100 exits per second.
func loadRows() []timeline.Row {
	rows := make([]timeline.Row, 0, 600)
	for i := range 600 {
		e := timeline.Events{Due: 100, Published: 100, Lag: time.Millisecond}
		rows = append(rows, timeline.Row{Second: at(i).Unix(), Entry: e, Exit: e})
	}
	return rows
}

// loadEvidence returns evidence with objectives for all phases. A fault disturbs the run from second 200 to second 270.
func loadEvidence(rows []timeline.Row) Evidence {
	o := plan.PhaseObjectives{MaxLag: plan.Duration(5 * time.Second), MinAchievedPercent: 99}
	s := plan.Schedule{Rate: 100, Replicas: 1, Arrivals: plan.ArrivalsPoisson}
	p := &plan.Plan{Entry: plan.Entry{Schedule: s}, Exit: plan.Exit{Schedule: s}}
	return Evidence{
		Report: Report{AtRest: true}, Timeline: rows, Latencies: LatenciesOf(rows, nil, &Report{}),
		Objectives: plan.Objectives{PhaseObjectives: o, WithoutFaults: o, UnderFaults: o},
		Planned:    []plan.Fault{{Name: "crash"}}, Load: LoadOf(p, at(0), at(600), 30*time.Second),
		Faults: []fault.Account{{
			Fault: "crash", InjectedAt: at(200), HealedAt: at(260), RecoveredAt: at(270), RecoverySeconds: new(70.0), Outcome: fault.OutcomeRecovered,
		}},
	}
}

func TestEvaluate_NoGeneratorRuns_EventsAreStillDue(t *testing.T) {
	t.Parallel()
	dead := loadRows()
	for i := 200; i < 260; i++ {
		dead[i].Entry = timeline.Events{}
	}
	bothDead := slices.Delete(loadRows(), 200, 260)
	stalled := loadRows()
	for i := 220; i < 223; i++ {
		stalled[i].Entry = timeline.Events{}
	}
	stalled[223].Entry.Due, stalled[223].Entry.Published = 400, 400
	late := slices.Delete(loadRows(), 0, 30)
	for name, tt := range map[string]struct {
		rows   []timeline.Row
		change func(*Evidence)
		want   []string // prefixes of the reasons
	}{
		"the generators always run": {loadRows(), nil, nil},
		"the entry generator is dead for 60 s": {dead, nil, []string{
			"generator lag is 60.0 s, beyond the objective of 5 s", "achieved rate is below the objective of 99 %: 54,000 of 58,",
			"generator lag under faults is 60.0 s", "achieved rate under faults is below the objective of 99 %: 1",
		}},
		"no process records anything for 60 s": {bothDead, nil, []string{
			"generator lag is 60.0 s", "achieved rate is below the objective of 99 %: 54,000 of 58,",
			"generator lag under faults is 60.0 s", "achieved rate under faults is below",
		}},
		"the plan was edited during the run": {dead, func(e *Evidence) { e.Load = nil }, nil},
		"a paused generator catches up":      {stalled, nil, nil},
		"the generators begin late":          {late, nil, nil},
		"there are no generators": {[]timeline.Row{{Second: at(0).Unix()}, {Second: at(599).Unix()}}, func(e *Evidence) {
			e.Load.entry.Replicas, e.Load.exit.Replicas = 0, 0
			e.Objectives = plan.Objectives{PhaseObjectives: plan.PhaseObjectives{MinAchievedPercent: 99}}
		}, []string{"achieved rate is unknown"}},
		"a generator is dead until the end": {loadRows()[:500], nil, []string{
			"generator lag is 100 s", "achieved rate is below", "generator lag without faults is 100 s", "achieved rate without faults is below",
		}},
	} {
		e := loadEvidence(tt.rows)
		if tt.change != nil {
			tt.change(&e)
		}
		checkReasons(t, name, Evaluate(e), tt.want)
	}
}

func TestEvaluate_RunEndsInTheMiddleOfASecond_EmptyLastRowIsNotReportedAsLag(t *testing.T) {
	t.Parallel()
	s := plan.Schedule{Rate: 100, Replicas: 1}
	// The generators ran for 0.9 s of the second of the last row. They recorded the events of these 0.9 s in the previous
	// row, so the last row has no events.
	e := loadEvidence(append(loadRows(), timeline.Row{Second: at(600).Unix()}))
	e.Load = LoadOf(&plan.Plan{Entry: plan.Entry{Schedule: s}, Exit: plan.Exit{Schedule: s}}, at(0), at(600).Add(900*time.Millisecond), 0)
	e.Objectives = plan.Objectives{PhaseObjectives: plan.PhaseObjectives{MaxLag: plan.Duration(500 * time.Millisecond)}}
	checkReasons(t, "no lag", Evaluate(e), nil)
}
