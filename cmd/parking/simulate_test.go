package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/test/servers"
)

// calm is a spec with low rates.
const calm = "{entry: {rate: 40}, exit: {rate: 40, matchPercent: 50, minStay: 1s}}"

// busy is a spec with high rates, so that every possible outcome of an event occurs within seconds.
const busy = "{entry: {rate: 800}, exit: {rate: 700, matchPercent: 50, minStay: 100ms}, rabbitmq: {partitions: 2}}"

func TestSimulate_InMemory_PassesAndTheLedgerAddsUp(t *testing.T) {
	t.Parallel()
	got := parking(t, "simulate", "-f", manifestFile(t, busy), "--duration", "4s", "--output", "json", "--http", "127.0.0.1:0")
	checkPassed(t, got)
}

// passedExceptSchedules reports whether all checks passed, apart from those of the schedules, which may fail on busy
// machines.
func passedExceptSchedules(got ended, r report.Document) bool {
	late := false
	for _, check := range r.Checks {
		if check.Outcome == ledger.Passed {
			continue
		}
		if !strings.HasSuffix(check.Name, " schedule") {
			return false
		}
		late = true
	}
	return (got.code == exitOK) != late && (r.Outcome == ledger.Pass) != late
}

// checkPassed checks that the simulation passed all checks, except those of the schedules, and that its ledger adds up.
func checkPassed(t *testing.T, got ended) report.Document {
	t.Helper()
	r := got.result(t)
	if !passedExceptSchedules(got, r) {
		t.Errorf("exit code %d, verdict %s %q, stderr:\n%s", got.code, r.Outcome, r.Reasons, got.stderr)
	}
	l := r.Ledger
	for _, equation := range []struct {
		name        string
		left, right int64
	}{
		{"entries recorded", l.EntriesRecorded, l.EntriesConfirmed},
		{"matched", l.Matched, l.ExitsMatchedConfirmed},
		{"unmatched as expected", l.UnmatchedExpected, l.ExitsUnmatchedConfirmed},
		{"summaries stored", l.SummariesStored, l.Matched},
		{"lost", l.Lost, 0},
		{"unexpected", l.UnmatchedUnexpected, 0},
		{"taken twice", l.TakenTwice, 0},
		{"dead-lettered", l.DeadLettered, 0},
		{"indeterminate", l.Indeterminate, 0},
		{"outbox", l.Outbox, 0},
	} {
		if equation.left != equation.right {
			t.Errorf("%s: %d, want %d", equation.name, equation.left, equation.right)
		}
	}
	// On a busy machine, the simulation may end before any vehicle exits. The verdict is then FAIL.
	if kept := r.Outcome == ledger.Pass; l.EntriesConfirmed == 0 || kept && (l.Matched == 0 || l.UnmatchedExpected == 0) {
		t.Errorf("nothing happened: %+v", l)
	}
	if r.LatencySeconds.Processing.P99 <= 0 || r.LatencySeconds.EndToEnd.P99 <= 0 || r.Rates.Entry.Achieved <= 0 {
		t.Errorf("latencies or rates are missing: %+v %+v", r.LatencySeconds, r.Rates)
	}
	return r
}

func TestSimulate_MissedObjective_Fails(t *testing.T) {
	t.Parallel()
	got := parking(t, "simulate", "-f", manifestFile(t, "{objectives: {processingP99: 1ns}}"), "--duration", "1s", "--http", "")
	if got.code != exitFailed {
		t.Errorf("exit code %d, want %d; stderr:\n%s", got.code, exitFailed, got.stderr)
	}
	for _, want := range []string{"FAIL", "✗ processing p99 is", "beyond the objective of 1 ns"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("stdout does not say %q:\n%s", want, got.stdout)
		}
	}
	if strings.Contains(got.stdout+got.stderr, "\x1b") {
		t.Error("the output has escape sequences although it is not a terminal")
	}
}

func TestSimulate_FirstSignal_EndsWithAVerdict(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			address := servers.FreeAddress(t)
			// At low rates, nearly all due events are already published when the signal arrives.
			r := start(ctx, t, "simulate", "-f", manifestFile(t, calm), "--duration", "10m", "--output", "json", "--http", address)
			untilBusy(ctx, t, address)
			if err := r.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if cut := checkPassed(t, wait(t, r)).CutShort; !strings.Contains(cut, "of 10:00 (stopped by a signal: "+signal.String()+")") {
				t.Errorf("the report does not say that the run was cut short: %q", cut)
			}
		})
	}
}

