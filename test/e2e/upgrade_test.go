//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

func TestUpgradeAndUninstallLeaveRunningSimulationsAlone(t *testing.T) {
	previous := previousChart(t)
	t.Cleanup(func() { // for whatever test comes next
		if err := install(context.Background(), chart); err != nil {
			t.Error(err)
		}
	})
	if err := install(t.Context(), previous); err != nil {
		t.Fatal(err)
	}
	ns := newNamespace(t)
	sim := ns.applySample("minimal.yaml", nil)
	ns.untilCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	before := ns.incarnations()

	// The annotation makes sure that there is another operator, even if the charts are the same.
	if err := install(t.Context(), chart, "podAnnotations.upgraded=now"); err != nil {
		t.Fatal(err)
	}
	ns.untilFollowed(sim, "the upgrade")
	ns.checkSame(before)

	if err := uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	ns.get(sim) // fails unless it is there
	ns.checkSame(before)
	if err := install(t.Context(), chart); err != nil {
		t.Fatal(err)
	}
	ns.untilFollowed(sim, "the installation")
	ns.checkSame(before)
	ns.remove(sim)
}

// untilFollowed waits until the operator that runs now has read the ledger of a simulation.
func (ns *namespace) untilFollowed(sim *v1alpha1.ParkingSimulation, since string) {
	ns.t.Helper()
	start := time.Now()
	ns.eventually("the ledger is read after "+since, time.Minute, func() error {
		if read := ns.get(sim).Status.Ledger; read == nil || !read.ObservedTime.After(start) {
			return errors.New("it was not")
		}
		return nil
	})
	ns.untilCondition(sim, v1alpha1.ConditionReady, time.Minute)
}

// checkSame fails the test if a pod was replaced, or a container restarted.
func (ns *namespace) checkSame(before map[string]string) {
	ns.t.Helper()
	if diff := cmp.Diff(before, ns.incarnations()); diff != "" {
		ns.t.Errorf("pods were replaced or restarted (-before +after):\n%s", diff)
	}
}

// previousChart unpacks the chart of the commit before this one. A first commit, and a shallow clone, have
// none: this one's is used then.
func previousChart(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	archive := exec.CommandContext(t.Context(), "git", "archive", "HEAD~1", "charts/parking-operator")
	archive.Dir = repository
	text, err := archive.Output()
	if err != nil {
		t.Logf("HEAD~1 has no chart: the upgrade is from this one to itself")
		return chart
	}
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", folder)
	unpack.Stdin = bytes.NewReader(text)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("unpack the previous chart: %w: %s", err, out))
	}
	return filepath.Join(folder, "charts", "parking-operator")
}
