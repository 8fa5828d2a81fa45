package fault

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// noon is the start of every run in these tests.
func noon() time.Time { return time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC) }

func second(s float64) time.Time { return noon().Add(time.Duration(s * float64(time.Second))) }

// story describes a simulated run. Its latency is 2 ms outside the outages.
type story struct {
	length  int // duration of the run in seconds
	rate    int // entries per second, and also exits per second
	outages []outage
	width   int64 // seconds that each row covers; 0 means 1
}

type outage struct {
	from, to int
	slow     time.Duration // latency of the events during the outage; 0 means that no event takes effect
	backlog  int64
}

func (s story) rows() []timeline.Row {
	var rows []timeline.Row
	for i := range s.length {
		latency, ready := 2*time.Millisecond, int64(3)
		stopped := false
		for _, o := range s.outages {
			if i >= o.from && i < o.to {
				latency, ready, stopped = o.slow, ready+o.backlog, o.slow == 0
			}
		}
		var h histogram.Histogram
		for range s.rate {
			if !stopped {
				h.Observe(latency)
			}
		}
		events := timeline.Events{Due: int64(s.rate), Confirmed: int64(s.rate), Effects: int64(h.Snapshot().Count()), EndToEnd: h.Snapshot()}
		rows = append(rows, timeline.Row{Second: noon().Unix() + int64(i), Entry: events, Exit: events, Gauges: timeline.Gauges{Ready: &ready}})
	}
	if s.width > 1 {
		rows = timeline.Merge(s.width, rows...)
	}
	return rows
}

func (s story) run() Run { return Run{Rows: s.rows(), End: second(float64(s.length)), Ended: true} }

// record returns the Record of a pause that begins and ends at the given seconds of the run.
func record(name string, from, to float64) Record {
	return Record{Occurrence: Occurrence{Fault: name, Action: plan.ActionPause, At: time.Duration(from * float64(time.Second))}, InjectedAt: second(from), HealedAt: second(to), State: Healed}
}

