package resources

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

const (
	// ReportKey is the key of the report in its ConfigMap.
	ReportKey = "report.json"
	// MaxReport is the maximum size of a report in bytes. A ConfigMap, with its metadata, is limited to 1 MiB.
	MaxReport = 900 << 10
)

// ReportName returns the name of the ConfigMap that contains the report of a completed simulation.
func ReportName(sim *v1alpha1.ParkingSimulation) string { return sim.Name + "-report" }

// ReportConfigMap returns the ConfigMap that contains the report of a completed simulation. Build does not return
// it, because it is written once and then never changed.
func ReportConfigMap(sim *v1alpha1.ParkingSimulation, report []byte) *corev1.ConfigMap {
	b := builder{sim: sim}
	return &corev1.ConfigMap{
		ObjectMeta: b.object(ReportName(sim), componentAll),
		Data:       map[string]string{ReportKey: string(report)},
	}
}
