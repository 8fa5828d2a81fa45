package ledger

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// at returns the time of the given second of the run. The run starts in second 0.
func at(second int) time.Time {
	return time.Date(2026, time.May, 17, 12, 0, second, 0, time.UTC)
}

// phaseRows returns a timeline of 100 s. From second 40 to 60, latencies and lags are longer, and only 60 % of the due
// events are published.
func phaseRows() []timeline.Row {
	var rows []timeline.Row
	for i := range 100 {
		e := timeline.Events{Due: 100, Published: 100, Lag: time.Millisecond, EndToEnd: latencyOf(10, 10*time.Millisecond), Processing: latencyOf(10, time.Millisecond)}
		if i >= 40 && i < 60 {
			e = timeline.Events{Due: 100, Published: 60, Lag: 3 * time.Second, EndToEnd: latencyOf(10, 2*time.Second), Processing: latencyOf(10, 100*time.Millisecond)}
		}
		rows = append(rows, timeline.Row{Second: at(i).Unix(), Entry: e, Exit: e})
	}
	return rows
}

// disturbance returns the account of a fault that affects the run from second 40 to second 60.
func disturbance() fault.Account {
	return fault.Account{
		Fault: "crash", InjectedAt: at(40), HealedAt: at(45), RecoveredAt: at(60), RecoverySeconds: new(15.0), Outcome: fault.OutcomeRecovered,
	}
}

func phaseEvidence(o plan.Objectives) Evidence {
	rows := phaseRows()
	return Evidence{
		Report: Report{AtRest: true}, Objectives: o, Timeline: rows, Latencies: LatenciesOf(rows, nil, &Report{}),
		Planned: []plan.Fault{{Name: "crash"}}, Faults: []fault.Account{disturbance()},
	}
}

