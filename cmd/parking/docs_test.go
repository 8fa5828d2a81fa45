package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/goldentest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/rest"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

func TestDocs_ListEveryOutputField(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, match := range regexp.MustCompile("(?m)^\\| `([][a-zA-Z0-9.]+)` \\|").FindAllSubmatch(text, -1) {
		documented = append(documented, string(match[1]))
	}
	fields := slices.Concat([]string{"version"}, jsonFields("", reflect.TypeFor[report.Run]()),
		jsonFields("environment", reflect.TypeFor[report.Environment]()), jsonFields("", reflect.TypeFor[auditResult]()))
	slices.Sort(fields)
	slices.Sort(documented)
	if diff := cmp.Diff(slices.Compact(fields), documented); diff != "" {
		t.Errorf("docs/cli.md does not list the fields of the output (-output +listed):\n%s", diff)
	}
}

// jsonFields returns the paths of all values in the JSON encoding of a type.
func jsonFields(path string, t reflect.Type) (fields []string) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
		path, t = path+"[]", t.Elem()
	}
	if t.Kind() != reflect.Struct || t.Implements(reflect.TypeFor[json.Marshaler]()) {
		return []string{path}
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" { // package json omits a field with this tag
			continue
		}
		// An embedded struct has no JSON name, so it adds nothing to the paths of its fields.
		fields = append(fields, jsonFields(strings.Trim(path+"."+name, "."), f.Type)...)
	}
	return fields
}

// recordingRegistry is a Prometheus registry that also keeps a list of the names of all registered metrics.
type recordingRegistry struct {
	*prometheus.Registry

	described []string
}

// Register registers a collector and adds the names of its metrics to the list.
func (s *recordingRegistry) Register(c prometheus.Collector) error {
	descriptions := make(chan *prometheus.Desc, 100)
	c.Describe(descriptions)
	close(descriptions)
	for d := range descriptions {
		name := regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())
		s.described = append(s.described, name[1])
	}
	return s.Registry.Register(c)
}

// families returns the metrics of this project by name.
func (s *recordingRegistry) families(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	gathered, err := s.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families := map[string]*dto.MetricFamily{}
	for _, f := range gathered {
		if strings.HasPrefix(f.GetName(), "parking_") {
			families[f.GetName()] = f
		}
	}
	for _, name := range s.described {
		if families[name] == nil {
			t.Errorf("%s has no series: make the test create a series", name)
		}
	}
	return families
}

func TestDocs_ListEveryMetric(t *testing.T) {
	t.Parallel()
	var lines []string
	seen := map[string][]string{}
	all := map[string]*dto.MetricFamily{}
	for _, process := range []struct {
		name     string
		register func(*testing.T, *recordingRegistry)
	}{
		{"generate entry", func(t *testing.T, s *recordingRegistry) { registerGenerator(t, s, generator.NewEntry) }},
		{"generate exit", func(t *testing.T, s *recordingRegistry) { registerGenerator(t, s, generator.NewExit) }},
		{"process", registerProcessor},
		{"summaries", registerSummaries},
	} {
		s := &recordingRegistry{Registry: newRegistry()}
		process.register(t, s)
		families := s.families(t)
		maps.Copy(all, families)
		for name := range families {
			seen[name] = append(seen[name], process.name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels["`"+l.GetName()+"`"] = true
			}
		}
		processes := strings.Replace(strings.Join(seen[name], ", "), "generate entry, generate exit", "generate", 1)
		lines = append(lines, fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()),
			strings.Join(slices.Sorted(maps.Keys(labels)), ", "), processes, f.GetHelp()))
	}
	lines = append(lines, operatorMetrics(t)...)
	slices.Sort(lines)
	checkSection(t, "../../docs/metrics.md", "metrics", strings.Join(lines, ""))
}