func TestFaultAccounts_DifferentTimelines_RecoveryTimesMatchTheMeasurements(t *testing.T) {
	t.Parallel()
	const slow = 500 * time.Millisecond
	unmeasured := func(r Run, from int) Run {
		r.Rows = r.Rows[from:]
		return r
	}
	for name, tt := range map[string]struct {
		run     Run
		records []Record
		// want contains the expected recovery time, in seconds, for each element of records. The value -1 means that
		// the simulation must not count as recovered.
		want    []float64
		message string // a part of the message of the last account
	}{
		"a fault without effect": {story{length: 60, rate: 50}.run(), []Record{record("a", 20, 22)}, []float64{0}, "at the end of the fault"},
		"latency is high for 7 s after the fault": {
			story{length: 60, rate: 50, outages: []outage{{20, 29, slow, 0}}}.run(),
			[]Record{record("a", 20.5, 22)},
			[]float64{7},
			"Latency and backlog returned to their previous level 7.00 s after the end of the fault",
		},
		"the fault ends in the middle of a row": {
			story{length: 60, rate: 50, outages: []outage{{20, 24, slow, 0}}}.run(), []Record{record("a", 20.5, 22.25)}, []float64{1.75}, "1.75 s after",
		},
		"nothing takes effect until 4 s after the fault": {
			story{length: 60, rate: 50, outages: []outage{{20, 26, 0, 400}}}.run(), []Record{record("a", 20, 22)}, []float64{4}, "4.00 s after",
		},
		"the backlog stays high for longer than the latency": {
			story{length: 60, rate: 50, outages: []outage{{20, 32, 2 * time.Millisecond, 300}}}.run(), []Record{record("a", 20, 22)}, []float64{10}, "10.0 s after",
		},
		"normal operation for less than 5 s is not enough": {
			story{length: 60, rate: 50, outages: []outage{{20, 24, slow, 0}, {27, 30, slow, 0}}}.run(), []Record{record("a", 20, 22)}, []float64{8}, "8.00 s after",
		},
		"a few slow events do not matter": {
			func() Run {
				r := story{length: 60, rate: 500}.run()
				var h histogram.Histogram
				h.Observe(slow)
				r.Rows[25].Entry.EndToEnd = histogram.Merge(r.Rows[25].Entry.EndToEnd, h.Snapshot())
				return r
			}(),
			[]Record{record("a", 20, 22)},
			[]float64{0}, "",
		},
		"the first second after the fault is slow for a few percent of the events": {
			func() Run {
				r := story{length: 60, rate: 1000, outages: []outage{{20, 22, slow, 0}}}.run()
				var h histogram.Histogram
				for range 60 {
					h.Observe(slow)
				}
				r.Rows[22].Entry.EndToEnd = histogram.Merge(r.Rows[22].Entry.EndToEnd, h.Snapshot())
				return r
			}(),
			[]Record{record("a", 20, 22)},
			[]float64{1}, "",
		},
		"rows that are measured up to a second late": {
			// The row of second 19 is recorded 0.9 s late, so it covers the start of the fault at 20.1 s.
			story{length: 60, rate: 50, outages: []outage{{19, 22, slow, 0}}}.run(), []Record{record("a", 20.1, 22.5)}, []float64{0}, "",
		},
		"two events per second": {
			story{length: 60, rate: 1, outages: []outage{{20, 29, slow, 0}}}.run(), []Record{record("a", 20, 22)}, []float64{7}, "",
		},
		"two events in ten seconds": {
			func() Run {
				r := story{length: 600, rate: 1, outages: []outage{{200, 221, slow, 0}}}.run()
				r.Rows = slices.DeleteFunc(r.Rows, func(row timeline.Row) bool { return row.Second%10 != 0 })
				return r
			}(),
			[]Record{record("a", 200, 205)},
			[]float64{16}, "",
		},
		"rows of 10 s": {
			story{length: 300, rate: 50, outages: []outage{{100, 113, slow, 0}}, width: 10}.run(), []Record{record("a", 100, 102)}, []float64{18}, "",
		},
		"rows of a minute": {
			story{length: 1200, rate: 50, outages: []outage{{310, 322, slow, 0}}, width: 60}.run(), []Record{record("a", 310, 320)}, []float64{40}, "",
		},
		"latency is high until the end": {
			story{length: 60, rate: 50, outages: []outage{{20, 60, slow, 0}}}.run(), []Record{record("a", 20, 22)}, []float64{-1},
			"did not return to their previous level in the 38.0 s between the end of the fault and the end of the run: p99 is 5",
		},
		"latency returns to normal shortly before the end": {
			story{length: 60, rate: 50, outages: []outage{{20, 57, slow, 0}}}.run(), []Record{record("a", 20, 22)}, []float64{-1},
			"The run ended less than 5 s after latency and backlog had returned",
		},
		"latency returns to normal shortly before the end, but then a backlog forms": {
			story{length: 60, rate: 50, outages: []outage{{20, 57, slow, 0}, {58, 60, 2 * time.Millisecond, 700}}}.run(),
			[]Record{record("a", 20, 22)}, []float64{-1}, "did not return to their previous level in the 38.0 s between the end of the fault and the end of the run: p99 is 5",
		},
		"a backlog until the end": {
			story{length: 60, rate: 50, outages: []outage{{20, 60, 2 * time.Millisecond, 700}}}.run(), []Record{record("a", 20, 22)}, []float64{-1},
			"703 messages wait in queues; before the fault, there were at most 3",
		},
		"nothing takes effect any more": {
			story{length: 60, rate: 50, outages: []outage{{20, 60, 0, 0}}}.run(), []Record{record("a", 20, 22)}, []float64{-1}, "no event took effect",
		},
		"only entries take effect": {
			func() Run {
				r := story{length: 60, rate: 50}.run()
				for i := 20; i < 60; i++ {
					r.Rows[i].Exit = timeline.Events{}
				}
				return r
			}(),
			[]Record{record("a", 20, 22)},
			[]float64{-1}, "no exit took effect",
		},
		"a fault at the very end": {
			story{length: 60, rate: 50}.run(), []Record{record("a", 56, 57)}, []float64{-1},
			"It is unknown whether latency and backlog returned to their previous level: the run ended before 5 s of normal operation were measured after the fault",
		},
		"complete rows cover less than 5 s after the fault": {
			Run{Rows: story{length: 60, rate: 50}.rows(), End: second(59.8), Ended: true}, []Record{record("a", 52, 54.5)}, []float64{-1},
			"the run ended before 5 s of normal operation were measured after the fault",
		},
		"a second fault at the end, before recovery from the first": {
			story{length: 60, rate: 50, outages: []outage{{20, 57, slow, 0}}}.run(), []Record{record("a", 20, 22), record("b", 55, 58)}, []float64{-1, -1},
			"It is unknown whether latency and backlog returned to their previous level: the run ended before 5 s of normal operation were measured after the fault",
		},
		"a run that is ended early, soon after a fault": {
			func() Run {
				r := story{length: 60, rate: 50}.run()
				r.Aborted = true
				return r
			}(),
			[]Record{record("a", 56, 57)},
			[]float64{-1}, "the run was ended early, before 5 s of normal operation were measured after the fault",
		},
		"a fault that outlasts the load": {
			story{length: 60, rate: 50}.run(), []Record{record("a", 56, 61)}, []float64{-1}, "the load ended before the fault ended",
		},
		"a fault that outlasts the load, and slow events after the fault": {
			Run{Rows: story{length: 60, rate: 50, outages: []outage{{50, 58, slow, 0}}}.rows(), End: second(52.5), Ended: true},
			[]Record{record("a", 50, 53)}, []float64{-1}, "previous level: the load ended before the fault ended",
		},
		"slow events after the end of the load": {
			Run{Rows: story{length: 60, rate: 50, outages: []outage{{52, 58, slow, 0}}}.rows(), End: second(52.5), Ended: true},
			[]Record{record("a", 48, 50)}, []float64{-1}, "previous level: the run ended before 5 s of normal operation were measured after the fault",
		},
		"a fault at the very start": {story{length: 60, rate: 50}.run(), []Record{record("a", 0, 2)}, []float64{-1}, "It is unknown whether latency and backlog returned to their previous level: the previous level was not measured"},
		"nothing is measured before the fault": {
			unmeasured(story{length: 60, rate: 50}.run(), 30), []Record{record("a", 29, 35)}, []float64{-1}, "the previous level was not measured",
		},
		"no timeline": {Run{End: second(60), Ended: true}, []Record{record("a", 20, 22)}, []float64{-1}, "the previous level was not measured"},
		"a second fault before recovery from the first": {
			// The simulation recovers from both faults at second 33. The recovery time of the first fault is 11 s,
			// minus the 3 s in which the second fault is in effect.
			story{length: 60, rate: 50, outages: []outage{{20, 33, slow, 0}}}.run(),
			[]Record{record("a", 20, 22), record("b", 25, 28)},
			[]float64{8, 5}, "5.00 s after the end of the fault; meanwhile, the simulation was also recovering from fault a/0",
		},
		"a fault during another fault": {
			story{length: 60, rate: 50, outages: []outage{{20, 33, slow, 0}}}.run(),
			[]Record{record("a", 20, 30), record("b", 22, 23)},
			[]float64{3, 3}, "3.00 s after the end of the fault, not counting the time in which other faults were in effect; meanwhile, the simulation was also recovering from fault a/0",
		},
		"the baseline of a second fault excludes the time of the first": {
			story{length: 120, rate: 50, outages: []outage{{20, 40, slow, 0}, {60, 70, slow, 0}}}.run(),
			[]Record{record("a", 20, 22), record("b", 60, 62)},
			[]float64{18, 8}, "previous level 8.00 s after the end of the fault",
		},
		"a second fault without recovery from the first": {
			story{length: 60, rate: 50, outages: []outage{{20, 60, slow, 0}}}.run(),
			[]Record{record("a", 20, 22), record("b", 40, 41)},
			[]float64{-1, -1}, "p99 is 5",
		},
	} {
		accounts := Accounts(tt.records, tt.run)
		var got []float64
		for i := range accounts {
			a := &accounts[i]
			seconds := -1.0
			if a.RecoverySeconds != nil {
				seconds = *a.RecoverySeconds
			}
			got = append(got, seconds)
			if (a.Outcome == OutcomeRecovered) != (seconds >= 0) || a.Outcome != OutcomeRecovered && a.Outcome != OutcomeNotRecovered {
				t.Errorf("%s: the outcome is %s", name, a.Outcome)
			}
			if a.RecoveredAt.IsZero() == (seconds >= 0) {
				t.Errorf("%s: recovered after %g s at %s", name, seconds, a.RecoveredAt)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: recovered after %v s, want %v", name, got, tt.want)
		}
		if message := accounts[len(accounts)-1].Message; !strings.Contains(message, tt.message) {
			t.Errorf("%s: the message is %q, want %q", name, message, tt.message)
		}
	}
}

func TestFaultAccounts_AnotherFaultPreventsRecovery_MessageNamesThatFault(t *testing.T) {
	t.Parallel()
	measured := story{length: 60, rate: 50, outages: []outage{{20, 60, 0, 0}}}.run()
	unmeasured := measured
	unmeasured.Rows = measured.Rows[:20]
	for name, tt := range map[string]struct {
		run  Run
		want string
	}{
		"no event takes effect": {measured, "no event took effect; meanwhile fault b/0 was in effect"},
		"nothing is measured":   {unmeasured, "too little was measured after the fault to prove recovery: fewer than 5 events took effect; meanwhile fault b/0 was in effect"},
	} {
		a := Accounts([]Record{record("a", 20, 22), record("b", 21, 58)}, tt.run)[0]
		if a.Outcome != OutcomeNotRecovered || !strings.HasSuffix(a.Message, tt.want) {
			t.Errorf("%s: the fault is %s: %q, want %q", name, a.Outcome, a.Message, tt.want)
		}
	}
}

func TestFaultAccounts_OtherFaultsPreventRecovery_MessageNamesThoseFaults(t *testing.T) {
	t.Parallel()
	run := story{length: 60, rate: 50, outages: []outage{{20, 60, 500 * time.Millisecond, 0}}}.run()
	records := []Record{record("a", 20, 22)}
	for i := range 3 {
		b := record("b", 30+4*float64(i), 31+4*float64(i))
		b.Number = 9 + i
		records = append(records, b)
	}
	slices.Reverse(records)
	for i, want := range []struct{ begin, end string }{
		{"in the 35.0 s between the end of the fault and the end of the run, not counting the time in which other faults were in effect: p99 is 5", "; meanwhile fault b/9 and 2 more were in effect"},
		{"in the 27.0 s between the end of the fault and the end of the run, not counting the time in which other faults were in effect: p99 is 5", "; meanwhile faults b/10 and b/11 were in effect"},
		{"in the 24.0 s between the end of the fault and the end of the run, not counting the time in which other faults were in effect: p99 is 5", "; meanwhile fault b/11 was in effect"},
		{"in the 21.0 s between the end of the fault and the end of the run: p99 is 5", "before the fault, it was 2.13 ms"},
	} {
		a := Accounts(records, run)[i]
		if !strings.HasPrefix(a.Message, "Latency and backlog did not return to their previous level "+want.begin) || !strings.HasSuffix(a.Message, want.end) {
			t.Errorf("the message of %s is %q, want %q and %q", a.ID(), a.Message, want.begin, want.end)
		}
	}
}

// A killed target must start again. This time is part of the recovery time.
func TestFaultAccounts_Kill_RecoveryTimeBeginsAtTheKill(t *testing.T) {
	t.Parallel()
	const slow = 500 * time.Millisecond
	kill := func(from, to float64) Record {
		r := record("a", from, to)
		r.Action = plan.ActionKill
		return r
	}
	down := kill(20, 0)
	down.State, down.HealedAt = Active, time.Time{}
	recovers := story{length: 60, rate: 50, outages: []outage{{20, 35, slow, 0}}}.run()
	for name, tt := range map[string]struct {
		records     []Record
		run         Run
		recovered   float64 // -1 if the simulation did not recover
		unrecovered float64
		message     string
	}{
		"recovered": {[]Record{kill(20, 30)}, recovers, 15, 0, "15.0 s after the fault"},
		"another fault occurs before the restart": {[]Record{kill(20, 30), record("b", 22, 26)}, recovers, 15, 0, "15.0 s after the fault"},
		"not recovered":            {[]Record{kill(20, 30)}, story{length: 60, rate: 50, outages: []outage{{20, 60, slow, 0}}}.run(), -1, 40, "p99 is"},
		"no baseline":              {[]Record{kill(1, 9)}, recovers, -1, 8, "the previous level was not measured"}, // the target was down for 8 s
		"the target is still down": {[]Record{down}, RunSoFar(story{length: 60, rate: 50, outages: []outage{{20, 60, 0, 0}}}.rows(), time.Time{}), -1, 38, "in effect"},
	} {
		a := Accounts(tt.records, tt.run)[0]
		recovered := -1.0
		if a.RecoverySeconds != nil {
			recovered = *a.RecoverySeconds
		}
		if recovered != tt.recovered || a.UnrecoveredSeconds != tt.unrecovered || !strings.Contains(a.Message, tt.message) {
			t.Errorf("%s: the account is %+v, recovered after %g s", name, a, recovered)
		}
	}
}

// Without a proved recovery, UnrecoveredSeconds is the shortest recovery time that the measurements do not exclude.
func TestFaultAccounts_RecoveryIsNotProved_UnrecoveredSecondsIsALowerBound(t *testing.T) {
	t.Parallel()
	const slow = 500 * time.Millisecond
	for name, tt := range map[string]struct {
		outages []outage
		healed  float64
		// wantRunning is the expected UnrecoveredSeconds while the run continues.
		wantRunning float64
		wantEnded   float64 // the expected UnrecoveredSeconds if the run ends at second 60
	}{
		"nothing contradicts a recovery": {[]outage{{20, 56, slow, 0}}, 56, 0, 0},
		"latency is normal again":        {[]outage{{20, 56, slow, 0}}, 54, 2, 2},
		"latency is still high":          {[]outage{{20, 60, slow, 0}}, 54, 4, 6},
		// A recovery needs 5 s in which events take effect. The rows until second 58 rule out a recovery before second 54.
		// The rows until second 60 rule out a recovery before second 56.
		"nothing takes effect":        {[]outage{{20, 60, 0, 0}}, 40, 14, 16},
		"the backlog is normal again": {[]outage{{20, 56, 2 * time.Millisecond, 700}}, 50, 4, 6},
	} {
		rows := story{length: 60, rate: 50, outages: tt.outages}.rows()
		for _, run := range []Run{RunSoFar(rows, time.Time{}), {Rows: rows, End: second(60), Ended: true}} {
			want := tt.wantRunning
			if run.Ended {
				want = tt.wantEnded
			}
			if a := Accounts([]Record{record("a", 20, tt.healed)}, run)[0]; a.RecoverySeconds != nil || a.UnrecoveredSeconds != want {
				t.Errorf("%s, ended %t: not recovered for %g s, want %g s; the account is %s: %s", name, run.Ended, a.UnrecoveredSeconds, want, a.Outcome, a.Message)
			}
		}
	}
}

// Both targets are down for 40 s. Both recovery times must include these 40 s, although the other kill is in effect as
// well.
func TestFaultAccounts_TwoKillsAtOnce_BothRecoveryTimesIncludeTheDowntime(t *testing.T) {
	run := story{length: 120, rate: 50, outages: []outage{{20, 62, 0, 0}}}.run()
	a, b := record("a", 20, 60), record("b", 20, 60)
	a.Action, b.Action = plan.ActionKill, plan.ActionKill
	for _, account := range Accounts([]Record{a, b}, run) {
		if account.RecoverySeconds == nil || *account.RecoverySeconds < 40 {
			t.Errorf("%s recovered after %v s: %s", account.ID(), account.RecoverySeconds, account.Message)
		}
	}
}

func TestFaultAccounts_EarlyFaultsLackABaseline_LaterFaultHasABaseline(t *testing.T) {
	t.Parallel()
	s := story{length: 200, rate: 10, outages: []outage{{from: 1, to: 9}, {from: 100, to: 110, slow: time.Second}}}
	got := Accounts([]Record{record("first", 0.5, 3), record("second", 5, 7), record("third", 100, 104)}, s.run())
	for _, a := range got[:2] {
		if a.Outcome != OutcomeNotRecovered || !strings.Contains(a.Message, "the previous level was not measured") {
			t.Errorf("the account of a fault without a baseline is %+v", a)
		}
	}
	if a := got[2]; a.Outcome != OutcomeRecovered || *a.RecoverySeconds != 6 {
		t.Errorf("the account of the third fault is %+v, want a recovery after 6 s", a)
	}
}

// The first fault begins at the start of the run, so it has no baseline. Undisturbed rows after this fault are a
// baseline for the second.
func TestFaultAccounts_NormalOperationBetweenFaults_IsBaselineOfSecondFault(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lasts, next float64 // in seconds: the duration of the first fault, and the start of the second fault
		want        bool    // whether the second fault has a baseline
	}{
		"one undisturbed row after a fault of 0.25 s":   {0.25, 4, true},
		"one undisturbed row after a fault of 5 s":      {5, 12, true},
		"no undisturbed row after a fault of 5 s":       {5, 11.5, false},
		"no undisturbed row after a fault of 0.25 s":    {0.25, 3, false},
		"more than 30 s of undisturbed rows":            {5, 50, true},
		"a fault of 40 s disturbs rows until second 80": {40, 75, false},
	} {
		s := story{length: 100, rate: 50, outages: []outage{{from: int(tt.next), to: int(tt.next) + 4, slow: time.Second}}}
		got := Accounts([]Record{record("first", 0, tt.lasts), record("second", tt.next, tt.next+1)}, s.run())
		const message = "the previous level was not measured, because "
		if a := got[0]; a.Outcome != OutcomeNotRecovered || !strings.HasSuffix(a.Message, message+"fewer than 5 events took effect more than 1 s before the fault") {
			t.Errorf("%s: the account of the first fault is %+v", name, a)
		}
		if a := got[1]; (a.Outcome == OutcomeRecovered) != tt.want || !tt.want && !strings.HasSuffix(a.Message, message+"other faults left too little undisturbed time before the fault") {
			t.Errorf("%s: the account of the second fault is %+v", name, a)
		}
		if got[0].Disturbs(second(80), second(81)) || !got[0].Disturbs(second(2*tt.lasts-0.1), second(2*tt.lasts)) {
			t.Errorf("%s: the first fault disturbs the wrong rows: %+v", name, got[0])
		}
	}
}

