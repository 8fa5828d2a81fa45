package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// sampleReport is the path of a recorded report in which every section has content.
const sampleReport = "../../internal/report/testdata/report.json"

// fields returns the cells of the first line that begins with the given name, without the punctuation between cells.
func fields(t *testing.T, text, name string) []string {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimLeft(line, "| "), name); ok {
			return regexp.MustCompile(`\s{2,}|\|`).Split(strings.Trim(rest, "| \n"), -1)
		}
	}
	t.Fatalf("no line begins with %q:\n%s", name, text)
	return nil
}

// TestReport_AllFormats_HaveTheSameFigures renders one report in all formats and compares the figures in them.
func TestReport_AllFormats_HaveTheSameFigures(t *testing.T) {
	t.Parallel()
	d, err := report.ReadFile(sampleReport)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[reportFormat]string{}
	for _, format := range []reportFormat{formatTable, formatJSON, formatHTML, formatMarkdown, formatJUnit} {
		text, err := render(d, format)
		if err != nil {
			t.Fatal(err)
		}
		texts[format] = string(text)
	}
	properties := junitProperties(t, texts[formatJUnit])
	recorded, err := report.Read(strings.NewReader(texts[formatJSON]))
	if err != nil {
		t.Fatal(err)
	}
	// agree checks that a figure is the same in all formats of the report. The parameter column says where the
	// figure is in its row of the terminal table and of the Markdown table, counted from the name of the row.
	agree := func(key, want string, format func(float64) string, row string, column int) {
		t.Helper()
		number, err := strconv.ParseFloat(properties[key], 64)
		if err != nil {
			t.Fatalf("JUnit has no number %s: %v", key, err)
		}
		got := map[string]string{
			"JUnit":    format(number),
			"HTML":     htmlFigure(t, texts[formatHTML], key),
			"terminal": fields(t, texts[formatTable], row)[column],
			"Markdown": fields(t, texts[formatMarkdown], row)[column],
		}
		for rendering, text := range got {
			if text != want {
				t.Errorf("%s: %s shows %q, want %q", key, rendering, text, want)
			}
		}
	}
	duration := func(s float64) string { return terminal.Duration(report.Seconds(s)) }
	for row, l := range map[string]struct {
		key string
		*report.Latency
	}{
		"processing": {"latencySeconds.processing.", recorded.LatencySeconds.Processing},
		"end to end": {"latencySeconds.endToEnd.", recorded.LatencySeconds.EndToEnd},
	} {
		agree(l.key+"p50", duration(l.P50), duration, row, 0)
		agree(l.key+"p99", duration(l.P99), duration, row, 1)
		agree(l.key+"mean", duration(l.Mean), duration, row, 2)
	}
	for key, r := range map[string]report.Rate{"entries": recorded.Rates.Entry, "exits": recorded.Rates.Exit} {
		path := map[string]string{"entries": "rates.entry.", "exits": "rates.exit."}[key]
		for _, figure := range []struct {
			name, want string
			format     func(float64) string
			column     int
		}{
			{"target", terminal.Rate(r.Target), terminal.Rate, 0},
			{"achieved", terminal.Rate(r.Achieved), terminal.Rate, 1},
			{"maxLagSeconds", duration(r.MaxLagSeconds), duration, 3},
		} {
			// The ledger has rows with the same names. So start reading at the table with the matching header.
			for _, format := range []reportFormat{formatTable, formatMarkdown} {
				_, rest, found := strings.Cut(texts[format], map[reportFormat]string{formatTable: "events/s", formatMarkdown: "|events per second"}[format])
				if !found {
					t.Fatalf("%s has no rates", format)
				}
				if got := fields(t, rest, key)[figure.column]; got != figure.want {
					t.Errorf("%s%s: %s shows %q, want %q", path, figure.name, format, got, figure.want)
				}
			}
			number, _ := strconv.ParseFloat(properties[path+figure.name], 64)
			if got := figure.format(number); got != figure.want {
				t.Errorf("%s%s: JUnit shows %q, want %q", path, figure.name, got, figure.want)
			}
			if got := htmlFigure(t, texts[formatHTML], path+figure.name); got != figure.want {
				t.Errorf("%s%s: HTML shows %q, want %q", path, figure.name, got, figure.want)
			}
		}
	}
	for i, f := range recorded.FaultLines() {
		key := fmt.Sprintf("faults.%d.", i)
		for figure, want := range map[string]string{
			"outcome": string(f.Outcome), "recoverySeconds": f.Recovery, "peakP99Seconds": f.PeakP99, "peakBacklog": f.PeakBacklog,
		} {
			if got := htmlFigure(t, texts[formatHTML], key+figure); got != want {
				t.Errorf("%s%s: HTML shows %q, want %q", key, figure, got, want)
			}
		}
		if got := properties[key+"outcome"]; got != string(f.Outcome) {
			t.Errorf("%soutcome: JUnit shows %q, want %q", key, got, f.Outcome)
		}
		if got := fields(t, texts[formatMarkdown], f.ID+"|"); got[0] != f.Recovery || got[1] != string(f.Outcome) {
			t.Errorf("%s: Markdown shows %q", f.ID, got)
		}
		if got := fields(t, texts[formatTable], f.ID+" "); got[0] != f.Recovery || got[len(got)-1] != string(f.Outcome) {
			t.Errorf("%s: the terminal shows %q", f.ID, got)
		}
	}
	for _, c := range report.Counts(recorded.Ledger) {
		number, err := strconv.ParseInt(properties["ledger."+c.Key], 10, 64)
		if err != nil || number != c.N {
			t.Errorf("%s: JUnit shows %q, want %d", c.Name, properties["ledger."+c.Key], c.N)
		}
		if got := htmlFigure(t, texts[formatHTML], "ledger."+c.Key); got != c.Text() {
			t.Errorf("%s: HTML shows %q, want %q", c.Name, got, c.Text())
		}
		if got := fields(t, texts[formatMarkdown], c.Name+"|")[0]; got != c.Text() {
			t.Errorf("%s: Markdown shows %q, want %q", c.Name, got, c.Text())
		}
		if !regexp.MustCompile(regexp.QuoteMeta(c.Name) + ` +` + regexp.QuoteMeta(c.Text()) + `\b`).MatchString(texts[formatTable]) {
			t.Errorf("%s: the terminal does not show %q", c.Name, c.Text())
		}
	}
	for _, e := range report.Equations(recorded.Ledger) {
		want := fmt.Sprintf("%s %s %s %s", e.Published, e.Left(), e.Effect, e.Right())
		for format, pattern := range map[reportFormat]string{formatTable: `\s+`, formatMarkdown: `\|+`} {
			if text := regexp.MustCompile(pattern).ReplaceAllString(texts[format], " "); !strings.Contains(text, want) {
				t.Errorf("%s does not show %q", format, want)
			}
		}
		if left, right := htmlFigure(t, texts[formatHTML], "ledger."+e.ConfirmedKey), htmlFigure(t, texts[formatHTML], "ledger."+e.EffectsKey); left != e.Left() || right != e.Right() {
			t.Errorf("HTML shows %s and %s, want %s and %s", left, right, e.Left(), e.Right())
		}
		if properties["ledger."+e.EffectsKey] != strconv.FormatInt(e.Effects, 10) {
			t.Errorf("JUnit shows %s effects, want %d", properties["ledger."+e.EffectsKey], e.Effects)
		}
	}
	for format, text := range texts {
		if !strings.Contains(text, string(ledger.Fail)) {
			t.Errorf("%s does not show the verdict", format)
		}
	}
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

// htmlFigure returns the figure with the given label in an HTML report.
func htmlFigure(t *testing.T, page, key string) string {
	t.Helper()
	found := regexp.MustCompile(`data-figure="` + regexp.QuoteMeta(key) + `">([^<]*)<`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("the page has no figure %q", key)
	}
	return strings.ReplaceAll(found[1], "&#43;", "+")
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
	path := filepath.Join(t.TempDir(), "out.html")
	if got := parking(t, "report", sampleReport, "--output-file", path); got.code != exitOK || got.stdout != "" {
		t.Errorf("exit code %d, stdout %q", got.code, got.stdout)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(text), "<!doctype html>") {
		t.Errorf("the file has %.20q, %v", text, err)
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
		"FILE.json is missing":                 {"report"},
		"no/such/folder":                       {"report", sampleReport, "--output-file", "no/such/folder/x.html"},
	} {
		if got := parking(t, args...); got.code != exitBadInput || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: exit code %d, stderr %q, want %q", args, got.code, got.stderr, want)
		}
	}
}

