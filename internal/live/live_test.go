package live

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/memory"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

// site is a simulation whose state is in an in-memory store.
type site struct {
	store  *memory.Store
	plan   *plan.Plan
	depths *broker.Depths
	source *Source
}

// newSite returns a simulation that started the given time ago.
func newSite(ago time.Duration) *site {
	s := &site{store: memory.New(memory.Config{Partitions: 1}), plan: &plan.Plan{
		Simulation: "default.rush-hour", Owner: "uid", Partitions: 1, StartTime: time.Now().Add(-ago), Duration: plan.Duration(time.Hour),
		Entry: plan.Entry{Schedule: plan.Schedule{Rate: 20}}, Exit: plan.Exit{Schedule: plan.Schedule{Rate: 10}, MinStay: plan.Duration(time.Minute)},
	}}
	s.source = New(Dependencies{
		Store: s.store, Plan: func() *plan.Plan { return s.plan }, Depths: func() *broker.Depths { return s.depths },
	})
	return s
}

// append adds a row of a process to the timeline. The row begins the given time ago.
func (s *site) append(t *testing.T, process string, ago time.Duration, row timeline.Row) {
	t.Helper()
	row.Second = time.Now().Add(-ago).Unix()
	if err := s.store.AppendTimeline(t.Context(), process, []timeline.Row{row}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) state(t *testing.T) view.State {
	t.Helper()
	state, err := s.source.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestLiveState_SumsTheTimelineOfAllProcesses(t *testing.T) {
	t.Parallel()
	s := newSite(10 * time.Minute)
	s.append(t, "a", 8*time.Minute, timeline.Row{Entry: timeline.Events{Due: 100, Published: 90, Missed: 10}})
	s.append(t, "a", time.Second, timeline.Row{Entry: timeline.Events{Due: 20, Published: 20, Lag: time.Second}})
	s.append(t, "b", time.Second, timeline.Row{Exit: timeline.Events{Due: 10, Published: 8, Starved: 2}})
	for range 2 { // the second call reads only the recent rows from the store
		got := s.state(t)
		if got.Entry.Due != 120 || got.Entry.Published != 110 || got.Entry.Missed != 10 || got.Entry.LagSeconds != 1 {
			t.Errorf("the entries are %+v", got.Entry)
		}
		if got.Exit.Due != 10 || got.Exit.Published != 8 || got.Exit.Starved != 2 || got.Exit.Rate != 10 {
			t.Errorf("the exits are %+v", got.Exit)
		}
		if got.Run != "uid" || got.Simulation != "default.rush-hour" || got.Phase != view.Running || got.Ledger == nil {
			t.Errorf("the state is %+v", got)
		}
	}
	s.append(t, "b", 2*time.Second, timeline.Row{})
	s.append(t, "c", 3*time.Second, timeline.Row{Entry: timeline.Events{Due: 1}})
	if got := s.state(t).Entry.Due; got != 121 {
		t.Errorf("after another row %d entries were due", got)
	}
}

func TestLiveState_MeanRates_AreThoseOfTheReport(t *testing.T) {
	t.Parallel()
	s := newSite(10 * time.Minute)
	// The simulation started 10 minutes ago. It has run for only one minute, and was suspended the rest of the time.
	for ago := range 60 {
		s.append(t, "a", 5*time.Minute+time.Duration(ago)*time.Second, timeline.Row{Entry: timeline.Events{Due: 20, Published: 19}})
	}
	rows, err := s.source.Timeline(t.Context(), time.Unix(0, 0), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := report.RatesOf(rows).Entry
	if got := s.state(t).Entry; got.TargetRate != want.Target || got.AchievedRate != want.Achieved || got.TargetRate < 19 {
		t.Errorf("the rates are %v and %v, want %+v", got.TargetRate, got.AchievedRate, want)
	}
}

func TestLiveState_ReportsPhaseAndTargetRates(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*plan.Plan)
		phase  view.Phase
		rate   float64
	}{
		"running":     {func(*plan.Plan) {}, view.Running, 20},
		"suspended":   {func(p *plan.Plan) { p.Suspended = true }, view.Running, 0},
		"not started": {func(p *plan.Plan) { p.StartTime = time.Time{} }, view.Running, 0},
		"over":        {func(p *plan.Plan) { p.StartTime = time.Now().Add(-2 * time.Hour) }, view.Draining, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(10 * time.Minute)
			test.change(s.plan)
			if got := s.state(t); got.Phase != test.phase || got.Entry.Rate != test.rate {
				t.Errorf("the phase is %s, the rate of the entries %v", got.Phase, got.Entry.Rate)
			}
		})
	}
}

func TestLiveState_DeadLetters_VerdictIsFailBeforeTheEnd(t *testing.T) {
	t.Parallel()
	s := newSite(time.Minute)
	if v := s.state(t).Verdict; v.Outcome != "" || v.Final || len(v.Reasons) > 0 {
		t.Errorf("the verdict without dead letters is %+v", v)
	}
	s.depths = &broker.Depths{Ready: 5, Dead: 3}
	got := s.state(t)
	if v := got.Verdict; v.Outcome != ledger.Fail || v.Final || len(v.Reasons) != 1 {
		t.Errorf("the verdict with dead letters is %+v", v)
	}
	if *got.Queues.Ready != 5 || *got.Queues.DeadLetters != 3 || got.Queues.InFlight != nil {
		t.Errorf("the queues are %+v", got.Queues)
	}
}

func TestLiveState_LagExceedsObjective_VerdictIsFailWhileRunning(t *testing.T) {
	t.Parallel()
	s := newSite(10 * time.Minute)
	s.plan.Objectives.MaxLag = plan.Duration(5 * time.Second)
	s.append(t, "a", 8*time.Minute, timeline.Row{Entry: timeline.Events{Due: 1, Lag: 4 * time.Second}})
	if v := s.state(t).Verdict; v.Outcome != "" {
		t.Errorf("the verdict with a short lag is %+v", v)
	}
	s.append(t, "a", time.Second, timeline.Row{Entry: timeline.Events{Due: 1, Lag: 6 * time.Second}})
	want := []string{"generator lag is 6.00 s, beyond the objective of 5 s"}
	if v := s.state(t).Verdict; v.Outcome != ledger.Fail || v.Final || !slices.Equal(v.Reasons, want) {
		t.Errorf("the verdict with a long lag is %+v", v)
	}
}

// unavailable is a store that does not respond.
type unavailable struct{ Store }

func (unavailable) Counts(context.Context) (store.Counts, error) {
	return store.Counts{}, store.ErrUnavailable
}

func TestLiveState_StoreUnavailable_ReturnsAnError(t *testing.T) {
	t.Parallel()
	source := New(Dependencies{Store: unavailable{}})
	if _, err := source.State(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the error is %v", err)
	}
}