// Both faults use the saved baseline of the first fault, because the timeline shows no normal operation before them.
func TestFaultAccounts_TimelineLacksTheBaseline_UsesTheBaselineOfThePreviousFault(t *testing.T) {
	t.Parallel()
	s := story{length: 200, rate: 10, outages: []outage{{from: 100, to: 116, slow: time.Second}}}
	records := []Record{record("first", 100, 104), record("second", 110, 112)}
	run := s.run()
	_, baselines := measure(records, run)
	records[0].Baseline = baselines["first/0"]
	run.Rows = run.Rows[100:]
	for _, a := range Accounts(records, run) {
		if a.Outcome != OutcomeRecovered || !a.RecoveredAt.Equal(second(116)) {
			t.Errorf("the account is %+v, want a recovery in second 116", a)
		}
	}
	records[0].Measured = &Account{Fault: "first", InjectedAt: second(100), HealedAt: second(104), RecoveredAt: second(109), Outcome: OutcomeRecovered}
	if a := Accounts(records, run)[1]; a.Outcome != OutcomeRecovered || !a.RecoveredAt.Equal(second(116)) {
		t.Errorf("after the first account is final, the second account is %+v, want a recovery in second 116", a)
	}
}

func TestFaultAccounts_UnsortedRecords_AccountsAreSortedByDueTime(t *testing.T) {
	missed, later := record("missed", 0, 0), record("later", 30, 35)
	missed.At, missed.State, missed.InjectedAt, missed.HealedAt = 10*time.Second, NotInjected, time.Time{}, time.Time{}
	later.At = 30 * time.Second
	accounts := Accounts([]Record{later, missed}, Run{})
	if accounts[0].Fault != "missed" || accounts[1].Fault != "later" {
		t.Errorf("the accounts are %+v", accounts)
	}
}

