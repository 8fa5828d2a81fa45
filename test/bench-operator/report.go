package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
)

// report is what a run of the benchmark prints.
type report struct {
	Simulations int `json:"simulations"`
	// ChildrenEach is how many objects each simulation gets.
	ChildrenEach int `json:"childrenEach"`
	Create       struct {
		// Seconds is from the first simulation's creation to the last one's last child.
		Seconds              float64 `json:"seconds"`
		SimulationsPerSecond float64 `json:"simulationsPerSecond"`
		ChildrenPerSecond    float64 `json:"childrenPerSecond"`
		// P50Seconds and P99Seconds are from a simulation's creation to its last child.
		P50Seconds float64 `json:"p50Seconds"`
		P99Seconds float64 `json:"p99Seconds"`
		// CPUSeconds of each program, in that time.
		CPUSeconds map[string]float64 `json:"cpuSeconds"`
		// WritesPerSimulation are requests that change something, until there is nothing left to do.
		WritesPerSimulation float64        `json:"writesPerSimulation"`
		Writes              map[string]int `json:"writes"`
	} `json:"create"`
	// OperatorCPUSeconds and PeakRSSMiB are the operator's until there was nothing left to do.
	OperatorCPUSeconds float64 `json:"operatorCPUSeconds"`
	PeakRSSMiB         float64 `json:"peakRSSMiB"`
	Idle               struct {
		Seconds                       float64 `json:"seconds"`
		Writes                        int     `json:"writes"`
		ReconcilesPerSimulationMinute float64 `json:"reconcilesPerSimulationMinute"`
		CPUSeconds                    float64 `json:"cpuSeconds"`
	} `json:"idle"`
	Restart struct {
		// Seconds is from the start of the process until it has reconciled every simulation.
		Seconds    float64 `json:"seconds"`
		Writes     int     `json:"writes"`
		CPUSeconds float64 `json:"cpuSeconds"`
		PeakRSSMiB float64 `json:"peakRSSMiB"`
	} `json:"restart"`
	ReconcileErrors float64 `json:"reconcileErrors"`
	// Refused are requests that the operator's role did not allow.
	Refused int `json:"refused"`
}

// print writes the table, and the report as JSON to the file or, without one, behind the table.
func (r *report) print(jsonPath string) error {
	if err := r.printTable(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if jsonPath == "" {
		fmt.Println(string(text))
		return nil
	}
	if err := os.WriteFile(jsonPath, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func (r *report) printTable() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%d simulations of %d children\n\n", r.Simulations, r.ChildrenEach)
	fmt.Fprintf(w, "until every child exists\t%.1f s\t%.1f simulations/s, %.0f children/s\n",
		r.Create.Seconds, r.Create.SimulationsPerSecond, r.Create.ChildrenPerSecond)
	fmt.Fprintf(w, "create to children\tp50 %.1f s\tp99 %.1f s\n", r.Create.P50Seconds, r.Create.P99Seconds)
	fmt.Fprintf(w, "writes per simulation\t%.2f\t%d children + %.2f\n", r.Create.WritesPerSimulation, r.ChildrenEach,
		r.Create.WritesPerSimulation-float64(r.ChildrenEach))
	fmt.Fprintf(w, "operator\t%.1f MiB peak\t%.1f s of CPU, %.1f ms a simulation\n",
		r.PeakRSSMiB, r.OperatorCPUSeconds, 1000*r.OperatorCPUSeconds/float64(r.Simulations))
	fmt.Fprintf(w, "%.0f s with nothing to do\t%d writes\t%.3f reconciles per simulation and minute, %.2f s of CPU\n",
		r.Idle.Seconds, r.Idle.Writes, r.Idle.ReconcilesPerSimulationMinute, r.Idle.CPUSeconds)
	fmt.Fprintf(w, "restart\t%d writes\t%.1f s until converged, %.1f s of CPU, %.1f MiB peak\n",
		r.Restart.Writes, r.Restart.Seconds, r.Restart.CPUSeconds, r.Restart.PeakRSSMiB)
	fmt.Fprintf(w, "reconciles that failed\t%.0f\trequests refused: %d\n\n", r.ReconcileErrors, r.Refused)
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
