//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// readyTimeout is the maximum time until a simulation is ready. It allows for a busy machine.
const readyTimeout = 3 * time.Minute

func TestSimulation_SpecChanges_TakeEffect(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	sim := ns.applySample("minimal.yaml", shareNode)
	ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)

	t.Run("processes events", func(t *testing.T) {
		ns := ns.forSubtest(t)
		ns.eventually("1,000 processed events", time.Minute, func() error {
			if n := ns.processed(sim); n < 1000 {
				return fmt.Errorf("%d are processed", n)
			}
			return nil
		})
	})

	t.Run("the volumes of all servers grow without a restart", func(t *testing.T) {
		ns := ns.forSubtest(t)
		ns.checkVolumesGrow(sim)
	})

	t.Run("scales processors by kubectl scale and by the spec", func(t *testing.T) {
		ns := ns.forSubtest(t)
		for _, replicas := range []int{3, 1} {
			err := kubectl(t.Context(), nil, "scale", "psim/"+sim.Name, "--namespace", ns.name, "--replicas", strconv.Itoa(replicas))
			if err != nil {
				t.Fatal(err)
			}
			ns.awaitPods(sim, resources.ComponentProcessor, replicas, time.Minute)
		}
		ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) { spec.Processor.Replicas = new(int32(2)) })
		ns.awaitPods(sim, resources.ComponentProcessor, 2, time.Minute)
		ns.awaitCondition(sim, v1alpha1.ConditionReady, time.Minute)
	})

	t.Run("suspending loses no event, and resuming processes events again", func(t *testing.T) {
		ns := ns.forSubtest(t)
		ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) { spec.Suspend = true })
		ns.awaitPods(sim, resources.ComponentEntry, 0, time.Minute)
		ns.awaitPods(sim, resources.ComponentExit, 0, time.Minute)
		var rest v1alpha1.LedgerStatus
		ns.eventually("a balanced ledger", 2*time.Minute, func() error {
			rest = *ns.get(sim).Status.Ledger
			return balance(rest)
		})
		ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) { spec.Suspend = false })
		ns.awaitCondition(sim, v1alpha1.ConditionReady, time.Minute)
		ns.eventually("events are processed again", time.Minute, func() error {
			if ns.processed(sim) <= rest.Processed {
				return errors.New("no event was processed")
			}
			return nil
		})
	})

	t.Run("a deleted simulation leaves no objects behind", func(t *testing.T) {
		ns.forSubtest(t).remove(sim)
	})
}

// checkVolumesGrow doubles the size of all volumes of a running simulation. The test fails if a pod restarts or a
// volume does not grow.
func (ns *namespace) checkVolumesGrow(sim *v1alpha1.ParkingSimulation) {
	ns.t.Helper()
	claims := func() []corev1.PersistentVolumeClaim {
		var list corev1.PersistentVolumeClaimList
		if err := ns.List(ns.t.Context(), &list, client.InNamespace(ns.name)); err != nil {
			ns.t.Fatal(err)
		}
		return list.Items
	}
	const size, larger = "2Gi", "4Gi"
	if got := claims(); len(got) != 3 {
		ns.t.Fatalf("there are %d volume claims, want one each of RabbitMQ, Redis and the summary API", len(got))
	}
	for _, claim := range claims() {
		var class storagev1.StorageClass
		if err := ns.Get(ns.t.Context(), client.ObjectKey{Name: *claim.Spec.StorageClassName}, &class); err != nil {
			ns.t.Fatal(err)
		}
		if class.AllowVolumeExpansion == nil || !*class.AllowVolumeExpansion {
			ns.t.Skipf("the storage class %s does not enlarge volumes", class.Name)
		}
		if got := claim.Status.Capacity.Storage().String(); got != size {
			ns.t.Fatalf("the volume of %s has %s, want %s", claim.Name, got, size)
		}
	}
	before, processed := ns.incarnations(), ns.processed(sim)
	ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) {
		for _, storage := range []*v1alpha1.StorageSpec{
			&spec.RabbitMQ.Managed.Storage, &spec.Redis.Managed.Storage, &spec.SummaryAPI.Managed.Storage,
		} {
			storage.Size = new(v1alpha1.Quantity(larger))
		}
	})
	ns.eventually("all volumes are enlarged", 2*time.Minute, func() error {
		for _, claim := range claims() {
			if got := claim.Status.Capacity.Storage().String(); got != larger {
				return fmt.Errorf("the volume of %s has %s", claim.Name, got)
			}
		}
		return nil
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, time.Minute)
	ns.eventually("events are processed after the change", time.Minute, func() error {
		if ns.processed(sim) <= processed {
			return errors.New("no event was processed")
		}
		return nil
	})
	ns.checkSame(before)
}

