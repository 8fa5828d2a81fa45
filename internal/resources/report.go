package resources

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// ReportKey is the key of the report in its ConfigMap. MaxReport is the largest report in bytes. A ConfigMap holds 1 MiB.
const (
	ReportKey = "report.json"
	MaxReport = 900 << 10
)

// ReportName returns the name of the ConfigMap that holds the report of a complete simulation under ReportKey.
func ReportName(sim *v1alpha1.ParkingSimulation) string { return sim.Name + "-report" }

// ReportConfigMap returns the ConfigMap with the report of a complete simulation. Build does not return it: it is
// written once, and kept.
func ReportConfigMap(sim *v1alpha1.ParkingSimulation, report []byte) *corev1.ConfigMap {
	b := builder{sim: sim}
	return &corev1.ConfigMap{
		ObjectMeta: b.object(ReportName(sim), componentAll),
		Data:       map[string]string{ReportKey: string(report)},
	}
}
