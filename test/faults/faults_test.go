// Package faults repeatedly kills processes of a running simulation. It then audits the ledger to check that every
// event was counted exactly once.
package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/plan/plantest"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
	"github.com/parking-operator/parking-operator/test/stack"
)

const (
	// leastFaults is the minimum number of faults in one test. Each kind of fault occurs at least once.
	leastFaults = 24
	// matchPercent is the percentage of exits that end a visit. The other exits are for vehicles that are not
	// parked.
	matchPercent = 50
	// The rates are low, so that enough CPU time is left to inject faults: with the race detector, an event costs
	// several times as much CPU time.
	entryRate = 100
	exitRate  = 90
	// patience is the maximum time that a test waits for a condition. It is long because the machine may be busy.
	patience = 5 * time.Minute
)

func TestFaults_InRandomOrder_EveryEventIsCountedOnce(t *testing.T) {
	s := startSimulation(t, "-race")
	s.injectFaults(t, s.faults(), leastFaults)
	l := s.auditAtRest(t).Ledger
	if total := l.EntriesConfirmed + l.ExitsMatchedConfirmed + l.ExitsUnmatchedConfirmed; total < 10_000 {
		t.Errorf("only %d events were published; the faults met too little traffic to show anything", total)
	}
	if l.DuplicatesSuppressed == 0 {
		t.Error("no duplicate was suppressed, so the faults caused no redelivery")
	}
}

func TestFaults_WithoutDeduplication_AuditFindsDuplicates(t *testing.T) {
	s := startSimulation(t, "-tags=parking_nodedup")
	redelivering := slices.DeleteFunc(s.faults(), func(f fault) bool {
		return f.name != "kill -9 a processor" && f.name != "close all connections"
	})
	s.injectFaults(t, redelivering, 6)
	s.auditFindsDuplicates(t)
}

// simulation contains the processes and the private servers of one simulation.
type simulation struct {
	dir   string
	plan  plan.Plan
	stack *stack.Stack
	// rabbit is the node on which the test runs rabbitmqctl.
	rabbit *servers.RabbitMQ
	// redis is the server that startSimulation starts. It is nil in tests that call startSimulationOn themselves.
	redis  *servers.Redis
	api    *apiProxy
	random *rand.Rand
}

func startSimulation(t *testing.T, buildFlags ...string) *simulation {
	t.Helper()
	redis := servers.NewRedis(t, servers.RedisOptions{})
	s := startSimulationOn(t, serverSet{redis: plan.BindingRef{URI: redis.URI()}}, buildFlags...)
	s.redis = redis
	return s
}

type serverSet struct {
	redis      plan.BindingRef
	durability plan.Durability
	// rabbit contains the nodes of a RabbitMQ cluster. If rabbit is empty, the simulation uses a single node.
	rabbit []*servers.RabbitMQ
	// database is the URI of a PostgreSQL database for the summary APIs. If database is empty, the summary API uses
	// SQLite.
	database string
	// summaryAPIs is the number of summary APIs. It defaults to 1.
	summaryAPIs int
}