func TestEvaluate_PhaseObjectives_ApplyOnlyToTheirPhase(t *testing.T) {
	t.Parallel()
	ms := func(n int) plan.Duration { return plan.Duration(time.Duration(n) * time.Millisecond) }
	with := func(change func(*Evidence)) func(*Evidence) { return change }
	noFaults := with(func(e *Evidence) { e.Planned, e.Faults = nil, nil })
	for name, tt := range map[string]struct {
		objectives plan.Objectives
		change     func(*Evidence)
		want       []string // the beginnings of the expected reasons
	}{
		"the latencies of the phases meet their objectives": {
			plan.Objectives{
				WithoutFaults: plan.PhaseObjectives{EndToEndP99: ms(20), ProcessingP99: ms(2)},
				UnderFaults:   plan.PhaseObjectives{EndToEndP99: ms(3000), ProcessingP99: ms(200)},
			}, nil, nil,
		},
		"the latency of the whole run includes faults": {
			plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: ms(1000)}}, nil, []string{"end-to-end p99 is 1.99 s"},
		},
		"latencies under faults are too long": {
			plan.Objectives{UnderFaults: plan.PhaseObjectives{EndToEndP99: ms(1000), ProcessingP99: ms(50)}}, nil,
			[]string{"processing p99 under faults is 105 ms", "end-to-end p99 under faults is 2"},
		},
		"latencies without faults are too long": {
			plan.Objectives{WithoutFaults: plan.PhaseObjectives{EndToEndP99: ms(5)}}, nil, []string{"end-to-end p99 without faults is 1"},
		},
		"lag and rate of the phases meet their objectives": {
			plan.Objectives{
				WithoutFaults: plan.PhaseObjectives{MaxLag: ms(10), MinAchievedPercent: 100},
				UnderFaults:   plan.PhaseObjectives{MaxLag: ms(5000), MinAchievedPercent: 60},
			}, nil, nil,
		},
		"lag and rate miss their objectives": {
			plan.Objectives{
				PhaseObjectives: plan.PhaseObjectives{MaxLag: ms(1000), MinAchievedPercent: 93},
				UnderFaults:     plan.PhaseObjectives{MaxLag: ms(2999), MinAchievedPercent: 62},
			}, nil,
			[]string{
				"generator lag is 3.00 s, beyond the objective of 1 s",
				"achieved rate is below the objective of 93 %: 9,200 of 10,000 due entries were published; 9,200 of 10,000 due exits were published",
				"generator lag under faults is 3.00 s, beyond the objective of 2.999 s",
				"achieved rate under faults is below the objective of 62 %: 1,300 of 2,100 due entries were published",
			},
		},
		"exits without a plate are not published": {
			plan.Objectives{PhaseObjectives: plan.PhaseObjectives{MinAchievedPercent: 92}},
			func(e *Evidence) { e.Timeline[3].Exit.Published, e.Timeline[3].Exit.Starved = 99, 1 },
			[]string{"achieved rate is below the objective of 92 %: 9,199 of 10,000 due exits were published, 1 found no available plate"},
		},
		"the timeline cannot be read": {
			plan.Objectives{
				PhaseObjectives: plan.PhaseObjectives{EndToEndP99: ms(1), MaxLag: ms(1), MinAchievedPercent: 1},
				WithoutFaults:   plan.PhaseObjectives{ProcessingP99: ms(1), MaxLag: ms(1), MinAchievedPercent: 1},
			},
			func(e *Evidence) { e.Timeline, e.Latencies = nil, LatenciesOf(nil, errors.New("no route"), &Report{}) },
			[]string{
				"end-to-end p99 is unknown, so the objective of 1 ms counts as not met: no event was measured: no route",
				"generator lag is unknown, so the objective of 1 ms counts as not met: no event was due: no route",
				"achieved rate is unknown, so the objective of at least 1 % counts as not met: no event was due: no route",
				"processing p99 without faults is unknown, so the objective of 1 ms counts as not met: no event was measured: no route",
				"generator lag without faults is unknown", "achieved rate without faults is unknown",
			},
		},
		"no event is due": {
			plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: ms(1), ProcessingP99: ms(1), MaxLag: ms(1), MinAchievedPercent: 99}},
			func(e *Evidence) { e.Timeline, e.Latencies = nil, LatenciesOf(nil, nil, &Report{}) },
			[]string{
				"processing p99 is unknown, so the objective of 1 ms counts as not met: no event was measured", "end-to-end p99 is unknown",
				"generator lag is unknown, so the objective of 1 ms counts as not met: no event was due", "achieved rate is unknown",
			},
		},
		"no faults": {
			plan.Objectives{WithoutFaults: plan.PhaseObjectives{EndToEndP99: ms(3000)}}, noFaults, nil,
		},
		"objectives under faults, but no faults": {
			plan.Objectives{UnderFaults: plan.PhaseObjectives{EndToEndP99: ms(3000), MaxLag: ms(1)}, MaxRecovery: ms(1)}, noFaults,
			[]string{
				"recovery is unknown, so the objective of 1 ms counts as not met: no fault was injected",
				"end-to-end p99 under faults is unknown, so the objective of 3 s counts as not met: no fault was injected",
				"generator lag under faults is unknown, so the objective of 1 ms counts as not met: no fault was injected",
			},
		},
		"faults from the start to the end": {
			plan.Objectives{WithoutFaults: plan.PhaseObjectives{EndToEndP99: ms(3000)}},
			func(e *Evidence) { e.Faults[0].InjectedAt, e.Faults[0].RecoveredAt = at(0), at(100) },
			[]string{"end-to-end p99 without faults is unknown, so the objective of 3 s counts as not met: nothing was measured in the time without faults"},
		},
		"the time of the recovery is unknown, so the disturbance lasts until DisturbsUntil": {
			plan.Objectives{WithoutFaults: plan.PhaseObjectives{EndToEndP99: ms(20)}, UnderFaults: plan.PhaseObjectives{EndToEndP99: ms(3000)}},
			func(e *Evidence) {
				e.Faults[0].Outcome, e.Faults[0].RecoveredAt, e.Faults[0].RecoverySeconds = fault.OutcomeNotRecovered, time.Time{}, nil
				e.Faults[0].InjectedAt, e.Faults[0].DisturbsUntil = at(0), at(60)
			}, nil,
		},
		"events that were not measured belong to the phase under faults": {
			plan.Objectives{
				WithoutFaults: plan.PhaseObjectives{EndToEndP99: ms(20)}, UnderFaults: plan.PhaseObjectives{EndToEndP99: ms(3000)},
			},
			func(e *Evidence) { e.Latencies.Unmeasured = 100 },
			[]string{"end-to-end p99 under faults is unknown, so the objective of 3 s counts as not met: only 420 of 520 events were measured"},
		},
	} {
		e := phaseEvidence(tt.objectives)
		if tt.change != nil {
			tt.change(&e)
		}
		checkReasons(t, name, Evaluate(e), tt.want)
	}
}

