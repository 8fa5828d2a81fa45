package report

import (
	"bytes"
	"encoding"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/goldentest"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

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
	timeline := rows(60, 400*time.Millisecond)
	addSampleMarks(timeline)
	objectives := plan.Objectives{
		PhaseObjectives: plan.PhaseObjectives{EndToEndP99: plan.Duration(time.Second), ProcessingP99: plan.Duration(5 * time.Millisecond)},
		WithoutFaults:   plan.PhaseObjectives{EndToEndP99: plan.Duration(10 * time.Millisecond), MaxLag: plan.Duration(time.Second)},
		UnderFaults:     plan.PhaseObjectives{EndToEndP99: plan.Duration(10 * time.Millisecond), MinAchievedPercent: 99},
		MaxRecovery:     plan.Duration(5 * time.Second),
	}
	run := Run{
		Verdict: ledger.Evaluate(ledger.Evidence{
			Report:     l,
			Objectives: objectives,
			Latencies:  ledger.LatenciesOf(timeline, nil, &ledger.Report{}), Timeline: timeline, Faults: sampleFaults(),
			Summaries: &ledger.SummaryCount{Err: io.ErrUnexpectedEOF},
			Entries:   &ledger.Schedule{Due: 12_000}, Exits: &ledger.Schedule{Due: 10_800},
			Failures: []error{fmt.Errorf("the entry generator failed: |no` <b>route</b>\n to *host*")},
		}),
		Simulation: "default.rush-hour-4f7k2a", StartTime: start(), EndTime: start().Add(60*time.Second + 153*time.Millisecond),
		ElapsedSeconds: 60, DrainSeconds: .153, Ledger: &l,
		Rates: Rates{
			Entry: Rate{Target: 200, Achieved: 199.6, MaxLagSeconds: .0123},
			Exit:  Rate{Target: 180, Achieved: 120.4, MaxLagSeconds: 12.3, Missed: 35},
		},
		LatencySeconds: Latencies{Processing: &Latency{P50: .0000113, P99: .00071, Mean: .0000412}, EndToEnd: &Latency{P50: .00038, P99: 1.42, Mean: .0011}, Unmeasured: 17},
		Objectives:     objectives,
		Faults:         sampleFaults(),
		FaultTotals:    fault.Totals(fault.History{}, sampleFaults()),
	}
	d := New(run, Environment{
		Parking: "v1.2.3", RabbitMQ: "RabbitMQ 4.1.2", Redis: "Valkey 8.1.3", Kubernetes: "v1.37.2",
		Nodes:    []Node{{Name: "worker-1", CPUs: 4, MemoryBytes: 16 << 30, Architecture: "arm64", System: "linux 6.12"}},
		Manifest: json.RawMessage(`{"apiVersion":"simulation.parking.dev/v1alpha1","kind":"ParkingSimulation","metadata":{"name":"rush-hour"},"spec":{"entry":{"rate":200}}}`),
	}, timeline)
	return &d
}

// addSampleMarks adds marks to the timeline of the sample. Some of them share a label in charts.
func addSampleMarks(rows []timeline.Row) {
	mark := func(seconds float64, kind timeline.MarkKind, subject, message string) {
		row := &rows[int(seconds)]
		row.Marks = append(row.Marks, timeline.Mark{At: start().Add(Seconds(seconds)), Kind: kind, Subject: subject, Message: message})
	}
	mark(.05, timeline.MarkStarted, "entry generator", "")
	mark(.06, timeline.MarkStarted, "exit generator", "")
	mark(.07, timeline.MarkStarted, "processor-0", "")
	mark(22.5, timeline.MarkAvailable, "Redis", "after 2.20 s")
	mark(50, timeline.MarkInjected, "stall/0", "Pause of processor-0, processor-1")
	mark(58, timeline.MarkHealed, "stall/0", "")
}