func TestSimulate_WritesReports(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"simulate", "--duration", "2s", "--http", "", "--output", "json"}
	for _, name := range []string{"r.json", "r.html", "r.md", "r.xml"} {
		args = append(args, "--report", filepath.Join(dir, name))
	}
	got := parking(t, args...)
	printed := got.result(t)
	if !passedButSchedules(got, printed) {
		t.Fatalf("exit code %d, stderr %q", got.code, got.stderr)
	}
	d, err := report.ReadFile(filepath.Join(dir, "r.json"))
	if err != nil {
		t.Fatal(err)
	}
	if d.Outcome != printed.Outcome || d.Ledger.EntriesConfirmed != printed.Ledger.EntriesConfirmed {
		t.Errorf("the recorded report is %+v", d.Run)
	}
	if len(d.Timeline) < 2 || len(d.Timeline) > 5 {
		t.Errorf("%d rows of the timeline for a run of 2 s", len(d.Timeline))
	}
	if printed.Timeline != nil {
		t.Error("stdout has a timeline")
	}
	if e := d.Environment; e.RabbitMQ != "in memory" || e.Redis != "in memory" || e.Parking == "" || len(e.Nodes) != 1 || e.Nodes[0].CPUs < 1 || len(e.Manifest) == 0 {
		t.Errorf("the environment is %+v", e)
	}
	if files, _ := os.ReadDir(dir); len(files) != 4 {
		t.Errorf("the folder has %d files, want 4: %v", len(files), files)
	}
}

