package simulate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

func TestSimulationRun_AbortOnFailure_EndsTheRunOnceFailureIsCertain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Plan.Duration = plan.Duration(time.Hour)
		o.Plan.Objectives.AbortOnFailure = true
		invalid := broker.Message{ID: "invalid", Type: event.TypeEntry, Body: []byte(`{"id":""}`)}
		if err := o.Broker.Publish(t.Context(), broker.Queue{Type: event.TypeEntry}, invalid, func() {}); err != nil {
			t.Fatal(err)
		}
		r := run(t, o)
		const want = "the run was ended early, because the verdict could only be FAIL: 1 event was dead-lettered"
		if r.Outcome != ledger.Fail || r.ElapsedSeconds > 60 || !slices.ContainsFunc(r.Reasons, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("after %g s the verdict is %s %q", r.ElapsedSeconds, r.Outcome, r.Reasons)
		}
	})
}

// The fault "crash" is due at seconds 6 and 8, but Redis is paused until second 15. The run must fail because the first
// occurrence is not injected.
func TestSimulationRun_AbortOnFailure_EndsTheRunAndItsFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crash := plan.Fault{Name: "crash", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1, At: plan.Duration(6 * time.Second), Every: plan.Duration(2 * time.Second)}
		s := rehearsal(t, pause(5*time.Second, 10*time.Second), crash)
		s.Plan.Objectives.AbortOnFailure = true
		begin := time.Now()
		r := run(t, s)
		if r.ElapsedSeconds > 14 || r.Outcome != ledger.Fail {
			t.Errorf("after %g s the verdict is %s %q", r.ElapsedSeconds, r.Outcome, r.Reasons)
		}
		if slices.ContainsFunc(r.Reasons, func(s string) bool { return strings.Contains(s, "the schedule of the") }) {
			t.Errorf("the reasons contain what the abort itself has caused: %q", r.Reasons)
		}
		aborted := begin.Add(time.Duration(r.ElapsedSeconds * float64(time.Second)))
		for _, f := range r.Faults {
			if f.InjectedAt.After(aborted) || f.HealedAt.After(aborted.Add(time.Second)) || f.HealedAt.IsZero() != f.InjectedAt.IsZero() {
				t.Errorf("the run was aborted after %g s, but fault %s was injected at %s and ended at %s", r.ElapsedSeconds, f.ID(), f.InjectedAt, f.HealedAt)
			}
		}
	})
}

func TestSimulationRun_AbortOnFailure_SuccessfulRunIsNotAborted(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Plan.Objectives.AbortOnFailure = true
		if r := run(t, o); r.Outcome != ledger.Pass {
			t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
		}
	})
}

func pause(at, duration time.Duration) plan.Fault {
	return plan.Fault{
		Name: "stall", Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1, At: plan.Duration(at), For: plan.Duration(duration),
	}
}

// pausedRedis runs a simulation in which Redis is paused from second 12 to second 15.
func pausedRedis(t *testing.T, o plan.Objectives) (r report.Run) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := rehearsal(t, pause(12*time.Second, 3*time.Second))
		s.Plan.Objectives = o
		r = run(t, s)
	})
	return r
}

func TestSimulationRun_WithFaults_ReportsTheRecoveryFromEachFault(t *testing.T) {
	t.Parallel()
	r := pausedRedis(t, plan.Objectives{
		MaxRecovery:   plan.Duration(10 * time.Second),
		WithoutFaults: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Second), MinAchievedPercent: 90},
		UnderFaults:   plan.PhaseObjectives{EndToEndP99: plan.Duration(5 * time.Second)},
	})
	if r.Outcome != ledger.Pass || len(r.Faults) != 1 {
		t.Fatalf("verdict is %s %q with faults %+v", r.Outcome, r.Reasons, r.Faults)
	}
	a := r.Faults[0]
	if a.Outcome != fault.OutcomeRecovered || a.RecoverySeconds == nil || *a.RecoverySeconds > 5 || a.Lost == nil || *a.Lost != 0 {
		t.Errorf("the account is %+v", a)
	}
	if a.PeakP99Seconds == nil || *a.PeakP99Seconds < 2 || *a.PeakP99Seconds > 4 {
		t.Errorf("the peak of p99 is %v, want about the length of the pause", a.PeakP99Seconds)
	}
}

// A recovery is confirmed 5 s after latency and backlog have returned to their previous level.
func TestSimulationRun_AbortOnFailure_RecoveryTimeExcludesTheConfirmationDelay(t *testing.T) {
	t.Parallel()
	for objective, want := range map[time.Duration]struct {
		outcome ledger.Outcome
		marks   []string
	}{
		1100 * time.Millisecond: {ledger.Pass, nil},
		900 * time.Millisecond:  {ledger.Fail, []string{ledger.CheckRecovery}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := rehearsal(t, pause(12*time.Second, 3*time.Second))
			s.Plan.Objectives = plan.Objectives{MaxRecovery: plan.Duration(objective), AbortOnFailure: true}
			r := run(t, s)
			if took := r.Faults[0].RecoverySeconds; took == nil || *took != 1 {
				t.Fatalf("the account is %+v, want a recovery of 1 s", r.Faults[0])
			}
			rows, err := s.Store.ReadTimeline(t.Context(), time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			var marks []string
			for _, m := range timeline.MarksOf(rows) {
				if m.Kind == timeline.MarkObjective {
					marks = append(marks, m.Subject)
				}
			}
			if r.Outcome != want.outcome || !slices.Equal(marks, want.marks) {
				t.Errorf("maxRecovery %s: the verdict is %s %q with the marks %q", objective, r.Outcome, r.Reasons, marks)
			}
		})
	}
}