func TestFaultAccounts_WithoutRecovery_ContainOutcomeAndReason(t *testing.T) {
	t.Parallel()
	due := Occurrence{Fault: "a", Number: 3, At: 20 * time.Second}
	for name, tt := range map[string]struct {
		record  Record
		ended   bool
		want    Outcome
		message string
	}{
		"not injected":                      {Record{Occurrence: due, State: NotInjected, Reason: "no such pod"}, true, OutcomeNotInjected, "not injected: no such pod"},
		"aborted before the injection":      {Record{Occurrence: due, State: Aborted, Reason: "Ctrl-C"}, true, OutcomeAborted, "not injected: Ctrl-C"},
		"ended early":                       {Record{Occurrence: due, State: Aborted, InjectedAt: second(20), HealedAt: second(21)}, true, OutcomeAborted, "ended early: the simulation ended before the fault had ended"},
		"injecting":                         {Record{Occurrence: due, State: Injecting}, false, OutcomeInjecting, "is being injected"},
		"still injecting when the run ends": {Record{Occurrence: due, State: Injecting}, true, OutcomeNotInjected, "unknown whether it took effect"},
		"in effect":                         {Record{Occurrence: due, State: Active, InjectedAt: second(20)}, false, OutcomeActive, "is in effect"},
		"still in effect when the run ends": {Record{Occurrence: due, State: Active, InjectedAt: second(20)}, true, OutcomeNotRecovered, "never ended"},
		"just ended":                        {Record{Occurrence: due, State: Healed, InjectedAt: second(50), HealedAt: second(58)}, false, OutcomeRecovering, "It is not known yet whether latency and backlog returned to their previous level: less than 5 s of normal operation have been measured since the fault ended"},
	} {
		run := story{length: 60, rate: 50}.run()
		run.Ended = tt.ended
		got := Accounts([]Record{tt.record}, run)[0]
		if got.Outcome != tt.want || !strings.Contains(got.Message, tt.message) || got.Fault != "a" || got.Number != 3 || got.AtSeconds != 20 {
			t.Errorf("%s: the account is %+v", name, got)
		}
		if got.Outcome.IsFinal() != tt.ended {
			t.Errorf("%s: outcome %s is final: %t", name, got.Outcome, got.Outcome.IsFinal())
		}
	}
}

