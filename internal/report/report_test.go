package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares a text with a golden file in testdata. With the flag -update it writes the file.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the tests with -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); run the tests with -update if that is intended:\n%s", path, diff)
	}
}

// start returns the time at which the runs of these tests start.
func start() time.Time { return time.Date(2026, time.May, 17, 12, 0, 0, 250_000_000, time.UTC) }

// rows returns a timeline of n seconds. The latencies are higher in the middle of the run.
func rows(n int, slowest time.Duration) []timeline.Row {
	all := make([]timeline.Row, n)
	for i := range all {
		latency := time.Millisecond
		if i > n/3 && i < n/2 {
			latency = slowest
		}
		var h histogram.Histogram
		for k := range 100 {
			h.Observe(latency + time.Duration(k)*latency/200)
		}
		ready := int64(i % 7)
		all[i] = timeline.Row{
			Second: start().Unix() + int64(i),
			Entry: timeline.Events{Due: 200, Published: 200 - int64(i%3), Confirmed: 199, Effects: 100,
				Outcomes: map[string]int64{"recorded": 100}, Processing: h.Snapshot(), EndToEnd: h.Snapshot()},
			Exit:   timeline.Events{Due: 180, Published: 180, Lag: 3 * time.Millisecond, Outcomes: map[string]int64{"matched": 36, "unmatched_expected": 144}},
			Gauges: timeline.Gauges{Ready: &ready},
		}
	}
	all[n/3].Exit.Errors = map[string]int64{"post": 3}
	all[n/3].Marks = []timeline.Mark{{At: all[n/3].Start().Add(300 * time.Millisecond), Kind: timeline.MarkUnavailable, Subject: "Redis", Message: "connection <refused> & gone"}}
	return all
}

// sample returns the report of a failed run. It contains every part that a report can have.
func sample() *Document {
	l := ledger.Report{
		EntriesConfirmed: 12_000, EntriesRecorded: 12_010, IndeterminateEntries: 11, Indeterminate: 11, MissingEntries: 1,
		ExitsMatchedConfirmed: 2_160, Matched: 2_160, ExitsUnmatchedConfirmed: 8_640, UnmatchedExpected: 8_640,
		SummariesStored: 2_160, Lost: 1, DuplicatesSuppressed: 1234, Starved: 56, Runs: 3, AtRest: true, Partitions: 1,
		LostEvents: []string{"0123456789abc-0-42"},
	}
	run := Run{
		Verdict: ledger.Evaluate(ledger.Evidence{
			Report:     l,
			Objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Second), ProcessingP99: plan.Duration(5 * time.Millisecond)}},
			Latencies:  &ledger.Latencies{},
			Entries:    &ledger.Schedule{Due: 12_000}, Exits: &ledger.Schedule{Due: 10_800},
			Failures: []error{fmt.Errorf("the entry generator failed: |no` <b>route</b>\n to *host*")},
		}),
		Simulation: "default.rush-hour-4f7k2a", StartTime: start(), EndTime: start().Add(60*time.Second + 153*time.Millisecond),
		ElapsedSeconds: 60, DrainSeconds: .153, Ledger: &l,
		Rates: Rates{
			Entry: Rate{Target: 200, Achieved: 199.6, MaxLagSeconds: .0123},
			Exit:  Rate{Target: 180, Achieved: 120.4, MaxLagSeconds: 12.3, Missed: 35},
		},
		LatencySeconds: Latencies{Processing: &Latency{P50: .0000113, P99: .00071, Mean: .0000412}, EndToEnd: &Latency{P50: .00038, P99: 1.42, Mean: .0011}, Unmeasured: 17},
		Objectives:     plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Second), ProcessingP99: plan.Duration(5 * time.Millisecond)}},
	}
	run.Faults = sampleFaults()
	d := New(run, Environment{
		Parking: "v1.2.3", RabbitMQ: "RabbitMQ 4.1.2", Redis: "Valkey 8.1.3", Kubernetes: "v1.37.2",
		Nodes:    []Node{{Name: "worker-1", CPUs: 4, MemoryBytes: 16 << 30, Architecture: "arm64", System: "linux 6.12"}},
		Manifest: json.RawMessage(`{"apiVersion":"simulation.parking.dev/v1alpha1","kind":"ParkingSimulation","metadata":{"name":"rush-hour"},"spec":{"entry":{"rate":200}}}`),
	}, rows(60, 400*time.Millisecond))
	return &d
}

