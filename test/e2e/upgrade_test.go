//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// TestOperator_UpgradedKilledUninstalled_KeepsSimulationsRunning does not run in parallel with other tests, because it
// changes the shared operator and measures times.
func TestOperator_UpgradedKilledUninstalled_KeepsSimulationsRunning(t *testing.T) {
	previous, previousTag := previousChart(t), os.Getenv("E2E_PREVIOUS_TAG")
	var previousImage []string
	if previousTag != "" {
		previousImage = []string{"image.tag=" + previousTag}
	}
	t.Cleanup(func() { // install the operator again for the next tests
		if err := shared.install(context.Background(), chart); err != nil {
			t.Error(err)
		}
	})
	if err := shared.install(t.Context(), previous, previousImage...); err != nil {
		t.Fatal(err)
	}
	ns := newNamespace(t)
	sim := ns.applySample("minimal.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Exit.MatchPercent = new(int32(80))
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	pods := len(ns.allPods())
	before := ns.incarnations()

	t.Run("a new chart restarts no pod", func(t *testing.T) {
		ns := ns.forSubtest(t)
		// The annotation changes the pod template, so the operator's pod is replaced even if both charts are equal.
		if err := shared.install(t.Context(), chart, append(previousImage, "podAnnotations.upgraded=now")...); err != nil {
			t.Fatal(err)
		}
		ns.awaitReconciled(sim, time.Minute)
		// If the operator replaces pods, wait until the new pods are ready, so that checkSame detects the replacement.
		ns.awaitProgress(sim, pods)
		ns.checkSame(before)
	})

	t.Run("a new operator restarts no pod", func(t *testing.T) {
		ns := ns.forSubtest(t)
		// Set the current image. Otherwise, the operator would replace all pods to use the chart's own image. The last
		// flag --image takes precedence.
		image := ns.pods(sim, resources.ComponentProcessor)[0].Spec.Containers[0].Image
		if err := shared.install(t.Context(), chart, "extraArgs[0]=--image="+image); err != nil {
			t.Fatal(err)
		}
		ns.awaitReconciled(sim, time.Minute)
		ns.awaitProgress(sim, pods)
		ns.checkSame(before)
	})

	for _, crash := range crashes {
		t.Run("the operator is "+crash.name, func(t *testing.T) {
			crash.skipIfImpossible(t)
			ns := ns.forSubtest(t)
			operator := &namespace{cluster: ns.cluster, t: t, name: operatorNamespace}
			crash.kill(operator, operator.allPods()...)
			// The leader election Lease of a killed operator expires after a minute.
			ns.awaitReconciled(sim, 2*time.Minute)
			ns.checkSame(before)
		})
	}

	t.Run("a new image replaces all pods, and no event is lost", func(t *testing.T) {
		ns := ns.forSubtest(t)
		if err := shared.install(t.Context(), chart); err != nil {
			t.Fatal(err)
		}
		ns.eventually("no pods with the previous image", 2*time.Minute, func() error {
			for _, pod := range ns.allPods() {
				if image := pod.Spec.Containers[0].Image; previousTag != "" && strings.HasSuffix(image, ":"+previousTag) {
					return fmt.Errorf("%s has %s", pod.Name, image)
				}
			}
			return nil
		})
		ns.awaitProgress(sim, pods)
		before = ns.incarnations()
	})

	t.Run("a new rate takes effect without a restart", func(t *testing.T) {
		ns := ns.forSubtest(t)
		ns.awaitReconciled(sim, time.Minute)
		ns.checkSame(before)
	})

	t.Run("uninstalling the operator keeps the simulation running", func(t *testing.T) {
		ns := ns.forSubtest(t)
		if err := uninstall(t.Context()); err != nil {
			t.Fatal(err)
		}
		ns.awaitProgress(sim, pods) // the condition Ready proves nothing: its writer, the operator, is uninstalled
		ns.checkSame(before)
		if err := shared.install(t.Context(), chart); err != nil {
			t.Fatal(err)
		}
		// An uninstalled operator cannot release its leader election Lease, which expires after a minute.
		ns.awaitReconciled(sim, 2*time.Minute)
		ns.checkSame(before)
	})
	ns.finish(sim)
	ns.remove(sim)
}

// awaitReconciled checks that the operator reconciles the simulation. It changes the rate of entries, and waits until
// the generator uses the new rate.
func (ns *namespace) awaitReconciled(sim *v1alpha1.ParkingSimulation, timeout time.Duration) {
	ns.t.Helper()
	var rate int32
	ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) {
		rate = *spec.Entry.Rate + 1
		spec.Entry.Rate = &rate
	})
	ns.eventually(fmt.Sprintf("a target rate of %d entries/s", rate), timeout, func() error {
		now, err := ns.metric(sim, resources.ComponentEntry, "parking_generator_target_rate", "")
		if err == nil && now != float64(rate) {
			err = fmt.Errorf("the target rate is %g", now)
		}
		return err
	})
}

// checkSame fails the test if any pod was replaced or any container restarted.
func (ns *namespace) checkSame(before map[string]string) {
	ns.t.Helper()
	if diff := cmp.Diff(before, ns.incarnations()); diff != "" {
		ns.t.Errorf("pods were replaced or restarted (-before +after):\n%s", diff)
	}
}

// checkSameBut is like checkSame, but ignores the given pods.
func (ns *namespace) checkSameBut(some []corev1.Pod, before map[string]string) {
	ns.t.Helper()
	now := ns.incarnations()
	for name, was := range before {
		pod, _, _ := strings.Cut(name, "/")
		if now[name] != was && !slices.ContainsFunc(some, func(p corev1.Pod) bool { return p.Name == pod }) {
			ns.t.Errorf("%s is %q and was %q", name, now[name], was)
		}
	}
}

// previousChart returns the directory of the chart of HEAD~1. If that commit is not available, as in a shallow
// clone, it returns the current chart.
func previousChart(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	archive := exec.CommandContext(t.Context(), "git", "archive", "HEAD~1", "charts/parking-operator")
	archive.Dir = repository
	text, err := archive.Output()
	if err != nil {
		t.Logf("HEAD~1 has no chart: upgrade from the current chart to itself")
		return chart
	}
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", directory)
	unpack.Stdin = bytes.NewReader(text)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("unpack the previous chart: %w: %s", err, out))
	}
	return filepath.Join(directory, "charts", "parking-operator")
}
