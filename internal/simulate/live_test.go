package simulate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

func TestSimulationState_ReflectsEachPhaseOfARun(t *testing.T) {
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
		if after.Phase != view.Finished || !after.Verdict.Final || after.Verdict.Outcome != ledger.Pass || after.Unmeasured == nil {
			t.Errorf("after the run, the state is %+v", after)
		}
		if after.Queues.Ready == nil || *after.Queues.Ready != 0 {
			t.Errorf("after the run, the backlog is %v, want 0", after.Queues.Ready)
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
