package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A user who passes the output of 'kubectl get -o yaml' to purge wants to remove all queues and keys of this name. If
// purge used the UID in the manifest as the owner, it would leave those of a later simulation with the same name.
func TestPurge_ManifestFromCluster_IgnoresItsUID(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sim.yaml")
	const sim = `apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata:
  name: rush
  namespace: default
  uid: 0d6b2f0e-31f7-4c1d-9c6c-2f3f0d9a7c11
`
	if err := os.WriteFile(path, []byte(sim), 0o600); err != nil {
		t.Fatal(err)
	}
	f := purgeFlags{manifest: manifestFlags{path: manifestPath(path)}}
	f.servers.redis.URI = "redis://127.0.0.1:1"
	p, err := f.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Owner != "" || p.Simulation != "default.rush" {
		t.Errorf("the plan is for %s of owner %q, want default.rush of no owner", p.Simulation, p.Owner)
	}
}
