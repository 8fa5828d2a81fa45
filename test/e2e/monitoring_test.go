//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

const (
	// prometheusRelease is the value of the label "release" of the objects that Prometheus uses.
	prometheusRelease = "e2e"
	scrapeInterval    = 5 * time.Second
)

// form is one of the two forms in which Prometheus can store histograms: classic or native. Rules and dashboards must
// work with both forms.
type form struct {
	// Features are the feature flags that make Prometheus store histograms in this form.
	Features []string
	// histogram names a series that exists only in this form. absent names a series that exists only in the other form.
	histogram, absent string
}

// forms returns the two forms of histograms, by name. The test runs one Prometheus server for each form.
func forms() map[string]form {
	const histogram, buckets = "parking_event_processing_seconds", "parking_event_processing_seconds_bucket"
	return map[string]form{
		"classic": {nil, buckets, histogram},
		"native":  {[]string{"native-histograms"}, histogram, buckets},
	}
}

// lostPanel is the key of the lost events in panelExpressions. It has no data until the simulation is complete.
const lostPanel = "Lost A"

func TestMonitoring_RulesAndDashboardHaveData(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	sim := ns.applySample("minimal.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Exit.MatchPercent = new(int32(80))
		scrape(sim)
	})
	encrypted := ns.applyEncrypted()
	ns.eventually("MonitoringReady with reason KindNotServed", time.Minute, func() error {
		c := meta.FindStatusCondition(ns.get(sim).Status.Conditions, v1alpha1.ConditionMonitoringReady)
		if c == nil || c.Reason != "KindNotServed" {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	installed := installPrometheus(t)
	for _, sim := range []*v1alpha1.ParkingSimulation{sim, encrypted} {
		ns.awaitCondition(sim, v1alpha1.ConditionMonitoringReady, time.Minute)
		ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	}
	for _, p := range installed {
		// The kubelet may write the CA certificates to the pod of Prometheus a minute later than the configuration.
		ns.eventually(p.name+": scrapes of every pod", 4*time.Minute, func() error {
			return p.allUp(t.Context(), ns.targets(sim, encrypted))
		})
	}
	// If Kubernetes deletes the Secret with a CA before the ServiceMonitor, the Prometheus Operator warns.
	ns.expected = append(ns.expected, warning{"InvalidConfiguration", "unable to get secret"})
	if err := ns.Delete(t.Context(), encrypted); err != nil {
		t.Fatal(err)
	}

	expressions := ns.panelExpressions(sim)
	lost := expressions[lostPanel]
	delete(expressions, lostPanel)
	for _, p := range installed {
		ns.eventually(p.name+": data for all rules and no alert", time.Minute, func() error {
			return p.checkRules(t.Context(), sim)
		})
		ns.eventually(fmt.Sprintf("%s: data for %d expressions of the dashboard", p.name, len(expressions)), time.Minute, func() error {
			return p.haveData(t.Context(), expressions)
		})
		p.checkForm(t)
	}
	ns.finish(sim)
	for _, p := range installed {
		ns.eventually(p.name+": data for the panel of lost events", time.Minute, func() error {
			return p.hasData(t.Context(), lost)
		})
		p.checkAlerts(t)
	}
	ns.remove(sim)
}

// scrape makes Prometheus scrape the pods of a simulation.
func scrape(sim *v1alpha1.ParkingSimulation) {
	sim.Spec.Monitoring.Interval = v1alpha1.NewDuration(scrapeInterval)
	sim.Spec.Monitoring.Labels = map[string]v1alpha1.LabelValue{"release": prometheusRelease}
}

// applyEncrypted creates a simulation whose pods Prometheus scrapes over HTTPS. The simulation has no rules and no
// dashboard, because these do not depend on TLS.
func (ns *namespace) applyEncrypted() *v1alpha1.ParkingSimulation {
	ns.t.Helper()
	return ns.applySample("minimal.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Name = "encrypted"
		lowRates(sim)
		shareNode(sim)
		useTLS(sim)
		scrape(sim)
		sim.Spec.Monitoring.Rules, sim.Spec.Monitoring.Dashboards = v1alpha1.MonitoringDisabled, v1alpha1.MonitoringDisabled
	})
}

// targets returns all pods that Prometheus must scrape, each in the form "SCHEME COMPONENT POD". These are the pods of
// the simulations, and the pod of the operator.
func (ns *namespace) targets(sims ...*v1alpha1.ParkingSimulation) []string {
	ns.t.Helper()
	var targets []string
	for _, sim := range sims {
		var pods corev1.PodList
		if err := ns.List(ns.t.Context(), &pods, client.InNamespace(ns.name), client.MatchingLabels{resources.SimulationLabel: sim.Name}); err != nil {
			ns.t.Fatal(err)
		}
		for _, pod := range pods.Items {
			component, scheme := pod.Labels[resources.ComponentLabel], "http"
			if resources.TLSOf(sim, resources.Component(component)) != nil {
				scheme = "https"
			}
			targets = append(targets, scheme+" "+component+" "+pod.Name)
		}
	}
	var operators corev1.PodList
	if err := ns.List(ns.t.Context(), &operators, client.InNamespace(operatorNamespace)); err != nil {
		ns.t.Fatal(err)
	}
	for _, pod := range operators.Items {
		targets = append(targets, "https operator "+pod.Name)
	}
	slices.Sort(targets)
	return targets
}

// panelExpressions returns the PromQL expressions in a simulation's dashboard, with values for the dashboard
// variables. A key is a panel's title and the expression's letter.
func (ns *namespace) panelExpressions(sim *v1alpha1.ParkingSimulation) map[string]string {
	ns.t.Helper()
	var dashboards corev1.ConfigMapList
	if err := ns.List(ns.t.Context(), &dashboards, client.InNamespace(ns.name), client.MatchingLabels{"grafana_dashboard": "1"}); err != nil {
		ns.t.Fatal(err)
	}
	if len(dashboards.Items) != 1 {
		ns.t.Fatalf("%s has %d dashboards, want 1", sim.Name, len(dashboards.Items))
	}
	expressions := map[string]string{}
	for file, text := range dashboards.Items[0].Data {
		var dashboard struct {
			Templating struct {
				List []struct{ Name, Type, Query string }
			}
			Panels []struct {
				Title   string
				Targets []struct{ RefID, Expr string }
			}
		}
		if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
			ns.t.Fatalf("%s: %v", file, err)
		}
		// Grafana's rate interval is four times the scrape interval.
		values := []string{"$__rate_interval", (4 * scrapeInterval).String(), "$__range", "5m"}
		for _, variable := range dashboard.Templating.List {
			if variable.Type == "constant" {
				values = append(values, "$"+variable.Name, variable.Query)
			}
		}
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				expressions[panel.Title+" "+target.RefID] = strings.NewReplacer(values...).Replace(target.Expr)
			}
		}
	}
	return expressions
}

