package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// unlimited is a simulation whose rate no machine reaches.
const unlimited = `
apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: bench}
spec:
  entry: {rate: 1000000}
  exit: {rate: 1000000, minStay: 1s}
  plates: {maxStay: 1m}
`

// measureMemory returns the events per second of "parking simulate" in memory. The average includes the drain and
// the audit.
func measureMemory(ctx context.Context, env environment, length time.Duration) (perSecond float64, err error) {
	manifest := filepath.Join(env.dir, "memory.yaml")
	if err := os.WriteFile(manifest, []byte(unlimited), 0o600); err != nil {
		return 0, fmt.Errorf("measure a simulation in memory: %w", err)
	}
	cmd := exec.CommandContext(ctx, env.binary, "simulate", "-f", manifest, "--duration", length.String(), "--http", "", "--output", "json")
	output, err := cmd.Output()
	var exited *exec.ExitError
	// Ignore the exit code: the verdict is FAIL, because the generators cannot keep to the schedule.
	if err != nil && !errors.As(err, &exited) {
		return 0, fmt.Errorf("measure a simulation in memory: %w", err)
	}
	var result struct {
		ElapsedSeconds float64 `json:"elapsedSeconds"`
		DrainSeconds   float64 `json:"drainSeconds"`
		Ledger         struct {
			EntriesRecorded     int64 `json:"entriesRecorded"`
			Matched             int64 `json:"matched"`
			UnmatchedExpected   int64 `json:"unmatchedExpected"`
			UnmatchedUnexpected int64 `json:"unmatchedUnexpected"`
			Lost                int64 `json:"lost"`
		} `json:"ledger"`
	}
	if err := json.Unmarshal(output, &result); err != nil {
		if exited != nil {
			return 0, fmt.Errorf("measure a simulation in memory: %w: %s", exited, exited.Stderr)
		}
		return 0, fmt.Errorf("measure a simulation in memory: %w", err)
	}
	l := result.Ledger
	events := l.EntriesRecorded + l.Matched + l.UnmatchedExpected + l.UnmatchedUnexpected
	if events == 0 || l.Lost > 0 {
		return 0, fmt.Errorf("measure a simulation in memory: %d events took effect, %d are lost", events, l.Lost)
	}
	return float64(events) / (result.ElapsedSeconds + result.DrainSeconds), nil
}