func TestFaultAccounts_RecoveredFault_PeaksAndCountsCoverTheTimeUntilRecovery(t *testing.T) {
	t.Parallel()
	run := story{length: 60, rate: 50, outages: []outage{{20, 26, 500 * time.Millisecond, 400}}}.run()
	run.Rows[10].Entry.Lag = time.Minute // before the fault, so PeakLagSeconds must omit this lag
	run.Rows[21].Exit.Lag = 4 * time.Second
	run.Rows[21].Exit.Redeliveries = 9
	run.Rows[22].Entry.Outcomes = map[string]int64{"duplicate": 7}
	// This duplicate occurs after the recovery, so DuplicatesSuppressed must omit it.
	run.Rows[40].Entry.Outcomes = map[string]int64{"duplicate": 1}
	run.Lost = new(int64(0))
	a := Accounts([]Record{record("a", 20, 22)}, run)[0]
	if a.PeakLagSeconds != 4 || a.PeakBacklog == nil || *a.PeakBacklog != 403 || a.DuplicatesSuppressed != 7 || a.Redeliveries != 9 || a.Lost == nil || *a.Lost != 0 {
		t.Errorf("the account is %+v", a)
	}
	if a.PeakP99Seconds == nil || *a.PeakP99Seconds < .45 || *a.PeakP99Seconds > .55 {
		t.Errorf("the peak of p99 is %v", a.PeakP99Seconds)
	}
	run.Lost = new(int64(1))
	if a = Accounts([]Record{record("a", 20, 22)}, run)[0]; a.Lost != nil {
		t.Error("a loss is attributed to a fault")
	}
}

