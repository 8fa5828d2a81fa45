package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
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
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parking-operator/parking-operator/internal/goldentest"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// sampleReport is the path of a recorded report in which every section has content.
const sampleReport = "../../internal/report/testdata/report.json"

// JUnit and JSON must contain each number and time of a report. The other formats must show the same text, or
// docs/reports.md must list the omission.
func TestReport_AllFormats_HaveTheSameFigures(t *testing.T) {
	t.Parallel()
	d, err := report.ReadFile(sampleReport)
	if err != nil {
		t.Fatal(err)
	}
	d.Timeline = nil // JUnit has no timeline, so the test skips it
	textFormats := []reportFormat{formatTable, formatMarkdown, formatHTML}
	shown := map[string][]reportFormat{}
	for _, atRest := range []bool{true, false} {
		d.Ledger.AtRest = atRest
		forEachFigure(reflect.ValueOf(d).Elem(), "", func(path string, figure reflect.Value) {
			kept := reflect.New(figure.Type()).Elem()
			kept.Set(figure)
			defer figure.Set(kept)
			recorded, forms := recognizable(d, figure)
			if got := junitProperties(t, rendered(t, d, formatJUnit))[path]; got != recorded {
				t.Errorf("JUnit has %q for %s, want %q", got, path, recorded)
			}
			// The figures of this test contradict each other, so report.Read would reject them.
			var read report.Document
			if err := json.Unmarshal([]byte(rendered(t, d, formatJSON)), &read); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(d, &read); diff != "" {
				t.Errorf("the JSON form with a changed %s differs from the report (-report +JSON):\n%s", path, diff)
			}
			path = regexp.MustCompile(`\.\d+\.`).ReplaceAllString(path, "[].")
			if shown[path] == nil {
				shown[path] = []reportFormat{}
			}
			var form string
			for _, format := range textFormats {
				text := rendered(t, d, format)
				i := slices.IndexFunc(forms, func(form string) bool { return strings.Contains(text, form) })
				switch {
				case i < 0:
					continue
				case form != "" && form != forms[i]:
					t.Errorf("%s is shown as %q in %s, and as %q in another format", path, forms[i], format, form)
				}
				form = forms[i]
				if !slices.Contains(shown[path], format) {
					shown[path] = append(shown[path], format)
				}
			}
		})
	}
	omitted := map[string]string{}
	for path, formats := range shown {
		var missing []string
		for _, format := range textFormats {
			if !slices.Contains(formats, format) {
				missing = append(missing, string(format))
			}
		}
		if len(missing) > 0 {
			omitted[path] = strings.Join(missing, ", ")
		}
	}
	if diff := cmp.Diff(documentedOmissions(t), omitted); diff != "" {
		t.Errorf("docs/reports.md does not list the figures that formats leave out (-documented +omitted):\n%s", diff)
	}
}

// forEachFigure calls f with the path and the value of each number and time in v, including zero values that JSON
// omits. It skips the limits of objectives.
func forEachFigure(v reflect.Value, path string, f func(path string, figure reflect.Value)) {
	switch v.Interface().(type) {
	case plan.Objectives:
		return // the text formats show these limits only in the texts of checks
	case time.Time, *time.Time, int, int64, float64, *int64, *float64:
		f(path, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			forEachFigure(v.Elem(), path, f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			forEachFigure(v.Index(i), fmt.Sprintf("%s.%d", path, i), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			within := path
			if name == "-" {
				continue
			}
			if name != "" { // an embedded struct has no name: JSON puts its fields into the outer object
				within = strings.TrimPrefix(path+"."+name, ".")
			}
			forEachFigure(v.Field(i), within, f)
		}
	}
}

// recognizable sets a figure to a value that occurs nowhere else in the report. It returns this value as JSON and as
// text in the other formats.
func recognizable(d *report.Document, figure reflect.Value) (recorded string, forms []string) {
	if figure.Kind() == reflect.Pointer {
		figure.Set(reflect.New(figure.Type().Elem()))
		figure = figure.Elem()
	}
	const n = 8_765_431
	seconds := report.Seconds(n)
	switch figure.Kind() {
	case reflect.Float64:
		figure.SetFloat(n)
	case reflect.Int, reflect.Int64:
		figure.SetInt(n)
	default:
		at := time.Date(2031, time.May, 4, 3, 2, 1, 234_000_000, time.UTC)
		forms = []string{at.Format("2006-01-02 15:04:05.000 UTC"), terminal.Clock(at.Sub(d.StartTime))}
		for i := range d.Faults {
			forms = append(forms, terminal.Duration(at.Sub(d.Faults[i].InjectedAt)))
		}
		figure.Set(reflect.ValueOf(at))
		return at.Format(time.RFC3339Nano), forms
	}
	return strconv.Itoa(n), []string{terminal.Count(n), terminal.Duration(seconds), terminal.Clock(seconds), terminal.Bytes(n), strconv.Itoa(n) + " CPUs", strconv.Itoa(n)}
}

func rendered(t *testing.T, d *report.Document, format reportFormat) string {
	t.Helper()
	text, err := render(d, format)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documentedOmissions returns the figures that some formats leave out according to docs/reports.md, each with the
// names of these formats.
func documentedOmissions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/reports.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| figures | left out by |\n|---|---|\n")
	if !found {
		t.Fatal("docs/reports.md has no table of the figures that formats leave out")
	}
	all := map[string]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			break
		}
		for _, path := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			all[path[1]] = strings.TrimSpace(cells[2])
		}
	}
	return all
}

