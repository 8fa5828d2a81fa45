package fault

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// past returns the record of an occurrence of a fault that was due at the given second.
func past(number int, at float64, outcome Outcome, recovery float64) Record {
	r := record("f", at, at+1)
	r.Number, r.Target = number, plan.TargetProcessor
	recovered := second(at + 1 + recovery)
	measured := &Account{
		Fault: r.Fault, Number: number, Target: r.Target, Action: r.Action, AtSeconds: at, InjectedAt: r.InjectedAt, HealedAt: r.HealedAt,
		RecoveredAt: recovered, RecoverySeconds: &recovery, Redeliveries: int64(number), DuplicatesSuppressed: 1, Outcome: outcome,
	}
	switch outcome {
	case OutcomeRecovered:
		r.Measured = measured
	case OutcomeAborted:
		r.State, r.Measured = Aborted, measured
	case OutcomeNotInjected:
		r.State, r.InjectedAt, r.HealedAt = NotInjected, time.Time{}, time.Time{}
	case OutcomeInjecting, OutcomeActive, OutcomeRecovering, OutcomeNotRecovered:
	}
	return r
}

// remove removes up to n records from a list, and adds the removed records to the history.
func remove(h History, records []Record, n int, now time.Time) (History, []Record) {
	removable := Removable(records)
	removable = removable[:min(n, len(removable))]
	var removed, kept []Record
	for i := range records {
		if slices.Contains(removable, i) {
			removed = append(removed, records[i])
		} else {
			kept = append(kept, records[i])
		}
	}
	return h.With(removed, now), kept
}

func TestHistory_RecordsAreRemoved_KeepsTotalsAndDisturbedIntervals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var records []Record
		at := 0.0
		for i := range rapid.IntRange(0, 100).Draw(t, "records") {
			at += rapid.Float64Range(0, 5000).Draw(t, "gap")
			outcome := rapid.SampledFrom([]Outcome{OutcomeRecovered, OutcomeRecovered, OutcomeAborted, OutcomeNotInjected}).Draw(t, "outcome")
			records = append(records, past(i, at, outcome, rapid.Float64Range(0, 60).Draw(t, "recovery")))
		}
		accounts := Accounts(records, Run{})
		now := second(at + 1)
		var h History
		kept := records
		for range 3 {
			h, kept = remove(h, kept, rapid.IntRange(0, 50).Draw(t, "removed"), now)
		}
		if got := h.Occurrences() + int64(len(kept)); got != int64(len(records)) {
			t.Errorf("%d of %d occurrences are left", got, len(records))
		}
		run := Run{History: h}
		if diff := cmp.Diff(Totals(History{}, accounts), Totals(h, Accounts(kept, run)), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
			t.Errorf("the totals change (-before +after):\n%s", diff)
		}
		for from := noon().Truncate(time.Hour); from.Before(now); {
			width := time.Duration(widthAt(now.Sub(from))) * time.Second
			from = from.Truncate(width)
			to := from.Add(width)
			want := slices.ContainsFunc(accounts, func(a Account) bool { return a.Disturbs(from, to) })
			got := h.Disturbs(from, to) || slices.ContainsFunc(Accounts(kept, run), func(a Account) bool { return a.Disturbs(from, to) })
			if got != want {
				t.Fatalf("the row from %s to %s is disturbed: %t, before the removal: %t", from, to, got, want)
			}
			from = to.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "skip")) * time.Second)
		}
	})
}

func TestHistory_RemovedFaultWithUnknownRecovery_CountsAsNotRecovered(t *testing.T) {
	t.Parallel()
	h := (&History{}).With([]Record{past(0, 10, OutcomeRecovering, 0)}, second(100))
	want := []Total{{Fault: "f", Result: Result{Target: plan.TargetProcessor, Action: plan.ActionPause, Injected: 1, NotRecovered: 1}}}
	if diff := cmp.Diff(want, h.Totals); diff != "" {
		t.Errorf("the totals (-want +got):\n%s", diff)
	}
	if want := []Disturbance{{From: second(10).UnixMilli(), To: second(12).UnixMilli()}}; !slices.Equal(h.Disturbed, want) {
		t.Errorf("the disturbances are %+v, want %+v", h.Disturbed, want)
	}
}