func TestAccountDisturbs_RowMayShowTheFault_ReturnsTrue(t *testing.T) {
	t.Parallel()
	recovered := Account{InjectedAt: second(20), RecoveredAt: second(25)}
	for _, tt := range []struct {
		account  Account
		from, to float64
		want     bool
	}{
		{recovered, 18, 19, false},
		// This row ends less than rowShift before the injection, so it may already show the fault.
		{recovered, 18, 19.1, true},
		{recovered, 19, 20, true},
		{recovered, 24, 25, true},
		{recovered, 25, 26, false},
		{recovered, 0, 60, true},
		{Account{InjectedAt: second(20)}, 50, 51, true},
		{Account{InjectedAt: second(20), DisturbsUntil: second(30)}, 29, 30, true},
		{Account{InjectedAt: second(20), DisturbsUntil: second(30)}, 30, 31, false},
		{Account{}, 0, 60, false},
	} {
		if got := tt.account.Disturbs(second(tt.from), second(tt.to)); got != tt.want {
			t.Errorf("%+v disturbs [%g, %g): %t", tt.account, tt.from, tt.to, got)
		}
	}
}

// In this test, all events are slow from the injection of a fault until some seconds after its end.
func TestFaultAccounts_RandomOutages_RecoveryIsAtTheEndOfTheOutage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := story{rate: rapid.IntRange(1, 40).Draw(t, "rate"), width: rapid.SampledFrom([]int64{1, 1, 10}).Draw(t, "width")}
		var records []Record
		var want []int
		at := 60
		for i := range rapid.IntRange(1, 5).Draw(t, "faults") {
			lasts, recovery := rapid.IntRange(0, 20).Draw(t, "lasts"), rapid.IntRange(0, 40).Draw(t, "recovery")
			if recovery > 0 {
				s.outages = append(s.outages, outage{at, at + lasts + recovery, time.Second, 0})
			}
			r := record("a", float64(at), float64(at+lasts))
			r.Number = i
			records, want = append(records, r), append(want, recovery)
			at += lasts + recovery + rapid.IntRange(60, 100).Draw(t, "quiet")
		}
		s.length = at
		rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		accounts := Accounts(records, s.run())
		for i, a := range accounts {
			if a.Number != i {
				t.Fatalf("account %d belongs to occurrence %d", i, a.Number)
			}
			if a.RecoverySeconds == nil {
				t.Fatalf("occurrence %d: %s", i, a.Message)
			}
			// A partly disturbed row counts as disturbed, so the recovery time may be up to one row too long.
			if got := *a.RecoverySeconds; got < float64(want[i]) || got >= float64(want[i])+float64(s.width) {
				t.Errorf("occurrence %d recovered after %g s, want %d s", i, got, want[i])
			}
		}
	})
}