func TestSimulation_RunToCompletion_Passes(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	sim := ns.applySample("run-to-completion.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Duration = v1alpha1.NewDuration(20 * time.Second)
		// The cluster and the tests run on the same machine, so the latency objectives are lenient.
		sim.Spec.Objectives.ProcessingP99 = v1alpha1.NewDuration(time.Minute)
		sim.Spec.Objectives.EndToEndP99 = v1alpha1.NewDuration(time.Minute)
		lowRates(sim)
		shareNode(sim)
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	ns.awaitPass(sim)
	if !meta.IsStatusConditionTrue(ns.get(sim).Status.Conditions, v1alpha1.ConditionObjectivesMet) {
		t.Errorf("ObjectivesMet is %+v, want True", meta.FindStatusCondition(ns.get(sim).Status.Conditions, v1alpha1.ConditionObjectivesMet))
	}
	ns.checkReport(sim)
	ns.remove(sim)
}

// checkReport checks that the report of a complete simulation has all parts and agrees with the status.
func (ns *namespace) checkReport(sim *v1alpha1.ParkingSimulation) {
	ns.t.Helper()
	status := ns.get(sim).Status
	var object corev1.ConfigMap
	if err := ns.Get(ns.t.Context(), client.ObjectKey{Namespace: ns.name, Name: status.Report}, &object); err != nil {
		ns.t.Fatal(err)
	}
	document, err := report.Read(strings.NewReader(object.Data[resources.ReportKey]))
	if err != nil {
		ns.t.Fatal(err)
	}
	if got, want := document.Ledger.EntriesRecorded, status.Ledger.EntriesRecorded; string(document.Outcome) != string(status.Verdict) || got != want {
		ns.t.Errorf("the report has the verdict %s and %d entries, the status has %s and %d", document.Outcome, got, status.Verdict, want)
	}
	if len(document.Timeline) == 0 || document.LatencySeconds.EndToEnd == nil || document.Environment.RabbitMQ == "" || document.Environment.Redis == "" || document.Environment.Kubernetes == "" {
		ns.t.Errorf("the report has %d rows of the timeline, the latencies %+v and the environment %+v", len(document.Timeline), document.LatencySeconds, document.Environment)
	}
	if e := document.Environment; len(e.Nodes) == 0 || e.Nodes[0].CPUs < 1 || e.Nodes[0].MemoryBytes < 1 || len(e.Manifest) == 0 {
		ns.t.Errorf("the report has the nodes %+v and the manifest %s", e.Nodes, e.Manifest)
	}
	ns.t.Logf("the report has %d bytes and %d rows of the timeline", len(object.Data[resources.ReportKey]), len(document.Timeline))
}

// forSubtest returns a copy of the namespace whose methods fail the subtest t.
func (ns *namespace) forSubtest(t *testing.T) *namespace {
	return &namespace{cluster: ns.cluster, t: t, name: ns.name}
}

// awaitPass waits until the simulation is complete. It checks that the verdict is PASS and that the ledger
// balances.
func (ns *namespace) awaitPass(sim *v1alpha1.ParkingSimulation) {
	ns.t.Helper()
	ns.awaitCondition(sim, v1alpha1.ConditionComplete, 3*time.Minute)
	status := ns.get(sim).Status
	// Ignore reasons for the verdict that concern the schedule: a busy machine may be too slow to publish on schedule.
	isLate := func(reason string) bool { return strings.Contains(reason, "the schedule of the") }
	if unmet := slices.DeleteFunc(slices.Clone(status.Reasons), isLate); status.Verdict != v1alpha1.VerdictPass && (len(unmet) > 0 || len(status.Reasons) == 0) {
		ns.t.Errorf("the verdict is %s: %v", status.Verdict, status.Reasons)
	}
	if status.Ledger.Lost == nil || *status.Ledger.Lost != 0 {
		ns.t.Error("status.ledger.lost is not 0")
	}
	if err := balance(*status.Ledger); err != nil {
		ns.t.Error(err)
	}
	if want := sim.Name + "-report"; status.Report != want {
		ns.t.Errorf("status.report is %q, want %q", status.Report, want)
	}
	ns.t.Logf("%s: %d entries, %d matched exits, %d unmatched exits, %d suppressed duplicates, %d indeterminate events", status.Verdict,
		status.Ledger.EntriesRecorded, status.Ledger.Matched, status.Ledger.UnmatchedExpected,
		status.Ledger.DuplicatesSuppressed, status.Ledger.Indeterminate)
}

// processed returns the number of processed events according to the latest ledger in the status.
func (ns *namespace) processed(sim *v1alpha1.ParkingSimulation) int64 {
	ns.t.Helper()
	if ledger := ns.get(sim).Status.Ledger; ledger != nil {
		return ledger.Processed
	}
	return 0
}

// balance returns an error unless every confirmed event has taken effect once. All events must be processed.
// Indeterminate events count as confirmed: their killed generator did not record the confirmation.
func balance(l v1alpha1.LedgerStatus) error {
	confirmed := l.EntriesConfirmed + l.ExitsMatchedConfirmed + l.ExitsUnmatchedConfirmed + l.Indeterminate
	effects := l.EntriesRecorded + l.Matched + l.UnmatchedExpected
	switch {
	case l.Processed == 0:
		return errors.New("no event was processed")
	case effects != confirmed:
		return fmt.Errorf("%d events took effect, %d are confirmed or indeterminate", effects, confirmed)
	case l.SummariesStored != l.Matched:
		return fmt.Errorf("%d summaries are stored, %d visits ended", l.SummariesStored, l.Matched)
	case l.UnmatchedUnexpected != 0 || l.DeadLettered != 0:
		return fmt.Errorf("%d exits are unexpectedly unmatched, %d events are dead-lettered", l.UnmatchedUnexpected, l.DeadLettered)
	}
	return nil
}
