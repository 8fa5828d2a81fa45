package kubectl

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// Report returns the report of a simulation that has completed.
func (p *Plugin) Report(ctx context.Context, name string) (*report.Document, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	c, err := p.connect()
	if err != nil {
		return nil, err
	}
	sim, err := c.simulation(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.reportOf(ctx, sim)
}

// reportOf reads the report of a simulation from a ConfigMap. The simulation's status contains the name of the
// ConfigMap.
func (c *cluster) reportOf(ctx context.Context, sim *v1alpha1.ParkingSimulation) (*report.Document, error) {
	name := sim.Status.Report
	if name == "" {
		return nil, missingReport(sim)
	}
	object := &corev1.ConfigMap{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: sim.Namespace, Name: name}, object); err != nil {
		return nil, c.explain(err, "get the report in ConfigMap "+sim.Namespace+"/"+name, onCore("configmaps", "get"))
	}
	text, ok := object.Data[resources.ReportKey]
	if !ok {
		return nil, inputErrorf("ConfigMap %s/%s has no key %s", sim.Namespace, name, resources.ReportKey)
	}
	d, err := report.Read(strings.NewReader(text))
	if err != nil {
		return nil, inputErrorf("read key %s of ConfigMap %s/%s: %w", resources.ReportKey, sim.Namespace, name, err)
	}
	return d, nil
}

func missingReport(sim *v1alpha1.ParkingSimulation) error {
	name := sim.Namespace + "/" + sim.Name
	switch {
	case sim.Status.CompletionTime != nil:
		return inputErrorf("simulation %s is complete, but has no report: 'kubectl describe parkingsimulation %s -n %s' shows an event with the reason", name, sim.Name, sim.Namespace)
	case sim.Spec.Duration == nil:
		return inputErrorf("simulation %s has no report, because it runs until it is deleted: only a simulation with spec.duration ends with a report", name)
	}
	return inputErrorf("simulation %s has no report yet: the operator writes it when the simulation is complete; 'kubectl wait psim/%s -n %s --for condition=Complete --timeout -1s' waits for that", name, sim.Name, sim.Namespace)
}