// untilBusy waits until the simulation with the given HTTP address has stored summaries. It also checks that the
// simulation serves metrics.
func untilBusy(ctx context.Context, t *testing.T, address string) {
	t.Helper()
	polltest.UntilNoError(t, "summaries are stored", func() error {
		body, err := get(ctx, "http://"+address+"/v1/stats")
		if err == nil && strings.Contains(body, `"count":0`) {
			err = fmt.Errorf("statistics are %s", body)
		}
		return err
	})
	metrics, err := get(ctx, "http://"+address+"/metrics")
	if err != nil || !strings.Contains(metrics, "parking_events_processed_total") {
		t.Errorf("metrics: %v", err)
	}
}

func TestSimulate_SignalDuringStart_ExitsAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	silent, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for _, args := range [][]string{
		{"simulate", "--rabbitmq-uri", "amqp://" + silent.Addr().String()},
		{"simulate", "--redis-uri", "redis://" + silent.Addr().String()},
	} {
		r := start(ctx, t, args...)
		conn, err := silent.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		got := wait(t, r)
		_ = conn.Close()
		if got.code != 128+int(syscall.SIGINT) || got.stderr != "parking: stopped by a signal: interrupt\n" {
			t.Errorf("%v: exit code %d: %s", args, got.code, got.stderr)
		}
	}
}

func TestSimulate_SignalWhileReadingStdin_ExitsAtOnce(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"simulate", "-f", "-"}, {"purge", "-f", "-", "--redis-uri", "redis://127.0.0.1:1"}, {"audit", "-f", "-", "--redis-uri", "redis://127.0.0.1:1"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r := &running{cmd: command(ctx, t, args...)}
			r.cmd.Stderr = &r.stderr
			stdin, err := r.cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := r.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// A pipe buffers at most 64 KiB. This text is longer, so the process reads stdin when the write returns.
			if _, err := io.WriteString(stdin, strings.Repeat("# this manifest does not end\n", 5000)); err != nil {
				t.Fatal(err)
			}
			if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, r); got.code != 128+int(syscall.SIGTERM) || got.stderr != "parking: stopped by a signal: terminated\n" {
				t.Errorf("exit code %d: %s", got.code, got.stderr)
			}
		})
	}
}

func TestSimulate_ClosedStderr_DoesNotStopTheSimulation(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	defer func() { _ = writer.Close() }()
	r := &running{cmd: command(ctx, t, "simulate", "-f", manifestFile(t, busy), "--duration", "2s", "--output", "json", "--http", "")}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, writer
	r.checkTempFiles(t)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	checkPassed(t, wait(t, r))
}

// overloadedAPI starts a summary API that answers every request with 503, and returns its URL.
func overloadedAPI(t *testing.T) string {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(api.Close)
	return api.URL
}

func TestSimulate_SecondSignal_ExitsAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := servers.FreeAddress(t)
	// The summary API rejects every summary, so the drain ends only at its timeout.
	r := start(ctx, t, "simulate", "-f", manifestFile(t, "{exit: {matchPercent: 100, minStay: 0s}}"), "--http", address, "--summary-url", overloadedAPI(t))
	polltest.UntilNoError(t, "posts fail", func() error {
		body, err := get(ctx, "http://"+address+"/metrics")
		if err == nil && strings.Contains(body, `parking_event_errors_total{event_type="exit",stage="post"} 0`) {
			err = errors.New("no post has failed yet")
		}
		return err
	})
	// The first signal starts the drain. The next signal ends the process at once.
	signalUntilEnd(ctx, t, r, syscall.SIGINT)
	if code := r.cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGINT) {
		t.Errorf("exit code %d, want %d", code, 128+int(syscall.SIGINT))
	}
	if !strings.HasSuffix(r.stderr.String(), "\nparking: the simulation was stopped before it had a verdict\n") {
		t.Errorf("stderr does not end with the reason:\n%s", r.stderr.String())
	}
}

func TestSimulate_DrainTimeout_VerdictCountsUnprocessedEvents(t *testing.T) {
	t.Parallel()
	got := parking(t, "simulate", "-f", manifestFile(t, "{exit: {matchPercent: 100, minStay: 0s}}"), "--duration", "10s",
		"--drain-timeout", "1s", "--http", "", "--output", "json", "--summary-url", overloadedAPI(t))
	r := got.result(t)
	reasons := strings.Join(r.Reasons, "\n")
	if got.code != exitFailed || r.Outcome != ledger.Fail {
		t.Errorf("exit code %d, verdict %s", got.code, r.Outcome)
	}
	for _, want := range []string{"not at rest", "in processors", "in the outbox", "did not come to rest within the drain timeout of 1s"} {
		if !strings.Contains(reasons, want) {
			t.Errorf("reasons do not say %q:\n%s", want, reasons)
		}
	}
	if r.Ledger.Lost != 0 || r.Ledger.AtRest {
		t.Errorf("waiting events count as lost: %+v", r.Ledger)
	}
}

