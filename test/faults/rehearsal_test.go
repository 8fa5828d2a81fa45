package faults

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/test/stack"
)

// redelivering is a manifest whose faults cause redeliveries. Redis is paused when the broker crashes. At that moment
// processors wait for replies to steps that have already taken effect, so the broker delivers the messages of these
// steps again.
const redelivering = `apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: rehearsal}
spec:
  duration: 6s
  entry: {rate: 1000}
  exit: {rate: 800, matchPercent: 50, minStay: 500ms}
  faults:
  - {name: redis-stall, target: Redis, action: Pause, for: 500ms, at: 1900ms, every: 2s}
  - {name: rabbitmq-crash, target: RabbitMQ, action: Kill, at: 2s, every: 2s}
`

// rehearse builds the parking binary with the given flags. It runs the simulation in memory, with the manifest
// redelivering.
func rehearse(t *testing.T, buildFlags ...string) report.Document {
	t.Helper()
	dir := t.TempDir()
	binary, err := stack.Build(t.Context(), dir, buildFlags...)
	if err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(dir, "rehearsal.yaml")
	if err := os.WriteFile(manifest, []byte(redelivering), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "simulate", "-f", manifest, "--output", "json", "--http", "", "--drain-timeout", "20s")
	cmd.Env = append(os.Environ(), "PARKING_RABBITMQ_URI=", "PARKING_REDIS_URI=")
	output, _ := cmd.Output() // the exit code is that of the verdict
	var result report.Document
	if err := json.Unmarshal(output, &result); err != nil || result.Ledger == nil {
		t.Fatalf("the output is not a result: %v\n%s", err, output)
	}
	if len(result.Faults) < 4 {
		t.Errorf("%d faults occurred, want at least 4", len(result.Faults))
	}
	return result
}

func TestSimulate_Redeliveries_EveryEventIsCountedOnce(t *testing.T) {
	t.Parallel()
	l := rehearse(t, "-tags=nooperator").Ledger
	if l.Lost != 0 || l.TakenTwice != 0 || l.DuplicatesSuppressed == 0 {
		t.Errorf("lost %d, taken twice %d, duplicates suppressed %d; want 0, 0 and some", l.Lost, l.TakenTwice, l.DuplicatesSuppressed)
	}
}

func TestSimulate_RedeliveriesWithoutDeduplication_VerdictIsFail(t *testing.T) {
	t.Parallel()
	result := rehearse(t, "-tags=nooperator,parking_nodedup")
	if result.Outcome != "FAIL" || result.Ledger.TakenTwice == 0 {
		t.Errorf("verdict is %s %q, taken twice %d; want FAIL because of effects taken twice", result.Outcome, result.Reasons, result.Ledger.TakenTwice)
	}
}
