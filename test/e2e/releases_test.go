//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// This test is not parallel, because it temporarily limits the shared operator to one namespace.
func TestSecondHelmRelease_ReconcilesOnlyItsOwnNamespaces(t *testing.T) {
	const second = "parking-operator-second"
	t.Cleanup(func() { // restore the operator for the next test
		if err := shared.install(context.Background(), chart); err != nil {
			t.Error(err)
		}
		if err := shared.Delete(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: second}}); err != nil {
			t.Error(err)
		}
	})
	if err := shared.createNamespace(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	one, two := newNamespace(t), newNamespace(t)
	if err := shared.install(t.Context(), chart, "simulations.namespaces={"+one.name+"}"); err != nil {
		t.Fatal(err)
	}
	if err := shared.installInto(t.Context(), second, chart, "crds.install=false", "simulations.namespaces={"+two.name+"}"); err != nil {
		t.Fatal(err)
	}
	simOne, simTwo := one.applySample("minimal.yaml", shareNode), two.applySample("minimal.yaml", shareNode)
	one.awaitCondition(simOne, v1alpha1.ConditionReady, readyTimeout)
	two.awaitCondition(simTwo, v1alpha1.ConditionReady, readyTimeout)
	two.awaitReconciled(simTwo, time.Minute)

	if err := uninstallFrom(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	two.edit(simTwo, func(spec *v1alpha1.ParkingSimulationSpec) { spec.Exit.Rate = new(int32(7)) })
	one.awaitReconciled(simOne, time.Minute)
	if now := two.get(simTwo); now.Status.ObservedGeneration == now.Generation {
		t.Error("the first operator reconciled a simulation in a namespace of the second one")
	}
	if err := shared.install(t.Context(), chart); err != nil {
		t.Fatal(err)
	}
	two.awaitCondition(simTwo, v1alpha1.ConditionReady, time.Minute)
	one.remove(simOne)
	two.remove(simTwo)
}