func TestSimulate_SummariesDB_KeepsSummariesForTheNextProcess(t *testing.T) {
	t.Parallel()
	db := t.TempDir() + "/summaries.db"
	var matched int64
	for range 2 { // the second process continues with the summaries of the first
		got := parking(t, "simulate", "-f", manifestFile(t, busy), "--duration", "2s", "--output", "json", "--http", "", "--summaries-db", db)
		matched += checkPassed(t, got).Ledger.Matched
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := servers.FreeAddress(t)
	r := start(ctx, t, "summaries", "--database", db, "--http", address)
	var stats string
	polltest.UntilNoError(t, "the API answers", func() (err error) {
		stats, err = get(ctx, "http://"+address+"/v1/stats")
		return err
	})
	if !strings.Contains(stats, fmt.Sprintf(`"count":%d`, matched)) {
		t.Errorf("statistics are %s, want a count of %d", stats, matched)
	}
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, r); got.code != exitOK {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
}

func TestSimulate_SharedSummariesDB_CountsOnlyItsOwnSummaries(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	db := t.TempDir() + "/summaries.db"
	var both []*running
	for range 2 {
		both = append(both, start(ctx, t, "simulate", "-f", manifestFile(t, calm), "--duration", "5s", "--output", "json", "--http", "", "--summaries-db", db))
	}
	for _, r := range both {
		checkPassed(t, wait(t, r))
	}
}

func TestSimulate_ManifestOnStdin_IsRead(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	input, err := os.Open(manifestFile(t, "{exit: {matchPercent: 101}}"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = input.Close() }()
	r := &running{}
	r.cmd = command(ctx, t, "simulate", "-f", "-")
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = input, &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, r); got.code != exitBadInput || !strings.Contains(got.stderr, "matchPercent") {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
}

// get sends a GET request and returns the body of the response. If the status is not 200, get returns an error.
func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %s", url, response.Status, body)
	}
	return string(body), err
}

func TestSimulateFlags_IgnoredFields_NotesSayWhatIsUsedInstead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		flags simulateFlags
		want  string
	}{
		"in memory":       {simulateFlags{}, "the store is in memory, unless --redis-uri selects a server"},
		"private servers": {simulateFlags{private: "private"}, "--servers private starts the store"},
		"a server":        {simulateFlags{servers: serverFlags{redis: plan.BindingRef{SecretDir: "/s"}}}, "--redis-secret selects the store"},
	} {
		sim := &v1alpha1.ParkingSimulation{Spec: v1alpha1.ParkingSimulationSpec{Redis: v1alpha1.RedisSpec{SecretRef: &v1alpha1.SecretReference{Name: "a"}}}}
		if notes := tt.flags.override(sim); len(notes) != 1 || notes[0] != "spec.redis.secretRef has no effect here: "+tt.want {
			t.Errorf("%s: the notes are %q", name, notes)
		}
	}
	for name, tt := range map[string]struct {
		flags simulateFlags
		want  string
	}{
		"in memory": {simulateFlags{}, "summaries are stored in memory, unless --summary-url selects an API"},
		"an API":    {simulateFlags{summaryURL: "http://h"}, "--summary-url selects the API"},
		"a file":    {simulateFlags{summariesDB: "x.db"}, "--summaries-db selects a file for the summaries"},
	} {
		sim := &v1alpha1.ParkingSimulation{Spec: v1alpha1.ParkingSimulationSpec{SummaryAPI: v1alpha1.SummaryAPISpec{URL: "http://api"}}}
		if notes := tt.flags.override(sim); len(notes) != 1 || notes[0] != "spec.summaryAPI.url has no effect here: "+tt.want {
			t.Errorf("summaries, %s: the notes are %q", name, notes)
		}
	}
}

