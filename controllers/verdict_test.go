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
	"github.com/parking-operator/parking-operator/internal/timeline"
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

func TestForeseen_VerdictCanOnlyBeFail_ReportsItAtOnce(t *testing.T) {
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
			f := foreseen(ledger.CertainFailures(evidence(&tt.now, plan.Objectives{MaxUnexpected: 8})))
			if got := statusOf(v1alpha1.ConditionObjectivesMet, f); got != tt.want || !strings.Contains(f.message, tt.message) {
				t.Errorf("ObjectivesMet is %s: %s\nwant %s: … %s", got, f.message, tt.want, tt.message)
			}
		})
	}
}

func TestEvaluate_LatenciesAndSummaries_DetermineWhetherObjectivesAreMet(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		objectives plan.Objectives
		edit       func(*observer.Rest)
		want       metav1.ConditionStatus
		message    string
	}{
		"within the objectives": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{ProcessingP99: plan.Duration(5 * time.Millisecond), EndToEndP99: plan.Duration(time.Second)}},
			want:       metav1.ConditionTrue, message: "All checks passed. Measured: processing p50 1.02ms",
		},
		"beyond an objective": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{ProcessingP99: plan.Duration(500 * time.Microsecond)}},
			want:       metav1.ConditionFalse, message: "beyond the objective of 500 µs",
		},
		"some events not measured": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Second)}},
			edit:       func(r *observer.Rest) { r.Latencies.Unmeasured = 1 },
			want:       metav1.ConditionTrue, message: "not measured: 1 of the events",
		},
		"without objectives": {want: metav1.ConditionTrue, message: "p99"},
		"without anything measured": {
			edit: func(r *observer.Rest) { r.Latencies = ledger.Latencies{} },
			want: metav1.ConditionTrue, message: "All checks passed. No latency was measured",
		},
		"without processing times": {
			edit: func(r *observer.Rest) { r.Latencies.Processing = histogram.Snapshot{} },
			want: metav1.ConditionTrue, message: "Measured: processing –; end to end p50 1.02ms, p99 ",
		},
		"without end-to-end latencies": {
			edit: func(r *observer.Rest) { r.Latencies.EndToEnd = histogram.Snapshot{} },
			want: metav1.ConditionTrue, message: "; end to end –",
		},
		"an objective, and nothing measured": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Second)}},
			edit:       func(r *observer.Rest) { r.Latencies = ledger.Latencies{} },
			want:       metav1.ConditionFalse, message: "end-to-end p99 is unknown, so the objective of 1 s counts as not met: no event was measured",
		},
		"an objective, and too many unmeasured": {
			objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{ProcessingP99: plan.Duration(time.Second)}},
			edit:       func(r *observer.Rest) { r.Latencies.Unmeasured = 100 },
			want:       metav1.ConditionFalse, message: "processing p99 is unknown, so the objective of 1 s counts as not met: only 100 of 200 events were measured",
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
			verdict := ledger.Evaluate(finalEvidence(&observer.Observation{Rest: r, DeadReasons: unparsable()}, &plan.Plan{Objectives: tt.objectives}, "", nil))
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

