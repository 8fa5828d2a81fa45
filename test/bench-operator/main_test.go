package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/test/stack"
)

// Three simulations are enough to measure everything that the report needs.
func TestBenchOperator_ThreeSimulations_FillsTheReport(t *testing.T) {
	switch {
	case testing.Short():
		t.Skip("the test needs an API server, and -short was given")
	case os.Getenv("KUBEBUILDER_ASSETS") == "" && os.Getenv("PARKING_TEST_REQUIRE") != "1":
		t.Skip("KUBEBUILDER_ASSETS is not set")
	}
	t.Chdir("../..") // run reads manifests relative to the root of the repository
	binary, err := stack.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.json")
	const simulations = 3
	if err := run(t.Context(), options{simulations: simulations, idle: time.Second, quiet: 3 * time.Second, binary: binary, jsonPath: path}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if r.Simulations != simulations || r.ChildrenEach < 10 || r.Create.ChildrenPerSecond <= 0 || r.PeakRSSMiB <= 0 || r.Forbidden != 0 {
		t.Errorf("the report is incomplete: %s", text)
	}
	if s := r.Server; s.CreatesPerSecond <= 0 || s.AppliesPerSecond <= 0 || s.Ratio <= 0 {
		t.Errorf("the API server was not measured: %+v", s)
	}
	if len(r.Aims) != 5 || r.Aims[0].Measured != r.Server.Ratio {
		t.Errorf("%d aims, want 5, the ratio first: %+v", len(r.Aims), r.Aims)
	}
}

func TestComputeAims_MemoryAim_DependsOnNumberOfSimulations(t *testing.T) {
	for simulations, want := range map[int]string{
		1000: "true true false true; ≤ 100 false", 3000: "true true false true; ≤ 250 true", 3001: "true true false true",
	} {
		r := report{Simulations: simulations, ChildrenEach: 22, PeakRSSMiB: 200}
		r.Server.Ratio, r.Create.WritesPerSimulation, r.Idle.Writes = .6, 26, 1
		r.computeAims()
		var got strings.Builder
		for i, a := range r.Aims {
			if i == 4 {
				fmt.Fprintf(&got, "; ≤ %g", *a.AtMost)
			}
			fmt.Fprintf(&got, " %t", a.Met)
		}
		if text := strings.TrimSpace(got.String()); text != want {
			t.Errorf("with %d simulations: got %s, want %s", simulations, text, want)
		}
	}
}

func TestPrint_TableAndJSON_SayWhichAimsAreMet(t *testing.T) {
	r := report{Simulations: 1000, ChildrenEach: 22, PeakRSSMiB: 90}
	r.Server.Ratio = .5
	path := filepath.Join(t.TempDir(), "report.json")
	var out strings.Builder
	if err := r.print(&out, path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"≥ 0.6 missed", "≤ 100 met", "0.50"} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
	var written struct {
		Aims []struct {
			Measured, AtLeast float64
			Met               bool
		} `json:"aims"`
	}
	if err := json.Unmarshal(text, &written); err != nil {
		t.Fatal(err)
	}
	if a := written.Aims; len(a) != 5 || a[0].Measured != .5 || a[0].AtLeast != .6 || a[0].Met {
		t.Errorf("the aims in the JSON report are %+v, want the ratio first", a)
	}
}