func startSimulationOn(t *testing.T, on serverSet, buildFlags ...string) *simulation {
	t.Helper()
	if len(on.rabbit) == 0 {
		on.rabbit = []*servers.RabbitMQ{servers.NewRabbitMQ(t, servers.RabbitMQOptions{})}
	}
	s := &simulation{dir: t.TempDir(), rabbit: on.rabbit[0], random: newRandom(t)}
	planFile := filepath.Join(s.dir, "plan.json")
	var err error
	s.stack, err = stack.New(stack.Options{
		Binary: binary(t, buildFlags...), Dir: s.dir, DatabaseURI: on.database, SummaryAPIs: on.summaryAPIs, Plan: planFile,
		Processors: 2, EntryGenerators: 2, ExitGenerators: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.api = newAPIProxy(t, s.stack.SummaryAPIs())
	s.plan = s.newPlan(on)
	if err := plantest.Write(&s.plan, planFile); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stack.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			s.printLogs(t)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := stack.Start(ctx, s.stack.All()...); err != nil {
		t.Fatal(err)
	}
	return s
}

func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("PARKING_FAULTS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("PARKING_FAULTS_SEED: %v", err)
		}
	}
	t.Logf("faults are drawn with PARKING_FAULTS_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func (s *simulation) newPlan(on serverSet) plan.Plan {
	var nodes []string
	for _, node := range on.rabbit {
		nodes = append(nodes, node.URI())
	}
	return plan.Plan{
		Simulation: "faults." + event.NewRun(),
		Seed:       1,
		Partitions: 2,
		QueueType:  plan.QueueTypeQuorum,
		Durability: on.durability,
		Entry:      plan.Entry{Schedule: plan.Schedule{Rate: entryRate, Arrivals: plan.ArrivalsPoisson, Replicas: 2}},
		Exit: plan.Exit{
			Schedule:     plan.Schedule{Rate: exitRate, Arrivals: plan.ArrivalsUniform, Replicas: 1},
			MatchPercent: matchPercent,
			MinStay:      plan.Duration(500 * time.Millisecond),
		},
		MaxStay:    plan.Duration(time.Hour),
		Processor:  plan.Processor{Concurrency: 128},
		RabbitMQ:   plan.BindingRef{URI: strings.Join(nodes, ",")},
		Redis:      on.redis,
		SummaryAPI: plan.SummaryAPI{URL: s.api.server.URL},
	}
}

// fault is one kind of fault. The function inject causes the fault, repairs the damage, and then returns.
type fault struct {
	name   string
	inject func(context.Context) error
}

func (s *simulation) faults() []fault {
	return []fault{
		{"kill -9 a processor", func(ctx context.Context) error { return s.killOne(ctx, s.stack.Processors) }},
		{"kill -9 an entry generator", func(ctx context.Context) error { return s.killOne(ctx, s.stack.Entries) }},
		{"kill -9 the exit generator", func(ctx context.Context) error { return s.killOne(ctx, s.stack.Exits) }},
		{"kill -9 the summary API", func(ctx context.Context) error {
			return s.killOne(ctx, []*stack.Process{s.stack.Summaries})
		}},
		{"kill -9 redis-server", func(ctx context.Context) error {
			return errors.Join(s.redis.Kill(), s.pause(ctx), s.redis.Start(ctx))
		}},
		{"kill -9 redis-server and a processor", func(ctx context.Context) error {
			return errors.Join(s.redis.Kill(), s.killOne(ctx, s.stack.Processors), s.redis.Start(ctx))
		}},
		{"kill -9 redis-server and the exit generator", func(ctx context.Context) error {
			return errors.Join(s.redis.Kill(), s.killOne(ctx, s.stack.Exits), s.redis.Start(ctx))
		}},
		{"stop and start RabbitMQ", func(ctx context.Context) error {
			return errors.Join(s.ctl("stop_app"), s.pause(ctx), s.ctl("start_app"))
		}},
		{"close all connections", func(context.Context) error {
			return s.ctl("close_all_connections", "fault test")
		}},
		{"SCRIPT FLUSH", s.flushScripts},
		{"the API answers 500", func(ctx context.Context) error { return s.misbehave(ctx, answers500) }},
		{"the API hangs", func(ctx context.Context) error { return s.misbehave(ctx, hangs) }},
		{"the API drops the connection after storing", func(ctx context.Context) error {
			return s.misbehave(ctx, dropsAfterStoring)
		}},
	}
}

// injectFaults injects faults in random order while events are processed. It injects each of the given faults at least
// once, and at least minTotal faults in total.
func (s *simulation) injectFaults(t *testing.T, faults []fault, minTotal int) {
	t.Helper()
	schedule := slices.Clone(faults)
	for len(schedule) < minTotal {
		schedule = append(schedule, faults[s.random.IntN(len(faults))])
	}
	s.random.Shuffle(len(schedule), func(i, j int) { schedule[i], schedule[j] = schedule[j], schedule[i] })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	begin := time.Now()
	for i, f := range schedule {
		if err := s.pause(ctx); err != nil {
			t.Fatalf("before fault %d: %v", i+1, err)
		}
		t.Logf("%6.1fs fault %d: %s", time.Since(begin).Seconds(), i+1, f.name)
		if err := f.inject(ctx); err != nil {
			t.Fatalf("fault %d, %s: %v", i+1, f.name, err)
		}
	}
	if err := s.pause(ctx); err != nil {
		t.Fatal(err)
	}
}

// pause sleeps for a random time of up to 2.5 s, so that faults occur at random times.
func (s *simulation) pause(ctx context.Context) error {
	select {
	case <-time.After(time.Duration(200+s.random.IntN(2300)) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *simulation) killOne(ctx context.Context, of []*stack.Process) error {
	p := of[s.random.IntN(len(of))]
	return errors.Join(p.Kill(), s.pause(ctx), p.Start())
}

func (s *simulation) misbehave(ctx context.Context, mode misbehavior) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1+s.random.IntN(5))*time.Second)
	defer cancel()
	s.api.misbehave(ctx, mode)
	return nil
}

