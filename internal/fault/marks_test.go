package fault

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

func TestMarks_FaultsThatTookEffect_AreInChronologicalOrder(t *testing.T) {
	t.Parallel()
	accounts := []Account{
		{Fault: "cut", Action: plan.ActionIsolate, Outcome: OutcomeNotInjected},
		{
			Fault: "freeze", Number: 2, Action: plan.ActionPause, Hit: []string{"p-0", "p-1", "p-2", "p-3", "p-4", "p-5", "p-6"},
			InjectedAt: second(10), HealedAt: second(20), Outcome: OutcomeRecovered,
		},
		{Fault: "crash", Action: plan.ActionKill, Hit: []string{"redis-0"}, InjectedAt: second(12), HealedAt: second(15), Outcome: OutcomeAborted},
		{Fault: "stall", Action: plan.ActionPause, Hit: []string{"e-0"}, InjectedAt: second(30), Outcome: OutcomeActive},
	}
	want := []timeline.Mark{
		{At: second(10), Kind: timeline.MarkInjected, Subject: "freeze/2", Message: "Pause of p-0, p-1, p-2, p-3, p-4, and 2 more"},
		{At: second(12), Kind: timeline.MarkInjected, Subject: "crash/0", Message: "Kill of redis-0"},
		{At: second(15), Kind: timeline.MarkHealed, Subject: "crash/0", Message: "ended early, after 3.00 s"},
		{At: second(20), Kind: timeline.MarkHealed, Subject: "freeze/2", Message: "after 10.0 s"},
		{At: second(30), Kind: timeline.MarkInjected, Subject: "stall/0", Message: "Pause of e-0"},
	}
	if diff := cmp.Diff(want, Marks(accounts)); diff != "" {
		t.Errorf("marks differ (-want +got):\n%s", diff)
	}
}
