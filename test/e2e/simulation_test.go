//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// readyTimeout is for machines that do other things as well; 30 s are the aim where they do not.
const readyTimeout = 3 * time.Minute

func TestSimulationFollowsItsSpecUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	sim := ns.applySample("minimal.yaml", shareNode)
	ns.untilCondition(sim, v1alpha1.ConditionReady, readyTimeout)

	t.Run("events flow", func(t *testing.T) {
		ns := ns.in(t)
		ns.eventually("1,000 events are processed", time.Minute, func() error {
			if n := ns.processed(sim); n < 1000 {
				return fmt.Errorf("%d are", n)
			}
			return nil
		})
	})

	t.Run("kubectl scale and the spec scale the processors", func(t *testing.T) {
		ns := ns.in(t)
		for _, replicas := range []int{3, 1} {
			err := kubectl(t.Context(), nil, "scale", "psim/"+sim.Name, "--namespace", ns.name, "--replicas", strconv.Itoa(replicas))
			if err != nil {
				t.Fatal(err)
			}
			ns.untilPods(sim, resources.ComponentProcessor, replicas, time.Minute)
		}
		ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) { spec.Processor.Replicas = new(int32(2)) })
		ns.untilPods(sim, resources.ComponentProcessor, 2, time.Minute)
		ns.untilCondition(sim, v1alpha1.ConditionReady, time.Minute)
	})

	t.Run("a suspended simulation comes to rest with nothing lost, and resumes", func(t *testing.T) {
		ns := ns.in(t)
		ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) { spec.Suspend = true })
		ns.untilPods(sim, resources.ComponentEntry, 0, time.Minute)
		ns.untilPods(sim, resources.ComponentExit, 0, time.Minute)
		var rest v1alpha1.LedgerStatus
		ns.eventually("the ledger balances", 2*time.Minute, func() error {
			rest = *ns.get(sim).Status.Ledger
			return balance(rest)
		})
		ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) { spec.Suspend = false })
		ns.untilCondition(sim, v1alpha1.ConditionReady, time.Minute)
		ns.eventually("events flow again", time.Minute, func() error {
			if ns.processed(sim) <= rest.Processed {
				return errors.New("none was processed")
			}
			return nil
		})
	})

	t.Run("deletion leaves nothing", func(t *testing.T) {
		ns.in(t).remove(sim)
	})
}

func TestRunToCompletionEndsWithAVerdict(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	sim := ns.applySample("run-to-completion.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Duration.Duration = 20 * time.Second
		// Latencies are measured elsewhere: this machine runs a whole cluster besides.
		sim.Spec.Objectives.ProcessingP99.Duration = 10 * time.Second
		sim.Spec.Objectives.EndToEndP99.Duration = 20 * time.Second
		shareNode(sim)
	})
	ns.untilCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	ns.untilVerdict(sim)
	if !meta.IsStatusConditionTrue(ns.get(sim).Status.Conditions, v1alpha1.ConditionObjectivesMet) {
		t.Errorf("the objectives are not met: %+v", meta.FindStatusCondition(ns.get(sim).Status.Conditions, v1alpha1.ConditionObjectivesMet))
	}
	ns.remove(sim)
}

// in returns the namespace for a subtest.
func (ns *namespace) in(t *testing.T) *namespace {
	return &namespace{cluster: ns.cluster, t: t, name: ns.name}
}

// untilVerdict waits until the simulation is complete, and checks that it passed with every event accounted
// for.
func (ns *namespace) untilVerdict(sim *v1alpha1.ParkingSimulation) {
	ns.t.Helper()
	ns.untilCondition(sim, v1alpha1.ConditionComplete, 3*time.Minute)
	status := ns.get(sim).Status
	if status.Verdict != v1alpha1.VerdictPass {
		ns.t.Errorf("the verdict is %s: %v", status.Verdict, status.Reasons)
	}
	if status.Ledger.Lost == nil || *status.Ledger.Lost != 0 {
		ns.t.Error("the ledger does not say that nothing was lost")
	}
	if err := balance(*status.Ledger); err != nil {
		ns.t.Error(err)
	}
	ns.t.Logf("%s: %d entries, %d exits matched, %d not, %d duplicates suppressed, %d indeterminate", status.Verdict,
		status.Ledger.EntriesRecorded, status.Ledger.Matched, status.Ledger.UnmatchedExpected,
		status.Ledger.DuplicatesSuppressed, status.Ledger.Indeterminate)
}

// processed is how many events took effect when the ledger was last read.
func (ns *namespace) processed(sim *v1alpha1.ParkingSimulation) int64 {
	ns.t.Helper()
	if ledger := ns.get(sim).Status.Ledger; ledger != nil {
		return ledger.Processed
	}
	return 0
}

// balance compares, at rest, what was confirmed with what took effect. What a generator had published when
// it died may have taken effect without being confirmed.
func balance(l v1alpha1.LedgerStatus) error {
	confirmed := l.EntriesConfirmed + l.ExitsMatchedConfirmed + l.ExitsUnmatchedConfirmed + l.Indeterminate
	effects := l.EntriesRecorded + l.Matched + l.UnmatchedExpected
	switch {
	case l.Processed == 0:
		return errors.New("no event was processed")
	case effects != confirmed:
		return fmt.Errorf("%d events took effect, of %d confirmed or indeterminate", effects, confirmed)
	case l.SummariesStored != l.Matched:
		return fmt.Errorf("%d summaries are stored of %d visits", l.SummariesStored, l.Matched)
	case l.UnmatchedUnexpected != 0 || l.DeadLettered != 0:
		return fmt.Errorf("%d exits found no entry, %d events are dead-lettered", l.UnmatchedUnexpected, l.DeadLettered)
	}
	return nil
}
