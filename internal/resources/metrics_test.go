package resources_test

import (
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/rest"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// names is a Prometheus registerer that records the names of the registered metrics.
type names map[string]bool

var metricName = regexp.MustCompile(`fqName: "([^"]+)"`)

func (n names) Register(c prometheus.Collector) error {
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		c.Describe(descriptions)
	}()
	for d := range descriptions {
		n[metricName.FindStringSubmatch(d.String())[1]] = true
	}
	return nil
}

func (n names) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = n.Register(c) // never fails
	}
}

func (n names) Unregister(prometheus.Collector) bool { return false }

// dataPlaneMetrics returns the names of all metrics that the components of a simulation export. It does not connect
// to any server.
func dataPlaneMetrics(t *testing.T) names {
	t.Helper()
	resolved, faults := manifest.Resolve(input(t, "sim", "").Simulation)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	p := resolved.Plan
	p.RabbitMQ, p.Redis = plan.BindingRef{URI: "amqp://127.0.0.1:1"}, plan.BindingRef{URI: "redis://127.0.0.1:1"}
	found, log := names{}, slog.New(slog.DiscardHandler)
	options := wiring.Options{Component: "test", Logger: log, Registerer: found}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	broker, err := wiring.OpenBroker(p, options)
	must(err)
	defer func() { _ = broker.Close() }() // Close cannot fail, because the broker has never connected
	store, err := wiring.OpenStore(p, options)
	must(err)
	defer func() { _ = store.Close() }() // Close cannot fail, because the store has never connected
	config := generator.Config{Plan: p}
	deps := generator.Dependencies{Publisher: broker, Store: store, Logger: log, Registerer: found}
	_, err = generator.NewEntry(config, deps)
	must(err)
	_, err = generator.NewExit(config, deps)
	must(err)
	_, err = processor.New(processor.Config{Partitions: 1, Concurrency: 1}, processor.Dependencies{
		Consumer: broker, DeadLetters: store, Durability: store, Registerer: found, Logger: log,
		Entries: processor.NewEntryEventProcessor(store, 1, p.MaxStay.D(), log), Exits: processor.NewExitEventProcessor(store, nil, 1, log),
	})
	must(err)
	database, err := sqlite.Open(t.Context(), sqlite.Config{Path: t.TempDir() + "/summaries.db"})
	must(err)
	summaries, err := summary.New(database, found, log)
	must(err)
	_, err = rest.New(rest.Dependencies{Summaries: summaries, Registerer: found, Logger: log})
	must(err)
	must(summaries.Close())
	found.MustRegister(controllers.NewSimulationMetrics(nil, nil))
	return found
}

var metricUse = regexp.MustCompile(`parking_[a-z0-9_]+`)

func TestBuild_RulesAndDashboard_UseExistingMetrics(t *testing.T) {
	t.Parallel()
	existing := dataPlaneMetrics(t)
	in := input(t, "sim", "objectives: {processingP99: 5ms, endToEndP99: 1s}")
	objects := build(t, in)
	used := map[string]bool{}
	dashboard := find[*corev1.ConfigMap](t, objects, "sim-dashboard").Data["parking-lot.sim.json"]
	for _, name := range metricUse.FindAllString(dashboard, -1) {
		used[name] = true
	}
	for _, expression := range ruleExpressions(t, find[*unstructured.Unstructured](t, objects, "sim-rules")) {
		for _, name := range metricUse.FindAllString(expression, -1) {
			used[name] = true
		}
	}
	const least = 15
	if len(used) < least {
		t.Errorf("rules and dashboard use %d metrics, want %d or more: %v", len(used), least, used)
	}
	for name := range used {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if !existing[name] && !existing[base] {
			t.Errorf("rules or dashboard use %s, which no program registers", name)
		}
	}
}

// ruleExpressions returns the expressions of all recording rules and alerts.
func ruleExpressions(t *testing.T, rule *unstructured.Unstructured) []string {
	t.Helper()
	groups, _, err := unstructured.NestedSlice(rule.Object, "spec", "groups")
	if err != nil {
		t.Fatal(err)
	}
	var expressions []string
	for _, group := range groups {
		rules, _, err := unstructured.NestedSlice(group.(map[string]any), "rules")
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range rules {
			expression, _, err := unstructured.NestedString(rule.(map[string]any), "expr")
			if err != nil || expression == "" {
				t.Fatalf("rule %v has no expression: %v", rule, err)
			}
			expressions = append(expressions, expression)
		}
	}
	return expressions
}

func TestBuild_Dashboard_UsesExistingOutcomesAndEventTypes(t *testing.T) {
	t.Parallel()
	dashboard := find[*corev1.ConfigMap](t, build(t, input(t, "sim", "")), "sim-dashboard").Data["parking-lot.sim.json"]
	var outcomes, types []string
	for _, eventType := range event.Types() {
		types = append(types, string(eventType))
		for _, outcome := range processor.Outcomes(eventType) {
			outcomes = append(outcomes, outcome.String())
		}
	}
	for label, known := range map[string][]string{"outcome": outcomes, "event_type": types} {
		for _, match := range regexp.MustCompile(label+`=\\"([a-z_]+)\\"`).FindAllStringSubmatch(dashboard, -1) {
			if !slices.Contains(known, match[1]) {
				t.Errorf("a panel selects %s=%q, want one of %v", label, match[1], known)
			}
		}
	}
}
