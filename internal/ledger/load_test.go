package ledger

import (
	"fmt"
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

// loadEvidence returns evidence with the same objectives for all phases. A fault disturbs the run from second 200 to
// second 270.
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

func TestEvaluate_NoGeneratorIsRunning_EventsAreStillDue(t *testing.T) {
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
		want   []string // the beginnings of the expected reasons
	}{
		"the generators always run": {loadRows(), nil, nil},
		"the entry generator is dead for 60 s": {dead, nil, []string{
			"generator lag is 60.0 s, beyond the objective of 5 s", "achieved rate is below the objective of 99 %: 54,000 of 60,000",
			"generator lag under faults is 60.0 s", "achieved rate under faults is below the objective of 99 %: 1",
		}},
		"no process records anything for 60 s": {bothDead, nil, []string{
			"generator lag is 60.0 s", "achieved rate is below the objective of 99 %: 54,000 of 60,000",
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

// The plan says how many events are due in each second. So the audit must notice even if there was no generator for
// only half a second.
func TestEvaluate_EventsDueWithoutGenerator_CountAsMissed(t *testing.T) {
	t.Parallel()
	const rate = 20
	uniform := func(change func(rows []timeline.Row)) Evidence {
		rows := make([]timeline.Row, 61)
		for i := range rows {
			rows[i] = timeline.Row{Second: at(i).Unix(), Entry: timeline.Events{Due: rate, Published: rate, Lag: time.Millisecond}}
		}
		rows[60].Entry = timeline.Events{} // this row begins after the end of the schedule
		change(rows)
		s := plan.Schedule{Rate: rate, Replicas: 1}
		e := loadEvidence(rows)
		e.Load = LoadOf(&plan.Plan{Entry: plan.Entry{Schedule: s}}, at(0), at(60), 0)
		o := plan.PhaseObjectives{MaxLag: plan.Duration(300 * time.Millisecond), MinAchievedPercent: 100}
		e.Objectives = plan.Objectives{PhaseObjectives: o, WithoutFaults: o, UnderFaults: o}
		e.Faults = []fault.Account{{
			Fault: "crash", InjectedAt: at(20), HealedAt: at(25), RecoveredAt: at(30), RecoverySeconds: new(5.0), Outcome: fault.OutcomeRecovered,
		}}
		return e
	}
	set := func(row *timeline.Row, due, published int64) { row.Entry.Due, row.Entry.Published = due, published }
	absent := func(rows []timeline.Row) { set(&rows[21], 16, 16); set(&rows[22], 13, 13) }
	for name, tt := range map[string]struct {
		change     func(rows []timeline.Row)
		unrecorded int64
		want       []string // the beginnings of the expected reasons
	}{
		"the generator always runs": {func([]timeline.Row) {}, 0, nil},
		"no generator runs for half a second": {absent, 0, []string{
			"generator lag is 550 ms, beyond the objective of 300 ms", "achieved rate is below the objective of 100 %: 1,189 of 1,200 due",
			"generator lag under faults is 550 ms", "achieved rate under faults is below the objective of 100 %: 209 of 220 due",
		}},
		"a killed process has not recorded its last events":  {absent, 11, nil},
		"rows are written late":                              {func(rows []timeline.Row) { set(&rows[21], 12, 12); set(&rows[22], 28, 28) }, 0, nil},
		"events of a fault are published after the recovery": {func(rows []timeline.Row) { set(&rows[29], 20, 5); set(&rows[30], 20, 35) }, 0, nil},
		"a process was stopped and continues":                {func(rows []timeline.Row) { set(&rows[21], 0, 0); set(&rows[22], 40, 40) }, 0, nil},
		"the first row is written late":                      {func(rows []timeline.Row) { set(&rows[0], 14, 14); set(&rows[1], 26, 26) }, 0, nil},
		"the last row is written late":                       {func(rows []timeline.Row) { set(&rows[59], 0, 0); set(&rows[60], rate, rate) }, 0, nil},
		"a row before the fault is written late": {
			func(rows []timeline.Row) { set(&rows[17], 19, 19); set(&rows[18], 21, 21); absent(rows) }, 0, []string{
				"generator lag is 550 ms", "achieved rate is below", "generator lag under faults is 550 ms", "achieved rate under faults",
			},
		},
		"an earlier surplus does not make up for a gap": {func(rows []timeline.Row) {
			for i := 2; i < 10; i++ {
				set(&rows[i], 30, 30)
			}
			for i := 22; i < 25; i++ {
				set(&rows[i], 0, 0)
			}
		}, 0, []string{"generator lag is ", "achieved rate is below", "generator lag under faults", "achieved rate under faults"}},
		"each of two killed processes has not recorded its last second": {func(rows []timeline.Row) {
			for _, i := range []int{21, 25, 26, 27, 28} {
				set(&rows[i], 0, 0)
			}
		}, 40, []string{
			"generator lag is 3.00 s", "achieved rate is below the objective of 100 %: 1,100 of 1,160", "generator lag under faults is 3.00 s",
			"achieved rate under faults",
		}},
		"an event is skipped": {func(rows []timeline.Row) { set(&rows[40], 20, 19) }, 0, []string{
			"achieved rate is below the objective of 100 %: 1,199 of 1,200 due", "achieved rate without faults is below",
		}},
	} {
		e := uniform(tt.change)
		for i := range e.Timeline {
			e.Report.EntriesConfirmed += e.Timeline[i].Entry.Published
		}
		e.Report.EntriesConfirmed += tt.unrecorded
		e.Report.EntriesRecorded = e.Report.EntriesConfirmed
		checkReasons(t, name, Evaluate(e), tt.want)
	}
}

// Poisson arrivals are random, and Due is only their mean. So a row with fewer published events does not mean that
// events were missed.
func TestEvaluate_PoissonArrivals_RandomDeviationsDoNotCountAsMissed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(rows []timeline.Row)
		want   []string
	}{
		"fewer events arrive than the mean": {func(rows []timeline.Row) {
			for i := range rows {
				rows[i].Entry.Published, rows[i].Exit.Published = 98, 98
			}
		}, nil},
		"a killed generator leaves overdue events": {func(rows []timeline.Row) {
			for i := 300; i < 320; i++ {
				rows[i].Entry.Published = 0
			}
		}, []string{"achieved rate is below the objective of 99 %: 58,000 of 60,000", "achieved rate without faults"}},
		"a generator skips overdue events": {func(rows []timeline.Row) { rows[100].Entry.Missed = 700 }, []string{
			"achieved rate is below the objective of 99 %: 59,300 of 60,000", "achieved rate without faults",
		}},
		"no generator runs for a second": {func(rows []timeline.Row) {
			for i := 200; i < 270; i += 10 {
				rows[i].Entry.Due, rows[i].Entry.Published = 0, 0
			}
		}, []string{"achieved rate is below the objective of 99 %: 59,300 of 60,000", "achieved rate under faults"}},
	} {
		rows := loadRows()
		tt.change(rows)
		checkReasons(t, name, Evaluate(loadEvidence(rows)), tt.want)
	}
}

// The store merges old rows of the timeline. A merged row covers up to one minute. The merge must not change the lag of
// a dead generator.
func TestEvaluate_GeneratorIsDead_LagIsTheSameAtEachTimelineResolution(t *testing.T) {
	t.Parallel()
	for _, width := range []int{1, 10, 60} {
		rows := make([]timeline.Row, 0, 600)
		for i := 0; i < 600; i += width {
			e := timeline.Events{Due: int64(100 * width), Published: int64(100 * width)}
			for second := i; second < i+width; second++ {
				if second >= 185 && second < 200 {
					e.Due, e.Published = e.Due-100, e.Published-100
				}
			}
			rows = append(rows, timeline.Row{Second: at(i).Unix(), Width: int64(width), Entry: e})
		}
		e := loadEvidence(rows)
		s := plan.Schedule{Rate: 100, Replicas: 1}
		e.Load = LoadOf(&plan.Plan{Entry: plan.Entry{Schedule: s}}, at(0), at(600), 0)
		e.Objectives = plan.Objectives{PhaseObjectives: plan.PhaseObjectives{MaxLag: plan.Duration(5 * time.Second)}}
		checkReasons(t, fmt.Sprintf("rows of %d s", width), Evaluate(e), []string{"generator lag is 15.0 s"})
	}
}

// Two of three generators keep running, so there is no time without a generator. Therefore, only the achieved rate
// shows that a generator is dead.
func TestEvaluate_OneOfThreeGeneratorsIsDead_AchievedRateIsLowAndThereIsNoLag(t *testing.T) {
	t.Parallel()
	for _, width := range []int{1, 60} {
		rows := make([]timeline.Row, 0, 600)
		for i := 0; i < 600; i += width {
			e := timeline.Events{Due: int64(99 * width), Published: int64(99 * width)}
			if i >= 180 && i < 360 {
				e = timeline.Events{Due: int64(66 * width), Published: int64(66 * width)}
			}
			rows = append(rows, timeline.Row{Second: at(i).Unix(), Width: int64(width), Entry: e})
		}
		e := loadEvidence(rows)
		s := plan.Schedule{Rate: 99, Replicas: 3}
		e.Load = LoadOf(&plan.Plan{Entry: plan.Entry{Schedule: s}}, at(0), at(600), 0)
		e.Objectives = plan.Objectives{PhaseObjectives: e.Objectives.PhaseObjectives}
		checkReasons(t, fmt.Sprintf("rows of %d s", width), Evaluate(e), []string{"achieved rate is below the objective of 99 %: 53,460 of 59,400"})
	}
}

func TestEvaluate_RunEndsInTheMiddleOfASecond_EmptyLastRowIsNotReportedAsLag(t *testing.T) {
	t.Parallel()
	s := plan.Schedule{Rate: 100, Replicas: 1}
	// The generators stop 0.9 s after the beginning of second 600, and publish nothing in this second. The audit must
	// ignore the 90 events that are due in this second, because generators stop at slightly different times.
	e := loadEvidence(append(loadRows(), timeline.Row{Second: at(600).Unix()}))
	e.Load = LoadOf(&plan.Plan{Entry: plan.Entry{Schedule: s}, Exit: plan.Exit{Schedule: s}}, at(0), at(600).Add(900*time.Millisecond), 0)
	e.Objectives = plan.Objectives{PhaseObjectives: plan.PhaseObjectives{MaxLag: plan.Duration(500 * time.Millisecond)}}
	checkReasons(t, "no lag", Evaluate(e), nil)
}