func TestSimulateFlags_Durability_IsResetOnlyIfStoreIsInMemory(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		flags simulateFlags
		want  v1alpha1.Durability
		notes []string
	}{
		"in memory": {simulateFlags{}, v1alpha1.DurabilityWritten,
			[]string{"spec.redis.durability has no effect here: the store is in memory, unless --redis-uri selects a server"}},
		"private servers": {simulateFlags{private: "private"}, v1alpha1.DurabilitySynced, nil},
		"a server":        {simulateFlags{servers: serverFlags{redis: plan.BindingRef{SecretDir: "/s"}}}, v1alpha1.DurabilitySynced, nil},
	} {
		sim := &v1alpha1.ParkingSimulation{}
		sim.Spec.Redis.Durability = v1alpha1.DurabilitySynced
		if notes := tt.flags.override(sim); !slices.Equal(notes, tt.notes) {
			t.Errorf("%s: the notes are %q", name, notes)
		}
		if got := sim.Spec.Redis.Durability; got != tt.want {
			t.Errorf("%s: the durability is %q, want %q", name, got, tt.want)
		}
	}
}

func TestFaultLog_RepeatedReports_WriteEachLineOnce(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	a := fault.Account{Fault: "stall", Target: plan.TargetRedis, Action: plan.ActionPause, Hit: []string{"redis"}, AtSeconds: 10, Outcome: fault.OutcomeInjecting}
	var out strings.Builder
	l := newFaultLog(&out)
	for _, change := range []func(){
		func() {},
		func() { a.InjectedAt, a.Outcome = at(10), fault.OutcomeActive },
		func() { a.HealedAt, a.Outcome = at(15), fault.OutcomeRecovering },
		func() { a.RecoveredAt, a.Outcome, a.Message = at(17), fault.OutcomeRecovered, "As before" },
		func() {},
		func() {
			a.Hit, a.HealedAt, a.Message = []string{"redis", "redis-1"}, at(16), "As before, measured again"
		},
	} {
		change()
		l.write(report.Run{StartTime: start, Faults: []fault.Account{a}})
	}
	const want = `0:10 fault stall/0 begins: Pause Redis (redis)
0:15 fault stall/0 ends: Pause Redis lasted 5.00 s
fault stall/0 (Pause Redis): Recovered: As before
`
	if out.String() != want {
		t.Errorf("the log is\n%s\nwant\n%s", &out, want)
	}
}

func TestFaultLog_TwoFaultsOverlap_WritesLinesInChronologicalOrder(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	account := func(name string, from, to int) fault.Account {
		return fault.Account{
			Fault: name, Target: plan.TargetRedis, Action: plan.ActionKill, Hit: []string{"redis"},
			InjectedAt: at(from), HealedAt: at(to), Outcome: fault.OutcomeRecovering,
		}
	}
	var out strings.Builder
	newFaultLog(&out).write(report.Run{StartTime: start, Faults: []fault.Account{account("a", 2, 5), account("b", 3, 4)}})
	const want = `0:02 fault a/0 begins: Kill Redis (redis)
0:03 fault b/0 begins: Kill Redis (redis)
0:04 fault b/0 ends: Kill Redis lasted 1.00 s
0:05 fault a/0 ends: Kill Redis lasted 3.00 s
`
	if out.String() != want {
		t.Errorf("the log is\n%s\nwant\n%s", &out, want)
	}
}

// The log must say at once that a fault begins, even if a server does not respond.
func TestFaultLogWatch_ServerDoesNotRespond_WritesThatTheFaultBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var out strings.Builder
		start, a := time.Now(), fault.Account{Fault: "stall", Target: plan.TargetRedis, Action: plan.ActionPause, Hit: []string{"redis"}, Outcome: fault.OutcomeActive}
		occurrences := func() report.Run {
			if now := time.Now(); a.InjectedAt.IsZero() && now.Sub(start) > 2*time.Second {
				a.InjectedAt = now
			}
			return report.Run{StartTime: start, Faults: []fault.Account{a}}
		}
		blocked := func(ctx context.Context) report.Run {
			<-ctx.Done()
			return report.Run{}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			newFaultLog(&out).watch(ctx, occurrences, blocked)
		}()
		time.Sleep(2500 * time.Millisecond)
		stop()
		<-done
		if want := "0:02 fault stall/0 begins: Pause Redis (redis)\n"; out.String() != want {
			t.Errorf("the log is %q, want %q", &out, want)
		}
	})
}

func TestAnnounce_StartTakesLong_RepeatsTheMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		started := announce(&out, "RabbitMQ")
		time.Sleep(lineInterval + time.Second)
		started()
		synctest.Wait()
		if want := "Starting a private RabbitMQ (0:00)\nStarting a private RabbitMQ (0:05)\n"; out.String() != want {
			t.Errorf("the output is %q, want %q", &out, want)
		}
	})
}
