package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/test/servers"
)

// redelivering is a manifest that causes redeliveries: the broker crashes while Redis is paused.
const redelivering = `apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: rehearsal}
spec:
  duration: 10s
  entry: {rate: 1000}
  exit: {rate: 800, matchPercent: 50, minStay: 500ms}
  faults:
  - {name: redis-stall, target: Redis, action: Pause, for: 1500ms, at: 1900ms, every: 2s}
  - {name: rabbitmq-crash, target: RabbitMQ, action: Kill, at: 2s, every: 2s}
`

// losing is a manifest for builds with the tag parking_earlyack. Its faults kill processors while Redis is paused. The
// faults recur, because a fault can be late.
const losing = `apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: rehearsal}
spec:
  duration: 16s
  entry: {rate: 300}
  exit: {rate: 0}
  faults:
  - {name: redis-stall, target: Redis, action: Pause, for: 2s, at: 2s, every: 4s}
  - {name: processor-crash, target: Processor, action: Kill, at: 3s, every: 4s}
`

// crashing is a manifest whose faults kill Redis several times. The simulation ends after the first kill that loses
// data.
const crashing = `apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: rehearsal}
spec:
  duration: 10s
  entry: {rate: 300}
  exit: {rate: 200, minStay: 500ms}
  faults:
  - {name: redis-crash, target: Redis, action: Kill, at: 2s, every: 2s}
`

// rehearse builds the parking binary with the given build tags, and runs "parking simulate" with a manifest and flags.
func rehearse(t *testing.T, manifestText, tags string, flags ...string) report.Document {
	t.Helper()
	result := rehearseWith(t, nil, manifestText, tags, flags...)
	if len(result.Faults) < 4 {
		t.Errorf("%d faults occurred, want at least 4", len(result.Faults))
	}
	return result
}

// rehearseWith is like rehearse, but sets environment variables and accepts any number of faults.
func rehearseWith(t *testing.T, env []string, manifestText, tags string, flags ...string) report.Document {
	t.Helper()
	if testing.Short() {
		t.Skip("a rehearsal takes more than 20 s, and -short was given")
	}
	dir := t.TempDir()
	manifest := filepath.Join(dir, "rehearsal.yaml")
	if err := os.WriteFile(manifest, []byte(manifestText), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"simulate", "-f", manifest, "--output", "json", "--http", "", "--drain-timeout", "20s"}, flags...)
	cmd := exec.CommandContext(t.Context(), binary(t, "-tags="+tags), args...)
	cmd.Env = slices.Concat(os.Environ(), []string{"PARKING_RABBITMQ_URI=", "PARKING_REDIS_URI="}, env)
	output, _ := cmd.Output() // ignore the exit code, which is 1 if the verdict is FAIL
	var result report.Document
	if err := json.Unmarshal(output, &result); err != nil || result.Ledger == nil {
		t.Fatalf("the output is not a result: %v\n%s", err, output)
	}
	return result
}

func TestSimulate_Redeliveries_EveryEventIsCountedOnce(t *testing.T) {
	t.Parallel()
	l := rehearse(t, redelivering, "nooperator,noservers").Ledger
	if l.Lost != 0 || l.TakenTwice != 0 || l.DuplicatesSuppressed == 0 {
		t.Errorf("%d events were lost, %d took effect twice, %d duplicates were suppressed; want 0, 0 and at least 1", l.Lost, l.TakenTwice, l.DuplicatesSuppressed)
	}
}

func TestSimulate_RedeliveriesWithoutDeduplication_VerdictIsFail(t *testing.T) {
	t.Parallel()
	result := rehearse(t, redelivering, "nooperator,noservers,parking_nodedup")
	reasons := strings.Join(result.Reasons, "; ")
	if result.Outcome != "FAIL" || result.Ledger.TakenTwice == 0 || !strings.Contains(reasons, "took effect more than once") {
		t.Errorf("verdict is %s %q, %d events took effect twice; want FAIL because events took effect twice", result.Outcome, reasons, result.Ledger.TakenTwice)
	}
}

// This test starts RabbitMQ and Redis, because the in-memory broker cannot show how RabbitMQ handles an early
// acknowledgement.
func TestSimulate_AcknowledgementBeforeDurability_VerdictIsFail(t *testing.T) {
	t.Parallel()
	servers.Program(t, "redis-server", "run hack/install-servers.sh")
	servers.Program(t, "rabbitmq-server", "run hack/install-servers.sh")
	result := rehearse(t, losing, "nooperator,parking_earlyack", "--servers", "private")
	reasons := strings.Join(result.Reasons, "; ")
	if result.Outcome != "FAIL" || result.Ledger.Lost == 0 || !strings.Contains(reasons, "lost") {
		t.Errorf("verdict is %s %q, lost %d; want FAIL because of lost events", result.Outcome, reasons, result.Ledger.Lost)
	}
	t.Logf("lost %d events: %s", result.Ledger.Lost, reasons)
}

// Without an append-only file, each crash of Redis loses all data.
func TestSimulate_RedisWithoutAppendOnlyFile_VerdictIsFail(t *testing.T) {
	t.Parallel()
	redis := servers.Program(t, "redis-server", "run hack/install-servers.sh")
	servers.Program(t, "rabbitmq-server", "run hack/install-servers.sh")
	script := filepath.Join(t.TempDir(), "redis-without-log")
	text := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\" --appendonly no\n", redis)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{"PARKING_REDIS_ROOT=", "PARKING_REDIS_SERVER=" + script}
	result := rehearseWith(t, env, crashing, "nooperator", "--servers", "private")
	reasons := strings.Join(result.Reasons, "; ")
	if result.Outcome != "FAIL" || len(result.Faults) == 0 || !strings.Contains(reasons, "the store has lost data") {
		t.Errorf("verdict is %s %q after %d faults; want FAIL because the store has lost data", result.Outcome, reasons, len(result.Faults))
	}
	t.Logf("%d faults: %s", len(result.Faults), reasons)
}

func TestSimulate_RedisWithAppendOnlyFile_LosesNothing(t *testing.T) {
	t.Parallel()
	servers.Program(t, "redis-server", "run hack/install-servers.sh")
	servers.Program(t, "rabbitmq-server", "run hack/install-servers.sh")
	l := rehearse(t, crashing, "nooperator", "--servers", "private").Ledger
	if l.DataLostAt != nil || l.Lost != 0 || l.TakenTwice != 0 {
		t.Errorf("data was lost at %v, %d events were lost, %d took effect twice; want nil, 0 and 0", l.DataLostAt, l.Lost, l.TakenTwice)
	}
}