// junitProperties returns the properties of the only test suite in a JUnit report.
func junitProperties(t *testing.T, text string) map[string]string {
	t.Helper()
	var suites struct {
		Properties []struct {
			Name  string `xml:"name,attr"`
			Value string `xml:"value,attr"`
		} `xml:"testsuite>properties>property"`
	}
	if err := xml.Unmarshal([]byte(text), &suites); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, p := range suites.Properties {
		all[p.Name] = p.Value
	}
	return all
}

func TestReportCommand_WritesToFileOrStdout(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"html": "<!doctype html>", "md": "## ❌ FAIL", "xml": "<testsuites", "json": `"version": 1`, "table": "FAIL",
	} {
		got := parking(t, "report", sampleReport, "-o", format)
		if got.code != exitOK || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: exit code %d, stderr %q, stdout without %q", format, got.code, got.stderr, want)
		}
	}
	dir := t.TempDir()
	for name, want := range map[string]string{
		"out.html": "<!doctype html>", "out.md": "## ❌ FAIL", "out.xml": "<?xml", "out": "<!doctype html>",
	} {
		path := filepath.Join(dir, name)
		if got := parking(t, "report", sampleReport, "--output-file", path); got.code != exitOK || got.stdout != "" {
			t.Errorf("%s: exit code %d, stdout %q", name, got.code, got.stdout)
		}
		if text, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(text), want) {
			t.Errorf("%s has %.20q, %v, want %q", name, text, err, want)
		}
	}
	path := filepath.Join(dir, "table.html")
	if got := parking(t, "report", sampleReport, "-o", "table", "--output-file", path); got.code != exitOK {
		t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
	}
	if text, err := os.ReadFile(path); err != nil || strings.HasPrefix(string(text), "<") {
		t.Errorf("-o table wrote %.20q, %v", text, err)
	}
}

