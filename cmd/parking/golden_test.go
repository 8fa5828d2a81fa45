package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/goldentest"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

func TestHelp_EachCommand_MatchesGoldenFile(t *testing.T) {
	t.Parallel()
	for _, words := range []string{"", "simulate", "audit", "report", "compare", "generate", "generate entry", "generate exit", "process", "plan", "purge", "summaries", "summaries migrate", "agent", "operator", "version"} {
		name := strings.ReplaceAll(strings.TrimSpace("help "+words), " ", "-") + ".txt"
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCLI(os.Stdout, os.Stderr, func(string) string { return "" })
			root := c.rootCommand()
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetArgs(append(strings.Fields(words), "--help"))
			if err := root.ExecuteContext(context.Background()); err != nil {
				t.Fatal(err)
			}
			goldentest.Compare(t, name, out.String())
		})
	}
}

func passed() report.Run {
	return report.Run{
		Verdict: ledger.Verdict{Outcome: ledger.Pass, Reasons: []string{}, Checks: []ledger.Check{
			{Name: "lost events", Kind: ledger.Objective, Outcome: ledger.Passed, Want: "at most 0", Got: "0"},
		}},
		Simulation:     "default.rush-hour-4f7k2a",
		ElapsedSeconds: 600.02,
		DrainSeconds:   .153,
		Ledger: &ledger.Report{
			AtRest: true, EntriesConfirmed: 1_200_345, EntriesRecorded: 1_200_345,
			ExitsMatchedConfirmed: 215_901, ExitsUnmatchedConfirmed: 864_001, Matched: 215_901, UnmatchedExpected: 864_001,
			SummariesStored: 215_901, Runs: 2,
		},
		Rates: report.Rates{
			Entry: report.Rate{Target: 2000, Achieved: 2000.6, MaxLagSeconds: .0123},
			Exit:  report.Rate{Target: 1800, Achieved: 1799.8, MaxLagSeconds: .0031},
		},
		LatencySeconds: report.Latencies{
			Processing: &report.Latency{P50: .0000113, P99: .00071, Mean: .0000412},
			EndToEnd:   &report.Latency{P50: .00038, P99: .0142, Mean: .0011},
		},
		Objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Second)}},
	}
}

func documentOf(r report.Run) *report.Document {
	d := report.New(r, report.Environment{}, nil)
	return &d
}

func failed() report.Run {
	r := passed()
	r.Verdict = ledger.Verdict{Outcome: ledger.Fail, Reasons: []string{
		"2 events were lost: confirmed by the broker, but never took effect (1 entry, 1 exit); at most 0 allowed",
		"1 event took effect more than once",
		"end-to-end p99 is 1.42 s, beyond the objective of 1 s",
	}, Checks: []ledger.Check{
		{Name: "end-to-end p99", Kind: ledger.Objective, Outcome: ledger.Failed, Want: "at most 1 s", Got: "1.42 s",
			Message: "end-to-end p99 is 1.42 s, beyond the objective of 1 s"},
	}}
	l := r.Ledger
	l.EntriesRecorded, l.Matched, l.SummariesStored = l.EntriesConfirmed, l.Matched-1, l.SummariesStored-1
	l.Lost, l.MissingEntries, l.MissingMatched, l.TakenTwice = 2, 1, 1, 1
	l.IndeterminateEntries, l.Indeterminate, l.DuplicatesSuppressed, l.Starved = 17, 17, 1234, 56
	l.DeadLettered, l.UnmatchedUnexpected = 3, 2
	l.ExternalEntries, l.ExternalMatched, l.EntryNotFound = 5, 4, 1
	l.LostEvents = []string{"0123456789abc-0-42"}
	r.Rates.Exit = report.Rate{Target: 1800, Achieved: 1203.4, MaxLagSeconds: 12.3, Missed: 35_000}
	r.LatencySeconds.EndToEnd.P99, r.LatencySeconds.Unmeasured = 1.42, 1029
	return r
}

func unread() report.Run {
	r := passed()
	r.Ledger = nil
	r.Verdict = ledger.Verdict{Outcome: ledger.Fail, Reasons: []string{
		"the ledger cannot be read, so it is unknown whether events were lost: read the ledger: the store is unavailable at redis://127.0.0.1:6379: connection refused",
	}, Checks: []ledger.Check{}}
	return r
}

// unmeasured returns a run without a measured latency.
func unmeasured() report.Run {
	r := passed()
	r.LatencySeconds = report.LatenciesOf(&ledger.Latencies{})
	const message = "end-to-end p99 is unknown, so the objective of 1 s counts as not met: no event was measured"
	r.Verdict = ledger.Verdict{Outcome: ledger.Fail, Reasons: []string{message}, Checks: []ledger.Check{
		{Name: ledger.CheckEndToEnd, Kind: ledger.Objective, Outcome: ledger.NotMeasured, Want: "at most 1 s", Message: message},
	}}
	return r
}

