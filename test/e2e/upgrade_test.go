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

// TestUpgradesAndTheLossOfTheOperatorLeaveSimulationsRunning is not parallel to others: the operator is theirs as
// well, and its times are told.
func TestUpgradesAndTheLossOfTheOperatorLeaveSimulationsRunning(t *testing.T) {
	previous, previousTag := previousChart(t), os.Getenv("E2E_PREVIOUS_TAG")
	var previousImage []string
	if previousTag != "" {
		previousImage = []string{"image.tag=" + previousTag}
	}
	t.Cleanup(func() { // for whatever test comes next
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
	ns.untilCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	pods := len(ns.allPods())
	before := ns.incarnations()

	t.Run("a new chart restarts no pod", func(t *testing.T) {
		ns := ns.in(t)
		// The annotation makes sure that there is another operator, even if the charts are the same.
		if err := shared.install(t.Context(), chart, append(previousImage, "podAnnotations.upgraded=now")...); err != nil {
			t.Fatal(err)
		}
		ns.untilFollowed(sim, time.Minute)
		ns.checkSame(before)
	})

	for _, fault := range faults {
		t.Run("the operator is "+fault.name, func(t *testing.T) {
			fault.skipIfImpossible(t)
			ns := ns.in(t)
			operator := &namespace{cluster: ns.cluster, t: t, name: operatorNamespace}
			fault.kill(operator, operator.allPods()...)
			ns.untilFollowed(sim, time.Minute)
			ns.checkSame(before)
		})
	}

	t.Run("a new image replaces pods without a loss", func(t *testing.T) {
		ns := ns.in(t)
		if err := shared.install(t.Context(), chart); err != nil {
			t.Fatal(err)
		}
		ns.eventually("no pod has the image of before", 2*time.Minute, func() error {
			for _, pod := range ns.allPods() {
				if image := pod.Spec.Containers[0].Image; previousTag != "" && strings.HasSuffix(image, ":"+previousTag) {
					return fmt.Errorf("%s has %s", pod.Name, image)
				}
			}
			return nil
		})
		ns.untilWorking(sim, pods)
		before = ns.incarnations()
	})

	t.Run("a new rate reaches the generators within 5 s without a restart", func(t *testing.T) {
		ns := ns.in(t)
		ns.untilFollowed(sim, 5*time.Second)
		ns.checkSame(before)
	})

	t.Run("uninstalling the operator leaves the simulation", func(t *testing.T) {
		ns := ns.in(t)
		if err := uninstall(t.Context()); err != nil {
			t.Fatal(err)
		}
		ns.untilWorking(sim, pods) // its condition is the last one that was written
		ns.checkSame(before)
		if err := shared.install(t.Context(), chart); err != nil {
			t.Fatal(err)
		}
		ns.untilFollowed(sim, time.Minute)
		ns.checkSame(before)
	})
	ns.finish(sim)
	ns.remove(sim)
}

// untilFollowed edits the rate of entries and waits until the generator is asked for it, which takes an
// operator.
func (ns *namespace) untilFollowed(sim *v1alpha1.ParkingSimulation, timeout time.Duration) {
	ns.t.Helper()
	var rate int32
	ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) {
		rate = *spec.Entry.Rate + 1
		spec.Entry.Rate = &rate
	})
	ns.eventually(fmt.Sprintf("the entry generator is asked for %d events a second", rate), timeout, func() error {
		now, err := ns.metric(sim, resources.ComponentEntry, "parking_generator_target_rate", "")
		if err == nil && now != float64(rate) {
			err = fmt.Errorf("it is asked for %g", now)
		}
		return err
	})
}

// checkSame fails the test if a pod was replaced, or a container restarted.
func (ns *namespace) checkSame(before map[string]string) {
	ns.t.Helper()
	if diff := cmp.Diff(before, ns.incarnations()); diff != "" {
		ns.t.Errorf("pods were replaced or restarted (-before +after):\n%s", diff)
	}
}

// checkSameBut is checkSame of all pods but some, and those that took their place.
func (ns *namespace) checkSameBut(some []corev1.Pod, before map[string]string) {
	ns.t.Helper()
	now := ns.incarnations()
	for name, was := range before {
		pod, _, _ := strings.Cut(name, "/")
		if now[name] != was && !slices.ContainsFunc(some, func(p corev1.Pod) bool { return p.Name == pod }) {
			ns.t.Errorf("%s was %s, and now is %q", name, was, now[name])
		}
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