func (s *simulation) ctl(args ...string) error {
	_, err := s.rabbit.Ctl(args...)
	return err
}

func (s *simulation) flushScripts(ctx context.Context) error {
	options, err := goredis.ParseURL(s.redis.URI())
	if err != nil {
		return fmt.Errorf("flush scripts: %w", err)
	}
	client := goredis.NewClient(options)
	defer func() { _ = client.Close() }()
	return client.ScriptFlush(ctx).Err()
}

// stopGenerators waits until all processes are ready, and then stops the generators.
func (s *simulation) stopGenerators(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := stack.WaitReady(ctx, s.stack.All()...); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.stack.Generators() {
		if code, err := p.Terminate(ctx); err != nil || code != 0 {
			t.Fatalf("terminate %s: exit code %d, %v; its output is in %s", p.Name, code, err, p.Log())
		}
	}
}

// waitEmpty waits until the queues of the given kinds have no messages, not even unacknowledged ones. It fails the test
// if the number does not decrease for a long time.
func (s *simulation) waitEmpty(t *testing.T, kinds ...string) {
	t.Helper()
	least, progress := int64(math.MaxInt64), time.Now()
	for {
		waiting, err := s.messages(kinds)
		switch {
		case err != nil:
			t.Fatal(err)
		case waiting == 0:
			return
		case waiting < least:
			least, progress = waiting, time.Now()
		case time.Since(progress) > patience:
			t.Fatalf("%d messages wait in the queues, and no fewer than %d for %s", waiting, least, patience)
		}
		time.Sleep(time.Second) // each call of s.messages starts an Erlang VM, so wait between the calls
	}
}

// messages counts the messages in the queues of the given kinds, such as "entry" or "retry". The name of a queue
// contains its kind: parking.<simulation>.<kind>.…
func (s *simulation) messages(kinds []string) (int64, error) {
	output, err := s.rabbit.Ctl("list_queues", "--quiet", "--no-table-headers", "name", "messages")
	if err != nil {
		return 0, err
	}
	var sum int64
	for line := range strings.Lines(output) {
		name, count, found := strings.Cut(strings.TrimSpace(line), "\t")
		kind, _, _ := strings.Cut(strings.TrimPrefix(name, "parking."+s.plan.Simulation+"."), ".")
		if !found || !slices.Contains(kinds, kind) {
			continue
		}
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("count messages: unexpected line %q", line)
		}
		sum += n
	}
	return sum, nil
}

// auditReport contains the fields of the output of "parking audit --output json" that the test uses.
type auditReport struct {
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons"`
	Ledger  struct {
		EntriesConfirmed        int64 `json:"entriesConfirmed"`
		EntriesRecorded         int64 `json:"entriesRecorded"`
		ExitsMatchedConfirmed   int64 `json:"exitsMatchedConfirmed"`
		ExitsUnmatchedConfirmed int64 `json:"exitsUnmatchedConfirmed"`
		Matched                 int64 `json:"matched"`
		UnmatchedExpected       int64 `json:"unmatchedExpected"`
		UnmatchedUnexpected     int64 `json:"unmatchedUnexpected"`
		SummariesStored         int64 `json:"summariesStored"`
		DuplicatesSuppressed    int64 `json:"duplicatesSuppressed"`
		DeadLettered            int64 `json:"deadLettered"`
		Lost                    int64 `json:"lost"`
		TakenTwice              int64 `json:"takenTwice"`
	} `json:"ledger"`
	LatencySeconds struct {
		EndToEnd, Processing *struct{ P50, P99 float64 }
		Unmeasured           int64
	} `json:"latencySeconds"`
	text string
}

// auditAtRest stops the generators, waits until all events are processed, and audits them. It fails the test unless
// each event was counted once and the verdict is PASS.
func (s *simulation) auditAtRest(t *testing.T) auditReport {
	t.Helper()
	report := s.rest(t)
	if report.Verdict != "PASS" {
		t.Errorf("verdict is %s: %s", report.Verdict, strings.Join(report.Reasons, "; "))
	}
	if err := s.checkSummaries(t, report); err != nil {
		t.Error(err)
	}
	l := report.Ledger
	for _, zero := range []struct {
		name  string
		count int64
	}{
		{"lost", l.Lost}, {"taken twice", l.TakenTwice}, {"unexpected", l.UnmatchedUnexpected}, {"dead-lettered", l.DeadLettered},
	} {
		if zero.count != 0 {
			t.Errorf("%s: %d events, want none", zero.name, zero.count)
		}
	}
	return report
}