// The command "parking audit" reads only the store and the queues. Its verdict does not cover checks that need, for
// example, the times of faults.
func TestEvaluate_LedgerOnly_NamesTheChecksThatAreNotCovered(t *testing.T) {
	t.Parallel()
	ms := func(n int) plan.Duration { return plan.Duration(time.Duration(n) * time.Millisecond) }
	rehearsal := plan.Objectives{
		MaxRecovery: ms(1), AbortOnFailure: true,
		WithoutFaults: plan.PhaseObjectives{EndToEndP99: ms(1), MaxLag: ms(1e6)}, UnderFaults: plan.PhaseObjectives{ProcessingP99: ms(1), MinAchievedPercent: 1},
	}
	const (
		always = "not checked, because the store does not contain the data: summaries in the API, entry schedule, exit schedule, failures"
		all    = "not checked, because the store does not contain the data: run length, summaries in the API, entry schedule, exit schedule, fault crash, recovery, " +
			"end-to-end p99 without faults, generator lag without faults, processing p99 under faults, achieved rate under faults, failures"
	)
	for name, tt := range map[string]struct {
		change  func(*Evidence)
		outcome Outcome
		want    []string
	}{
		"faults are planned":         {func(e *Evidence) { e.Objectives, e.Planned = rehearsal, []plan.Fault{{Name: "crash"}} }, Pass, []string{all}},
		"no faults are planned":      {func(*Evidence) {}, Pass, []string{always}},
		"the lag is too long":        {func(e *Evidence) { e.Objectives.MaxLag = ms(1000) }, Fail, []string{"generator lag is 3.00 s, beyond the objective of 1 s", always}},
		"events were lost":           {func(e *Evidence) { e.Report.Lost = 1 }, Fail, []string{"1 event was lost", always}},
		"no latencies were measured": {func(e *Evidence) { e.Objectives.EndToEndP99, e.Latencies = ms(1), LatenciesOf(nil, nil, &Report{}) }, Fail, []string{"end-to-end p99 is unknown", always}},
	} {
		e := phaseEvidence(plan.Objectives{})
		e.Planned, e.Faults, e.LedgerOnly = nil, nil, true
		tt.change(&e)
		v := Evaluate(e)
		matches := v.Outcome == tt.outcome && len(v.Reasons) == len(tt.want)
		for i := 0; matches && i < len(tt.want); i++ {
			matches = strings.HasPrefix(v.Reasons[i], tt.want[i])
		}
		if !matches {
			t.Errorf("%s: the verdict is %s %q, want %s %q", name, v.Outcome, v.Reasons, tt.outcome, tt.want)
		}
		_, uncovered, _ := strings.Cut(v.Reasons[len(v.Reasons)-1], ": ")
		for uncovered := range strings.SplitSeq(uncovered, ", ") {
			if c := checkOf(t, v, uncovered); c.Outcome != NotMeasured || c.Want == "" || c.Got != "" || c.Message != "" {
				t.Errorf("%s: the check is %+v, want the outcome notMeasured", name, c)
			}
		}
	}
}

// checkReasons checks that each reason in a verdict begins with the expected text.
func checkReasons(t *testing.T, name string, got Verdict, want []string) {
	t.Helper()
	matches := len(got.Reasons) == len(want) && (got.Outcome == Pass) == (len(want) == 0)
	for i := 0; matches && i < len(want); i++ {
		matches = strings.HasPrefix(got.Reasons[i], want[i])
	}
	if !matches {
		t.Errorf("%s: the verdict is %s %q, want reasons %q", name, got.Outcome, got.Reasons, want)
	}
}