func TestReportCommand_InvalidInput_IsRejected(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`{"version":9,"verdict":"PASS"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"no such file":                         {"report", "missing.json"},
		"version 9 of the report format":       {"report", bad},
		"must be html, md, xml, json or table": {"report", sampleReport, "-o", "pdf"},
		"the argument FILE.json is missing":    {"report"},
		"no/such/directory":                    {"report", sampleReport, "--output-file", "no/such/directory/x.html"},
		"the suffix of x.pdf selects no format: set -o to html, md, xml, json or table": {"report", sampleReport, "--output-file", "x.pdf"},
		"the suffix of x.xml selects no format: set -o to table, json, md or html":      {"compare", sampleReport, sampleReport, "--output-file", "x.xml"},
	} {
		if got := parking(t, args...); got.code != exitBadInput || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: exit code %d, stderr %q, want %q", args, got.code, got.stderr, want)
		}
	}
}

func TestSimulate_NoLivePage_TimelineShowsMissedObjectiveOnce(t *testing.T) {
	t.Parallel()
	// Most exits find no parked vehicle and are not published, because there are more exits than entries.
	manifest := manifestFile(t, `{duration: 3s, entry: {rate: 50}, exit: {rate: 500, matchPercent: 100, minStay: 0s}, objectives: {minAchievedPercent: 90}}`)
	path := filepath.Join(t.TempDir(), "r.json")
	if got := parking(t, "simulate", "-f", manifest, "--http", "", "--output", "json", "--report", path); got.code != exitFailed {
		t.Fatalf("exit code %d, stderr %q", got.code, got.stderr)
	}
	d, err := report.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var marks []timeline.Mark
	for _, row := range d.Timeline {
		marks = append(marks, slices.DeleteFunc(slices.Clone(row.Marks), func(m timeline.Mark) bool { return m.Subject != ledger.CheckAchieved })...)
	}
	if len(marks) != 1 || marks[0].Kind != timeline.MarkObjective || marks[0].At.Before(d.StartTime) || marks[0].At.After(d.EndTime) {
		t.Errorf("the marks are %+v, the reasons %q", marks, d.Reasons)
	}
}

func TestSimulate_FourReportFlags_WritesEachFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"simulate", "--duration", "2s", "--http", "", "--output", "json"}
	for _, name := range []string{"r.json", "r.html", "r.md", "r.xml"} {
		args = append(args, "--report", filepath.Join(dir, name))
	}
	got := parking(t, args...)
	printed := got.result(t)
	if !passedExceptSchedules(got, printed) {
		t.Fatalf("exit code %d, stderr %q", got.code, got.stderr)
	}
	d, err := report.ReadFile(filepath.Join(dir, "r.json"))
	if err != nil {
		t.Fatal(err)
	}
	if d.Outcome != printed.Outcome || d.Ledger.EntriesConfirmed != printed.Ledger.EntriesConfirmed {
		t.Errorf("the recorded report is %+v", d.Run)
	}
	if len(d.Timeline) == 0 {
		t.Error("the timeline has no rows")
	}
	for i := 1; i < len(d.Timeline); i++ {
		if d.Timeline[i].Second <= d.Timeline[i-1].Second {
			t.Errorf("row %d of the timeline is of second %d, after %d", i, d.Timeline[i].Second, d.Timeline[i-1].Second)
		}
	}
	if printed.Timeline != nil {
		t.Error("stdout has a timeline")
	}
	if e := d.Environment; e.RabbitMQ != "in memory" || e.Redis != "in memory" || e.Parking == "" || len(e.Nodes) != 1 || e.Nodes[0].CPUs < 1 || len(e.Manifest) == 0 {
		t.Errorf("the environment is %+v", e)
	}
	// The recorded manifest must contain the defaults, so that comparisons do not list them as differences.
	for _, want := range []string{`"kind":"ParkingSimulation"`, `"rate":200`, `"duration":"2s"`} {
		if !strings.Contains(strings.Join(strings.Fields(string(d.Environment.Manifest)), ""), want) {
			t.Errorf("the manifest in the report has no %s: %s", want, d.Environment.Manifest)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 4 {
		t.Errorf("the directory has %d files, want 4: %v", len(files), files)
	}
	agree(t, printed, dir)
}

// agree checks that all reports of a run have the same verdict, number of entries and latencies as the printed report.
func agree(t *testing.T, printed report.Document, dir string) {
	t.Helper()
	texts := map[string]string{"r.table": parking(t, "report", filepath.Join(dir, "r.json"), "-o", "table").stdout}
	for _, name := range []string{"r.json", "r.html", "r.md", "r.xml"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	entries, latency := printed.Ledger.EntriesConfirmed, *printed.LatencySeconds.EndToEnd
	shownLatency := terminal.Duration(report.Seconds(latency.P50)) + " " + terminal.Duration(report.Seconds(latency.P99))
	for _, name := range []string{"r.table", "r.html", "r.md"} {
		words := " " + strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>|\|`).ReplaceAllString(texts[name], " ")), " ") + " "
		for _, want := range []string{string(printed.Outcome), "entries " + terminal.Count(entries), "end to end " + shownLatency} {
			if !strings.Contains(words, " "+want+" ") && !strings.Contains(words, " "+want+": ") {
				t.Errorf("%s has no %q:\n%s", name, want, words)
			}
		}
	}
	var read report.Document
	if err := json.Unmarshal([]byte(texts["r.json"]), &read); err != nil {
		t.Fatal(err)
	}
	read.Timeline = nil // the report on stdout has no timeline
	if diff := cmp.Diff(&printed, &read, cmpopts.IgnoreFields(report.Environment{}, "Manifest")); diff != "" {
		t.Errorf("r.json differs (-printed +file):\n%s", diff)
	}
	properties := junitProperties(t, texts["r.xml"])
	for path, want := range map[string]float64{"ledger.entriesConfirmed": float64(entries), "latencySeconds.endToEnd.p99": latency.P99} {
		if got, err := strconv.ParseFloat(properties[path], 64); err != nil || got != want {
			t.Errorf("JUnit has %q for %s, want %g", properties[path], path, want)
		}
	}
	if passed := strings.Contains(texts["r.xml"], ` failures="0" errors="0" `); passed != (printed.Outcome == ledger.Pass) {
		t.Errorf("JUnit passed: %t, but the verdict is %s", passed, printed.Outcome)
	}
}

