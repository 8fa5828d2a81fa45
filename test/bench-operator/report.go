package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/parking-operator/parking-operator/test/aim"
)

// report contains the results of all measurements.
type report struct {
	Simulations int `json:"simulations"`
	// Aims contains the performance targets of the project, and the values measured for them.
	Aims []aim.Aim `json:"aims"`
	// ChildrenEach is the number of child objects of each simulation.
	ChildrenEach int `json:"childrenEach"`
	Create       struct {
		// Seconds is the time from the creation of the first simulation until the last child object was created.
		Seconds              float64 `json:"seconds"`
		SimulationsPerSecond float64 `json:"simulationsPerSecond"`
		ChildrenPerSecond    float64 `json:"childrenPerSecond"`
		// P50Seconds and P99Seconds are quantiles over all simulations. They measure the time from the creation of a
		// simulation until its last child object was created.
		P50Seconds float64 `json:"p50Seconds"`
		P99Seconds float64 `json:"p99Seconds"`
		// CPUSeconds is the CPU time that each program used while the simulations and their child objects were created.
		CPUSeconds map[string]float64 `json:"cpuSeconds"`
		// WritesPerSimulation is the mean number of write requests per simulation until the operator was idle.
		WritesPerSimulation float64        `json:"writesPerSimulation"`
		Writes              map[string]int `json:"writes"`
	} `json:"create"`
	// Server contains the numbers of child objects that the API server creates per second while no operator runs; see
	// measureServer.
	Server struct {
		CreatesPerSecond float64 `json:"createsPerSecond"`
		AppliesPerSecond float64 `json:"appliesPerSecond"`
		// Ratio is the rate at which the operator creates children, divided by the higher of CreatesPerSecond and
		// AppliesPerSecond.
		Ratio float64 `json:"ratio"`
	} `json:"server"`
	// OperatorCPUSeconds is the CPU time that the operator used until it was idle. PeakRSSMiB is the maximum of the
	// operator's resident memory until then.
	OperatorCPUSeconds float64 `json:"operatorCPUSeconds"`
	PeakRSSMiB         float64 `json:"peakRSSMiB"`
	Idle               struct {
		Seconds                       float64 `json:"seconds"`
		Writes                        int     `json:"writes"`
		ReconcilesPerSimulationMinute float64 `json:"reconcilesPerSimulationMinute"`
		CPUSeconds                    float64 `json:"cpuSeconds"`
	} `json:"idle"`
	Restart struct {
		// Seconds is the time from the second start of the operator until the operator has reconciled every simulation.
		Seconds    float64 `json:"seconds"`
		Writes     int     `json:"writes"`
		CPUSeconds float64 `json:"cpuSeconds"`
		PeakRSSMiB float64 `json:"peakRSSMiB"`
	} `json:"restart"`
	ReconcileErrors float64 `json:"reconcileErrors"`
	// Forbidden is the number of requests that the API server denied because the operator lacks the permission.
	Forbidden int `json:"forbidden"`
}

// computeAims compares the results with the performance targets. There is no target for the memory of the operator
// with more than 3000 simulations.
func (r *report) computeAims() {
	const otherWrites = 4
	r.Aims = []aim.Aim{
		aim.AtLeast(.6, "children/s of the operator, relative to requests/s of the API server alone", r.Server.Ratio),
		aim.AtMost(float64(r.ChildrenEach+otherWrites), "writes per simulation", r.Create.WritesPerSimulation),
		aim.AtMost(0, "writes while nothing changes", float64(r.Idle.Writes)),
		aim.AtMost(0, "writes after a restart", float64(r.Restart.Writes)),
	}
	const most, many = 3000, 1000
	switch {
	case r.Simulations <= many:
		r.Aims = append(r.Aims, aim.AtMost(100, "peak memory of the operator, MiB", r.PeakRSSMiB))
	case r.Simulations <= most:
		r.Aims = append(r.Aims, aim.AtMost(250, "peak memory of the operator, MiB", r.PeakRSSMiB))
	}
}

// print prints the results as a table. It then writes the report as JSON to a file.
func (r *report) print(out io.Writer, jsonPath string) error {
	r.computeAims()
	if err := r.printTable(out); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(jsonPath), 0o750); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(jsonPath, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func (r *report) printTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%d simulations with %d children each\n\n", r.Simulations, r.ChildrenEach)
	aim.Print(w, r.Aims)
	fmt.Fprintf(w, "time until every child exists\t%.1f s\t%.1f simulations/s, %.0f children/s\n",
		r.Create.Seconds, r.Create.SimulationsPerSecond, r.Create.ChildrenPerSecond)
	fmt.Fprintf(w, "API server alone, %d workers\t%.0f creates/s\t%.0f applies/s\n", workers, r.Server.CreatesPerSecond, r.Server.AppliesPerSecond)
	fmt.Fprintf(w, "children/s of the operator, relative to requests/s of the API server alone\t%.2f\trequests/s is the higher of creates/s and applies/s\n", r.Server.Ratio)
	fmt.Fprintf(w, "time per simulation until its children exist\tp50 %.1f s\tp99 %.1f s\n", r.Create.P50Seconds, r.Create.P99Seconds)
	fmt.Fprintf(w, "writes per simulation\t%.2f\t%d writes create children, %.2f writes do not\n", r.Create.WritesPerSimulation, r.ChildrenEach,
		r.Create.WritesPerSimulation-float64(r.ChildrenEach))
	fmt.Fprintf(w, "operator\t%.1f MiB peak\t%.1f s of CPU, %.1f ms per simulation\n",
		r.PeakRSSMiB, r.OperatorCPUSeconds, 1000*r.OperatorCPUSeconds/float64(r.Simulations))
	fmt.Fprintf(w, "%.0f s idle\t%d writes\t%.3f reconciles per simulation and minute, %.2f s of CPU\n",
		r.Idle.Seconds, r.Idle.Writes, r.Idle.ReconcilesPerSimulationMinute, r.Idle.CPUSeconds)
	fmt.Fprintf(w, "restart\t%d writes\t%.1f s until all simulations are reconciled, %.1f s of CPU, %.1f MiB peak\n",
		r.Restart.Writes, r.Restart.Seconds, r.Restart.CPUSeconds, r.Restart.PeakRSSMiB)
	fmt.Fprintf(w, "failed reconciles\t%.0f\tforbidden requests: %d\n\n", r.ReconcileErrors, r.Forbidden)
	fmt.Fprintln(w, "CPU while creating\tseconds")
	for _, name := range slices.Sorted(maps.Keys(r.Create.CPUSeconds)) {
		fmt.Fprintf(w, "  %s\t%.1f\n", name, r.Create.CPUSeconds[name])
	}
	fmt.Fprintln(w, "\nwrites\tcount")
	for _, kind := range slices.Sorted(maps.Keys(r.Create.Writes)) {
		fmt.Fprintf(w, "  %s\t%d\n", kind, r.Create.Writes[kind])
	}
	return w.Flush()
}
