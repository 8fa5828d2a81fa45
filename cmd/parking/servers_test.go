package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/fault/faulttest"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/plan/plantest"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
	"github.com/parking-operator/parking-operator/internal/wiring"
	"github.com/parking-operator/parking-operator/test/servers"
	"github.com/parking-operator/parking-operator/test/stack"
)

// planWith returns a plan with high rates and a unique name. If the function change is not nil, it modifies the plan.
func planWith(t *testing.T, change func(*plan.Plan)) *plan.Plan {
	t.Helper()
	p := &plan.Plan{
		Simulation: servers.Name(t),
		Seed:       1,
		Partitions: 2,
		QueueType:  plan.QueueTypeQuorum,
		Entry:      plan.Entry{Schedule: plan.Schedule{Rate: 300, Arrivals: plan.ArrivalsUniform, Replicas: 1}},
		Exit: plan.Exit{
			Schedule:     plan.Schedule{Rate: 250, Arrivals: plan.ArrivalsUniform, Replicas: 1},
			MatchPercent: 50,
			MinStay:      plan.Duration(200 * time.Millisecond),
		},
		MaxStay:   plan.Duration(time.Hour),
		Processor: plan.Processor{Concurrency: 64},
	}
	if change != nil {
		change(p)
	}
	return p
}

func TestSimulate_OnServers_PassesAndRemovesItsQueuesAndKeys(t *testing.T) {
	t.Parallel()
	amqp, redis := servers.VHostURI(t), servers.RedisURI(t)
	got := parking(t, "simulate", "-f", manifestFile(t, busy), "--duration", "4s", "--output", "json", "--http", "",
		"--rabbitmq-uri", amqp, "--redis-uri", redis)
	r := checkPassed(t, got)
	if !strings.HasPrefix(r.Simulation, "default.test-") {
		t.Errorf("the simulation %q has no unique suffix", r.Simulation)
	}
	checkNoPassword(t, got, amqp, redis)
	if keys := keysOf(t, redis, r.Simulation); len(keys) > 0 {
		t.Errorf("keys are left: %q", keys)
	}
	if audit := parking(t, "audit", "-f", manifestFile(t, busy), "--redis-uri", redis, "--simulation", r.Simulation); audit.code != exitBadInput ||
		!strings.Contains(audit.stderr, "has no simulation") {
		t.Errorf("audit after the removal: exit code %d, %s", audit.code, audit.stderr)
	}
}

func TestSimulate_PrivateServers_LoseNoEventDuringFaults(t *testing.T) {
	t.Parallel()
	servers.Program(t, "redis-server", "run hack/install-servers.sh")
	servers.Program(t, "rabbitmq-server", "run hack/install-servers.sh")
	faults := []string{
		"{name: a-redis-crash, target: Redis, action: Kill, at: 1s}", "{name: b-redis-restart, target: Redis, action: Restart, at: 3s}",
		"{name: c-redis-stall, target: Redis, action: Pause, for: 500ms, at: 5s}", "{name: d-redis-cut, target: Redis, action: Isolate, for: 500ms, at: 6s}",
		"{name: e-rabbitmq-stall, target: RabbitMQ, action: Pause, for: 500ms, at: 7s}", "{name: f-rabbitmq-cut, target: RabbitMQ, action: Isolate, for: 500ms, at: 8s}",
		"{name: g-rabbitmq-crash, target: RabbitMQLeader, action: Kill, at: 9s}", "{name: h-processor-crash, target: Processor, action: Kill, at: 10s}",
	}
	manifest := manifestFile(t, "{entry: {rate: 200}, exit: {rate: 150, matchPercent: 50, minStay: 100ms}, faults: ["+strings.Join(faults, ", ")+"]}")
	got := simulateUntilFaultsAreOver(t, len(faults), "-f", manifest, "--servers", "private")
	r := got.result(t)
	if l := r.Ledger; l == nil || !l.AtRest || l.Lost != 0 || l.TakenTwice != 0 || l.UnmatchedUnexpected != 0 || l.EntriesRecorded == 0 {
		t.Errorf("ledger is %+v, verdict %q, stderr:\n%s", l, r.Reasons, got.stderr)
	}
	if len(r.Faults) != len(faults) {
		t.Fatalf("%d faults occurred, want %d", len(r.Faults), len(faults))
	}
	for i, f := range r.Faults {
		if f.InjectedAt.IsZero() || f.HealedAt.IsZero() || len(f.Hit) != 1 || !strings.Contains(faults[i], "name: "+f.Fault+",") {
			t.Errorf("fault %d is %+v, want %s", i, f, faults[i])
		}
	}
}

// simulateUntilFaultsAreOver starts a simulation, waits until the given number of faults are over, and stops the
// simulation. A fixed duration would be too short on slow machines.
func simulateUntilFaultsAreOver(t *testing.T, faults int, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := servers.FreeAddress(t)
	process := start(ctx, t, append([]string{"simulate", "--output", "json", "--http", address}, args...)...)
	polltest.UntilNoError(t, "all faults are over", func() error {
		body, err := get(ctx, "http://"+address+"/v1/state")
		if err != nil {
			return err
		}
		var state view.State
		if err := json.Unmarshal([]byte(body), &state); err != nil {
			return err
		}
		over := func(f fault.Account) bool { return !f.HealedAt.IsZero() || f.Outcome == fault.OutcomeNotInjected }
		if len(state.Faults) < faults || slices.ContainsFunc(state.Faults, func(f fault.Account) bool { return !over(f) }) {
			return fmt.Errorf("the faults are %+v", state.Faults)
		}
		return nil
	})
	if err := process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return wait(t, process)
}