// The first two faults have no baseline, and their records were removed. Their disturbance must end nevertheless.
// Otherwise, the third fault would have no baseline either.
func TestHistory_FaultsHaveNoBaseline_DisturbanceEnds(t *testing.T) {
	t.Parallel()
	run := story{length: 200, rate: 10, outages: []outage{{from: 1, to: 9}, {from: 100, to: 110, slow: time.Second}}}.run()
	run.History = (&History{}).With([]Record{record("first", 0.5, 3), record("second", 5, 7)}, second(50))
	if want := []Disturbance{{From: second(0.5).UnixMilli(), To: second(9).UnixMilli()}}; !slices.Equal(run.History.Disturbed, want) {
		t.Errorf("the disturbances are %+v, want %+v", run.History.Disturbed, want)
	}
	if a := Accounts([]Record{record("third", 100, 104)}, run)[0]; a.Outcome != OutcomeRecovered || *a.RecoverySeconds != 6 {
		t.Errorf("the account of the third fault is %+v, want a recovery after 6 s", a)
	}
}

func TestHistory_FaultHasBaselineButNoRecovery_DisturbanceHasNoEnd(t *testing.T) {
	t.Parallel()
	r := past(0, 10, OutcomeNotRecovered, 0)
	r.Baseline = &Baseline{}
	h := (&History{}).With([]Record{r}, second(100))
	if want := []Disturbance{{From: r.InjectedAt.UnixMilli()}}; !slices.Equal(h.Disturbed, want) {
		t.Errorf("the disturbances are %+v, want %+v", h.Disturbed, want)
	}
}

func TestHistory_MergedDisturbances_KeepTheLatestEnd(t *testing.T) {
	t.Parallel()
	now := noon().Add(time.Minute)
	for name, tt := range map[string]struct{ first, second, want Disturbance }{
		"the first ends later":                                   {Disturbance{From: 1, To: 9}, Disturbance{From: 2, To: 5}, Disturbance{From: 1, To: 9}},
		"the second ends later":                                  {Disturbance{From: 1, To: 3}, Disturbance{From: 2, To: 5}, Disturbance{From: 1, To: 5}},
		"the first has no end":                                   {Disturbance{From: 1}, Disturbance{From: 2, To: 5}, Disturbance{From: 1}},
		"the second has no end":                                  {Disturbance{From: 1, To: 9}, Disturbance{From: 2}, Disturbance{From: 1}},
		"the first has no end, and the second begins much later": {Disturbance{From: 1}, Disturbance{From: 1e9, To: 2e9}, Disturbance{From: 1}},
	} {
		if got := mergeDisturbances([]Disturbance{tt.second, tt.first}, now); len(got) != 1 || got[0] != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

func TestRemovable_RecordsOfEachOutcome_OmitsTheWorstAndTheLatest(t *testing.T) {
	t.Parallel()
	outcomes := []Outcome{
		OutcomeRecovering, OutcomeNotInjected, OutcomeRecovered, OutcomeRecovered, OutcomeAborted, OutcomeRecovered, OutcomeNotInjected, OutcomeAborted,
		OutcomeRecovering,
	}
	var records []Record
	for i, o := range outcomes {
		records = append(records, past(i, float64(100*i), o, float64(10-i)))
	}
	for range keepLatest {
		n := len(records)
		records = append(records, past(n, float64(100*n), OutcomeRecovered, 0))
	}
	active := past(len(records), 0, OutcomeRecovering, 0)
	active.State = Active
	records = append(records, active)
	// Removable must omit the records 0, 1, 2 and 4, because each of them is the worst record with its outcome.
	if want, got := []int{5, 3, 7, 6, 8}, Removable(records); !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
}

// The 30 s before this fault have a high latency because of an earlier fault, whose record was removed. The baseline
// must exclude these 30 s.
func TestFaultAccounts_EarlierRecordRemoved_BaselineExcludesItsDisturbance(t *testing.T) {
	t.Parallel()
	s := story{length: 200, rate: 10, outages: []outage{{from: 70, to: 100, slow: time.Second}, {from: 100, to: 110, slow: 1500 * time.Millisecond}}}
	run := s.run()
	run.History = History{Disturbed: []Disturbance{{From: second(70).UnixMilli(), To: second(100).UnixMilli()}}}
	a := Accounts([]Record{record("next", 100, 104)}, run)[0]
	if a.RecoverySeconds == nil || *a.RecoverySeconds != 6 {
		t.Errorf("the account is %+v, want a recovery after 6 s", a)
	}
}