func TestEvaluate_TooFewEventsPublished_VerdictSaysThatScheduleWasNotKept(t *testing.T) {
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
		"no entry was published":                            {entries(100, plan.Schedule{}), noEvents, false, "the schedule of the entries was not kept: 12,000 of 12,000 due events were missed (100 %)"},
		"fewer than half of the entries were published":     {entries(2, plan.Schedule{}), nil, false, "the schedule of the entries was not kept: 80 of 180 due events were missed (44.4 %)"},
		"a late start explains the missing entries":         {entries(1, plan.Schedule{}), nil, false, ""},
		"the rate rises":                                    {entries(0, ramp), nil, false, "the schedule of the entries was not kept: 65 of 165 due events were missed (39.4 %)"},
		"no entry of a short run was published":             {&plan.Plan{Duration: plan.Duration(time.Second), Entry: plan.Entry{Schedule: plan.Schedule{Rate: 5, Replicas: 1}}}, noEvents, false, "the schedule of the entries was not kept: 5 of 5 due events were missed"},
		"no entry was due":                                  {entries(0, plan.Schedule{}), noEvents, false, ""},
		"no generators":                                     {&plan.Plan{Duration: minute, Entry: plan.Entry{Schedule: plan.Schedule{Rate: 5}}}, noEvents, false, ""},
		"the schedule was edited during the run":            {entries(2, plan.Schedule{}), nil, true, ""},
		"no exit was published":                             {exits(0), noEvents, false, "the schedule of the exits was not kept: 119 of 119 due events were missed"},
		"no exit was due, because minStay is the whole run": {exits(2 * minute), noEvents, false, ""},
		"the exits found no plate":                          {exits(0), func(r *ledger.Report) { r.Starved = 100 }, false, ""},
		"the arrivals are random, and fewer than expected":  {entries(1, plan.Schedule{Arrivals: plan.ArrivalsPoisson}), func(r *ledger.Report) { r.EntriesConfirmed, r.EntriesRecorded = 75, 75 }, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := measured(t)
			if tt.edit != nil {
				tt.edit(&r.Report)
			}
			unchecked := ""
			if tt.edited {
				unchecked = "the schedule has changed"
			}
			tt.plan.StartTime = time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
			first := timeline.Events{Published: 1}
			r.Timeline = []timeline.Row{{Second: tt.plan.StartTime.Add(29 * time.Second).Unix(), Entry: first, Exit: first}}
			verdict := ledger.Evaluate(finalEvidence(&observer.Observation{Rest: r}, tt.plan, unchecked, nil))
			reasons := strings.Join(verdict.Reasons, "; ")
			if (tt.message == "") != (verdict.Outcome == ledger.Pass) || !strings.Contains(reasons, tt.message) {
				t.Errorf("the verdict is %s: %s\nwant %q", verdict.Outcome, reasons, tt.message)
			}
		})
	}
}

func noEvents(r *ledger.Report) { r.EntriesConfirmed, r.EntriesRecorded = 0, 0 }

// A user who edits a complete simulation expects an effect. So the status must say which changes have no effect.
func TestCompleteFinding_SpecEditedAfterTheEnd_MessageNamesTheIgnoredEdit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit    func(*v1alpha1.ParkingSimulationSpec)
		ignored string
	}{
		"nothing":                           {func(*v1alpha1.ParkingSimulationSpec) {}, ""},
		"the same duration in another unit": {func(s *v1alpha1.ParkingSimulationSpec) { s.Duration = new(v1alpha1.Duration("1.5m")) }, ""},
		"a longer duration":                 {func(s *v1alpha1.ParkingSimulationSpec) { s.Duration = v1alpha1.NewDuration(95 * time.Second) }, "spec.duration"},
		"no duration":                       {func(s *v1alpha1.ParkingSimulationSpec) { s.Duration = nil }, "spec.duration"},
		"drainTimeout":                      {func(s *v1alpha1.ParkingSimulationSpec) { s.DrainTimeout = v1alpha1.NewDuration(time.Hour) }, "spec.drainTimeout"},
		"suspend":                           {func(s *v1alpha1.ParkingSimulationSpec) { s.Suspend = true }, "spec.suspend"},
		"two rates":                         {func(s *v1alpha1.ParkingSimulationSpec) { s.Entry.Rate, s.Exit.Rate = new(int32(7)), new(int32(7)) }, "spec.entry.rate, spec.exit.rate"},
		"stages": {func(s *v1alpha1.ParkingSimulationSpec) {
			s.Entry.Stages = []v1alpha1.Stage{{Duration: v1alpha1.NewDuration(time.Minute), Rate: new(int32(9))}}
		}, "spec.entry.stages"},
		"arrivals":     {func(s *v1alpha1.ParkingSimulationSpec) { s.Exit.Arrivals = v1alpha1.ArrivalsPoisson }, "spec.exit.arrivals"},
		"generators":   {func(s *v1alpha1.ParkingSimulationSpec) { s.Entry.Replicas = new(int32(3)) }, "spec.entry.replicas"},
		"matchPercent": {func(s *v1alpha1.ParkingSimulationSpec) { s.Exit.MatchPercent = new(int32(3)) }, "spec.exit.matchPercent"},
		"minStay":      {func(s *v1alpha1.ParkingSimulationSpec) { s.Exit.MinStay = v1alpha1.NewDuration(0) }, "spec.exit.minStay"},
		"maxStay":      {func(s *v1alpha1.ParkingSimulationSpec) { s.Plates.MaxStay = v1alpha1.NewDuration(2 * time.Hour) }, "spec.plates.maxStay"},
		"faults": {func(s *v1alpha1.ParkingSimulationSpec) {
			s.Faults = []v1alpha1.Fault{{Name: "a", Target: "Redis", Action: "Kill", At: v1alpha1.NewDuration(time.Minute)}}
		}, "spec.faults"},
		"an objective": {func(s *v1alpha1.ParkingSimulationSpec) { s.Objectives.MaxLost = new(int64(5)) }, "spec.objectives"},
		"a field that still has an effect": {func(s *v1alpha1.ParkingSimulationSpec) {
			s.DeletionPolicy, s.Monitoring.Interval = v1alpha1.DeletionPolicyRetain, v1alpha1.NewDuration(time.Minute)
		}, ""},
	} {
		for _, aborted := range []bool{false, true} {
			s := runningScope(t, func(*v1alpha1.ParkingSimulationSpec) {})
			if err := (&Reconciler{}).trackEdits(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			s.sim.Status.CompletionTime = wholeSeconds(s.now)
			if aborted {
				s.sim.Status.AbortTime = wholeSeconds(s.now.Add(-time.Minute))
			}
			edited := s.sim.DeepCopy()
			tt.edit(&edited.Spec)
			f := newScope(edited, s.now).completeFinding()
			want := "the change of " + tt.ignored + " after completion " + editIgnored
			if got := strings.Contains(f.message, want); got != (tt.ignored != "") || f.state != ready {
				t.Errorf("%s, aborted %t: the message is %q, want one about %q", name, aborted, f.message, tt.ignored)
			}
			if tt.ignored == "" && strings.Contains(f.message, editIgnored) {
				t.Errorf("%s, aborted %t: the message is %q", name, aborted, f.message)
			}
		}
	}
}