// sampleFaults returns one occurrence of a fault for each possible outcome.
func sampleFaults() []fault.Account {
	at := func(seconds float64) time.Time { return start().Add(Seconds(seconds)) }
	return []fault.Account{
		{
			Fault: "redis-crash", Target: plan.TargetRedis, Action: plan.ActionKill, AtSeconds: 20, Hit: []string{"redis-0"},
			InjectedAt: at(20), HealedAt: at(22.5), RecoveredAt: at(29.75), RecoverySeconds: new(7.25),
			PeakLagSeconds: 1.25, PeakBacklog: new(int64(5400)), PeakP99Seconds: new(1.3), Redeliveries: 1210, DuplicatesSuppressed: 1234,
			Outcome: fault.OutcomeRecovered, Message: "Latency and backlog were as before 7.25s after the end of the fault",
		},
		{
			Fault: "stall", Target: plan.TargetProcessor, Action: plan.ActionPause, AtSeconds: 50, Hit: []string{"processor-0", "processor-1"},
			InjectedAt: at(50), HealedAt: at(58), UnrecoveredSeconds: 2,
			Outcome: fault.OutcomeNotRecovered, Message: "Latency and backlog did not become as before: the run ended less than 5 s after the fault",
		},
		{
			Fault: "stall", Number: 1, Target: plan.TargetProcessor, Action: plan.ActionPause, AtSeconds: 59.5, Hit: []string{"processor-0"},
			InjectedAt: at(59.5), HealedAt: at(60), Lost: new(int64(0)), Outcome: fault.OutcomeAborted, Message: "The fault was ended early: the simulation ended",
		},
		{
			Fault: "cut", Target: plan.TargetRabbitMQ, Action: plan.ActionIsolate, AtSeconds: 40,
			Outcome: fault.OutcomeNotInjected, Message: "The fault was not injected: <no> such |pod",
		},
	}
}

func TestDocument_RendersEveryFormatLikeItsGoldenFile(t *testing.T) {
	t.Parallel()
	d := sample()
	for name, render := range map[string]func() ([]byte, error){
		"report.json": d.JSON,
		"report.xml":  d.JUnit,
		"report.html": d.HTML,
		"report.md":   func() ([]byte, error) { return d.Markdown(), nil },
	} {
		text, err := render()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, text)
	}
}

func TestDocument_EmptyReport_RendersLikeItsGoldenFile(t *testing.T) {
	t.Parallel()
	d := New(Run{Verdict: ledger.Verdict{Outcome: ledger.Fail, Reasons: []string{"the ledger cannot be read"}}, Simulation: "s"}, Environment{}, nil)
	html, err := d.HTML()
	if err != nil || !bytes.Contains(html, []byte("This report has no timeline")) || !bytes.Contains(html, []byte("The ledger could not be read")) {
		t.Errorf("HTML fails with %v, or does not say what is missing:\n%s", err, html)
	}
	if text := d.Markdown(); !bytes.Contains(text, []byte("The ledger could not be read")) {
		t.Errorf("Markdown does not say that there is no ledger:\n%s", text)
	}
	if _, err := d.JUnit(); err != nil {
		t.Error(err)
	}
	d.Ledger = &ledger.Report{ForgottenRuns: 1}
	if html, err = d.HTML(); err != nil || !bytes.Contains(html, []byte("because the store has lost data")) {
		t.Errorf("HTML fails with %v, or does not say that data is lost", err)
	}
}