// Without measurements before the fault, it is unknown whether the simulation has recovered.
func TestSimulationRun_AbortOnFailure_RecoveryIsUnknown_FailsOnlyAtTheEnd(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*plan.Plan){
		"nothing is measured before the fault": func(p *plan.Plan) { p.Faults[0].At = plan.Duration(time.Second) },
		"nothing is published":                 func(p *plan.Plan) { p.Entry.Rate, p.Exit.Rate = 0, 0 },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := rehearsal(t, pause(10*time.Second, time.Second))
			s.Plan.Objectives = plan.Objectives{MaxRecovery: plan.Duration(5 * time.Second), AbortOnFailure: true}
			change(&s.Plan)
			r := run(t, s)
			const want = "it is unknown whether recovery met the objective of 5 s for stall/0: It is unknown whether latency and backlog " +
				"returned to their previous level: the previous level was not measured, because fewer than 5 events took effect more than 1 s before the fault"
			if r.ElapsedSeconds != 30 || r.Outcome != ledger.Fail || !slices.Equal(r.Reasons, []string{want}) {
				t.Errorf("%s: after %g s the verdict is %s %q", name, r.ElapsedSeconds, r.Outcome, r.Reasons)
			}
		})
	}
}

func TestSimulationRun_LatencyObjectiveIsMissedUnderFaults_VerdictIsFail(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		objectives plan.Objectives
		want       string
	}{
		"latency under faults": {plan.Objectives{UnderFaults: plan.PhaseObjectives{EndToEndP99: plan.Duration(100 * time.Millisecond)}}, "end-to-end p99 under faults is "},
		"latency of the run":   {plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(100 * time.Millisecond)}}, "end-to-end p99 is "},
	} {
		r := pausedRedis(t, tt.objectives)
		if r.Outcome != ledger.Fail || len(r.Reasons) != 1 || !strings.HasPrefix(r.Reasons[0], tt.want) {
			t.Errorf("%s: verdict is %s %q", name, r.Outcome, r.Reasons)
		}
	}
}

// Nobody publishes the events that are due while a generator is dead, because no other process takes its place.
func TestSimulationRun_GeneratorIsKilled_ItsEventsCountAsMissed(t *testing.T) {
	t.Parallel()
	for _, arrivals := range []plan.Arrivals{plan.ArrivalsUniform, plan.ArrivalsPoisson} {
		t.Run(string(arrivals), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := rehearsal(t, plan.Fault{
					Name: "crash", Target: plan.TargetEntryGenerator, Action: plan.ActionKill, Instances: 1, At: plan.Duration(12 * time.Second),
				})
				s.Plan.Entry.Arrivals, s.Plan.Entry.Replicas = arrivals, 1
				s.Plan.Objectives.MinAchievedPercent, s.Plan.Objectives.MaxLag = 100, plan.Duration(100*time.Millisecond)
				r := run(t, s)
				rate := r.Rates.Entry
				if rate.Missed == 0 || rate.Achieved >= rate.Target {
					t.Errorf("%d due entries count as missed; the rates are %+v", rate.Missed, rate)
				}
				want := []string{"generator lag is ", "achieved rate is below the objective of 100 %"}
				if !slices.EqualFunc(r.Reasons, want, strings.HasPrefix) {
					t.Errorf("the reasons are %q, want %q", r.Reasons, want)
				}
			})
		})
	}
}

func TestSimulationRun_WithoutFaults_PublishesEveryDueEvent(t *testing.T) {
	t.Parallel()
	for _, arrivals := range []plan.Arrivals{plan.ArrivalsUniform, plan.ArrivalsPoisson} {
		for _, rate := range []int64{1, 5, 100} {
			t.Run(fmt.Sprintf("%s %d per second", arrivals, rate), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := rehearsal(t)
					s.Plan.Entry.Rate, s.Plan.Entry.Arrivals = rate, arrivals
					s.Plan.Objectives.MinAchievedPercent = 100
					s.Plan.Exit.Rate = 0
					if r := run(t, s); r.Outcome != ledger.Pass || r.Rates.Entry.Missed != 0 {
						t.Errorf("the verdict is %s %q, and the rates are %+v", r.Outcome, r.Reasons, r.Rates.Entry)
					}
				})
			})
		}
	}
}

func TestSimulationRun_EndsBeforeAFaultIsDue_Fails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rehearsal(t, plan.Fault{Name: "late", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1, At: plan.Duration(time.Hour)})
		r := run(t, o)
		if want := "fault late did not take place"; r.Outcome != ledger.Fail || len(r.Reasons) != 1 || !strings.HasPrefix(r.Reasons[0], want) {
			t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
		}
	})
}