func TestSimulate_UnwritableReport_FailsBeforeTheSimulationStarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for want, path := range map[string]string{
		"the file name must end in .html, .json, .md or .xml": "report.pdf",
		"no such file or directory":                           filepath.Join(dir, "missing", "r.json"),
		"is a directory: name a file":                         mkdir(t, filepath.Join(dir, "r.json")),
	} {
		got := parking(t, "simulate", "--duration", "1h", "--http", "", "--report", path)
		if got.code != exitBadInput || !strings.Contains(got.stderr, want) || strings.Contains(got.stderr, "Simulating") {
			t.Errorf("%s: exit code %d, stderr %q, want %q", path, got.code, got.stderr, want)
		}
	}
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCompareCommand_WritesTheComparisonAndSetsTheExitCode(t *testing.T) {
	t.Parallel()
	before, err := report.ReadFile(sampleReport)
	if err != nil {
		t.Fatal(err)
	}
	before.Ledger.Lost, before.Ledger.LostEvents = 0, nil
	text, err := before.JSON()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "before.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{
		"table": "regression: lost events", "json": `"regression": true`, "md": "## ❌ regression: lost events", "html": "REGRESSION",
	} {
		got := parking(t, "compare", path, sampleReport, "-o", format)
		if got.code != exitFailed || !strings.Contains(got.stdout, want) || got.stderr != "" {
			t.Errorf("%s: exit code %d, stderr %q, stdout without %q:\n%s", format, got.code, got.stderr, want, got.stdout)
		}
	}
	if got := parking(t, "compare", sampleReport, sampleReport); got.code != exitOK || !strings.Contains(got.stdout, "no change beyond") || !strings.Contains(got.stdout, "note: both reports describe the same run") {
		t.Errorf("equal reports: exit code %d, stdout %q", got.code, got.stdout)
	}
	for want, args := range map[string][]string{
		"the argument AFTER.json is missing":         {"compare", sampleReport},
		"no such file":                               {"compare", sampleReport, "missing.json"},
		`--threshold: "lost" must begin with one of`: {"compare", sampleReport, sampleReport, "--threshold", "lost=5"},
		"must be endToEnd.p99=PERCENT":               {"compare", sampleReport, sampleReport, "--threshold", "endToEnd.p99=much"},
		"only one of the reports":                    {"compare", "-", "-"},
	} {
		if got := parking(t, args...); got.code != exitBadInput || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: exit code %d, stderr %q, want %q", args, got.code, got.stderr, want)
		}
	}
}