func TestFaultAccounts_RandomRecords_FieldsAreConsistent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := story{length: 100, rate: rapid.IntRange(0, 3).Draw(t, "rate")}
		for range rapid.IntRange(0, 4).Draw(t, "outages") {
			from := rapid.IntRange(0, 99).Draw(t, "from")
			s.outages = append(s.outages, outage{from, from + rapid.IntRange(0, 50).Draw(t, "length"), rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "slow"), rapid.Int64Range(0, 99).Draw(t, "backlog")})
		}
		var records []Record
		for i := range rapid.IntRange(0, 6).Draw(t, "records") {
			from := rapid.Float64Range(-5, 105).Draw(t, "injected")
			r := record("a", from, from+rapid.Float64Range(0, 30).Draw(t, "lasts"))
			r.Number = i
			r.State = rapid.SampledFrom([]State{Healed, Healed, Active, Aborted, NotInjected, Injecting}).Draw(t, "state")
			if r.State == Active {
				r.HealedAt = time.Time{}
			}
			if r.State == NotInjected || r.State == Injecting {
				r.InjectedAt, r.HealedAt = time.Time{}, time.Time{}
			}
			records = append(records, r)
		}
		run := s.run()
		run.Ended = rapid.Bool().Draw(t, "ended")
		for _, a := range Accounts(records, run) {
			switch {
			case a.Message == "" || a.Outcome == "":
				t.Errorf("no outcome or message: %+v", a)
			case run.Ended && !a.Outcome.IsFinal():
				t.Errorf("the run has ended, but the outcome is not final: %+v", a)
			case a.RecoverySeconds != nil && (*a.RecoverySeconds < 0 || a.RecoveredAt.Before(a.HealedAt) || *a.RecoverySeconds > a.RecoveredAt.Sub(a.HealedAt).Seconds()):
				t.Errorf("impossible recovery: %+v", a)
			case !a.DisturbsUntil.IsZero() && (a.Outcome == OutcomeRecovered || a.DisturbsUntil.Before(a.HealedAt)):
				t.Errorf("impossible end of the disturbance: %+v", a)
			case a.Outcome == OutcomeRecovered && a.RecoveredAt.After(run.End.Add(-steadyTime)):
				t.Errorf("recovered without %s of normal operation: %+v", steadyTime, a)
			}
		}
	})
}

