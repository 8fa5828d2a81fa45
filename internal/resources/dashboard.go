package resources

import (
	_ "embed"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// dashboardTemplate is a Grafana dashboard whose variables "namespace" and "simulation" have no values.
//
//go:embed dashboard.json
var dashboardTemplate []byte

// grafanaLabel is the label of ConfigMaps that Grafana's sidecar loads as dashboards.
const grafanaLabel = "grafana_dashboard"

func (b *builder) dashboardConfigMap() (client.Object, error) {
	text, err := dashboard(b.sim.Namespace, b.sim.Name)
	if err != nil {
		return nil, fmt.Errorf("build the dashboard: %w", err)
	}
	meta := b.object(b.sim.Name+"-dashboard", componentMonitor)
	meta.Labels[grafanaLabel] = "1"
	return &corev1.ConfigMap{
		ObjectMeta: meta,
		Data:       map[string]string{"parking-" + b.plan.Simulation + ".json": text},
	}, nil
}

// dashboard returns the dashboard as JSON, with its variables set to the given values. The JSON is compact, because
// every simulation has its own copy.
func dashboard(namespace, simulation string) (string, error) {
	var d map[string]any
	if err := json.Unmarshal(dashboardTemplate, &d); err != nil {
		return "", err
	}
	id := namespace + "/" + simulation
	d["title"] = "Parking simulation " + id
	d["uid"] = "parking-" + hash(id) // Grafana allows at most 40 characters in a uid
	constants := map[string]string{"namespace": namespace, "simulation": simulation}
	templating, _ := d["templating"].(map[string]any)
	variables, _ := templating["list"].([]any)
	for _, v := range variables {
		variable, _ := v.(map[string]any)
		name, _ := variable["name"].(string)
		if value, ok := constants[name]; ok {
			variable["query"] = value
		}
	}
	text, err := json.Marshal(d)
	return string(text), err
}
