package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestAudit_WrongNumberOfPartitions_IsBadInput(t *testing.T) {
	t.Parallel()
	amqp, redis := servers.VHostURI(t), servers.RedisURI(t)
	name := servers.Name(t)
	servers.RemoveKeys(t, name)
	removeQueues(t, amqp, name)
	with := func(partitions int) string {
		return manifestFile(t, fmt.Sprintf("{rabbitmq: {partitions: %d}, exit: {minStay: 100ms}}", partitions))
	}
	// This simulation has 2 partitions, so the audits with 1 and 3 partitions must be rejected.
	simulateUntilBusy(t, "--rabbitmq-uri", amqp, "--redis-uri", redis, "--simulation", name, "--keep")
	for _, partitions := range []int{1, 3} {
		got := parking(t, "audit", "-f", with(partitions), "--simulation", name, "--redis-uri", redis)
		want := fmt.Sprintf("was started with 2 partitions, not %d", partitions)
		if got.code != exitBadInput || got.stdout != "" || !strings.Contains(got.stderr, want) {
			t.Errorf("with %d partitions: exit code %d: %s%s", partitions, got.code, got.stdout, got.stderr)
		}
	}
	if r := checkAudit(t, parking(t, "audit", "-f", with(2), "--simulation", name, "--output", "json", "--redis-uri", redis)); r.Outcome != ledger.Pass || r.Ledger.Partitions != 2 {
		t.Errorf("with 2 partitions: %s %q %+v", r.Outcome, r.Reasons, r.Ledger)
	}
	unknown := parking(t, "audit", "-f", with(2), "--simulation", name+"x", "--redis-uri", redis)
	if unknown.code != exitBadInput || !strings.Contains(unknown.stderr, "has no simulation") {
		t.Errorf("unknown simulation: exit code %d: %s%s", unknown.code, unknown.stdout, unknown.stderr)
	}
}

func TestAudit_RunningSimulation_ReportsRunning(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := startProcesses(ctx, t)
	polltest.UntilNoError(t, "events are processed", func() error {
		if n := metric(ctx, t, s.Processors[0], "parking_events_processed_total", `outcome="matched"`); n < 20 {
			return fmt.Errorf("%v matched so far", n)
		}
		return nil
	})
	file := manifestFile(t, "{rabbitmq: {partitions: 2}}")
	for _, more := range [][]string{nil, {"--rabbitmq-uri", s.amqp}} {
		args := append([]string{"audit", "-f", file, "--simulation", s.plan.Simulation, "--output", "json", "--redis-uri", s.redis}, more...)
		var r auditResult
		// On a busy machine, both reads of an audit sometimes return the same ledger, so the test repeats the audit.
		polltest.UntilNoError(t, "the simulation is seen to run", func() error {
			if r = checkAudit(t, parking(t, args...)); !r.Running {
				return fmt.Errorf("it is at rest: %t, reasons %q", r.Ledger.AtRest, r.Reasons)
			}
			return nil
		})
		if r.Ledger.AtRest || len(r.Reasons) != 2 || !strings.Contains(r.Reasons[0], "the simulation is still running") ||
			strings.Contains(r.Reasons[0], "in processors") {
			t.Errorf("at rest %t, reasons %q", r.Ledger.AtRest, r.Reasons)
		}
		if strings.Contains(r.Reasons[0], "queues") != (more != nil) {
			t.Errorf("with flags %q the reason is %q", more, r.Reasons[0])
		}
		if !slices.ContainsFunc(r.Notes, func(note string) bool { return strings.Contains(note, "may not add up") }) {
			t.Errorf("the notes are %q", r.Notes)
		}
	}
	terminate(ctx, t, append(s.Generators(), append(s.Processors, s.Summaries)...)...)
}

