package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/test/servers"
)

// TestMain also runs the child processes of the benchmark, because they run the test binary.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if isChild, err := runChild(ctx, os.Args[1:]); isChild {
		exit(err)
	}
	os.Exit(m.Run())
}

func TestBench_OneShortRound_FillsTheReport(t *testing.T) {
	dir := t.TempDir()
	o := options{
		rounds: 1, warmUp: 200 * time.Millisecond, length: time.Second, events: 400, offered: []int64{aimRate},
		run: regexp.MustCompile(""), jsonPath: filepath.Join(dir, "report.json"), benchPath: filepath.Join(dir, "report.txt"),
	}
	env, r, stop := prepareOrSkip(t)
	defer stop()
	if err := r.takeAll(t.Context(), env, o); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.publish(&out, o); err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	text, err := os.ReadFile(o.jsonPath)
	if err != nil {
		t.Fatal(err)
	}
	var written report
	if err := json.Unmarshal(text, &written); err != nil {
		t.Fatal(err)
	}
	checkReport(t, &written)
	lines, err := os.ReadFile(o.benchPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"BareBroker", "Saturated", "Drain", "Memory", "Offered/rate=500"} {
		if !strings.Contains(string(lines), "Benchmark"+name+" 1 ") {
			t.Errorf("the file for benchstat has no line of %s:\n%s", name, lines)
		}
	}
}

// prepareOrSkip prepares a measurement with one RabbitMQ node. If the servers are not installed, prepareOrSkip skips
// the test. If PARKING_TEST_REQUIRE=1, it fails the test instead.
func prepareOrSkip(t *testing.T) (environment, *report, func()) {
	t.Helper()
	if testing.Short() {
		t.Skip("the test needs servers, and -short is set")
	}
	env, r, stop, err := prepare(t.Context(), t.TempDir(), "", 1)
	var missing *servers.NotInstalledError
	if errors.As(err, &missing) && os.Getenv("PARKING_TEST_REQUIRE") != "1" {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	return env, r, func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

func checkReport(t *testing.T, r *report) {
	t.Helper()
	for what, n := range map[string]int{
		"ceiling": len(r.Ceiling), "saturated": len(r.Saturated), "drain": len(r.Drain), "memory": len(r.Memory),
		"disk": len(r.Disk), "bare": len(r.Bare), "offered": len(r.Offered),
	} {
		if n != 1 {
			t.Errorf("%d results of %s, want 1", n, what)
		}
	}
	// In a short round, the client's CPU time may be too small to measure. Then one of the six performance targets
	// is missing.
	if len(r.Aims) < 5 {
		t.Errorf("%d aims, want at least 5: %+v", len(r.Aims), r.Aims)
	}
	for _, a := range r.Aims {
		if a.Measured <= 0 {
			t.Errorf("%s: measured %g", a.What, a.Measured)
		}
	}
	for _, p := range append(slices.Clone(r.Saturated), r.Offered...) {
		checkEffort(t, "own processes", p.own(), switches, ioCalls)
		checkEffort(t, redisName, p.PerEvent[redisName], switches, ioCalls, commands)
	}
	for _, d := range r.Drain {
		checkEffort(t, "drain", d.PerEvent, switches, ioCalls, commands)
	}
	for _, c := range append(slices.Clone(r.Ceiling), r.Bare...) {
		checkEffort(t, clientsName, c.PerMessage[clientsName], switches, ioCalls)
		checkEffort(t, brokerName, c.PerMessage[brokerName], switches, ioCalls)
	}
	for i, processor := range processors() {
		c := r.Crash[i]
		if c.Processor != processor || c.EventsPerSecond <= 0 {
			t.Errorf("crash %d: %+v", i, c)
		}
		checkEffort(t, processor, c.PerEvent, switches, ioCalls, commands)
		if most := map[string]int64{ours: 0, naive: 1, original: int64(c.Exits)}[processor]; c.Lost < 0 || c.Lost > most {
			t.Errorf("%s loses %d of %d, want at most %d", processor, c.Lost, c.Exits, most)
		}
	}
}

// checkEffort checks that each given measure is positive. It skips measures that the kernel does not provide.
func checkEffort(t *testing.T, what string, e effort, measures ...measure) {
	t.Helper()
	provided, err := effortOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range measures {
		if _, ok := provided[m]; (ok || m == commands) && e[m] <= 0 {
			t.Errorf("%s: %g %s per event, want more than 0", what, e[m], m)
		}
	}
}

func TestRemaining_SlowMachine_ScalesTheEstimate(t *testing.T) {
	steps := []step{{about: time.Second}, {about: 2 * time.Second}, {about: 3 * time.Second}}
	for _, test := range []struct {
		next    int
		elapsed time.Duration
		want    time.Duration
	}{
		{0, 0, 6 * time.Second},
		{1, time.Second, 5 * time.Second},
		{1, 3 * time.Second, 15 * time.Second},
		{2, 6 * time.Second, 6 * time.Second},
	} {
		if got := remaining(steps, test.next, test.elapsed); got != test.want {
			t.Errorf("before step %d after %s: %s left, want %s", test.next, test.elapsed, got, test.want)
		}
	}
}

func TestParseFlags_Quick_KeepsExplicitValues(t *testing.T) {
	o, err := parseFlags([]string{"--quick", "--length", "1s"})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(o.rounds, o.warmUp, o.length, o.events, o.offered)
	if want := "1 2s 1s 5000 [500]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseFlags_InvalidFlags_AreRejected(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-check-sizing check.json", "-check-sizing needs -costs"},
		{"-rounds 0", "must be positive"},
		{"-warm-up -1s", "must not be negative"},
	} {
		if _, err := parseFlags(strings.Fields(tt.args)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %q", tt.args, err, tt.want)
		}
	}
}