type prometheus struct {
	*cluster

	namespace, name string
}

// prometheusImages is the content of the JSON file that the environment variable E2E_MONITORING names.
type prometheusImages struct{ Operator, ConfigReloader, Prometheus, PrometheusVersion string }

// installPrometheus installs the Prometheus Operator and two Prometheus servers until the test ends: one stores
// classic histograms, the other native histograms. Both also scrape the parking operator.
func installPrometheus(t *testing.T) []*prometheus {
	t.Helper()
	upstream := prometheusOperatorDirectory(t)
	definitions := filepath.Join(upstream, "example", "prometheus-operator-crd")
	role := filepath.Join(upstream, "example", "rbac", "prometheus-operator", "prometheus-operator-cluster-role.yaml")
	if err := kubectl(t.Context(), nil, "get", "crd", "prometheuses.monitoring.coreos.com"); err == nil {
		t.Fatal("the cluster has the CRDs of a Prometheus Operator, which this test would replace: " +
			"delete them, or skip this test")
	}
	ns := newNamespace(t)
	manifest := prometheusManifest(t, ns.name)
	steps := []struct {
		input     []byte
		arguments []string
	}{
		{nil, []string{"--server-side", "-f", definitions}},
		{nil, []string{"-f", role}},
		{manifest, []string{"-f", "-"}},
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("E2E_KEEP") != "" {
			return
		}
		ctx := context.Background()
		err := shared.install(ctx, chart)
		for _, step := range slices.Backward(steps) {
			files := slices.DeleteFunc(slices.Clone(step.arguments), func(a string) bool { return a == "--server-side" })
			err = errors.Join(err, kubectl(ctx, step.input, append([]string{"delete", "--ignore-not-found"}, files...)...))
		}
		if err != nil {
			t.Error(err)
		}
	})
	for _, step := range steps {
		if err := kubectl(t.Context(), step.input, append([]string{"apply"}, step.arguments...)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := shared.install(t.Context(), chart, "metrics.serviceMonitor.enabled=true",
		"metrics.serviceMonitor.labels.release="+prometheusRelease, "metrics.serviceMonitor.interval="+scrapeInterval.String(),
		"metrics.serviceMonitor.reader.name=prometheus", "metrics.serviceMonitor.reader.namespace="+ns.name); err != nil {
		t.Fatal(err)
	}
	var all []*prometheus
	for _, name := range slices.Sorted(maps.Keys(forms())) {
		all = append(all, &prometheus{cluster: shared, namespace: ns.name, name: name})
	}
	return all
}

// prometheusOperatorDirectory returns the directory with the source code of the Prometheus Operator.
func prometheusOperatorDirectory(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "github.com/prometheus-operator/prometheus-operator")
	cmd.Dir = repository + "/hack/cluster/modules/prometheus-operator"
	var module struct{ Dir string }
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &module)
	}
	if err != nil {
		t.Fatalf("find the source of the Prometheus Operator: %v: %s", err, out)
	}
	return module.Dir
}