func sampleFaults() []fault.Account {
	at := func(seconds float64) time.Time { return start().Add(Seconds(seconds)) }
	return []fault.Account{
		{
			Fault: "redis-crash", Target: plan.TargetRedis, Action: plan.ActionKill, AtSeconds: 20, Hit: []string{"redis-0"},
			InjectedAt: at(20), HealedAt: at(22.5), RecoveredAt: at(29.75), RecoverySeconds: new(7.25),
			PeakLagSeconds: 1.25, PeakBacklog: new(int64(5400)), PeakP99Seconds: new(1.3), Redeliveries: 1210, DuplicatesSuppressed: 1234,
			Outcome: fault.OutcomeRecovered, Message: "Latency and backlog returned to their previous level 7.25s after the end of the fault",
		},
		{
			Fault: "stall", Target: plan.TargetProcessor, Action: plan.ActionPause, AtSeconds: 50, Hit: []string{"processor-0", "processor-1"},
			InjectedAt: at(50), HealedAt: at(58), UnrecoveredSeconds: 2,
			Outcome: fault.OutcomeNotRecovered, Message: "It is unknown whether latency and backlog returned to their previous level: the run ended before 5 s of normal operation were measured after the fault",
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

func TestReportDocument_EachFormat_MatchesItsGoldenFile(t *testing.T) {
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
		goldentest.Compare(t, name, text)
	}
}

func TestReportDocument_EmptyReport_SaysWhatIsMissing(t *testing.T) {
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

func TestRenderings_NoLatencyMeasured_ShowDashes(t *testing.T) {
	t.Parallel()
	d := sample()
	d.LatencySeconds = LatenciesOf(&ledger.Latencies{})
	html, err := d.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"processing", "end to end"} {
		if want := `<tr><td>` + name + strings.Repeat(`</td><td class="n">–`, 3) + `</td></tr>`; !bytes.Contains(html, []byte(want)) {
			t.Errorf("the table in HTML does not contain %q", want)
		}
		if want := "|" + name + "|–|–|–|"; !bytes.Contains(d.Markdown(), []byte(want)) {
			t.Errorf("Markdown does not contain %q", want)
		}
	}
	for _, name := range []string{ledger.CheckProcessing, ledger.CheckEndToEnd} {
		if want := `<span>` + name + `</span><b>–</b><span>p50 –</span>`; !bytes.Contains(html, []byte(want)) {
			t.Errorf("the tiles in HTML do not contain %q", want)
		}
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

func TestReportDocument_FullOrEmptyReport_JSONMatchesTheSchema(t *testing.T) {
	t.Parallel()
	s := schema(t)
	empty := New(Run{Verdict: ledger.Evaluate(ledger.Evidence{ReportErr: io.ErrUnexpectedEOF})}, Environment{}, nil)
	bounded := sample()
	bounded.CutShort, bounded.Faults = "the run was cut short after 0:12 of 1:00 (stopped)", fault.Abridge(bounded.Faults, 1)
	if bounded.Faults[1].HitOmitted != 1 {
		t.Fatalf("the fault with omitted instances is %+v", bounded.Faults[1])
	}
	for name, d := range map[string]*Document{
		"a full report": sample(), "an empty report": &empty, "a bounded report of a run that was cut short": bounded,
	} {
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

func TestReportSchema_EachGoType_HasTheSameFields(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root schemaNode
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	compareSchema(t, &root, &root, reflect.TypeFor[Document](), "report")
}

type schemaNode struct {
	Type                 string                 `json:"type"`
	Ref                  string                 `json:"$ref"`
	Defs                 map[string]*schemaNode `json:"$defs"`
	OneOf                []*schemaNode          `json:"oneOf"`
	Required             []string               `json:"required"`
	Properties           map[string]*schemaNode `json:"properties"`
	Items                *schemaNode            `json:"items"`
	AdditionalProperties *schemaNode            `json:"additionalProperties"`
	Const, Enum          any
}

// compareSchema fails the test if a Go type does not match its schema. It skips types that encode themselves.
func compareSchema(t *testing.T, root, s *schemaNode, of reflect.Type, path string) {
	t.Helper()
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	for s != nil && (s.Ref != "" || len(s.OneOf) > 0) {
		if len(s.OneOf) > 0 {
			s = s.OneOf[0] // a nullable value: the second alternative is the type null
			continue
		}
		s = root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
	}
	if s == nil {
		t.Errorf("%s: the schema has no definition", path)
		return
	}
	if want := schemaType(of); s.Type != want && s.Const == nil && s.Enum == nil {
		t.Errorf("%s: the schema has the type %q, want %q", path, s.Type, want)
	}
	switch {
	case encodesItself(of):
	case of.Kind() == reflect.Slice:
		compareSchema(t, root, s.Items, of.Elem(), path+"[]")
	case of.Kind() == reflect.Map:
		compareSchema(t, root, s.AdditionalProperties, of.Elem(), path+"{}")
	case of.Kind() == reflect.Struct:
		fields := encodedFields(of)
		if diff := cmp.Diff(slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(s.Properties))); diff != "" {
			t.Errorf("%s: the schema has other fields than %s (-type +schema):\n%s", path, of, diff)
		}
		for name, f := range fields {
			if p, ok := s.Properties[name]; ok {
				compareSchema(t, root, p, f.Type, path+"."+name)
			}
			if slices.Contains(s.Required, name) && strings.Contains(f.Tag.Get("json"), ",omit") {
				t.Errorf("%s: the schema requires %s, but the encoding may omit it", path, name)
			}
		}
	}
}

func schemaType(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[json.RawMessage](), t == reflect.TypeFor[histogram.Snapshot]():
		return "object"
	case encodesItself(t): // times and durations are encoded as strings
		return "string"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "array"
	case reflect.Struct, reflect.Map:
		return "object"
	}
	return "integer"
}

func encodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Marshaler]()) || p.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// encodedFields returns those fields of a struct that are encoded in JSON, including those of embedded structs. The keys
// of the result are the names in JSON.
func encodedFields(t reflect.Type) map[string]reflect.StructField {
	all := map[string]reflect.StructField{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			maps.Copy(all, encodedFields(f.Type))
		case f.IsExported() && name != "-":
			all[name] = f
		}
	}
	return all
}

func TestReadReport_WrittenReport_IsReadUnchanged(t *testing.T) {
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

func TestReadReport_ByteOrderMark_IsIgnored(t *testing.T) {
	t.Parallel()
	text, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(strings.NewReader("\ufeff" + string(text))); err != nil {
		t.Error(err)
	}
}

func TestReadReport_NotAReport_IsRejected(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                             "the file is empty",
		"<html>":                       "the file is not a report in JSON: line 1: not valid JSON",
		"[]":                           "the file is not a report in JSON: must be an object with fields, not a list",
		`{"verdict":"PASS"}`:           `"version" or "verdict" is missing`,
		`{"version":1}`:                `"version" or "verdict" is missing`,
		"\xff\xfe{\x00":                "the file is encoded as UTF-16: save it as UTF-8",
		"\xfe\xff\x00{":                "the file is encoded as UTF-16: save it as UTF-8",
		`{"version":"1"}`:              `version: Invalid value: "1": must be a number without quotes: write 1`,
		`{"version":2,"verdict":true}`: "verdict: Invalid value: true: must be a string",
		`{"version":7,"verdict":"PASS","timeline":"later"}`:             "version 7 of the report format is not supported: this program reads version 1; use the version of parking that wrote the report",
		`{"version":1,"verdict":"PASS"} {"version":1,"verdict":"PASS"}`: "the file is not a report in JSON",
	} {
		checkRejected(t, text, want)
	}
}

// checkRejected fails the test if Read accepts a text, if the error does not contain the wanted text, or if the error
// names Go types.
func checkRejected(t *testing.T, text, want string) {
	t.Helper()
	_, err := Read(strings.NewReader(text))
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%.200s fails with %v, want %q", text, err, want)
		return
	}
	if found := regexp.MustCompile(`json:|Go |struct|int64|float64|\n`).FindString(err.Error()); found != "" {
		t.Errorf("the error contains %q: %v", found, err)
	}
}