func TestPrintTables_MeasureWasNotTaken_PrintsADash(t *testing.T) {
	full := effort{cpuMicros: 12, switches: .5, ioCalls: 1.25, commands: 3}
	r := report{
		Offered: []pipelineResult{{OfferedPerSecond: 500, PerEvent: map[string]effort{"process-0": {cpuMicros: 12, ioCalls: 1.25}, redisName: full}}},
		Bare:    []ceilingResult{{OfferedPerSecond: 500, PerMessage: map[string]effort{clientsName: full}}},
		Drain:   []drainResult{{PerEvent: effort{cpuMicros: 12}}},
		Crash:   []crashResult{{Processor: naive, PerEvent: full}},
	}
	var out bytes.Buffer
	if err := r.printTables(&out); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"process-0 – / 1.25", "redis-server 0.50 / 1.25", "all except servers – / 1.25", "bare broker: clients 0.50 / 1.25",
		"bare broker: beam.smp – / –", "Redis commands per event 3.00", "drain 12 – – –", "naive chain, killed once 12 0.50 1.25 3.00",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line is %q:\n%s", want, &out)
		}
	}
}

func TestBenchUnits_MeasureIsMissing_OmitsItsUnit(t *testing.T) {
	got := benchUnits(effort{cpuMicros: 12, switches: .5}, effort{commands: 3})
	if want := " 1.200000e-05 own-cpu-sec/event 0.500000 own-switches/event 3.000000 redis-commands/event"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAims_MedianOfRounds_IsComparedWithBound(t *testing.T) {
	r := report{
		Ceiling:   []ceilingResult{{PerSecond: 100}, {PerSecond: 100}, {PerSecond: 0}, {PerSecond: 100}},
		Saturated: []pipelineResult{{ProcessedPerSecond: 74}, {ProcessedPerSecond: 76}, {ProcessedPerSecond: 50}, {ProcessedPerSecond: 99}},
		Memory:    []float64{1},
	}
	r.computeAims()
	var got []string
	for _, a := range r.Aims {
		got = append(got, fmt.Sprintf("%.2f %t", a.Measured, a.Met))
	}
	if want := []string{"0.76 true", "1.00 false"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