func TestEvaluate_FailedFaultIsRemovedFromThePlan_CheckOfTheFaultStillFails(t *testing.T) {
	t.Parallel()
	failed := fault.Account{Fault: "removed", Outcome: fault.OutcomeNotInjected, Message: "no such pod"}
	v := Evaluate(Evidence{Faults: []fault.Account{failed}})
	for _, c := range v.Checks {
		if c.Name == "fault removed" && c.Outcome == Failed {
			return
		}
	}
	t.Errorf("the check of the fault did not fail: %+v", v.Checks)
}

func TestEvaluate_Faults_InjectionAndTimelyRecoveryAreRequired(t *testing.T) {
	t.Parallel()
	recovered := func(n int, seconds float64) fault.Account {
		a := disturbance()
		a.Number, a.RecoverySeconds = n, &seconds
		return a
	}
	notRecovered := disturbance()
	notRecovered.RecoverySeconds, notRecovered.UnrecoveredSeconds, notRecovered.RecoveredAt = nil, 20, time.Time{}
	notRecovered.Outcome, notRecovered.Message = fault.OutcomeNotRecovered, "the latency stayed high"
	notInjected := fault.Account{Fault: "crash", Number: 7, Outcome: fault.OutcomeNotInjected, Message: "The fault was not injected: no such pod"}
	aborted := fault.Account{Fault: "crash", Number: 8, Outcome: fault.OutcomeAborted, Message: "The fault was not injected: Ctrl-C"}
	endedEarly := disturbance()
	endedEarly.RecoverySeconds, endedEarly.RecoveredAt, endedEarly.Outcome = nil, time.Time{}, fault.OutcomeAborted
	objective := plan.Objectives{MaxRecovery: plan.Duration(30 * time.Second)}
	many := make([]fault.Account, 9)
	for i := range many {
		many[i] = recovered(i, 31)
	}
	manyNotRecovered := make([]fault.Account, 12)
	for i := range manyNotRecovered {
		manyNotRecovered[i] = notRecovered
		manyNotRecovered[i].Number = i
	}
	for name, tt := range map[string]struct {
		objectives plan.Objectives
		faults     []fault.Account
		want       []string
	}{
		"recovered in time":       {objective, []fault.Account{recovered(0, 30), recovered(1, 2)}, nil},
		"recovered too late":      {objective, []fault.Account{recovered(0, 2), recovered(1, 30.001)}, []string{"recovery exceeded the objective of 30 s: crash/1 took 30.001 s"}},
		"many recovered too late": {objective, many, []string{"recovery exceeded the objective of 30 s: crash/0 took 31.0 s; crash/1 took 31.0 s; crash/2 took 31.0 s; crash/3 took 31.0 s; crash/4 took 31.0 s; and 4 more"}},
		"the recovery has already taken too long": {
			plan.Objectives{MaxRecovery: plan.Duration(10 * time.Second)}, []fault.Account{notRecovered},
			[]string{"recovery exceeded the objective of 10 s: crash/0 had not recovered after 20.0 s"},
		},
		"the run ended before the recovery": {objective, []fault.Account{notRecovered}, []string{"it is unknown whether recovery met the objective of 30 s for crash/0: the latency stayed high"}},
		"the run ended before many recoveries": {
			objective, manyNotRecovered,
			[]string{"it is unknown whether recovery met the objective of 30 s for crash/0, crash/1, crash/2, crash/3, crash/4, and 7 more. The reason for crash/0: the latency stayed high"},
		},
		"not recovered, and no objective": {plan.Objectives{}, []fault.Account{notRecovered}, nil},
		"one occurrence was not injected": {
			objective, []fault.Account{recovered(0, 2), notInjected}, []string{"1 of 2 occurrences of fault crash did not take place as planned: crash/7: The fault was not injected: no such pod"},
		},
		"no occurrence was injected": {
			objective, []fault.Account{notInjected},
			[]string{"1 occurrence of fault crash did not take place as planned", "recovery is unknown, so the objective of 30 s counts as not met: no fault was injected"},
		},
		"the only occurrence was ended early": {
			objective, []fault.Account{endedEarly},
			[]string{"1 occurrence of fault crash did not take place as planned", "recovery is unknown, so the objective of 30 s counts as not met: every fault that was injected was ended early"},
		},
		"one occurrence was aborted": {objective, []fault.Account{recovered(0, 2), aborted}, []string{"1 of 2 occurrences of fault crash did not take place as planned: crash/8: The fault was not injected: Ctrl-C"}},
		"no occurrence was due":      {plan.Objectives{}, nil, []string{"fault crash did not take place: no occurrence of the fault was due between its declaration and the end of the run"}},
	} {
		e := Evidence{Report: Report{AtRest: true}, Objectives: tt.objectives, Planned: []plan.Fault{{Name: "crash"}}, Faults: tt.faults}
		checkReasons(t, name, Evaluate(e), tt.want)
	}
}