// runningScope returns the state of a simulation that started 2 minutes ago, has a duration of 90 s, and is not
// complete.
func runningScope(t *testing.T, edit func(*v1alpha1.ParkingSimulationSpec)) *scope {
	t.Helper()
	start := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
	sim.Spec.Duration, sim.Spec.Entry.Rate = v1alpha1.NewDuration(90*time.Second), new(int32(100))
	edit(&sim.Spec)
	sim.Status.StartTime = wholeSeconds(start)
	s := newScope(sim, start.Add(2*time.Minute))
	if s.invalid != nil {
		t.Fatal(s.invalid)
	}
	return s
}

func TestTrackEdits_RunStartedByOlderOperatorVersion_EditedScheduleIsNotChecked(t *testing.T) {
	t.Parallel()
	for generation, want := range map[int64]string{1: "", 2: "did not record whether an edit of the spec changed the schedule"} {
		s := runningScope(t, func(*v1alpha1.ParkingSimulationSpec) {})
		s.sim.Generation = generation
		for range 2 {
			if err := (&Reconciler{}).trackEdits(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if got := s.uncheckedSchedule(); (got == "") != (want == "") || !strings.Contains(got, want) {
				t.Errorf("generation %d: the schedule is unchecked because of %q, want %q", generation, got, want)
			}
		}
	}
}

// After an edit of the schedule, the verdict says that the schedule was not checked. Other edits do not change the
// verdict. A simulation that published nothing fails in any case.
func TestEvaluate_ScheduleEditedWhileRunning_VerdictSaysThatScheduleWasNotChecked(t *testing.T) {
	t.Parallel()
	const unchecked = "the schedule was not checked, because an edit of the spec changed it at 2026-05-04T08:02:00Z"
	for name, tt := range map[string]struct {
		edit      func(*v1alpha1.ParkingSimulationSpec)
		unchecked bool
	}{
		"more processors":          {func(s *v1alpha1.ParkingSimulationSpec) { s.Processor.Replicas = new(int32(5)) }, false},
		"more generators":          {func(s *v1alpha1.ParkingSimulationSpec) { s.Entry.Replicas = new(int32(5)) }, false},
		"a monitoring interval":    {func(s *v1alpha1.ParkingSimulationSpec) { s.Monitoring.Interval = v1alpha1.NewDuration(time.Minute) }, false},
		"an objective":             {func(s *v1alpha1.ParkingSimulationSpec) { s.Objectives.MaxLost = new(int64(5)) }, false},
		"a rate":                   {func(s *v1alpha1.ParkingSimulationSpec) { s.Entry.Rate = new(int32(101)) }, true},
		"a longer duration":        {func(s *v1alpha1.ParkingSimulationSpec) { s.Duration = v1alpha1.NewDuration(100 * time.Second) }, true},
		"a suspension at the end":  {func(s *v1alpha1.ParkingSimulationSpec) { s.Suspend = true }, false},
		"the first exit generator": {func(s *v1alpha1.ParkingSimulationSpec) { s.Exit.Replicas = new(int32(1)) }, true},
	} {
		for _, published := range []int64{9000, 500, 0} {
			s := runningScope(t, func(s *v1alpha1.ParkingSimulationSpec) { s.Exit.Replicas = new(int32(0)) })
			for range 2 { // the first trackEdits stores the settings, and the second detects the edit
				if err := (&Reconciler{}).trackEdits(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				edited := s.sim.DeepCopy()
				tt.edit(&edited.Spec)
				s = newScope(edited, s.now)
			}
			r := measured(t)
			r.Report.EntriesConfirmed, r.Report.EntriesRecorded = published, published
			r.Report.Starved = 100_000 // more than all due exits, so no exit counts as missed
			s.observation = &observer.Observation{Rest: r}
			verdict := s.evaluate(nil)
			status := &v1alpha1.ParkingSimulationStatus{Verdict: v1alpha1.Verdict(verdict.Outcome), Reasons: verdict.Reasons}
			message := verdictFinding(status).message
			wantPass := published == 9000 || published == 500 && tt.unchecked
			if got := verdict.Outcome == ledger.Pass; got != wantPass || strings.Contains(message, unchecked) != tt.unchecked {
				t.Errorf("%s, %d published: the verdict is %s: %s", name, published, verdict.Outcome, message)
			}
		}
	}
}

// The tolerance for late starts must not apply to a generator that died.
func TestEvaluate_GeneratorStartsLate_IsToleratedUpToALimit(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		length    time.Duration
		first     time.Duration // time from the start to the first event; -1 if the timeline is empty
		err       error
		published int64
		want      ledger.Outcome
	}{
		"30 s: the generator died after its first event":                      {30 * time.Second, 0, nil, 1, ledger.Fail},
		"30 s: the generator died before its first record":                    {30 * time.Second, -1, nil, 1, ledger.Fail},
		"30 s: the generator died, and the timeline is unreadable":            {30 * time.Second, -1, errors.New("refused"), 1, ledger.Fail},
		"1 s: the generator died after its first event":                       {time.Second, 0, nil, 1, ledger.Fail},
		"30 s: the generator started late":                                    {30 * time.Second, 12 * time.Second, nil, 1800, ledger.Pass},
		"30 s: the generator started late, and then died":                     {30 * time.Second, 12 * time.Second, nil, 10, ledger.Fail},
		"1 min: the generator died in the middle":                             {time.Minute, 0, nil, 3000, ledger.Fail},
		"1 min: the generator started in the middle":                          {time.Minute, 29 * time.Second, nil, 3100, ledger.Pass},
		"1 min: the generator started too late":                               {time.Minute, 45 * time.Second, nil, 1500, ledger.Fail},
		"1 min: half of the events, and the timeline is unreadable":           {time.Minute, -1, errors.New("refused"), 3000, ledger.Pass},
		"30 s: the generator kept to its schedule":                            {30 * time.Second, 0, nil, 3000, ledger.Pass},
		"30 s: the generator kept to its schedule, but the timeline is empty": {30 * time.Second, -1, nil, 3000, ledger.Pass},
	} {
		r := measured(t)
		r.Report.EntriesConfirmed, r.Report.EntriesRecorded, r.Latencies.Err = tt.published, tt.published, tt.err
		if tt.first >= 0 {
			r.Timeline = []timeline.Row{{Second: start.Unix()}}
			for at, left := start.Add(tt.first), tt.published; left > 0; at, left = at.Add(time.Second), left-100 {
				r.Timeline = append(r.Timeline, timeline.Row{Second: at.Unix(), Entry: timeline.Events{Due: min(left, 100)}})
			}
		}
		p := &plan.Plan{StartTime: start, Duration: plan.Duration(tt.length), Entry: plan.Entry{Schedule: plan.Schedule{Rate: 100, Replicas: 1}}}
		if verdict := ledger.Evaluate(finalEvidence(&observer.Observation{Rest: r}, p, "", nil)); verdict.Outcome != tt.want {
			t.Errorf("%s: the verdict is %s: %q", name, verdict.Outcome, verdict.Reasons)
		}
	}
}

// The replicas start after 2 s and 25 s, which the verdict must ignore. If a replica dies after 40 s, the verdict must
// be FAIL.
func TestEvaluate_ReplicasStartLate_OnlyTheLateStartIsTolerated(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	const length = 60
	p := &plan.Plan{StartTime: start, Duration: plan.Duration(length * time.Second), Entry: plan.Entry{Schedule: plan.Schedule{Rate: 100, Replicas: 2}}}
	for died, want := range map[bool]ledger.Outcome{false: ledger.Pass, true: ledger.Fail} {
		r := measured(t)
		var published int64
		for second := range int64(length) {
			due := int64(100)
			switch {
			case second < 2:
				due = 0
			case second < 25 || died && second >= 40:
				due = 50
			}
			published += due
			r.Timeline = append(r.Timeline, timeline.Row{Second: start.Unix() + second, Entry: timeline.Events{Due: due, Published: due}})
		}
		r.Report.EntriesConfirmed, r.Report.EntriesRecorded = published, published
		if verdict := ledger.Evaluate(finalEvidence(&observer.Observation{Rest: r}, p, "", nil)); verdict.Outcome != want {
			t.Errorf("a replica died: %t: the verdict is %s: %q", died, verdict.Outcome, verdict.Reasons)
		}
	}
}

// A generator that is added 2 s before the end has no time to publish. One that is added 1 min before the end has
// enough time.
func TestEvaluate_ExitGeneratorAddedJustBeforeTheEnd_MissingExitsAreExcused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		before    time.Duration // how long before the end of the run the schedule was changed
		published int64
		want      ledger.Outcome
	}{{2 * time.Second, 9000, ledger.Pass}, {2 * time.Second, 0, ledger.Fail}, {time.Minute, 9000, ledger.Fail}} {
		s := runningScope(t, func(s *v1alpha1.ParkingSimulationSpec) { s.Exit.Replicas = new(int32(1)) })
		end, _ := endOf(s.sim)
		s.sim.Status.ScheduleChangeTime = wholeSeconds(end.Add(-tt.before))
		r := measured(t)
		r.Report.EntriesConfirmed, r.Report.EntriesRecorded = tt.published, tt.published
		s.observation = &observer.Observation{Rest: r}
		if verdict := s.evaluate(nil); verdict.Outcome != tt.want {
			t.Errorf("edited %s before the end, %d published: the verdict is %s: %q", tt.before, tt.published, verdict.Outcome, verdict.Reasons)
		}
	}
}