// edited returns the sample report as JSON, with the value at a path of names and indexes replaced, or removed if value
// is nil.
func edited(t *testing.T, path string, value any) string {
	t.Helper()
	text, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var at any = document
	steps := strings.Split(path, ".")
	for i, step := range steps {
		isLast := i == len(steps)-1
		switch v := at.(type) {
		case map[string]any:
			if isLast {
				v[step] = value
			}
			if isLast && value == nil {
				delete(v, step)
			}
			at = v[step]
		case []any:
			index, err := strconv.Atoi(step)
			if err != nil {
				t.Fatal(err)
			}
			if isLast {
				v[index] = value
			}
			at = v[index]
		default:
			t.Fatalf("%s: there is no %s", path, step)
		}
	}
	if text, err = json.Marshal(document); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReadReport_AbsurdValue_ErrorNamesTheField(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		path  string
		value any
		want  string
	}{
		{"verdict", "MAYBE", `verdict: Unsupported value: "MAYBE": supported values: "PASS", "FAIL"`},
		{"verdict", "PASS", "verdict: Invalid value: PASS: the report contradicts itself: a check did not pass"},
		{"elapsedSeconds", 1e300, "elapsedSeconds: Invalid value: 1e+300: must be from 0 to 1e+09"},
		{"elapsedSeconds", -1, "elapsedSeconds: Invalid value: -1: must be from 0 to 1e+09"},
		{"elapsedSeconds", "NaN", `elapsedSeconds: Invalid value: "NaN": must be a number`},
		{"elapsedSeconds", json.RawMessage("1e999"), "elapsedSeconds: Invalid value: 1e999: must be a number"},
		{"drainSeconds", -0.5, "drainSeconds: Invalid value: -0.5"},
		{"rates", 7, "rates: Invalid value: 7: must be an object"},
		{"rates.entry.target", -5, "rates.entry.target: Invalid value: -5: must be from 0 to 1e+09"},
		{"rates.exit.missed", -1, "rates.exit.missed: Invalid value: -1: must be from 0 to 1e+12"},
		{"rates.exit.missed", 1.5, "rates.exit.missed: Invalid value: 1.5: must be a whole number"},
		{"latencySeconds.endToEnd.p50", 9, "latencySeconds.endToEnd.p50: Invalid value: 9: the report contradicts itself: p50 is greater than p99"},
		{"latencySeconds.unmeasured", -1, "latencySeconds.unmeasured: Invalid value: -1"},
		{"startTime", "1900-01-01T00:00:00Z", "startTime: Invalid value: 1900-01-01T00:00:00Z: must be from 1970 to 2200"},
		{"startTime", "soon", `startTime: Invalid value: "soon": must be a time`},
		{"endTime", "9999-01-01T00:00:00Z", "endTime: Invalid value: 9999-01-01T00:00:00Z: must be from 1970 to 2200"},
		{"endTime", "2020-01-01T00:00:00Z", "endTime: Invalid value: 2020-01-01T00:00:00Z: the report contradicts itself: endTime is before startTime"},
		{"ledger.matched", -1, "ledger.matched: Invalid value: -1"},
		{"ledger.matched", json.RawMessage("1e18"), "ledger.matched: Invalid value: 1e18: must be a whole number"},
		{"ledger.missingEntries", -2e12, "ledger.missingEntries: Invalid value: -2000000000000"},
		{"ledger.indeterminate", 12, "ledger.indeterminate: Invalid value: 12: the report contradicts itself"},
		{"ledger.lost", 0, "ledger.lost: Invalid value: 0: the report contradicts itself: the length of lostEvents is 1"},
		{"ledger.dataLostAt", "9999-01-01T00:00:00Z", "ledger.dataLostAt: Invalid value"},
		{"checks.0.outcome", "skipped", `checks[0].outcome: Unsupported value: "skipped"`},
		{"checks.0.name", "", "checks[0].name: Required value"},
		{"checks.1.name", sample().Checks[0].Name, "checks[1].name: Invalid value"},
		{"objectives.maxLost", -1, "objectives.maxLost: Invalid value: -1"},
		{"objectives.endToEndP99", "-1s", `objectives.endToEndP99: Invalid value: "-1s": must be from 0s`},
		{"objectives.endToEndP99", "soon", `objectives.endToEndP99: Invalid value: "soon": must be a duration`},
		{"environment.nodes.0.cpus", -4, "environment.nodes[0].cpus: Invalid value: -4"},
		{"environment.nodes.0.memoryBytes", -4, "environment.nodes[0].memoryBytes: Invalid value: -4"},
		{"faults.0.outcome", "Fine", `faults[0].outcome: Unsupported value: "Fine"`},
		{"faults.0.fault", "", "faults[0].fault: Required value"},
		{"faults.0.recoverySeconds", nil, "faults[0].recoverySeconds: Required value: must be set, because the outcome is Recovered"},
		{"faults.0.recoverySeconds", -3, "faults[0].recoverySeconds: Invalid value: -3"},
		{"faults.0.peakBacklog", -3, "faults[0].peakBacklog: Invalid value: -3"},
		{"faults.0.injectedAt", "9999-01-01T00:00:00Z", "faults[0].injectedAt: Invalid value"},
		{"faults.0.number", "one", `faults[0].number: Invalid value: "one": must be a whole number`},
		{"faultsOmitted", -1, "faultsOmitted: Invalid value: -1"},
		{"faultTotals.0.aborted", 7, "faultTotals: Invalid value: 11: must add up to 4, the number of occurrences in the fields faults and faultsOmitted"},
		{"timeline.1.t", 5, "timeline[1].t: Invalid value: 5: must not be before the end of the previous row"},
		{"timeline.0.t", -5, "timeline[0].t: Invalid value: -5: must be a Unix time"},
		{"timeline.59.t", 253370764800, "timeline[59].t: Invalid value: 253370764800: must be a Unix time"},
		{"timeline.0.w", 9e18, "timeline[0].w: Invalid value: 9000000000000000000: must be from 0 to 1e+09"},
		{"timeline.0.entry.published", -1, "timeline[0].entry.published: Invalid value: -1"},
		{"timeline.0.entry.lagNs", -1, "timeline[0].entry.lagNs: Invalid value: -1"},
		{"timeline.0.entry.outcomes.recorded", -1, "timeline[0].entry.outcomes[recorded]: Invalid value: -1"},
		{"timeline.0.entry.endToEnd", "x", `timeline[0].entry.endToEnd: Invalid value: "x": must be a histogram`},
		{"timeline.0.entry.endToEnd.sumNs", -5e18, "timeline[0].entry.endToEnd.sumNs: Invalid value"},
		{"timeline.0.entry.endToEnd.buckets.0", []int64{-80, 1e18}, "timeline[0].entry.endToEnd.buckets[0]: Invalid value"},
		{"timeline.20.marks.0.at", "9999-01-01T00:00:00Z", "timeline[20].marks[0].at: Invalid value"},
		{"timeline.1.ready", -1, "timeline[1].ready: Invalid value: -1"},
		{"timeline", "later", "timeline: Invalid value: \"later\": must be a list"},
	} {
		checkRejected(t, edited(t, tt.path, tt.value), "the report is invalid: "+tt.want)
	}
}