func TestReportTable_MatchesGoldenFiles(t *testing.T) {
	t.Parallel()
	lost := failed()
	lost.Ledger.DataLostAt, lost.Reasons = new(time.Unix(0, 0)), []string{"the store has lost data of the simulation"}
	rehearsal, err := report.ReadFile(sampleReport)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]report.Run{"pass": passed(), "fail": failed(), "unread": unread(), "unmeasured": unmeasured(), "lost": lost, "rehearsal": rehearsal.Run} {
		goldentest.Compare(t, "table-"+name+".txt", strings.Join(reportTable(documentOf(r), &table{columns: unlimited}), "\n"))
		goldentest.Compare(t, "table-"+name+"-narrow.txt", strings.Join(reportTable(documentOf(r), &table{columns: 60}), "\n"))
		for _, columns := range []int{54, 60, 72, 79, 80, 100} {
			for _, line := range reportTable(documentOf(r), &table{columns: columns}) {
				if width := terminal.Width(line); width > columns {
					t.Errorf("%q is %d columns wide on a terminal of %d", line, width, columns)
				}
			}
		}
	}
}

func TestAuditTable_MatchesGoldenFiles(t *testing.T) {
	t.Parallel()
	r := failed()
	r.Ledger.AtRest, r.Ledger.Outstanding, r.Ledger.Outbox, r.Ledger.Lost, r.Ledger.LostEvents = false, 812, 3, 0, nil
	r.Reasons = append(r.Reasons, "not checked, because the store does not contain the data: entry schedule, recovery")
	r.Checks = append(r.Checks, ledger.Check{Name: ledger.CheckRecovery, Kind: ledger.Objective, Outcome: ledger.NotMeasured, Want: "at most 30 s"})
	goldentest.Compare(t, "table-audit.txt", strings.Join(auditTable(auditResult{
		Verdict: r.Verdict, Simulation: r.Simulation, Ledger: *r.Ledger, LatencySeconds: r.LatencySeconds,
		Notes: []string{"the queues were not checked, because --rabbitmq-uri is missing: events that wait there count as lost"},
	}, &table{columns: unlimited}), "\n"))
}

func TestResultJSON_MatchesGoldenFiles(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]report.Run{"result-pass.json": passed(), "result-fail.json": failed(), "result-unread.json": unread()} {
		var out bytes.Buffer
		if err := printJSON(&out, documentOf(r)); err != nil {
			t.Fatal(err)
		}
		goldentest.Compare(t, name, out.String())
		var back report.Run
		if err := json.Unmarshal(out.Bytes(), &back); err != nil {
			t.Error(err)
		}
	}
}

// testSnapshot returns the values that the live view shows during a simulation.
func testSnapshot() snapshot {
	var processing, endToEnd histogram.Histogram
	for i := range 1000 {
		processing.Observe(time.Duration(i) * time.Microsecond)
		endToEnd.Observe(time.Duration(i) * time.Millisecond)
	}
	entries := processor.TypeStats{
		Outcomes:   map[processor.Outcome]uint64{processor.OutcomeRecorded: 24_120},
		Processing: processing.Snapshot(), EndToEnd: endToEnd.Snapshot(),
	}
	exits := processor.TypeStats{Outcomes: map[processor.Outcome]uint64{
		processor.OutcomeMatched: 3480, processor.OutcomeUnmatchedExpected: 13_920, processor.OutcomeUnmatchedUnexpected: 1,
		processor.OutcomeDuplicate: 12, processor.OutcomeFailed: 4,
	}}
	return snapshot{
		Progress: simulate.Progress{
			Elapsed:  12400 * time.Millisecond,
			Entries:  generator.Stats{Published: 24_123, Rate: 2000, Lag: 1500 * time.Millisecond},
			Exits:    generator.Stats{Published: 17_411, Rate: 1800, Starved: 8, Lag: 40 * time.Microsecond},
			Done:     processor.Stats{Entry: entries, Exit: exits},
			InFlight: 9, Depths: &broker.Depths{Ready: 31, Retry: 2, Dead: 1}, Pool: new(int64(20_643)),
		},
		plan:    &plan.Plan{Simulation: "default.rush-hour", Duration: plan.Duration(30 * time.Second)},
		entries: rates{target: 2000, now: 1998.2}, exits: rates{target: 1800, now: 1801.4}, memory: 61 << 20,
	}
}

