package manifest_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/manifest"
)

func TestSamples_HaveNoWarnings(t *testing.T) {
	t.Parallel()
	samples := []string{"minimal", "rush-hour", "run-to-completion", "external-broker", "rabbitmq-cluster", "demo", "rehearsal", "node-loss", "soak", "postgresql", "tls", "placement"}
	directory := filepath.Join("..", "..", "config", "samples")
	files, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if want := len(samples) + len([]string{"kustomization"}); len(files) != want {
		t.Errorf("%d files are in %s, want %d: %v", len(files), directory, want, files)
	}
	for _, name := range samples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, err := manifest.ReadFile(filepath.Join(directory, name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if sim.Name != name {
				t.Errorf("the simulation is named %s, want the name of its file", sim.Name)
			}
			resolved, faults := manifest.Resolve(sim)
			if err := faults.Err(); err != nil {
				t.Fatal(err)
			}
			if len(resolved.Warnings) > 0 {
				t.Errorf("warnings: %q", resolved.Warnings)
			}
		})
	}
}

// The sample has objectives for the time with faults, for the time without faults, and for the recovery. Its schedule
// leaves time to measure the recovery.
func TestRehearsalSample_EachObjective_IsSetAndCanBeMeasured(t *testing.T) {
	t.Parallel()
	sim, err := manifest.ReadFile(filepath.Join("..", "..", "config", "samples", "rehearsal.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o := &sim.Spec.Objectives
	if o.MaxRecovery == nil || o.WithoutFaults.EndToEndP99 == nil || o.UnderFaults.EndToEndP99 == nil || !o.AbortOnFailure {
		t.Errorf("the objectives are %+v, want maxRecovery, both phases and abortOnFailure", o)
	}
	p := planOf(t, sim)
	if p.Duration.D() != 10*time.Minute || p.Entry.Length() != p.Duration.D() || p.Exit.Length() != p.Duration.D() {
		t.Errorf("the duration is %s, the stages take %s and %s, want 10m for each", p.Duration, p.Entry.Length(), p.Exit.Length())
	}
	const recovery = 15 * time.Second
	occurrences := slices.Collect(fault.Occurrences(p))
	previous := time.Minute // no fault may occur during the first minute, while the rates rise
	for _, o := range occurrences {
		if o.At < previous+recovery {
			t.Errorf("the fault %s occurs at %s, less than %s after %s", o.Fault, o.At, recovery, previous)
		}
		previous = o.At + o.For
	}
}

func TestDemoSample_FirstExitsAreDueWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	sim, err := manifest.ReadFile(filepath.Join("..", "..", "config", "samples", "demo.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p := planOf(t, sim)
	if p.Entry.Rate < 1000 || p.Exit.MinStay.D() > time.Second || p.Duration.D() > time.Minute {
		t.Errorf("the demo has %d entries a second, minStay %s and duration %s, want at least 1000, at most 1s and at most 1m",
			p.Entry.Rate, p.Exit.MinStay, p.Duration)
	}
}