func TestWorst_DifferentOutcomes_ReturnsTheWorstInTheOriginalOrder(t *testing.T) {
	t.Parallel()
	accounts := []Account{
		{Number: 0, Outcome: OutcomeRecovered, RecoverySeconds: new(9.0)},
		{Number: 1, Outcome: OutcomeNotInjected},
		{Number: 2, Outcome: OutcomeRecovered, RecoverySeconds: new(1.0)},
		{Number: 3, Outcome: OutcomeNotRecovered, UnrecoveredSeconds: 5},
		{Number: 4, Outcome: OutcomeAborted},
		{Number: 5, Outcome: OutcomeNotRecovered, UnrecoveredSeconds: 50},
	}
	for n, want := range map[int][]int{0: nil, 1: {1}, 2: {1, 5}, 3: {1, 3, 5}, 4: {1, 3, 4, 5}, 5: {0, 1, 3, 4, 5}, 9: {0, 1, 2, 3, 4, 5}} {
		var got []int
		for _, a := range Worst(accounts, n) {
			got = append(got, a.Number)
		}
		if !slices.Equal(got, want) {
			t.Errorf("the worst %d are %v, want %v", n, got, want)
		}
	}
}

func TestFaultResults_SeveralTargetsAndActions_AreCountedSeparately(t *testing.T) {
	t.Parallel()
	of := func(target plan.FaultTarget, action plan.FaultAction, outcome Outcome, seconds float64) Account {
		return Account{Target: target, Action: action, Outcome: outcome, RecoverySeconds: &seconds}
	}
	got := Results(Totals(History{}, []Account{
		of(plan.TargetRedis, plan.ActionKill, OutcomeRecovered, 2), of(plan.TargetProcessor, plan.ActionPause, OutcomeActive, 0),
		of(plan.TargetRedis, plan.ActionKill, OutcomeRecovered, 5), of(plan.TargetRedis, plan.ActionKill, OutcomeNotRecovered, 0),
		of(plan.TargetProcessor, plan.ActionPause, OutcomeNotInjected, 0), of(plan.TargetProcessor, plan.ActionPause, OutcomeAborted, 0),
		of(plan.TargetProcessor, plan.ActionKill, OutcomeRecovering, 0),
	}))
	want := []Result{
		{Target: plan.TargetProcessor, Action: plan.ActionKill, InProgress: 1},
		{Target: plan.TargetProcessor, Action: plan.ActionPause, InProgress: 1, NotInjected: 1, Aborted: 1},
		{Target: plan.TargetRedis, Action: plan.ActionKill, Recovered: 2, NotRecovered: 1, RecoverySeconds: 7, SlowestSeconds: 5},
	}
	if !slices.Equal(got, want) {
		t.Errorf("the results are %+v, want %+v", got, want)
	}
}

func TestAccounts_MonotonicClock_IsNotUsed(t *testing.T) {
	t.Parallel()
	now := time.Now() // time.Now returns a time with a monotonic clock reading
	records := []Record{{Occurrence: Occurrence{Fault: "f", Action: plan.ActionKill}, State: Healed, InjectedAt: now, HealedAt: now.Add(time.Second)}}
	a := Accounts(records, Run{End: now.Add(time.Minute), Ended: true})[0]
	if text := a.InjectedAt.String() + a.HealedAt.String(); strings.Contains(text, "m=") {
		t.Errorf("the account has monotonic clock readings: %s, %s", a.InjectedAt, a.HealedAt)
	}
	if !strings.Contains(records[0].InjectedAt.String(), "m=") {
		t.Error("the record was changed")
	}
}

// While Redis is down, processors hold messages that they cannot process. So events may wait although the queues have
// no ready messages.
func TestFaultAccounts_PeakBacklog_IncludesEventsThatProcessorsHold(t *testing.T) {
	t.Parallel()
	run := story{length: 60, rate: 50, outages: []outage{{20, 26, 0, 0}}}.run()
	// The events that were due during the outage take effect in second 26.
	var late histogram.Histogram
	for i := range 6 * 50 {
		late.Observe(time.Duration(i) * time.Second / 50)
	}
	for _, events := range []*timeline.Events{&run.Rows[26].Entry, &run.Rows[26].Exit} {
		events.EndToEnd = histogram.Merge(events.EndToEnd, late.Snapshot())
	}
	accounts := Accounts([]Record{record("a", 10, 11), record("b", 20, 26)}, run)
	// 600 events wait: 50 entries and 50 exits per second for 6 s. The measured peak is a lower bound.
	for i, want := range [][2]int64{{3, 3}, {450, 600}} {
		if got := accounts[i].PeakBacklog; got == nil || *got < want[0] || *got > want[1] {
			t.Errorf("%s: the peak backlog is %v, want %d to %d", accounts[i].ID(), *got, want[0], want[1])
		}
	}
	for i := range run.Rows {
		run.Rows[i].Ready = nil
	}
	if got := Accounts([]Record{record("b", 20, 26)}, run)[0].PeakBacklog; got == nil || *got < 450 {
		t.Errorf("without the lengths of the queues, the peak backlog is %v, want at least 450", got)
	}
}