// rest stops the generators, waits until all events are processed, and returns the report of an audit.
func (s *simulation) rest(t *testing.T) auditReport {
	t.Helper()
	s.stopGenerators(t)
	s.waitEmpty(t, "entry", "exit", "retry")
	report := s.audit(t)
	t.Logf("ledger at rest: %s", report.text)
	return report
}

// checkSummaries returns an error unless the summary API stores one summary for each matched exit.
func (s *simulation) checkSummaries(t *testing.T, report auditReport) error {
	t.Helper()
	l := report.Ledger
	if stored := s.storedSummaries(t); stored == 0 || stored != l.Matched || stored != l.SummariesStored {
		return fmt.Errorf("the API holds %d summaries, the ledger counts %d stored, want one for each of the %d matched exits",
			stored, l.SummariesStored, l.Matched)
	}
	return nil
}

// auditFindsDuplicates stops the generators. It then waits until an audit finds events that took effect twice and has
// the verdict FAIL.
func (s *simulation) auditFindsDuplicates(t *testing.T) {
	t.Helper()
	s.stopGenerators(t)
	// Do not wait for empty queues: redelivered exits stay in the retry queue for minutes. An early audit can count
	// too few duplicates, but never too many.
	report := s.awaitVerdict(t, "the verdict is FAIL, because events took effect twice", func(r *auditReport) bool {
		return r.Verdict == "FAIL" && r.Ledger.TakenTwice > 0
	})
	t.Logf("as it must, the verdict is FAIL: %s", strings.Join(report.Reasons, "; "))
}

// awaitVerdict repeats "parking audit" until the function check returns true for a report. It ignores audits that fail,
// because the servers may not have recovered yet.
func (s *simulation) awaitVerdict(t *testing.T, what string, check func(*auditReport) bool) auditReport {
	t.Helper()
	var report auditReport
	var err error
	polltest.UntilState(t, what, func() bool {
		report, err = s.tryAudit(t)
		return err == nil && check(&report)
	}, func() any { return fmt.Sprintf("%s (%v)", report.text, err) })
	return report
}

// audit runs "parking audit", and fails the test if there is no report.
func (s *simulation) audit(t *testing.T) auditReport {
	t.Helper()
	report, err := s.tryAudit(t)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// tryAudit runs "parking audit". It accepts exit code 1, which means that the verdict is FAIL.
func (s *simulation) tryAudit(t *testing.T) (auditReport, error) {
	t.Helper()
	manifest := filepath.Join(s.dir, "simulation.yaml")
	text := fmt.Sprintf(`apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: faults}
spec:
  rabbitmq: {partitions: %d}
`, s.plan.Partitions)
	if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary(t), "audit", "-f", manifest,
		"--simulation", s.plan.Simulation, "--redis-uri", s.plan.Redis.URI, "--redis-secret", s.plan.Redis.SecretDir,
		"--rabbitmq-uri", s.plan.RabbitMQ.URI, "--output", "json")
	var failed *exec.ExitError
	output, err := cmd.Output()
	if err != nil && (!errors.As(err, &failed) || failed.ExitCode() != 1) {
		return auditReport{}, fmt.Errorf("audit: %w: %s", err, output)
	}
	report := auditReport{text: string(output)}
	if err := json.Unmarshal(output, &report); err != nil {
		return auditReport{}, fmt.Errorf("audit printed no report: %w: %s", err, output)
	}
	return report, nil
}

// storedSummaries asks the summary API how many summaries it stores.
func (s *simulation) storedSummaries(t *testing.T) int64 {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.stack.Summaries.URL("/v1/stats"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var stats struct {
		Count int64 `json:"count"`
	}
	if err := json.NewDecoder(response.Body).Decode(&stats); err != nil {
		t.Fatalf("read the API's statistics: %v", err)
	}
	return stats.Count
}

func (s *simulation) printLogs(t *testing.T) {
	t.Helper()
	const tail = 4000
	for _, p := range s.stack.All() {
		text, err := os.ReadFile(p.Log())
		if err != nil {
			continue
		}
		t.Logf("%s: %s", p.Name, text[max(0, len(text)-tail):])
	}
}