func TestEvaluate_InterruptedRun_IgnoresFaultsThatWereNotDueAndEventsThatAFaultDelayed(t *testing.T) {
	t.Parallel()
	inEffect := disturbance() // this fault is in effect when the run is interrupted at second 60
	inEffect.HealedAt, inEffect.RecoveredAt, inEffect.RecoverySeconds, inEffect.Outcome = at(60), time.Time{}, nil, fault.OutcomeAborted
	objectives := plan.Objectives{
		PhaseObjectives: plan.PhaseObjectives{MinAchievedPercent: 100}, UnderFaults: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Hour)},
		MaxRecovery: plan.Duration(30 * time.Second),
	}
	missed := &Schedule{Due: 100, Missed: 60}
	const ended = "1 occurrence of fault crash did not take place as planned"
	for name, tt := range map[string]struct {
		objectives  plan.Objectives
		interrupted time.Time
		faults      []fault.Account
		exits       *Schedule
		lost        int64
		want        []string
	}{
		"no fault was due":                  {objectives, at(35), nil, nil, 0, nil},
		"no fault was due, events are lost": {objectives, at(35), nil, nil, 1, []string{"1 event was lost"}},
		"a fault was in effect":             {plan.Objectives{}, at(60), []fault.Account{inEffect}, missed, 0, []string{ended}},
		"a fault was in effect, with an objective for the achieved rate": {
			plan.Objectives{PhaseObjectives: objectives.PhaseObjectives}, at(60), []fault.Account{inEffect}, missed, 0, []string{ended},
		},
		"events were overdue long after the fault": {
			plan.Objectives{}, at(90), []fault.Account{disturbance()}, missed, 0, []string{"the schedule of the exits was not kept"},
		},
		"the run was not interrupted": {plan.Objectives{}, time.Time{}, nil, missed, 0, []string{
			"the schedule of the exits was not kept", "fault crash did not take place", "fault later did not take place",
		}},
	} {
		e := phaseEvidence(tt.objectives)
		e.Planned = append(e.Planned, plan.Fault{Name: "later"})
		e.Interrupted, e.Faults, e.Exits, e.Report.Lost = tt.interrupted, tt.faults, tt.exits, tt.lost
		if tt.faults == nil {
			e.Timeline = e.Timeline[:35]
			e.Latencies = LatenciesOf(e.Timeline, nil, &Report{})
		}
		checkReasons(t, name, Evaluate(e), tt.want)
	}
}

// Only one occurrence has a record. FaultHistory only counts the others.
func TestEvaluate_FaultRecordsRemoved_OccurrencesWithoutRecordAreAlsoChecked(t *testing.T) {
	t.Parallel()
	kept := disturbance()
	kept.RecoverySeconds = new(1.0)
	for name, tt := range map[string]struct {
		total fault.Result
		want  []string
	}{
		"all recovered":                     {fault.Result{Recovered: 1000, SlowestSeconds: 30}, nil},
		"one was aborted":                   {fault.Result{Recovered: 1000, Aborted: 1}, []string{"1 of 1002 occurrences of fault crash did not take place as planned: details are unknown, because the records of old occurrences were removed"}},
		"one was not injected":              {fault.Result{Recovered: 1000, NotInjected: 1}, []string{"1 of 1002 occurrences of fault crash did not take place as planned"}},
		"one was slow":                      {fault.Result{Recovered: 1000, SlowestSeconds: 31}, []string{"recovery exceeded the objective of 30 s: the recovery from an occurrence of crash took 31.0 s"}},
		"one recovery is of unknown length": {fault.Result{Recovered: 1000, NotRecovered: 1}, []string{"it is unknown whether recovery met the objective of 30 s for 1 earlier occurrence of crash"}},
	} {
		e := Evidence{
			Report: Report{AtRest: true}, Objectives: plan.Objectives{MaxRecovery: plan.Duration(30 * time.Second)}, Planned: []plan.Fault{{Name: "crash"}},
			Faults: []fault.Account{kept}, FaultHistory: fault.History{Totals: []fault.Total{{Fault: "crash", Result: tt.total}}},
		}
		checkReasons(t, name, Evaluate(e), tt.want)
	}
}