func TestReportFiles_SameFileTwice_IsRejected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text, err := os.ReadFile(sampleReport)
	if err != nil {
		t.Fatal(err)
	}
	recorded, link, linkedDir := filepath.Join(dir, "r.json"), filepath.Join(dir, "link.json"), filepath.Join(dir, "d")
	if err := errors.Join(os.WriteFile(recorded, text, 0o600), os.Symlink(recorded, link), os.Symlink(dir, linkedDir)); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(dir, "m.json")
	if err := os.WriteFile(manifest, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	unclean := dir + "/./r.json"
	for _, args := range [][]string{
		{"report", recorded, "--output-file", recorded},
		{"report", recorded, "--output-file", unclean},
		{"report", link, "--output-file", recorded},
		{"compare", recorded, sampleReport, "--output-file", unclean},
		{"compare", sampleReport, recorded, "--output-file", link},
		{"simulate", "--report", recorded, "--report", unclean},
		{"simulate", "--report", link, "--report", recorded},
		{"simulate", "--report", filepath.Join(dir, "new.md"), "--report", filepath.Join(linkedDir, "new.md")},
		{"simulate", "-f", manifest, "--report", filepath.Join(linkedDir, "m.json")},
	} {
		if got := parking(t, args...); got.code != exitBadInput || got.stdout != "" || !strings.Contains(got.stderr, "is the same file as") {
			t.Errorf("%v: exit code %d, stderr %q", args, got.code, got.stderr)
		}
	}
	if kept, err := os.ReadFile(recorded); err != nil || string(kept) != string(text) {
		t.Errorf("the report was overwritten (%v)", err)
	}
}

func TestReportTable_UnrecoveredFaultWithoutObjective_IsShown(t *testing.T) {
	t.Parallel()
	d, err := report.ReadFile(sampleReport)
	if err != nil {
		t.Fatal(err)
	}
	d.Objectives.MaxRecovery = 0
	if text := strings.Join(reportTable(d, &table{columns: unlimited}), "\n"); !strings.Contains(text, "note: the simulation did not recover from stall/0") {
		t.Errorf("the table does not say that the simulation did not recover:\n%s", text)
	}
}

func TestReportTable_TooManyFaults_SaysHowManyAreOmitted(t *testing.T) {
	t.Parallel()
	d, err := report.ReadFile(sampleReport)
	if err != nil {
		t.Fatal(err)
	}
	first := d.Faults[0]
	for i := range maxFaultLines {
		first.Number = 100 + i
		d.Faults = append(d.Faults, first)
	}
	listed := len(d.Faults) - maxFaultLines
	for omitted, want := range map[int64]string{
		0: fmt.Sprintf("and %d more; none is worse than the faults listed above", listed), 3: fmt.Sprintf("and %d more; the worst fault is listed above", listed+3),
	} {
		d.FaultsOmitted, d.FaultTotals = omitted, nil
		if text := strings.Join(reportTable(d, &table{columns: unlimited}), "\n"); !strings.Contains(text, want) {
			t.Errorf("the table does not say %q:\n%s", want, text)
		}
	}
}

func TestTables_UntrustedText_CannotControlTheTerminal(t *testing.T) {
	t.Parallel()
	d, err := report.ReadFile(sampleReport)
	if err != nil {
		t.Fatal(err)
	}
	before := *d
	const text = "\x1b[2J\u202e\r\n\x00"
	d.Simulation, d.Reasons = text, []string{text}
	d.Ledger.LostEvents[0], d.Faults[0].Fault, d.Environment.Redis = text, text, text
	d.Checks[0].Name = text
	audited := auditResult{Verdict: d.Verdict, Simulation: text, Ledger: *d.Ledger, Notes: []string{text}}
	for name, lines := range map[string][]string{
		"report":  reportTable(d, &table{columns: unlimited}),
		"audit":   auditTable(audited, &table{columns: unlimited}),
		"compare": comparisonTable(report.Compare(&before, d, nil)),
	} {
		for _, line := range lines {
			if terminal.Clean(line) != line {
				t.Errorf("%s prints the line %q", name, line)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "\x1b[2J.json")
	if got := parking(t, "report", path); got.code != exitBadInput || strings.Contains(got.stderr, "\x1b") {
		t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
	}
}

func TestComparisonTable_MatchesGoldenFile(t *testing.T) {
	t.Parallel()
	before, err := report.ReadFile(sampleReport)
	if err != nil {
		t.Fatal(err)
	}
	after := *before
	after.LatencySeconds.EndToEnd = &report.Latency{P50: .00076, P99: 2.9, Mean: .002}
	after.Environment.RabbitMQ = "RabbitMQ 4.2.0"
	after.StartTime = after.StartTime.Add(time.Hour)
	goldentest.Compare(t, "comparison.txt", strings.Join(comparisonTable(report.Compare(before, &after, nil)), "\n"))
}
