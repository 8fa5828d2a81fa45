package ledger

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// rowSource is a Timeline that counts how many rows are read.
type rowSource struct {
	rows []timeline.Row
	read int
}

func (s *rowSource) ReadTimeline(_ context.Context, from, to time.Time) ([]timeline.Row, error) {
	rows := slices.DeleteFunc(slices.Clone(s.rows), func(r timeline.Row) bool { return !r.End().After(from) || !r.Start().Before(to) })
	s.read += len(rows)
	return rows, nil
}

func TestTimelineReader_RepeatedReads_ReadOnlyRowsThatMayHaveChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &rowSource{}
		r := NewTimelineReader(source)
		const length = 40 * time.Minute
		reads := 0
		for begin := time.Now(); time.Since(begin) < length; time.Sleep(time.Second) {
			source.rows = append(source.rows, timeline.Row{Second: time.Now().Unix(), Entry: timeline.Events{Due: 1}})
			if time.Now().Second()%5 != 0 {
				continue
			}
			if n := len(source.rows); n > 60 {
				source.rows[n-60].Entry.Due++ // another process adds its events to this row one minute late
			}
			rows, err := r.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			same := func(a, b timeline.Row) bool { return a.Second == b.Second && a.Entry.Due == b.Entry.Due }
			if !slices.EqualFunc(source.rows, rows, same) {
				t.Fatalf("after %s, the %d rows of the reader differ from the %d stored rows", time.Since(begin), len(rows), len(source.rows))
			}
			reads++
		}
		if whole := reads * len(source.rows) / 2; source.read > whole/2 {
			t.Errorf("%d rows were read, want less than half of the %d rows that reads of the whole timeline would return", source.read, whole)
		}
	})
}

func TestTimelineReader_MergedRows_AppearOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &rowSource{}
		r := NewTimelineReader(source)
		begin := time.Now().Unix()
		for i := range int64(600) {
			source.rows = append(source.rows, timeline.Row{Second: begin + i, Width: 1, Entry: timeline.Events{Due: 1}})
		}
		time.Sleep(600 * time.Second)
		if _, err := r.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		source.rows = timeline.Merge(60, source.rows...)
		rows, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if due := timeline.Sum(rows...).Entry.Due; due != 600 {
			t.Errorf("%d events were due, want 600", due)
		}
	})
}

func TestEvidenceSoFar_SimulationIsRunning_OnlyFinalFailuresAreCertain(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	at := func(second int) time.Time { return start.Add(time.Duration(second) * time.Second) }
	timelineOf := func(slow func(second int) bool) []timeline.Row {
		var rows []timeline.Row
		for i := range 60 {
			latency := time.Millisecond
			if slow(i) {
				latency = time.Second
			}
			var h histogram.Histogram
			for range 50 {
				h.Observe(latency)
			}
			events := timeline.Events{Due: 50, Effects: 50, EndToEnd: h.Snapshot(), Lag: time.Duration(i) * 100 * time.Millisecond}
			rows = append(rows, timeline.Row{Second: start.Unix() + int64(i), Entry: events, Exit: events})
		}
		return rows
	}
	pause := fault.Record{
		Occurrence: fault.Occurrence{Fault: "stall", Action: plan.ActionPause}, InjectedAt: at(20), HealedAt: at(25), State: fault.Healed,
	}
	kill := fault.Record{
		Occurrence: fault.Occurrence{Fault: "crash", Action: plan.ActionKill}, InjectedAt: at(20), State: fault.Active,
	}
	for name, tt := range map[string]struct {
		objectives plan.Objectives
		slow       func(second int) bool
		records    []fault.Record
		want       []string
	}{
		"nothing has failed": {
			plan.Objectives{MaxRecovery: plan.Duration(20 * time.Second)}, func(s int) bool { return s >= 20 && s < 30 },
			[]fault.Record{pause}, []string{},
		},
		"a recovery that takes too long": {
			plan.Objectives{MaxRecovery: plan.Duration(20 * time.Second)}, func(s int) bool { return s >= 20 && s < 50 },
			[]fault.Record{pause}, []string{"recovery exceeded the objective of 20 s: stall/0 took 25.0 s"},
		},
		"a recovery that is not proved yet": {
			plan.Objectives{MaxRecovery: plan.Duration(31 * time.Second)}, func(s int) bool { return s >= 20 && s < 55 },
			[]fault.Record{pause}, []string{},
		},
		"a late recovery that is not proved yet": {
			plan.Objectives{MaxRecovery: plan.Duration(29 * time.Second)}, func(s int) bool { return s >= 20 && s < 55 },
			[]fault.Record{pause}, []string{"recovery exceeded the objective of 29 s: stall/0 had not recovered after 30.0 s"},
		},
		"a recovery that has not ended": {
			plan.Objectives{MaxRecovery: plan.Duration(20 * time.Second)}, func(s int) bool { return s >= 20 },
			[]fault.Record{pause}, []string{"recovery exceeded the objective of 20 s: stall/0 had not recovered after 33.0 s"},
		},
		"a server that does not start again": {
			plan.Objectives{MaxRecovery: plan.Duration(20 * time.Second)}, func(s int) bool { return s >= 20 },
			[]fault.Record{kill}, []string{"recovery exceeded the objective of 20 s: crash/0 had not recovered after 38.0 s"},
		},
		"a generator that is late": {
			plan.Objectives{PhaseObjectives: plan.PhaseObjectives{MaxLag: plan.Duration(5 * time.Second)}}, func(int) bool { return false },
			nil, []string{"generator lag is 5.90 s, beyond the objective of 5 s"},
		},
		"a p99 that can still improve": {
			plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Millisecond)}}, func(int) bool { return true },
			nil, []string{},
		},
	} {
		p := &plan.Plan{Objectives: tt.objectives}
		for _, r := range tt.records {
			p.Faults = append(p.Faults, plan.Fault{Name: r.Fault, Action: r.Action})
		}
		rows := timelineOf(tt.slow)
		e := EvidenceSoFar(p, &Report{}, rows, nil, fault.Accounts(tt.records, fault.RunSoFar(rows, time.Time{})))
		if got := Messages(CertainFailures(e)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: the certain failures are %q, want %q", name, got, tt.want)
		}
	}
}
