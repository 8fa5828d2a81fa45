package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/test/stack"
)

// A run with three simulations measures everything that the report needs.
func TestBenchOperator_ThreeSimulations_FillsTheReport(t *testing.T) {
	switch {
	case testing.Short():
		t.Skip("it needs an API server, and -short was given")
	case os.Getenv("KUBEBUILDER_ASSETS") == "" && os.Getenv("PARKING_TEST_REQUIRE") != "1":
		t.Skip("KUBEBUILDER_ASSETS is not set")
	}
	t.Chdir("../..") // for the manifests
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
}