func TestReadReport_VerdictContradictsItsEvidence_IsRejected(t *testing.T) {
	t.Parallel()
	pass := func(edit func(*Document)) string {
		d := steady(1, 3, time.Millisecond, 0, 0)
		edit(d)
		text, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if _, err := Read(strings.NewReader(pass(func(*Document) {}))); err != nil {
		t.Fatal(err)
	}
	const prefix = "verdict: Invalid value: PASS: the report contradicts itself: "
	const passed = "outcome: Invalid value: passed: the report contradicts itself: "
	checkRejected(t, pass(func(d *Document) { d.Checks = nil }), prefix+"there are no checks that prove the verdict")
	checkRejected(t, pass(func(d *Document) { d.Ledger = nil }), prefix+"the verdict needs a ledger, but the report has none")
	checkRejected(t, pass(func(d *Document) { d.Ledger.Lost = 1 }), passed+"1 event was lost")
	checkRejected(t, pass(func(d *Document) { d.Ledger.TakenTwice = 1 }), passed+"1 event took effect more than once")
	checkRejected(t, pass(func(d *Document) { d.Ledger.ForgottenRuns = 1 }), passed+"the store has lost data")
	checkRejected(t, pass(func(d *Document) { d.Outcome = ledger.Fail }), "verdict: Invalid value: FAIL: the report contradicts itself: all checks passed")
}

func TestReadReport_MissingField_IsRejected(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var published struct{ Required []string }
	if err := json.Unmarshal(text, &published); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(published.Required, requiredFields()); diff != "" {
		t.Errorf("the required fields differ from those of the schema (-schema +Read):\n%s", diff)
	}
	for _, name := range published.Required {
		want := name + ": Required value"
		if name == "version" || name == "verdict" {
			want = "is missing"
		}
		checkRejected(t, edited(t, name, nil), want)
	}
}

func TestReadReportFile_Errors_NameTheFileAsGiven(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "..", filepath.Base(dir), "bad.json")
	if err := os.WriteFile(path, []byte(edited(t, "elapsedSeconds", -1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		path: path + ": the report is invalid: elapsedSeconds: Invalid value: -1",
		dir:  dir + ": is a directory",
	} {
		if _, err := ReadFile(path); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s fails with %v, want %q", path, err, want)
		}
	}
}

func TestRenderings_StartTime_HasTheSamePrecisionInAllFormats(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("east", 3600)
	d := New(Run{StartTime: start().Add(123_456).In(zone), EndTime: start().Add(999_999)}, Environment{}, nil)
	html, err := d.HTML()
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	junit, err := d.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	for name, rendered := range map[string]struct {
		text []byte
		want string
	}{
		"HTML": {html, "2026-05-17 12:00:00.250 UTC, ran"}, "the table of HTML": {html, "<td>start</td><td class=\"w\">2026-05-17 12:00:00.250 UTC<"},
		"Markdown": {d.Markdown(), "|start|2026-05-17 12:00:00.250 UTC|"}, "JSON": {text, `"startTime": "2026-05-17T12:00:00.25Z"`},
		"JUnit": {junit, `<property name="startTime" value="2026-05-17T12:00:00.25Z">`},
	} {
		if !bytes.Contains(rendered.text, []byte(rendered.want)) {
			t.Errorf("%s does not contain %q:\n%s", name, rendered.want, rendered.text)
		}
	}
}

func TestRenderings_EachObjective_IsShownWithItsMeasuredValue(t *testing.T) {
	t.Parallel()
	d := sample()
	html, err := d.HTML()
	if err != nil {
		t.Fatal(err)
	}
	junit, err := d.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	c := Compare(d, d, nil)
	comparison, err := c.HTML()
	if err != nil {
		t.Fatal(err)
	}
	lines := ObjectiveLines(&d.Verdict)
	if len(lines) != 7 {
		t.Errorf("there are %d objectives, want 7: %+v", len(lines), lines)
	}
	for _, o := range lines {
		if o.Got == Unmeasured {
			t.Errorf("%s was not measured: %s", o.Name, o.Message)
		}
		for name, tt := range map[string]struct {
			text []byte
			want string
		}{
			"HTML":                       {html, fmt.Sprintf(`<tr><td>%s</td><td>%s</td><td class="w">%s</td>`, o.Name, o.Want, o.Got)},
			"Markdown":                   {d.Markdown(), fmt.Sprintf("|%s|%s|%s|", o.Name, o.Want, o.Got)},
			"JUnit":                      {junit, "want: " + o.Want + "&#xA;got: " + o.Got + "&#xA;"},
			"the comparison in HTML":     {comparison, fmt.Sprintf(`<tr><td>%s</td><td class="w">%s</td><td class="w">%s</td>`, o.Name, o.Got, o.Got)},
			"the comparison in Markdown": {c.Markdown(), fmt.Sprintf("|%s|%s|%s|", o.Name, o.Got, o.Got)},
		} {
			if !bytes.Contains(tt.text, []byte(tt.want)) {
				t.Errorf("%s does not contain %q", name, tt.want)
			}
		}
	}
}

func TestRenderings_UnrecoveredFaultWithoutObjective_IsShown(t *testing.T) {
	t.Parallel()
	const want = "did not recover from stall/0; the verdict does not depend on that, because spec.objectives.maxRecovery is not set"
	d := sample()
	d.Objectives.MaxRecovery = 0
	html, err := d.HTML()
	if err != nil || !bytes.Contains(html, []byte(want)) {
		t.Errorf("HTML does not say %q (%v)", want, err)
	}
	if text := d.Markdown(); !bytes.Contains(text, []byte(want)) {
		t.Errorf("Markdown does not say %q:\n%s", want, text)
	}
	d.FaultsOmitted, d.FaultTotals[2].NotRecovered = 3, d.FaultTotals[2].NotRecovered+3
	if w := d.Warnings(); len(w) != 1 || !strings.Contains(w[0], "did not recover from stall/0 and 3 more;") {
		t.Errorf("with 3 omitted occurrences, the warnings are %q", w)
	}
	d.Objectives.MaxRecovery = plan.Duration(time.Second)
	if w := d.Warnings(); w != nil {
		t.Errorf("with an objective the warnings are %q", w)
	}
}

// Omitted occurrences may be worse than listed ones. Reports of earlier versions have no totals.
func TestRenderings_OmittedFaults_GiveTheirNumberButNotTheirSeverity(t *testing.T) {
	t.Parallel()
	const omitted, totals = "omits 3 occurrences. The listed occurrences include the worst ones.", "The totals include the omitted occurrences."
	d := sample()
	d.FaultsOmitted, d.FaultTotals[2].NotRecovered = 3, d.FaultTotals[2].NotRecovered+3
	for _, hasTotals := range []bool{true, false} {
		if !hasTotals {
			d.FaultTotals = nil
		}
		html, err := d.HTML()
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"HTML": string(html), "Markdown": string(d.Markdown())} {
			if !strings.Contains(text, omitted) || strings.Contains(text, "not worse") || strings.Contains(text, "no worse") {
				t.Errorf("%s does not say %q, or says that the omitted occurrences are not worse than the listed ones", name, omitted)
			}
			for _, shown := range []string{totals, "mean recovery"} {
				if strings.Contains(text, shown) != hasTotals {
					t.Errorf("%s has %q: %t, want %t", name, shown, !hasTotals, hasTotals)
				}
			}
		}
	}
}