// Faults must hit the same targets in the same order in memory and on private servers.
func TestSimulate_SameSeed_SelectsTheSameTargets(t *testing.T) {
	if testing.Short() {
		t.Skip("the simulations take more than 30 s, and -short was given")
	}
	t.Parallel()
	const path = "../../internal/fault/testdata/targets.yaml"
	sim, err := manifest.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	resolved, faulty := manifest.Resolve(sim)
	if err := faulty.Err(); err != nil {
		t.Fatal(err)
	}
	want := faulttest.Planned(resolved.Plan, map[plan.FaultTarget]int{plan.TargetProcessor: 3, plan.TargetEntryGenerator: 2})
	for name, args := range map[string][]string{"memory": nil, "private servers": {"--servers", "private"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if args != nil {
				servers.Program(t, "redis-server", "run hack/install-servers.sh")
				servers.Program(t, "rabbitmq-server", "run hack/install-servers.sh")
			}
			r := parking(t, append([]string{"simulate", "-f", path, "--output", "json", "--http", ""}, args...)...).result(t)
			if l := r.Ledger; l == nil || !l.AtRest || l.Lost != 0 || l.TakenTwice != 0 || l.UnmatchedUnexpected != 0 {
				t.Errorf("ledger is %+v, verdict %q", l, r.Reasons)
			}
			// Sort by the scheduled times, because faults can take effect in a different order than scheduled.
			slices.SortStableFunc(r.Faults, func(a, b fault.Account) int { return cmp.Compare(a.AtSeconds, b.AtSeconds) })
			var got []string
			for _, f := range r.Faults {
				var indexes []int
				for _, instance := range f.Hit {
					// The only instance of a target has no index in its name. For this name, Atoi returns an error and
					// the index 0.
					index, _ := strconv.Atoi(instance[strings.LastIndex(instance, "-")+1:])
					indexes = append(indexes, index)
				}
				got = append(got, faulttest.Hit(f.Fault, f.Number, f.Target, indexes))
			}
			if !slices.Equal(got, want) {
				t.Errorf("the targets of the faults are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestSimulate_FaultOnExternalServer_IsRejected(t *testing.T) {
	t.Parallel()
	// No server listens at this address, because the command must reject the fault before it connects.
	closed := servers.FreeAddress(t)
	for _, tt := range []struct{ target, flag, address, remedy string }{
		{"Redis", "--redis-uri", "redis://" + closed, "run with --servers private"},
		{"RabbitMQ", "--rabbitmq-uri", "amqp://" + closed, "run with --servers private"},
		{"RabbitMQLeader", "--rabbitmq-uri", "amqp://" + closed, "run with --servers private"},
		{"SummaryAPI", "--summary-url", "http://" + closed, "remove --summary-url"},
	} {
		manifest := manifestFile(t, "{faults: [{name: crash, target: "+tt.target+", action: Kill, at: 1s}]}")
		got := parking(t, "simulate", "-f", manifest, "--duration", "5s", "--http", "", tt.flag, tt.address)
		want := `fault "crash": a fault cannot target an external server, and ` + tt.flag + " selects one: remove the fault, or " + tt.remedy + "\n"
		if got.code != exitBadInput || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: exit code %d: %s", tt.target, got.code, got.stderr)
		}
	}
}

func TestSimulate_ProcessorFaultWithExternalServers_IsInjected(t *testing.T) {
	t.Parallel()
	manifest := manifestFile(t, "{faults: [{name: crash, target: Processor, action: Kill, at: 1s}]}")
	got := simulateUntilFaultsAreOver(t, 1, "-f", manifest, "--rabbitmq-uri", servers.VHostURI(t), "--redis-uri", servers.RedisURI(t))
	document := report.Document{}
	if err := json.Unmarshal([]byte(got.stdout), &document); err != nil {
		t.Fatalf("%v: %s", err, got.stderr)
	}
	if len(document.Faults) != 1 || document.Faults[0].InjectedAt.IsZero() {
		t.Errorf("the faults are %+v", document.Faults)
	}
}

func TestSimulate_WrongPassword_ErrorOmitsThePassword(t *testing.T) {
	t.Parallel()
	for flag, uri := range map[string]string{"--rabbitmq-uri": servers.AMQPURI(t), "--redis-uri": servers.RedisURI(t)} {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal("the URI of a test's server cannot be parsed")
		}
		if _, has := u.User.Password(); !has {
			t.Logf("the server of %s needs no password", flag)
			continue
		}
		u.User = url.UserPassword(u.User.Username(), "s3cr3t-but-wrong")
		got := parking(t, "simulate", flag, u.String())
		if got.code != exitBadInput || !strings.Contains(got.stderr, flag) || !strings.Contains(got.stderr, u.Host) || !strings.Contains(got.stderr, "password") {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
		t.Log(strings.TrimSpace(got.stderr))
		checkNoPassword(t, got, uri, u.String())
	}
}

func TestAudit_AfterSimulateWithFlagKeep_ReportsTheSameLedger(t *testing.T) {
	t.Parallel()
	amqp, redis := servers.VHostURI(t), servers.RedisURI(t)
	name := servers.Name(t)
	servers.RemoveKeys(t, name)
	removeQueues(t, amqp, name)
	kept, simulated := simulateUntilBusy(t, "--simulation", name, "--keep", "--rabbitmq-uri", amqp, "--redis-uri", redis)
	for _, want := range []string{"parking audit -f MANIFEST --simulation " + name, "parking purge --simulation " + name} {
		if !strings.Contains(kept.stderr, want+" --rabbitmq-uri URI --redis-uri URI\n") {
			t.Errorf("stderr does not say %q:\n%s", want, kept.stderr)
		}
	}
	audited := parking(t, "audit", "-f", manifestFile(t, busy), "--simulation", name, "--output", "json", "--rabbitmq-uri", amqp, "--redis-uri", redis)
	r := checkAudit(t, audited)
	if r.Outcome != ledger.Pass || r.Ledger.EntriesConfirmed == 0 || fmt.Sprint(r.Ledger) != fmt.Sprint(*simulated.Ledger) {
		t.Errorf("audit says %s %q %+v, the simulation said %+v", r.Outcome, r.Reasons, r.Ledger, simulated.Ledger)
	}
	checkNoPassword(t, audited, amqp, redis)

	lost := loseOneEntry(t, redis, name)
	table := parking(t, "audit", "-f", manifestFile(t, busy), "--simulation", name, "--rabbitmq-uri", amqp, "--redis-uri", redis)
	if table.code != exitFailed || !strings.Contains(table.stdout, lost) || !strings.Contains(table.stdout, "1 event was lost") {
		t.Errorf("exit code %d, want the lost event %s named:\n%s", table.code, lost, table.stdout)
	}
}

// simulateUntilBusy starts a simulation, waits until summaries are stored, stops the simulation, and checks the result.
func simulateUntilBusy(t *testing.T, args ...string) (ended, report.Document) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := servers.FreeAddress(t)
	r := start(ctx, t, append([]string{"simulate", "-f", manifestFile(t, busy), "--output", "json", "--http", address}, args...)...)
	untilBusy(ctx, t, address)
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	got := wait(t, r)
	return got, checkPassed(t, got)
}

func TestSimulate_NameInUse_IsBadInputAndChangesNothing(t *testing.T) {
	t.Parallel()
	amqp, redis := servers.VHostURI(t), servers.RedisURI(t)
	name := servers.Name(t)
	servers.RemoveKeys(t, name)
	removeQueues(t, amqp, name)
	on := func(command string, more ...string) []string {
		return append([]string{command, "--simulation", name, "--rabbitmq-uri", amqp, "--redis-uri", redis}, more...)
	}
	_, kept := simulateUntilBusy(t, "--simulation", name, "--keep", "--rabbitmq-uri", amqp, "--redis-uri", redis)

	refused := func(what string) {
		t.Helper()
		got := parking(t, on("simulate", "-f", manifestFile(t, busy), "--duration", "2s", "--output", "json", "--http", "")...)
		if got.code != exitBadInput || got.stdout != "" || !strings.Contains(got.stderr, "already has "+what+" of") ||
			!strings.Contains(got.stderr, "parking purge --simulation "+name) {
			t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
		}
		checkNoPassword(t, got, amqp, redis)
	}
	refused("queues")
	if r := checkAudit(t, parking(t, on("audit", "-f", manifestFile(t, busy), "--output", "json")...)); r.Outcome != ledger.Pass || fmt.Sprint(r.Ledger) != fmt.Sprint(*kept.Ledger) {
		t.Errorf("the kept ledger is %+v, want %+v", r.Ledger, kept.Ledger)
	}

	// Purge RabbitMQ alone first. The name of the simulation must stay in use, because Redis still contains its keys.
	purged := parking(t, "purge", "--simulation", name, "--rabbitmq-uri", amqp)
	if purged.code != exitOK || !strings.Contains(purged.stdout, "removed exchange and queues of "+name) {
		t.Errorf("exit code %d: %s%s", purged.code, purged.stdout, purged.stderr)
	}
	checkNoPassword(t, purged, amqp)
	refused("keys")
	purged = parking(t, on("purge")...)
	if purged.code != exitOK || !strings.Contains(purged.stdout, "no exchange and queues of simulation "+name) || !strings.Contains(purged.stdout, "removed keys of "+name) {
		t.Errorf("exit code %d: %s%s", purged.code, purged.stdout, purged.stderr)
	}
	checkNoPassword(t, purged, amqp, redis)
	if keys := keysOf(t, redis, name); len(keys) > 0 {
		t.Errorf("keys are left: %q", keys)
	}
	if queues := queuesOf(t, amqp, name, 2); len(queues) > 0 {
		t.Errorf("queues are left: %q", queues)
	}
	simulateUntilBusy(t, "--simulation", name, "--rabbitmq-uri", amqp, "--redis-uri", redis)
}

func TestSimulate_TwoProcessesWithOneName_OneIsRejected(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	amqp, redis, name := servers.VHostURI(t), servers.RedisURI(t), servers.Name(t)
	servers.RemoveKeys(t, name)
	removeQueues(t, amqp, name)
	type end struct {
		other int // the index of the other process
		ended
	}
	ends := make(chan end, 2)
	both, addresses := [2]*running{}, [2]string{servers.FreeAddress(t), servers.FreeAddress(t)}
	for i := range both {
		both[i] = start(ctx, t, "simulate", "-f", manifestFile(t, busy), "--simulation", name, "--output", "json", "--http", addresses[i],
			"--rabbitmq-uri", amqp, "--redis-uri", redis)
	}
	for i, r := range both {
		go func() { ends <- end{1 - i, wait(t, r)} }()
	}
	refused := <-ends
	if refused.code != exitBadInput || !strings.Contains(refused.stderr, "--simulation: ") {
		t.Errorf("exit code %d: %s", refused.code, refused.stderr)
	}
	untilBusy(ctx, t, addresses[refused.other])
	if err := both[refused.other].cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-ends; !passedExceptSchedules(got.ended, got.result(t)) {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

// Two simulations share a name and RabbitMQ, but not Redis. The owner recorded in RabbitMQ reveals the conflict.
func TestSessionDeclare_SimulationOfTheSameNameHasAnotherRedis_IsRejected(t *testing.T) {
	t.Parallel()
	amqp, name, log := servers.VHostURI(t), servers.Name(t), slog.New(slog.DiscardHandler)
	servers.RemoveKeys(t, name)
	removeQueues(t, amqp, name)
	var sessions []*session
	for _, redis := range []string{servers.RedisURI(t), servers.NewRedis(t, servers.RedisOptions{}).URI()} {
		f := simulateFlags{endless: true, manifest: manifestFlags{path: manifestPath(manifestFile(t, busy)), simulation: name}}
		f.servers.rabbitmq.URI, f.servers.redis.URI = amqp, redis
		resolved, _, err := f.plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s, err := openSession(t.Context(), f, resolved, io.Discard, log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.close(log) })
		sessions = append(sessions, s)
	}
	if err := sessions[0].declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sessions[1].declare(t.Context()); !errors.Is(err, broker.ErrOtherOwner) || !isBadInput(err) {
		t.Errorf("the error is %v, want %v as bad input", err, broker.ErrOtherOwner)
	}
	if len(queuesOf(t, amqp, name, 2)) == 0 {
		t.Error("the rejected simulation has removed the queues of the other simulation")
	}
}

func TestPurge_EmptyFlag_OverridesTheEnvironmentVariable(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	redis, name := servers.RedisURI(t), servers.Name(t)
	servers.RemoveKeys(t, name)
	key := "parking:{" + name + ":0}:owner"
	if err := redisClient(t, redis).Set(ctx, key, "somebody", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r := &running{cmd: command(ctx, t, "purge", "--simulation", name, "--redis-uri", "", "--rabbitmq-uri", servers.VHostURI(t))}
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = append(os.Environ(), envRedis+"="+redis), &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, r); got.code != exitOK || strings.Contains(got.stdout, "keys") {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	if keys := keysOf(t, redis, name); len(keys) != 1 {
		t.Errorf("the server has the keys %q, want %s", keys, key)
	}
}

func TestSimulate_RedisUserWithoutPermissions_IsBadInput(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	if err := redisClient(t, server.URI()).Do(t.Context(), "ACL", "SETUSER", "narrow", "on", ">s3cr3t", "~foo:*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URI())
	if err != nil {
		t.Fatal("the URI of a test's server cannot be parsed")
	}
	u.User = url.UserPassword("narrow", "s3cr3t")
	got := parking(t, "simulate", "--redis-uri", u.String(), "--duration", "1s", "--http", "")
	if got.code != exitBadInput || !strings.Contains(got.stderr, "--redis-uri: ") || !strings.Contains(got.stderr, "~parking:*") {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	checkNoPassword(t, got, u.String())
}

func TestSimulate_RabbitMQUserWithoutPermissions_IsBadInput(t *testing.T) {
	t.Parallel()
	broker, redis, name := servers.NewRabbitMQ(t, servers.RabbitMQOptions{}), servers.RedisURI(t), servers.Name(t)
	servers.RemoveKeys(t, name)
	for _, args := range [][]string{{"add_user", "narrow", "s3cr3t"}, {"set_permissions", "narrow", "^foo", "^foo", "^foo"}} {
		if _, err := broker.Ctl(args...); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(broker.URI())
	if err != nil {
		t.Fatal("the URI of a test's server cannot be parsed")
	}
	u.User = url.UserPassword("narrow", "s3cr3t")
	got := parking(t, "simulate", "--simulation", name, "--rabbitmq-uri", u.String(), "--redis-uri", redis, "--duration", "1s", "--http", "")
	if got.code != exitBadInput || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "--rabbitmq-uri: ") ||
		!strings.Contains(got.stderr, "grant the user the permissions to configure, write and read") {
		t.Errorf("exit code %d, want %d and one line with the remedy: %s", got.code, exitBadInput, got.stderr)
	}
	checkNoPassword(t, got, u.String(), redis)
	if keys := keysOf(t, redis, name); len(keys) > 0 {
		t.Errorf("keys are left: %q", keys)
	}
	t.Log(got.stderr)
}

// A queue with the name of one of the simulation's queues, but with other settings, belongs to another program.
func TestSimulateAndPurge_QueueOfAnotherProgram_IsNotDeleted(t *testing.T) {
	t.Parallel()
	uri, redis, name := servers.VHostURI(t), servers.RedisURI(t), servers.Name(t)
	servers.RemoveKeys(t, name)
	channel := amqpChannel(t, uri)
	queue := "parking." + name + ".entry.0"
	if _, err := channel.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := channel.PublishWithContext(t.Context(), "", queue, false, false, amqp091.Publishing{}); err != nil {
		t.Fatal(err)
	}
	for _, run := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"simulate", "--duration", "1s", "--http", ""}, exitBadInput, "already has queues of"},
		{[]string{"purge"}, exitFailed, queue},
	} {
		got := parking(t, append(run.args, "--simulation", name, "--rabbitmq-uri", uri, "--redis-uri", redis)...)
		if got.code != run.code || !strings.Contains(got.stderr, run.want) {
			t.Errorf("%s: exit code %d, want %d and %q: %s%s", run.args[0], got.code, run.code, run.want, got.stdout, got.stderr)
		}
		if found, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil); err != nil || found.Messages != 1 {
			t.Fatalf("after %s, the queue has %d messages (%v), want 1", run.args[0], found.Messages, err)
		}
	}
}

// amqpConnection returns a connection to the broker. The connection is closed when the test ends.
func amqpConnection(t *testing.T, uri string) *amqp091.Connection {
	t.Helper()
	connection, err := amqp091.Dial(uri)
	if err != nil {
		t.Fatal("the test's broker cannot be reached") // omit err, because it may contain the password
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func amqpChannel(t *testing.T, uri string) *amqp091.Channel {
	t.Helper()
	channel, err := amqpConnection(t, uri).Channel()
	if err != nil {
		t.Fatal(err)
	}
	return channel
}

func queuesOf(t *testing.T, uri, simulation string, partitions int) (found []string) {
	t.Helper()
	connection := amqpConnection(t, uri)
	names := []string{"dead"}
	for p := range partitions {
		for _, queue := range []string{"entry", "exit", "retry.entry", "retry.exit"} {
			names = append(names, queue+"."+strconv.Itoa(p))
		}
	}
	for _, name := range names {
		// Open one channel per queue, because the server closes the channel if the queue does not exist.
		channel, err := connection.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := channel.QueueDeclarePassive("parking."+simulation+"."+name, true, false, false, false, nil); err == nil {
			found = append(found, name)
		}
	}
	return found
}

func TestSimulate_RedisStaysDown_EndsWithAVerdict(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*servers.Redis) error{"killed": (*servers.Redis).Kill, "hung": (*servers.Redis).Pause} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endsWithAVerdict(t, fault)
		})
	}
}

