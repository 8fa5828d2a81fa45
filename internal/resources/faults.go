package resources

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// FaultsKey is the key under which a ConfigMap contains the records of injected faults.
const FaultsKey = "journal.json"

// FaultsName returns the name of the ConfigMap in which the operator records the faults that it injects into a
// simulation.
func FaultsName(sim *v1alpha1.ParkingSimulation) string { return sim.Name + "-faults" }

// FaultsConfigMap returns the ConfigMap that records the injected faults of a simulation. Build does not return it,
// because its content changes while faults are injected.
func FaultsConfigMap(sim *v1alpha1.ParkingSimulation, data map[string]string) *corev1.ConfigMap {
	b := builder{sim: sim}
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: b.object(FaultsName(sim), componentAll),
		Data:       data,
	}
}