func TestLiveView_MatchesGoldenFiles(t *testing.T) {
	t.Parallel()
	draw := func(s snapshot, columns, rows int) string {
		lines := s.lines(terminal.Palette{}, columns, rows)
		if len(lines) > rows {
			t.Errorf("%d lines on a terminal of %d rows", len(lines), rows)
		}
		for _, line := range lines {
			if width := terminal.Width(line); width > columns {
				t.Errorf("%q is %d columns wide on a terminal of %d", line, width, columns)
			}
		}
		return strings.Join(lines, "\n") + "\n"
	}
	s := testSnapshot()
	goldentest.Compare(t, "live-view.txt", draw(s, 80, 23))
	goldentest.Compare(t, "live-view-narrow.txt", draw(s, 60, 14))
	for columns := 45; columns < 120; columns++ {
		draw(s, columns, 23)
	}
	s.Phase, s.plan = simulate.Draining, &plan.Plan{}
	goldentest.Compare(t, "live-view-draining.txt", draw(s, 120, 39))
	s.Depths, s.Pool = nil, nil
	s.Done.Entry.Processing, s.Done.Entry.EndToEnd = histogram.Snapshot{}, histogram.Snapshot{}
	goldentest.Compare(t, "live-view-unknown.txt", draw(s, 80, 23))
}

func TestProgressLine_MatchesGoldenFile(t *testing.T) {
	t.Parallel()
	s := testSnapshot()
	lines := []string{s.line()}
	s.Elapsed = 39 * time.Second // longer than the duration
	s.Depths = nil
	lines = append(lines, s.line())
	s.Phase = simulate.Draining
	lines = append(lines, s.line())
	s.Done.Entry.Processing, s.Done.Entry.EndToEnd = histogram.Snapshot{}, histogram.Snapshot{}
	lines = append(lines, s.line())
	goldentest.Compare(t, "progress-line.txt", strings.Join(lines, "\n")+"\n")
}

func TestWindowRates_AreMeansOverTwoSeconds(t *testing.T) {
	t.Parallel()
	var w window
	at := func(seconds float64, published int64) {
		p := simulate.Progress{At: time.Unix(0, 0).Add(time.Duration(seconds * float64(time.Second)))}
		p.Entries.Published, p.Entries.Rate, p.Entries.Due = published, 100*seconds, int64(50*seconds*seconds)
		w.add(p)
	}
	at(0, 0)
	if got := w.rates(entriesOf); got != (rates{}) {
		t.Errorf("rates after one observation are %v", got)
	}
	for i := range 20 {
		at(float64(i+1)/4, 1000)
	}
	if got := w.rates(entriesOf); got.now != 0 {
		t.Errorf("rate is %v long after the last event", got.now)
	}
	at(5.5, 1200)
	// The target rate rises from 350/s to 550/s during the 2 s window, so its mean is 450/s.
	if got, want := w.rates(entriesOf), (rates{target: 450, now: 100}); got != want {
		t.Errorf("rates are %v, want %v", got, want)
	}

	// A window has at least two observations, even if they are more than 2 s apart. Between the last two, 200 events/s
	// are due.
	w = window{}
	for i, due := range []int64{0, 5000, 6000} {
		p := simulate.Progress{At: time.Unix(int64(5*i), 0)}
		p.Exits.Due, p.Exits.Published = due, due
		w.add(p)
	}
	if got, want := w.rates(exitsOf), (rates{target: 200, now: 200}); got != want {
		t.Errorf("rates are %v, want %v", got, want)
	}
}

func TestVersion_MatchesBuildInfo(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"},
	}}
	tests := []struct {
		name string
		b    build
		info *debug.BuildInfo
		want string
	}{
		{"the linker's values win", build{"v9", "def", "today"}, info, "v9, commit def, today"},
		{"the build information fills missing values", build{}, info, "v1.2.3, commit abc (modified), 2026-01-02T03:04:05Z"},
		{"a build of a work tree is unreleased", build{}, &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "unreleased"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.b.fill(tt.info)
			if got := tt.b.String(); got != tt.want {
				t.Errorf("version is %q, want %q", got, tt.want)
			}
		})
	}
	if got := parking(t, "version"); got.code != exitOK || !strings.HasPrefix(got.stdout, "parking ") {
		t.Errorf("exit code %d, stdout %q", got.code, got.stdout)
	}
}

func TestRow_NarrowTerminal_SeparatesTheColumns(t *testing.T) {
	t.Parallel()
	if got := strings.Fields(row(40, "  events/s", "target", "achieved", "share")); len(got) != 4 {
		t.Errorf("the columns are %q", got)
	}
}