// schema returns the published JSON schema of reports.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiled, err := compiler.Compile("../../docs/report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func TestDocument_JSONFollowsTheSchema(t *testing.T) {
	t.Parallel()
	s := schema(t)
	empty := New(Run{Verdict: ledger.Evaluate(ledger.Evidence{ReportErr: io.ErrUnexpectedEOF})}, Environment{}, nil)
	for name, d := range map[string]*Document{"a full report": sample(), "an empty report": &empty} {
		text, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		unknown := value.(map[string]any)
		unknown["version"] = json.Number("2")
		if s.Validate(unknown) == nil {
			t.Errorf("%s: the schema accepts version 2", name)
		}
	}
}

func TestSchema_DescribesEveryField(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	// Change the schema so that it rejects unknown fields. It must still accept the sample. This shows that it
	// describes all fields of the sample.
	strict := regexp.MustCompile(`"properties": \{`).ReplaceAll(text, []byte(`"additionalProperties": false, "properties": {`))
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(strict))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("strict.json", value); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("strict.json")
	if err != nil {
		t.Fatal(err)
	}
	written, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(written))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiled.Validate(document); err != nil {
		t.Errorf("the schema lacks fields: %v", err)
	}
}

func TestRead_WrittenReport_IsEqual(t *testing.T) {
	t.Parallel()
	want, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Read(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("a report that is read and written again differs (-want +got):\n%s", diff)
	}
}

func TestRead_RejectsInvalidReports(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                             "the file is empty",
		"<html>":                       "not a report in JSON",
		"[]":                           "not a report in JSON",
		`{"verdict":"PASS"}`:           `"version" or "verdict" is missing`,
		`{"version":1}`:                `"version" or "verdict" is missing`,
		`{"version":2,"verdict":true}`: "not a report in JSON",
		`{"version":7,"verdict":"PASS","timeline":"later"}`:                            "version 7 of the report format is not supported: this program reads version 1",
		`{"version":1,"verdict":"MAYBE"}`:                                              "must be PASS or FAIL",
		`{"version":1,"verdict":"PASS","rates":7}`:                                     "the report is invalid",
		`{"version":1,"verdict":"PASS","timeline":[{"t":5,"w":3},{"t":7}]}`:            "timeline[1] must begin after the end of the previous row",
		`{"version":1,"verdict":"PASS","timeline":[{"t":-5}]}`:                         "timeline[0] is out of range",
		`{"version":1,"verdict":"PASS","timeline":[{"t":1,"w":9000000000000000000}]}`:  "timeline[0] is out of range",
		`{"version":1,"verdict":"PASS","timeline":[{"t":1,"entry":{"endToEnd":"x"}}]}`: "the report is invalid",
		`{"version":1,"verdict":"PASS"} {"version":1,"verdict":"PASS"}`:                "not a report in JSON",
	} {
		if _, err := Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s fails with %v, want %q", text, err, want)
		}
	}
}

// endless is a reader that never reaches the end of its file.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestRead_EndlessFile_StopsAtTheMaximumSize(t *testing.T) {
	t.Parallel()
	if _, err := Read(endless{}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("an endless file fails with %v", err)
	}
}

func TestBounded_LongRun_MergesTimelineRows(t *testing.T) {
	t.Parallel()
	d := sample()
	d.Timeline = rows(3600, time.Second)
	const limit = 900 << 10
	text, err := d.Bounded(limit)
	if err != nil || len(text) > limit || len(text) < limit/20 {
		t.Fatalf("bounded to %d bytes, %v", len(text), err)
	}
	got, err := Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want, sum := timeline.Sum(d.Timeline...), timeline.Sum(got.Timeline...)
	if sum.Entry.Published != want.Entry.Published || sum.Entry.EndToEnd.Count() != want.Entry.EndToEnd.Count() {
		t.Errorf("%d published and %d measured after the merge, want %d and %d",
			sum.Entry.Published, sum.Entry.EndToEnd.Count(), want.Entry.Published, want.Entry.EndToEnd.Count())
	}
	short := *d
	short.Timeline = nil
	head, err := short.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if text, err = d.Bounded(len(head) + 50); err != nil || len(text) > len(head)+50 || bytes.Contains(text, []byte(`"timeline"`)) {
		t.Errorf("bounded to %d bytes, %v; want no timeline", len(text), err)
	}
	if _, err = d.Bounded(100); err == nil {
		t.Error("a report that cannot be bounded is not an error")
	}
}