func TestRenderings_RunCutShort_AllFormatsSaySo(t *testing.T) {
	t.Parallel()
	const want = "the run was cut short after 0:12 of 1:00 (stopped by a signal: interrupt)"
	d := sample()
	d.CutShort = want
	for name, render := range map[string]func() ([]byte, error){
		"HTML": d.HTML, "JUnit": d.JUnit, "JSON": d.JSON, "Markdown": func() ([]byte, error) { return d.Markdown(), nil },
	} {
		text, err := render()
		text = bytes.ReplaceAll(text, []byte(`\`), nil)
		if err != nil || !bytes.Contains(text, []byte(want)) {
			t.Errorf("%s does not say %q (%v)", name, want, err)
		}
	}
	junit, err := d.JUnit()
	if err != nil || !bytes.Contains(junit, []byte("<system-out>"+want)) {
		t.Errorf("JUnit does not output %q (%v)", want, err)
	}
}

// endless is a reader that never returns io.EOF.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestReadReport_EndlessFile_StopsAtTheMaximumSize(t *testing.T) {
	t.Parallel()
	if _, err := Read(endless{}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("an endless file fails with %v", err)
	}
}

func TestBoundedReport_LongRun_MergesTimelineRows(t *testing.T) {
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
		t.Error("Bounded returns no error for a limit that is too small")
	}
}

func TestBoundedReport_ManyFaults_KeepsTheWorstFaults(t *testing.T) {
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
	d.FaultTotals = fault.Totals(fault.History{}, d.Faults)
	const limit = 900 << 10
	text, err := d.Bounded(limit)
	if err != nil || len(text) > limit {
		t.Fatalf("bounded to %d bytes, %v", len(text), err)
	}
	got, err := Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Faults); n != maxBoundedFaults || got.FaultsOmitted != 5002-int64(n) || got.FaultTotals[1].Recovered != 5001 || got.Faults[n-1].Outcome != fault.OutcomeNotInjected || len(got.Timeline) == 0 {
		t.Errorf("%d faults and %d omitted, the last of them %+v", n, got.FaultsOmitted, got.Faults[n-1])
	}
}

func TestBoundedReport_FaultsHitManyInstances_OmitsNamesOfInstances(t *testing.T) {
	t.Parallel()
	d := sample()
	for i := range 1000 {
		d.Faults[0].Hit = append(d.Faults[0].Hit, fmt.Sprintf("rush-hour-processor-%057d", i))
	}
	for range 180 {
		d.Faults = append(d.Faults, d.Faults[0])
	}
	d.FaultTotals = fault.Totals(fault.History{}, d.Faults)
	want := len(d.Faults[0].Hit)
	const limit = 900 << 10
	text, err := d.Bounded(limit)
	if err != nil || len(text) > limit {
		t.Fatalf("bounded to %d bytes, %v", len(text), err)
	}
	got, err := Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if f := got.Faults[0]; len(f.Hit) != maxBoundedHit || f.HitOmitted != want-maxBoundedHit || len(got.Timeline) == 0 {
		t.Errorf("%d names of instances and %d omitted, %d rows", len(f.Hit), f.HitOmitted, len(got.Timeline))
	}
	if line := got.FaultLines()[0]; !strings.HasSuffix(line.Hit, fmt.Sprintf(" and %d more", want-maxBoundedHit)) {
		t.Errorf("the line of the fault names %q", line.Hit)
	}
	if len(d.Faults[0].Hit) != want {
		t.Error("Bounded changed the report itself")
	}
}

func TestBoundedReport_HugeManifest_OmitsTheManifest(t *testing.T) {
	t.Parallel()
	d := sample()
	d.Environment.Manifest = fmt.Appendf(nil, `{"spec":{"notes":%q}}`, strings.Repeat("x", 1<<20))
	const limit = 900 << 10
	text, err := d.Bounded(limit)
	if err != nil || len(text) > limit || bytes.Contains(text, []byte("manifest")) {
		t.Errorf("bounded to %d bytes, %v", len(text), err)
	}
}

func TestHTML_HostileText_LoadsNothingAndRunsNoScript(t *testing.T) {
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

func TestJUnit_FailedRun_HasATestCaseForEachCheck(t *testing.T) {
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
	if suite.Failures != 7 || suite.Errors != 1 {
		t.Errorf("%d failures and %d errors, want 7 and 1", suite.Failures, suite.Errors)
	}
}

func TestJUnit_FailedRunWithoutChecks_HasAFailedTestCase(t *testing.T) {
	t.Parallel()
	d := sample()
	d.Checks = nil
	text, err := d.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	var got junitSuites
	if err := xml.Unmarshal(text, &got); err != nil || got.Tests != 1 || got.Failures != 1 {
		t.Errorf("%v, %d tests and %d failures, want 1 and 1:\n%s", err, got.Tests, got.Failures, text)
	}
}

func TestEscapeMarkdown_MentionsAndLinks_HaveNoEffect(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"ask @org/team":             `ask @<!-- -->org/team`,
		"see https://evil.example":  `see https:<!-- -->//evil.example`,
		"see WWW.evil.example":      `see WWW.<!-- -->evil.example`,
		"fixes #12":                 `fixes \#<!-- -->12`,
		"1. first":                  `1\. first`,
		"12) twelfth":               `12\) twelfth`,
		"- an item":                 `\- an item`,
		"+":                         `\+`,
		"-0.5 s and 1.5 s at 12:00": `-0.5 s and 1.5 s at 12:00`,
	} {
		if got := escapeMarkdown(text); got != want {
			t.Errorf("%q is escaped as %q, want %q", text, got, want)
		}
	}
}

func TestReadReport_ObjectivesOfMaxInt64_AreAccepted(t *testing.T) {
	t.Parallel()
	d := sample()
	d.Objectives.MaxLost, d.Objectives.MaxUnexpected = math.MaxInt64, math.MaxInt64
	text, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(bytes.NewReader(text)); err != nil {
		t.Error(err)
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

func TestRenderings_UntrustedText_CannotControlTheTerminalOrTheDocument(t *testing.T) {
	t.Parallel()
	const text = "\x1b[2J\x00\r\u202e\u009b|`x`\n# <b>h</b> $a$ [l](javascript:1) \x7f\ufffe"
	d := sample()
	d.Simulation, d.Reasons = text, []string{text, "- a list", "+ a list"}
	d.Checks[0].Name, d.Checks[0].Want, d.Checks[0].Got, d.Checks[0].Message = text, text, text, text
	d.Faults[0].Fault, d.Faults[0].Message, d.Faults[1].Message, d.Faults[0].Hit = text, text, text, []string{text}
	d.Environment.Redis, d.Environment.Nodes[0].Name = text, text
	d.Environment.Manifest = json.RawMessage(`{"x":"\u202e` + "\u202e\u009b" + `"}`)
	d.Ledger.LostEvents = []string{text}
	d.Timeline[0].Marks = []timeline.Mark{{At: start(), Kind: text, Subject: text, Message: text}}
	c := Compare(sample(), d, nil)
	for name, render := range map[string]func() ([]byte, error){
		"JSON": d.JSON, "JUnit": d.JUnit, "HTML": d.HTML, "JSON of the comparison": c.JSON, "HTML of the comparison": c.HTML,
		"Markdown":                   func() ([]byte, error) { return d.Markdown(), nil },
		"Markdown of the comparison": func() ([]byte, error) { return c.Markdown(), nil },
	} {
		rendered, err := render()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(terminal.CleanLines(rendered), rendered) {
			t.Errorf("%s contains control characters", name)
		}
		switch {
		case strings.HasPrefix(name, "JSON"):
			continue // a text cannot inject markup into JSON
		case name == "JUnit":
			if err := xml.Unmarshal(rendered, &junitSuites{}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			fallthrough
		case strings.HasPrefix(name, "HTML"):
			if bytes.Contains(rendered, []byte("<b>h")) {
				t.Errorf("%s contains elements of the text", name)
			}
		default:
			checkMarkdown(t, name, string(rendered))
		}
	}
}

// checkMarkdown fails the test if the hostile text in a report has an effect outside of code blocks.
func checkMarkdown(t *testing.T, name, text string) {
	t.Helper()
	text = regexp.MustCompile("(?ms)^(````*)$.*?^(````*)$").ReplaceAllString(text, "")
	for line := range strings.Lines(text) {
		// A character is escaped only after an odd number of backslashes.
		if found := regexp.MustCompile("(^|[^\\\\])(\\\\\\\\)*(<b>|`x|\\$a|\\[l)").FindString(line); found != "" || strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "- - ") || strings.HasPrefix(line, "- + ") {
			t.Errorf("%s contains the line %q", name, line)
		}
	}
	table := regexp.MustCompile(`(?m)^\|(.*)\|$`)
	columns := 0
	for line := range strings.Lines(text) {
		row := table.FindString(strings.TrimSuffix(line, "\n"))
		if row == "" {
			columns = 0
			continue
		}
		n := strings.Count(regexp.MustCompile(`\\.`).ReplaceAllString(row, ""), "|") // ignore escaped pipes
		if columns != 0 && n != columns {
			t.Errorf("%s: a row has %d cells, the row above has %d: %s", name, n, columns, row)
		}
		columns = n
	}
}

func TestLatenciesUnknown_OneOrMoreEvents_UsesSingularOrPlural(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "", 1: "latency of 1 event is unknown", 1234: "latencies of 1,234 events are unknown"} {
		if got := (Latencies{Unmeasured: n}).Unknown(); got != want {
			t.Errorf("for %d events the text is %q, want %q", n, got, want)
		}
	}
}