func prometheusManifest(t *testing.T, namespace string) []byte {
	t.Helper()
	file := filepath.Join(repository, os.Getenv("E2E_MONITORING"))
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("read the images of Prometheus: %v; E2E_MONITORING must name their file, as make test-e2e does", err)
	}
	var images prometheusImages
	if err := yaml.UnmarshalStrict(text, &images); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var manifest bytes.Buffer
	if err := template.Must(template.ParseFiles("testdata/monitoring.yaml")).Execute(&manifest, struct {
		prometheusImages
		Namespace string
		Forms     map[string]form
	}{images, namespace, forms()}); err != nil {
		t.Fatal(err)
	}
	return manifest.Bytes()
}

func kubectl(ctx context.Context, input []byte, arguments ...string) error {
	cmd := exec.CommandContext(ctx, "kubectl", arguments...)
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(arguments, " "), err, out)
	}
	return nil
}

// get sends a request to the HTTP API of Prometheus, through the proxy of the Kubernetes API server.
func (p *prometheus) get(ctx context.Context, path string, parameters map[string]string, into any) error {
	pod := "prometheus-" + p.name + "-0"
	text, err := p.set.CoreV1().Pods(p.namespace).ProxyGet("http", pod, "9090", "/api/v1/"+path, parameters).DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("get %[2]s from %[1]s: %[3]w: %[4]s", pod, path, err, text)
	}
	answer := struct{ Data any }{into}
	return json.Unmarshal(text, &answer)
}

// allUp returns an error unless Prometheus successfully scrapes exactly the targets in want.
func (p *prometheus) allUp(ctx context.Context, want []string) error {
	var answer struct {
		ActiveTargets []struct {
			Labels                       map[string]string
			ScrapeURL, Health, LastError string
		}
	}
	if err := p.get(ctx, "targets", map[string]string{"state": "active"}, &answer); err != nil {
		return err
	}
	var got []string
	for _, target := range answer.ActiveTargets {
		component := target.Labels["component"]
		if target.Labels["namespace"] == operatorNamespace {
			component = "operator"
		}
		scheme, _, _ := strings.Cut(target.ScrapeURL, ":")
		name := scheme + " " + component + " " + target.Labels["pod"]
		if target.Health != "up" {
			return fmt.Errorf("target %s is %s: %s", name, target.Health, target.LastError)
		}
		got = append(got, name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return fmt.Errorf("the targets are %q, want %q", got, want)
	}
	return nil
}

// checkRules returns an error unless Prometheus has evaluated all rules of a simulation, every recording rule has data,
// and all alerts are inactive.
func (p *prometheus) checkRules(ctx context.Context, sim *v1alpha1.ParkingSimulation) error {
	var answer struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Type, Name, Query, Health, LastError, State string
			}
		}
	}
	if err := p.get(ctx, "rules", nil, &answer); err != nil {
		return err
	}
	if len(answer.Groups) != 2 {
		return fmt.Errorf("there are %d rule groups, want the 2 of %s", len(answer.Groups), sim.Name)
	}
	var errs []error
	for _, group := range answer.Groups {
		for _, rule := range group.Rules {
			switch {
			case rule.Health != "ok":
				errs = append(errs, fmt.Errorf("rule %s is %s: %s", rule.Name, rule.Health, rule.LastError))
			case rule.Type == "alerting" && rule.State != "inactive":
				errs = append(errs, fmt.Errorf("alert %s is %s", rule.Name, rule.State))
			case rule.Type == "recording":
				errs = append(errs, p.hasData(ctx, rule.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// haveData returns an error that names each expression without data.
func (p *prometheus) haveData(ctx context.Context, expressions map[string]string) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(expressions)) {
		if err := p.hasData(ctx, expressions[name]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// hasData returns an error if the result of an expression is empty or contains NaN.
func (p *prometheus) hasData(ctx context.Context, expression string) error {
	all, err := p.query(ctx, expression)
	switch {
	case err != nil:
		return err
	case len(all) == 0:
		return fmt.Errorf("no data for %s", expression)
	}
	for _, series := range all {
		if series.Value[1] == "NaN" {
			return fmt.Errorf("%v of %s is NaN", series.Metric, expression)
		}
	}
	return nil
}

// series is one series in the result of a PromQL expression.
type series struct {
	Metric map[string]string
	Value  [2]any // the time of the sample, and its value as text; both are nil if the sample is a native histogram
}

func (p *prometheus) query(ctx context.Context, expression string) ([]series, error) {
	var answer struct{ Result []series }
	err := p.get(ctx, "query", map[string]string{"query": expression}, &answer)
	return answer.Result, err
}

// checkForm fails the test unless Prometheus stores histograms in the configured form, classic or native.
func (p *prometheus) checkForm(t *testing.T) {
	t.Helper()
	form := forms()[p.name]
	if err := p.hasData(t.Context(), form.histogram); err != nil {
		t.Errorf("%s: %v", p.name, err)
	}
	if err := p.hasData(t.Context(), form.absent); err == nil {
		t.Errorf("%s has data for %s", p.name, form.absent)
	}
}

// checkAlerts fails the test for each alert that has fired.
func (p *prometheus) checkAlerts(t *testing.T) {
	t.Helper()
	fired, err := p.query(t.Context(), `present_over_time(ALERTS{alertstate="firing"}[1h])`)
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range fired {
		t.Errorf("%s: an alert fired: %v", p.name, alert.Metric)
	}
}
