package manifest_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/manifest"
)

func TestSamples_HaveNoWarnings(t *testing.T) {
	t.Parallel()
	samples := []string{"minimal", "rush-hour", "run-to-completion", "external-broker", "rabbitmq-cluster", "demo", "rehearsal", "node-loss", "soak"}
	folder := filepath.Join("..", "..", "config", "samples")
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if want := len(samples) + len([]string{"kustomization"}); len(files) != want {
		t.Errorf("%d files are in %s, want %d: %v", len(files), folder, want, files)
	}
	for _, name := range samples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, err := manifest.ReadFile(filepath.Join(folder, name+".yaml"))
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

func TestDemoSample_FirstExitsAreDueSoon(t *testing.T) {
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