func TestSimulate_UnwritableReport_FailsBeforeTheSimulationStarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for want, path := range map[string]string{
		"must end in .html, .json, .md or .xml": "report.pdf",
		"no such file or directory":             filepath.Join(dir, "missing", "r.json"),
		"is a folder: name a file":              mkdir(t, filepath.Join(dir, "r.json")),
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

func TestWriteFile_Failure_KeepsTheOldContent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "r.md")
	for _, text := range []string{"first", "second"} {
		if err := writeFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("the file has %q, %v, want %q", got, err, text)
		}
	}
	if err := writeFile(mkdir(t, filepath.Join(dir, "d.md")), []byte("x")); err == nil {
		t.Error("a folder is replaced by a file")
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("temporary files are left: %v", files)
	}
}

func TestCompareCommand_WritesTheComparisonAndSetsTheExitCode(t *testing.T) {
	t.Parallel()
	before, err := report.ReadFile(sampleReport)
	if err != nil {
		t.Fatal(err)
	}
	before.Ledger.Lost = 0
	text, err := before.JSON()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "before.json")
	if err := writeFile(path, text); err != nil {
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
	if got := parking(t, "compare", sampleReport, sampleReport); got.code != exitOK || !strings.Contains(got.stdout, "no change beyond") {
		t.Errorf("of equal reports: exit code %d, stdout %q", got.code, got.stdout)
	}
	for want, args := range map[string][]string{
		"AFTER.json is missing":        {"compare", sampleReport},
		"no such file":                 {"compare", sampleReport, "missing.json"},
		"must begin with one of":       {"compare", sampleReport, sampleReport, "--threshold", "lost=5"},
		"must be endToEnd.p99=PERCENT": {"compare", sampleReport, sampleReport, "--threshold", "endToEnd.p99=much"},
		"only one of the reports":      {"compare", "-", "-"},
	} {
		if got := parking(t, args...); got.code != exitBadInput || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: exit code %d, stderr %q, want %q", args, got.code, got.stderr, want)
		}
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
	golden(t, "comparison.txt", strings.Join(comparisonTable(report.Compare(before, &after, nil)), "\n"))
}