// The store does not contain the injected faults or the start time of the schedules, so an audit cannot make some
// checks.
func TestAudit_ManifestWithFaults_NamesTheChecksThatTheAuditCannotMake(t *testing.T) {
	t.Parallel()
	amqp, redis := servers.VHostURI(t), servers.RedisURI(t)
	name := servers.Name(t)
	servers.RemoveKeys(t, name)
	removeQueues(t, amqp, name)
	simulateUntilBusy(t, "--rabbitmq-uri", amqp, "--redis-uri", redis, "--simulation", name, "--keep")
	manifest := manifestFile(t, `{duration: 1m, rabbitmq: {partitions: 2}, exit: {minStay: 100ms},
  faults: [{name: redis-crash, target: Redis, action: Kill, at: 20s}],
  objectives: {maxRecovery: 15s, withoutFaults: {endToEndP99: 1ms}, underFaults: {maxLag: 1ms}, abortOnFailure: true}}`)
	audit := []string{"audit", "-f", manifest, "--simulation", name, "--rabbitmq-uri", amqp, "--redis-uri", redis}
	r := checkAudit(t, parking(t, append(audit, "--output", "json")...))
	want := []string{
		"run length", "summaries in the API", "entry schedule", "exit schedule", "fault redis-crash", "recovery",
		"end-to-end p99 without faults", "generator lag under faults", "failures",
	}
	var unmeasured []string
	for _, c := range r.Checks {
		if c.Outcome == ledger.NotMeasured {
			unmeasured = append(unmeasured, c.Name)
		}
	}
	if !slices.Equal(unmeasured, want) || r.Outcome != ledger.Pass {
		t.Errorf("the verdict is %s, and the checks %q are not measured, want %q", r.Outcome, unmeasured, want)
	}
	reason := "not checked, because the store does not contain the data: " + strings.Join(want, ", ")
	if !slices.Equal(r.Reasons, []string{reason}) {
		t.Errorf("the reasons are %q, want %q", r.Reasons, reason)
	}
	table := parking(t, audit...)
	for _, line := range []string{"  – " + reason, "  ? recovery: – (at most 15 s)", "  ? end-to-end p99 without faults: – (at most 1 ms)"} {
		if !strings.Contains(table.stdout, line+"\n") {
			t.Errorf("the table does not have the line %q:\n%s", line, table.stdout)
		}
	}
}

func TestSimulate_ReadOnlyRedisUser_IsBadInput(t *testing.T) {
	t.Parallel()
	store := servers.NewRedis(t, servers.RedisOptions{Config: []string{"user reader on >s3cr3t ~* +@read +ping +info"}})
	uri := "redis://reader:s3cr3t@" + strings.TrimPrefix(store.String(), "redis://")
	got := parking(t, "simulate", "--duration", "1s", "--redis-uri", uri)
	if got.code != exitBadInput || got.stdout != "" || !strings.Contains(got.stderr, "--redis-uri") ||
		!strings.Contains(got.stderr, "+setbit") || !strings.Contains(got.stderr, store.String()) || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	checkNoPassword(t, got, uri)
}

func TestSimulate_RedisOutOfMemory_ExitsWithFailure(t *testing.T) {
	t.Parallel()
	full := servers.NewRedis(t, servers.RedisOptions{Config: []string{"maxmemory 1"}})
	got := parking(t, "simulate", "--duration", "1s", "--http", "", "--redis-uri", full.URI())
	if got.code != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, "--redis-uri: ") || !strings.Contains(got.stderr, "maxmemory") {
		t.Errorf("exit code %d, want %d and the remedy: %s%s", got.code, exitFailed, got.stdout, got.stderr)
	}
}

func TestSimulate_RedisLosesData_VerdictNamesTheLoss(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	store := servers.NewRedis(t, servers.RedisOptions{NoAOF: true})
	address := servers.FreeAddress(t)
	r := start(ctx, t, "simulate", "-f", manifestFile(t, busy), "--output", "json", "--http", address,
		"--drain-timeout", "1m", "--redis-uri", store.URI())
	untilBusy(ctx, t, address)
	if err := errors.Join(store.Kill(), store.Start(ctx)); err != nil {
		t.Fatal(err)
	}
	got := wait(t, r) // the simulation ends by itself
	result := got.result(t)
	if got.code != exitFailed || result.Ledger == nil || result.Ledger.DataLostAt == nil {
		t.Fatalf("exit code %d, ledger %+v", got.code, result.Ledger)
	}
	reasons := strings.Join(result.Reasons, "\n")
	if !strings.Contains(reasons, "the store has lost data") || strings.Contains(reasons, "taken more than once") {
		t.Errorf("the reasons are\n%s", reasons)
	}
	if !strings.Contains(got.stderr, `"setting":"appendonly"`) || !strings.Contains(got.stderr, `"set_to":"yes"`) {
		t.Errorf("the log has no warning about appendonly:\n%s", got.stderr)
	}
}