// A slow recovery aborted the run, but the final measurements show only a dead-lettered message. The verdict must
// still begin with the reason of the abort.
func TestEvaluate_AbortedSimulation_FirstReasonIsTheReasonOfTheAbort(t *testing.T) {
	t.Parallel()
	s := runningScope(t, func(spec *v1alpha1.ParkingSimulationSpec) { spec.Objectives.AbortOnFailure = true })
	const reason = "recovery exceeded the objective of 30 s: redis-crash/0 had not recovered after 31 s"
	s.now = s.sim.Status.StartTime.Add(time.Minute)
	s.abortIfFailed([]ledger.Check{{Name: ledger.CheckRecovery, Outcome: ledger.Failed, Message: reason}})
	s.observation = &observer.Observation{}
	if err := (&Reconciler{observer: observer.New(observer.Dependencies{})}).foresee(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if f := s.findings.objectives; f.state != stalled || f.message != reason {
		t.Errorf("until the verdict, the finding is %+v, want %q", f, reason)
	}
	rest := measured(t)
	rest.Report.DeadLettered = 1
	s.observation = &observer.Observation{Rest: rest}
	v := s.evaluate(nil)
	if got := v.Reasons[0]; !strings.HasSuffix(got, reason) {
		t.Errorf("the first reason is %q, want %q", got, reason)
	}
}