// operatorMetrics returns the expected rows for the metrics that the operator exports per simulation. These metrics
// have no series in this test, so it reads their descriptions.
func operatorMetrics(t *testing.T) []string {
	t.Helper()
	descriptions := make(chan *prometheus.Desc, 100)
	controllers.NewSimulationMetrics(nil, nil).Describe(descriptions)
	close(descriptions)
	description := regexp.MustCompile(`fqName: "(\w+)", help: "([^"]+)", .*variableLabels: {([^}]+)}`)
	var lines []string
	for d := range descriptions {
		parts := description.FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("cannot parse the description %s", d)
		}
		labels := slices.Sorted(slices.Values(strings.Split(parts[3], ",")))
		kind := "gauge"
		if parts[1] == "parking_simulation_fault_recovery_seconds" {
			kind = "summary" // hard-coded, because a prometheus.Desc does not say that this metric is a summary
		}
		served := "operator"
		if slices.Contains(labels, "action") {
			served = "operator, simulate"
		}
		lines = append(lines, fmt.Sprintf("| `%s` | %s | `%s` | %s | %s |\n", parts[1], kind, strings.Join(labels, "`, `"), served, parts[2]))
	}
	return lines
}

// checkSection checks the rows of the table between two marker comments of a document. It does not check the table's
// header row.
func checkSection(t *testing.T, path, name, want string) {
	t.Helper()
	const rule = "|---|---|---|---|---|\n"
	_, section, _ := generatedSection(t, path, name)
	head, _, found := strings.Cut(section, rule)
	if !found {
		t.Fatalf("%s has no table in the section %q", path, name)
	}
	checkGenerated(t, path, name, head+rule+want)
}

// checkGenerated checks the text between two marker comments of a document. With the flag -update, it replaces the
// text.
func checkGenerated(t *testing.T, path, name, want string) {
	t.Helper()
	before, got, after := generatedSection(t, path, name)
	if goldentest.Updating() {
		if err := os.WriteFile(path, []byte(before+want+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s differs (-want +got); run the tests with -update if that is intended:\n%s", path, diff)
	}
}

// generatedSection returns the text between two marker comments of a document, and the texts before and after it.
func generatedSection(t *testing.T, path, name string) (before, section, after string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- generated: "+name+" -->\n", "<!-- end -->\n"
	at := strings.Index(string(text), begin)
	if at < 0 {
		t.Fatalf("%s has no %q", path, begin)
	}
	before, rest := string(text[:at+len(begin)]), string(text[at+len(begin):])
	section, after, found := strings.Cut(rest, end)
	if !found {
		t.Fatalf("%s has no %q after %q", path, end, begin)
	}
	return before, section, end + after
}

// planOfServers returns a plan that refers to servers. No test connects to these servers.
func planOfServers(t *testing.T) *plan.Plan {
	t.Helper()
	return planWith(t, func(p *plan.Plan) {
		p.RabbitMQ.URI, p.Redis.URI = "amqp://127.0.0.1:1/", "redis://127.0.0.1:1"
	})
}

func openTestAdapters(t *testing.T, s *recordingRegistry, p *plan.Plan) adapters {
	t.Helper()
	o, err := openAdapters(p, wiring.Options{Component: "test", Logger: slog.New(slog.DiscardHandler), Registerer: s}, serverFlags{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.close(slog.New(slog.DiscardHandler)) })
	return o
}

func registerGenerator(t *testing.T, s *recordingRegistry, create newGenerator) {
	t.Helper()
	p := planOfServers(t)
	o := openTestAdapters(t, s, p)
	if _, err := create(generator.Config{Plan: p}, generator.Dependencies{Publisher: o.broker, Store: o.store, Registerer: s}); err != nil {
		t.Fatal(err)
	}
}

func registerProcessor(t *testing.T, s *recordingRegistry) {
	t.Helper()
	p := planOfServers(t)
	o := openTestAdapters(t, s, p)
	_, err := processor.New(processor.Config{Partitions: p.Partitions, Concurrency: 1}, processor.Dependencies{
		Consumer: o.broker, DeadLetters: o.store, Durability: o.store, Registerer: s, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
}

func registerSummaries(t *testing.T, s *recordingRegistry) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	service, err := summary.New(db, s, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAndLog(log, "database", service) })
	api, err := rest.New(rest.Dependencies{Summaries: service, Registerer: s, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/v1/stats", http.NoBody)
	api.ServeHTTP(httptest.NewRecorder(), request) // without a request, there is no histogram of request durations
}