func TestBounded_ManyFaults_KeepsTheWorst(t *testing.T) {
	t.Parallel()
	d := sample()
	worst := d.Faults[3]
	d.Faults = d.Faults[:1:1]
	for i := range 5000 {
		f := d.Faults[0]
		f.Number = i + 1
		d.Faults = append(d.Faults, f)
	}
	d.Faults = append(d.Faults, worst)
	const limit = 900 << 10
	text, err := d.Bounded(limit)
	if err != nil || len(text) > limit {
		t.Fatalf("bounded to %d bytes, %v", len(text), err)
	}
	got, err := Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Faults); n != maxBoundedFaults || got.FaultsOmitted != 5002-n || got.Faults[n-1].Outcome != fault.OutcomeNotInjected || len(got.Timeline) == 0 {
		t.Errorf("%d faults and %d omitted, the last of them %+v", n, got.FaultsOmitted, got.Faults[n-1])
	}
}

func TestHTML_LoadsNothingAndRunsNoScript(t *testing.T) {
	t.Parallel()
	d := sample()
	d.Simulation = `<script>alert(1)</script>`
	html, err := d.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{`<script`, `(?i)\b(src|href|action)\s*=`, `url\(`, `@import`, `https?://`, `\son\w+=`, ` style=`} {
		if found := regexp.MustCompile(pattern).Find(html); found != nil {
			t.Errorf("the page contains %q", found)
		}
	}
	if !regexp.MustCompile(`Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;sha256-[A-Za-z0-9+/=&#;]+&#39;"`).Match(html) {
		t.Error("the page has no content security policy with a hash")
	}
}

func TestJUnit_HasATestCaseForEachCheck(t *testing.T) {
	t.Parallel()
	d := sample()
	text, err := d.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	var got junitSuites
	if err := xml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	suite := got.Suites[0]
	if len(suite.Cases) != len(d.Checks) || suite.Tests != len(d.Checks) {
		t.Errorf("%d cases and %d tests, want %d", len(suite.Cases), suite.Tests, len(d.Checks))
	}
	for i, c := range d.Checks {
		test := suite.Cases[i]
		if test.Name != c.Name || (test.Failure != nil) != (c.Outcome == ledger.Failed) {
			t.Errorf("case %d is %+v, want that of %+v", i, test, c)
		}
	}
	if suite.Failures != 2 || suite.Errors != 2 {
		t.Errorf("%d failures and %d errors, want 2 and 2", suite.Failures, suite.Errors)
	}
}

func TestManifestOf_EnvironmentVariables_AreRedacted(t *testing.T) {
	t.Parallel()
	got := string(ManifestOf(map[string]any{
		"kind": "ParkingSimulation", "metadata": map[string]any{"name": "s", "managedFields": "x"}, "status": "x",
		"spec": map[string]any{"processor": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{
			map[string]any{"env": []any{map[string]any{"name": "TOKEN", "value": "hush"}}},
		}}}}},
	}))
	if strings.Contains(got, "hush") || !strings.Contains(got, `"value":"(redacted)"`) || strings.Contains(got, "managedFields") || strings.Contains(got, "status") {
		t.Errorf("the manifest in a report is %s", got)
	}
}

func TestLatencyOf_NothingMeasured_ReturnsNil(t *testing.T) {
	t.Parallel()
	if got := LatencyOf(histogram.Snapshot{}); got != nil {
		t.Errorf("the latency of nothing is %+v, want nil", got)
	}
}