func TestEvaluate_FaultRecordRemoved_RowsStillBelongToThePhaseUnderFaults(t *testing.T) {
	t.Parallel()
	e := phaseEvidence(plan.Objectives{WithoutFaults: plan.PhaseObjectives{MaxLag: plan.Duration(time.Second)}})
	checkReasons(t, "with a record", Evaluate(e), nil)
	a := e.Faults[0]
	e.Faults, e.FaultHistory = nil, fault.History{
		Totals:    []fault.Total{{Fault: a.Fault, Result: fault.Result{Injected: 1, Recovered: 1}}},
		Disturbed: []fault.Disturbance{{From: a.InjectedAt.UnixMilli(), To: a.RecoveredAt.UnixMilli()}},
	}
	checkReasons(t, "without a record", Evaluate(e), nil)
}

func TestCertainFailures_LateRecoveryAndExcessiveLag_AreIncluded(t *testing.T) {
	t.Parallel()
	objectives := plan.Objectives{
		PhaseObjectives: plan.PhaseObjectives{MaxLag: plan.Duration(time.Second), EndToEndP99: plan.Duration(time.Second), MinAchievedPercent: 100},
		UnderFaults:     plan.PhaseObjectives{MaxLag: plan.Duration(time.Second)},
		MaxRecovery:     plan.Duration(10 * time.Second),
	}
	e := phaseEvidence(objectives)
	got := Messages(CertainFailures(e))
	want := []string{"recovery exceeded the objective of 10 s: crash/0 took 15.0 s", "generator lag is 3.00 s, beyond the objective of 1 s"}
	if !slices.Equal(got, want) {
		t.Errorf("the reasons are %q, want %q", got, want)
	}
	e.Faults, e.Timeline = nil, nil
	if got := Messages(CertainFailures(e)); len(got) != 0 {
		t.Errorf("before anything is measured, the reasons are %q, want none", got)
	}
	e.Faults = []fault.Account{{Fault: "crash", Outcome: fault.OutcomeRecovering, InjectedAt: at(40), HealedAt: at(45), UnrecoveredSeconds: 9}}
	if got := Messages(CertainFailures(e)); len(got) != 0 {
		t.Errorf("before the time to recover is over, the reasons are %q, want none", got)
	}
	e.Faults[0].UnrecoveredSeconds = 11
	if got := Messages(CertainFailures(e)); !slices.Equal(got, []string{"recovery exceeded the objective of 10 s: crash/0 had not recovered after 11.0 s"}) {
		t.Errorf("after the time to recover is over, the reasons are %q", got)
	}
}

func TestEvaluate_AbortedRun_VerdictIsFail(t *testing.T) {
	t.Parallel()
	e := Evidence{Report: Report{AtRest: true, DeadLettered: 1}, Objectives: plan.Objectives{AbortOnFailure: true}, Aborted: deadLetterMessage(1, nil)}
	checkReasons(t, "aborted", Evaluate(e), []string{"the run was ended early, because the verdict could only be FAIL: 1 event was dead-lettered"})
	e.Report.DeadLettered = 2
	checkReasons(t, "another message was dead-lettered after the abort", Evaluate(e), []string{"the run was ended early, because the verdict could only be FAIL: 1 event was dead-lettered", "2 events were dead-lettered"})
	e.Report.DeadLettered, e.Objectives.AbortOnFailure = 0, false
	checkReasons(t, "the objectives were edited after the abort", Evaluate(e), []string{"the run was ended early, because the verdict could only be FAIL: 1 event was dead-lettered"})
	e.Aborted, e.Objectives.AbortOnFailure = "", true
	checkReasons(t, "not aborted", Evaluate(e), nil)
}