func TestSimulate_RabbitMQStaysDown_VerdictNamesRabbitMQ(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	broker, redis, name := servers.NewRabbitMQ(t, servers.RabbitMQOptions{}), servers.RedisURI(t), servers.Name(t)
	servers.RemoveKeys(t, name)
	address := servers.FreeAddress(t)
	r := start(ctx, t, "simulate", "-f", manifestFile(t, busy), "--simulation", name, "--output", "json", "--http", address,
		"--drain-timeout", "8s", "--rabbitmq-uri", broker.URI(), "--redis-uri", redis)
	untilBusy(ctx, t, address)
	if err := errors.Join(broker.Kill(), r.cmd.Process.Signal(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	got := wait(t, r)
	result := got.result(t)
	reasons := strings.Join(result.Reasons, "\n")
	t.Log(reasons)
	if got.code != exitFailed || result.Outcome != ledger.Fail || !strings.Contains(reasons, "it is unknown how many messages wait in the queues: ") {
		t.Errorf("exit code %d, verdict %s:\n%s", got.code, result.Outcome, reasons)
	}
	for _, wrong := range []string{"messages wait in queues", "wait for another attempt"} {
		if strings.Contains(reasons, wrong) {
			t.Errorf("the verdict says %q although the broker did not answer:\n%s", wrong, reasons)
		}
	}
}

func TestSimulate_RedisLosesData_DoesNotWaitForTheDrainTimeout(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	amqp, store, name := servers.VHostURI(t), servers.NewRedis(t, servers.RedisOptions{}), servers.Name(t)
	removeQueues(t, amqp, name)
	address := servers.FreeAddress(t)
	r := start(ctx, t, "simulate", "-f", manifestFile(t, busy), "--simulation", name, "--http", address,
		"--drain-timeout", "1h", "--rabbitmq-uri", amqp, "--redis-uri", store.URI())
	untilBusy(ctx, t, address)
	if err := redisClient(t, store.URI()).FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	got := wait(t, r) // the simulation ends by itself
	if got.code != exitFailed || strings.Count(got.stdout, "✗") != 1 || !strings.Contains(got.stdout, "the store has lost data") || strings.Contains(got.stdout, "taken twice") {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
}

func endsWithAVerdict(t *testing.T, fault func(*servers.Redis) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	amqp, store := servers.VHostURI(t), servers.NewRedis(t, servers.RedisOptions{})
	name := servers.Name(t)
	removeQueues(t, amqp, name)
	address := servers.FreeAddress(t)
	r := start(ctx, t, "simulate", "-f", manifestFile(t, busy), "--simulation", name, "--output", "json", "--http", address,
		"--drain-timeout", "12s", "--rabbitmq-uri", amqp, "--redis-uri", store.URI())
	untilBusy(ctx, t, address)
	if err := errors.Join(fault(store), r.cmd.Process.Signal(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	got := wait(t, r)
	result := got.result(t)
	if got.code != exitFailed || result.Outcome != ledger.Fail || result.Ledger != nil {
		t.Errorf("exit code %d, verdict %s, ledger %+v", got.code, result.Outcome, result.Ledger)
	}
	if !strings.Contains(strings.Join(result.Reasons, "\n"), "the ledger cannot be read") {
		t.Errorf("the reasons are %q", result.Reasons)
	}
	for _, reason := range result.Reasons {
		if strings.Contains(reason, "\n") || strings.Contains(reason, "context canceled") {
			t.Errorf("reason has several lines or names a context: %q", reason)
		}
	}
	if !strings.Contains(got.stderr, "may remain; remove them with 'parking purge --simulation "+name+" --redis-uri URI'") ||
		strings.Contains(got.stderr, "queues on") {
		t.Errorf("stderr does not say that only keys are left:\n%s", got.stderr)
	}
	if queues := queuesOf(t, amqp, name, 2); len(queues) > 0 {
		t.Errorf("the queues %q are left on the server that responds", queues)
	}
	checkNoPassword(t, got, amqp, store.URI())
}

func TestSimulate_SecondSignal_PrintsWhatRemainsOnServers(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	amqp, store := servers.VHostURI(t), servers.NewRedis(t, servers.RedisOptions{})
	name := servers.Name(t)
	removeQueues(t, amqp, name)
	address := servers.FreeAddress(t)
	r := start(ctx, t, "simulate", "-f", manifestFile(t, busy), "--simulation", name, "--http", address,
		"--rabbitmq-uri", amqp, "--redis-uri", store.URI())
	untilBusy(ctx, t, address)
	if err := store.Pause(); err != nil { // without Redis, the drain cannot end
		t.Fatal(err)
	}
	signalUntilEnd(ctx, t, r, syscall.SIGTERM)
	if err := store.Resume(); err != nil {
		t.Fatal(err)
	}
	got := ended{stderr: r.stderr.String(), code: r.cmd.ProcessState.ExitCode()}
	if got.code != 128+int(syscall.SIGTERM) || !strings.Contains(got.stderr, "before it had a verdict") ||
		!strings.Contains(got.stderr, "parking purge --simulation "+name+" --rabbitmq-uri URI --redis-uri URI") {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	checkNoPassword(t, got, amqp, store.URI())
	if len(keysOf(t, store.URI(), name)) == 0 || len(queuesOf(t, amqp, name, 2)) == 0 {
		t.Error("nothing is left, so this test proves nothing")
	}
	if purged := parking(t, "purge", "--simulation", name, "--rabbitmq-uri", amqp, "--redis-uri", store.URI()); purged.code != exitOK {
		t.Errorf("purge: exit code %d: %s", purged.code, purged.stderr)
	}
	if keys, queues := keysOf(t, store.URI(), name), queuesOf(t, amqp, name, 2); len(keys)+len(queues) > 0 {
		t.Errorf("keys %q and queues %q are left", keys, queues)
	}
}

// loseOneEntry clears the bit of one entry event in the store, so that the event counts as lost. It returns the
// identifier of this event.
func loseOneEntry(t *testing.T, uri, simulation string) string {
	t.Helper()
	client := redisClient(t, uri)
	confirmed := regexp.MustCompile(`:(\d+)\}:confirmed:(\w+)$`)
	for _, key := range keysOf(t, uri, simulation) {
		match := confirmed.FindStringSubmatch(key)
		if match == nil {
			continue
		}
		if kind, err := client.HGet(t.Context(), key, "type").Result(); err != nil || kind != "entry" {
			continue
		}
		seen := strings.Replace(key, "confirmed:", "seen:", 1) + ":0"
		if was, err := client.SetBit(t.Context(), seen, 3, 0).Result(); err != nil || was != 1 {
			t.Fatalf("clear a bit of %s: it was %d, %v", seen, was, err)
		}
		return match[2] + "-" + match[1] + "-3"
	}
	t.Fatal("the store has no run of entries")
	return ""
}

// processes is a simulation whose components run in separate processes.
type processes struct {
	*stack.Stack

	plan        *plan.Plan
	path        string
	amqp, redis string
}

// startProcesses starts one process of each component, plus a second processor.
func startProcesses(ctx context.Context, t *testing.T) *processes {
	t.Helper()
	return startProcessesWith(ctx, t, func(*plan.Plan) {})
}

// startProcessesWith is like startProcesses, but the function change can modify the plan.
func startProcessesWith(ctx context.Context, t *testing.T, change func(*plan.Plan)) *processes {
	t.Helper()
	s := &processes{amqp: servers.VHostURI(t), redis: servers.RedisURI(t)}
	dir := t.TempDir()
	s.path = filepath.Join(dir, "plan.json")
	var err error
	s.Stack, err = stack.New(stack.Options{Binary: binary(t), Dir: dir, Plan: s.path, Processors: 2, EntryGenerators: 1, ExitGenerators: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.plan = planWith(t, func(p *plan.Plan) {
		p.RabbitMQ.URI, p.Redis.URI = s.amqp, s.redis
		p.SummaryAPI.URL = s.Summaries.URL("")
		change(p)
	})
	servers.RemoveKeys(t, s.plan.Simulation)
	removeQueues(t, s.amqp, s.plan.Simulation)
	s.write(t)
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	})
	if err := stack.Start(ctx, s.All()...); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *processes) write(t *testing.T) {
	t.Helper()
	if err := plantest.Write(s.plan, s.path); err != nil {
		t.Fatal(err)
	}
}

// metric reads the metrics of a process. It returns the sum of the series that have the given name and contain the
// given labels.
func metric(ctx context.Context, t *testing.T, p *stack.Process, name, labels string) float64 {
	t.Helper()
	page, err := get(ctx, p.URL("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, name); ok && strings.Contains(rest, labels) {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndex(rest, " "):]), 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += value
		}
	}
	return sum
}

// terminate sends SIGTERM to processes and checks that they exit with code 0.
func terminate(ctx context.Context, t *testing.T, all ...*stack.Process) {
	t.Helper()
	for _, p := range all {
		if code, err := p.Terminate(ctx); err != nil || code != exitOK {
			t.Errorf("%s ended with exit code %d, %v; its output is in %s", p.Name, code, err, p.Log())
		}
	}
}

// auditAtRest runs 'parking audit' until it reports that all events are processed, and returns that report.
func (s *processes) auditAtRest(ctx context.Context, t *testing.T) auditResult {
	t.Helper()
	var r auditResult
	polltest.UntilNoError(t, "the simulation is at rest", func() error {
		r = checkAudit(t, parking(t, "audit", "-f", manifestFile(t, "{rabbitmq: {partitions: 2}}"), "--simulation", s.plan.Simulation,
			"--output", "json", "--rabbitmq-uri", s.amqp, "--redis-uri", s.redis))
		if !r.Ledger.AtRest {
			return fmt.Errorf("%q", r.Reasons)
		}
		return nil
	})
	return r
}

func TestProcessCommand_IdleWhileRedisIsDown_LogsTheOutage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	amqp, redis, dir := servers.VHostURI(t), servers.NewRedis(t, servers.RedisOptions{}), t.TempDir()
	path := filepath.Join(dir, "plan.json")
	s, err := stack.New(stack.Options{Binary: binary(t), Dir: dir, Plan: path, Processors: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := planWith(t, func(p *plan.Plan) {
		p.RabbitMQ.URI, p.Redis.URI, p.SummaryAPI.URL = amqp, redis.URI(), s.Summaries.URL("")
	})
	removeQueues(t, amqp, p.Simulation)
	if err := errors.Join(plantest.Write(p, path), redis.Kill()); err != nil {
		t.Fatal(err)
	}
	idle := s.Processors[0]
	t.Cleanup(func() { _ = idle.Kill() })
	if err := idle.Start(); err != nil {
		t.Fatal(err)
	}
	says := func(what string) {
		polltest.UntilNoError(t, "the log says that "+what, func() error {
			log, err := os.ReadFile(idle.Log())
			if err == nil && !strings.Contains(string(log), what) {
				err = fmt.Errorf("so far it says:\n%s", log)
			}
			return err
		})
	}
	says("The store is unavailable")
	if err := redis.Start(ctx); err != nil {
		t.Fatal(err)
	}
	says("The store is available again")
	terminate(ctx, t, idle)
}

func TestProcessCommand_SIGTERM_AcknowledgesAllDeliveries(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// If a request to Redis timed out, the processor would repeat it, and the repetition would count as a duplicate.
	s := startProcessesWith(ctx, t, func(p *plan.Plan) { p.Redis.URI += "?read_timeout=1m" })
	for _, p := range s.Processors {
		polltest.UntilNoError(t, p.Name+" works", func() error {
			if n := metric(ctx, t, p, "parking_events_processed_total", `outcome="matched"`); n < 20 {
				return fmt.Errorf("%v matched so far", n)
			}
			return nil
		})
	}
	terminate(ctx, t, s.Processors[0])
	terminate(ctx, t, s.Generators()...)
	r := s.auditAtRest(ctx, t)
	terminate(ctx, t, s.Processors[1], s.Summaries)
	if r.Outcome != ledger.Pass {
		t.Errorf("verdict is %s %q: %+v", r.Outcome, r.Reasons, r.Ledger)
	}
	// RabbitMQ redelivers unacknowledged events when a connection is lost, for example on a busy machine. Only then,
	// duplicates are allowed.
	var logs strings.Builder
	for _, p := range s.Processors {
		log, err := os.ReadFile(p.Log())
		if err != nil {
			t.Fatal(err)
		}
		logs.Write(log)
	}
	if n := r.Ledger.DuplicatesSuppressed; n != 0 && !strings.Contains(logs.String(), "connection lost") {
		t.Errorf("%d events had taken effect but were not acknowledged; the processors logged:\n%s", n, logs.String())
	}
	if r.Ledger.Indeterminate != 0 {
		t.Errorf("%d events were not confirmed when their generator had ended", r.Ledger.Indeterminate)
	}
}

func TestGenerateCommand_ServersRestart_TimelineShowsTheOutages(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	rabbitmq, redis := servers.NewRabbitMQ(t, servers.RabbitMQOptions{}), servers.NewRedis(t, servers.RedisOptions{})
	dir := t.TempDir()
	path := filepath.Join(dir, "plan.json")
	s, err := stack.New(stack.Options{Binary: binary(t), Dir: dir, Plan: path, EntryGenerators: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := planWith(t, func(p *plan.Plan) {
		p.RabbitMQ.URI, p.Redis.URI, p.SummaryAPI.URL = rabbitmq.URI(), redis.URI(), s.Summaries.URL("")
	})
	if err := plantest.Write(p, path); err != nil {
		t.Fatal(err)
	}
	generator := s.Entries[0]
	t.Cleanup(func() { _ = generator.Kill() })
	if err := stack.Start(ctx, generator); err != nil {
		t.Fatal(err)
	}
	store, err := wiring.OpenStore(p, wiring.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	awaitMarks := func(want ...string) {
		t.Helper()
		polltest.UntilNoError(t, "the timeline has the marks", func() error {
			rows, err := store.ReadTimeline(ctx, time.Unix(0, 0), time.Now().Add(time.Hour))
			if err != nil {
				return err
			}
			var got []string
			for _, m := range timeline.MarksOf(rows) {
				got = append(got, m.Subject+" "+string(m.Kind))
			}
			for _, mark := range want {
				if !slices.Contains(got, mark) {
					return fmt.Errorf("no mark %q in %q", mark, got)
				}
			}
			return nil
		})
	}
	awaitMarks("entry generator started")
	// A queue that RabbitMQ is creating when it is killed can be lost. Wait until every queue of the generator has
	// confirmed events.
	polltest.UntilNoError(t, "events are confirmed", func() error {
		rows, err := store.ReadTimeline(ctx, time.Unix(0, 0), time.Now().Add(time.Hour))
		if err != nil {
			return err
		}
		var confirmed int64
		for i := range rows {
			confirmed += rows[i].Entry.Confirmed
		}
		const enough = 100 // plates are spread evenly over the partitions, so this many events reach each partition
		if confirmed < enough {
			return fmt.Errorf("%d are confirmed, want %d", confirmed, enough)
		}
		return nil
	})
	// Redis stays down while RabbitMQ starts, which takes several seconds, so the generator notices the outage of
	// Redis.
	if err := errors.Join(redis.Kill(), rabbitmq.Kill(), rabbitmq.Start(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := redis.Start(ctx); err != nil {
		t.Fatal(err)
	}
	awaitMarks("broker unavailable", "broker available", "store unavailable", "store available")
	terminate(ctx, t, generator)
}

func TestGenerateCommand_EditedPlan_TakesEffectWithoutRestart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := startProcesses(ctx, t)
	entries := s.Entries[0]
	pid := entries.Pid()
	s.plan.Entry.Rate, s.plan.Exit.MatchPercent = 700, 100
	s.write(t)
	edited := time.Now()
	polltest.UntilNoError(t, "the new rate is in force", func() error {
		if rate := metric(ctx, t, entries, "parking_generator_target_rate", ""); rate != 700 {
			return fmt.Errorf("the rate is %v", rate)
		}
		return nil
	})
	t.Logf("the edit took effect after %s", time.Since(edited))
	exits := func(intent string) float64 {
		return metric(ctx, t, s.Exits[0], "parking_events_published_total", `intent="`+intent+`"`)
	}
	// The exit generator may read the edited plan later than the entry generator.
	polltest.UntilNoError(t, "all of 100 exits are matched", func() error {
		unmatched, matched := exits("unmatched"), exits("matched")
		polltest.UntilNoError(t, "exits are matched", func() error {
			if n := exits("matched"); n < matched+100 {
				return fmt.Errorf("%v matched exits", n-matched)
			}
			return nil
		})
		if n := exits("unmatched") - unmatched; n > 0 {
			return fmt.Errorf("%v unmatched exits were published although all exits must match", n)
		}
		return nil
	})
	if now := entries.Pid(); now != pid {
		t.Errorf("the generator was restarted: its process was %d and is %d", pid, now)
	}
	terminate(ctx, t, s.Generators()...)
	if r := s.auditAtRest(ctx, t); r.Outcome != ledger.Pass {
		t.Errorf("verdict is %s %q: %+v", r.Outcome, r.Reasons, r.Ledger)
	}
	terminate(ctx, t, append(s.Processors, s.Summaries)...)
}

func checkAudit(t *testing.T, got ended) auditResult {
	t.Helper()
	var r auditResult
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		t.Fatalf("audit: exit code %d, %v\n%s%s", got.code, err, got.stdout, got.stderr)
	}
	if (got.code == exitOK) != (r.Outcome == ledger.Pass) {
		t.Errorf("exit code %d with verdict %s", got.code, r.Outcome)
	}
	return r
}

// checkNoPassword checks that the output of a process contains none of the passwords in the URIs.
func checkNoPassword(t *testing.T, got ended, uris ...string) {
	t.Helper()
	for _, uri := range uris {
		_, rest, _ := strings.Cut(uri, "://")
		user, _, _ := strings.Cut(rest, "@")
		_, password, _ := strings.Cut(user, ":")
		if password != "" && strings.Contains(got.stdout+got.stderr, password) {
			t.Errorf("the output contains a password:\n%s%s", got.stdout, got.stderr)
		}
	}
}

func redisClient(t *testing.T, uri string) *goredis.Client {
	t.Helper()
	options, err := goredis.ParseURL(uri)
	if err != nil {
		t.Fatal("the URI of the test's Redis cannot be parsed")
	}
	client := goredis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// removeQueues deletes the simulation's queues when the test ends.
func removeQueues(t *testing.T, uri, simulation string) {
	t.Helper()
	t.Cleanup(func() {
		p := planWith(t, func(p *plan.Plan) { p.Simulation, p.RabbitMQ.URI = simulation, uri })
		b, err := wiring.OpenBroker(p, wiring.Options{Component: "test"})
		if err != nil {
			t.Error(err)
			return
		}
		if err := errors.Join(b.Delete(context.Background()), b.Close()); err != nil {
			t.Errorf("remove the queues of %s: %v", simulation, err)
		}
	})
}

func keysOf(t *testing.T, uri, simulation string) []string {
	t.Helper()
	client := redisClient(t, uri)
	var keys []string
	iterator := client.Scan(t.Context(), 0, "parking:{"+simulation+":*", 1000).Iterator()
	for iterator.Next(t.Context()) {
		keys = append(keys, iterator.Val())
	}
	if err := iterator.Err(); err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestPlanWith_NilChange_ReturnsAValidPlanThatNamesNoServers(t *testing.T) {
	t.Parallel()
	if err := wiring.RequireServers(planWith(t, nil)); err == nil {
		t.Error("a plan without servers is accepted")
	}
	if err := planWith(t, nil).Validate(); err != nil {
		t.Error(err)
	}
}
