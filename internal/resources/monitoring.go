package resources

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

const (
	scrape = "true"
	// portMetrics is the name of the port on which the Redis exporter serves metrics.
	portMetrics = "metrics"
)

// ServiceMonitorKind returns the kind ServiceMonitor of the Prometheus Operator.
func ServiceMonitorKind() schema.GroupVersionKind { return prometheusOperator("ServiceMonitor") }

// PrometheusRuleKind returns the kind PrometheusRule of the Prometheus Operator.
func PrometheusRuleKind() schema.GroupVersionKind { return prometheusOperator("PrometheusRule") }

func prometheusOperator(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: kind}
}

// monitoring returns the objects for Prometheus and Grafana. It omits those that the spec disables or whose CRDs
// are not installed.
func (b *builder) monitoring() ([]client.Object, error) {
	wanted := b.sim.Spec.Monitoring
	var objects []client.Object
	if b.Served.ServiceMonitors && wanted.ServiceMonitors == v1alpha1.MonitoringAuto {
		for _, c := range []Component{ComponentEntry, ComponentExit, ComponentProcessor} {
			objects = append(objects, b.metricsService(c))
		}
		for _, t := range b.targets() {
			objects = append(objects, b.serviceMonitor(t))
		}
	}
	if b.Served.PrometheusRules && wanted.Rules == v1alpha1.MonitoringAuto {
		objects = append(objects, b.prometheusRule())
	}
	if (b.Served.ServiceMonitors || b.Served.PrometheusRules) && wanted.Dashboards == v1alpha1.MonitoringAuto {
		dashboard, err := b.dashboardConfigMap()
		if err != nil {
			return nil, err
		}
		objects = append(objects, dashboard)
	}
	return objects, nil
}

// target is a component that Prometheus scrapes, together with the Service port that it scrapes.
type target struct {
	component Component
	port      string
}

func (b *builder) targets() []target {
	targets := []target{{ComponentEntry, portHTTP}, {ComponentExit, portHTTP}, {ComponentProcessor, portHTTP}}
	if b.summaries != nil {
		targets = append(targets, target{ComponentSummaries, portHTTP})
	}
	if b.rabbitMQ != nil {
		targets = append(targets, target{ComponentRabbitMQ, portPrometheus})
	}
	if b.exportsRedis() {
		targets = append(targets, target{ComponentRedis, portMetrics})
	}
	return targets
}

// metricsService returns a Service through which Prometheus scrapes generators or processors.
func (b *builder) metricsService(c Component) client.Object {
	meta := b.object(b.name(c), c)
	meta.Labels[ScrapeLabel] = scrape
	return &corev1.Service{
		ObjectMeta: meta,
		Spec: corev1.ServiceSpec{
			ClusterIP:                corev1.ClusterIPNone,
			PublishNotReadyAddresses: true, // the metrics show why a pod is not ready
			Selector:                 Selector(b.sim, c),
			Ports:                    []corev1.ServicePort{servicePort(portHTTP, HTTPPort)},
		},
	}
}

// serviceMonitor returns the ServiceMonitor of a component. It adds the labels "simulation" and "component" to the
// metrics, because rules and dashboards select by them.
func (b *builder) serviceMonitor(t target) client.Object {
	endpoint := map[string]any{
		"port":     t.port,
		"path":     "/metrics",
		"interval": prometheusDuration(b.sim.Spec.Monitoring.Interval.Value()),
		"relabelings": []any{
			relabel(SimulationLabel, "simulation"), relabel(ComponentLabel, "component"),
		},
	}
	if tls := TLSOf(b.sim, t.component); tls != nil {
		certificate := b.serverCertificate(t.component, tls)
		endpoint["scheme"] = "https"
		endpoint["tlsConfig"] = map[string]any{
			"ca":         map[string]any{"secret": map[string]any{"name": certificate.Secret, "key": keyCA}},
			"serverName": certificate.Hosts[0],
		}
	}
	spec := map[string]any{
		"selector":  map[string]any{"matchLabels": anyMap(merged(Selector(b.sim, t.component), map[string]string{ScrapeLabel: scrape}))},
		"endpoints": []any{endpoint},
	}
	// Some versions of the ServiceMonitor CRD lack this field. All other fields exist in every version.
	if b.Served.NativeHistograms {
		spec["scrapeNativeHistograms"] = true
	}
	return b.unstructured(ServiceMonitorKind(), b.name(t.component), t.component, spec)
}

// relabel returns a relabeling rule that copies a label of the Service to the scraped metrics.
func relabel(serviceLabel, target string) map[string]any {
	source := "__meta_kubernetes_service_label_" + strings.NewReplacer(".", "_", "/", "_", "-", "_").Replace(serviceLabel)
	return map[string]any{"sourceLabels": []any{source}, "targetLabel": target}
}

// unstructured returns an object of an optional CRD. The scheme has no Go type for such an object.
func (b *builder) unstructured(kind schema.GroupVersionKind, name string, c Component, spec map[string]any) client.Object {
	meta := b.object(name, c)
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(kind)
	u.SetNamespace(meta.Namespace)
	u.SetName(meta.Name)
	u.SetLabels(merged(texts(b.sim.Spec.Monitoring.Labels), meta.Labels))
	u.SetOwnerReferences(meta.OwnerReferences)
	return u
}

func anyMap(m map[string]string) map[string]any {
	converted := make(map[string]any, len(m))
	for key, value := range m {
		converted[key] = value
	}
	return converted
}

// prometheusDuration formats a duration in whole units, because Prometheus does not accept fractions.
func prometheusDuration(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", d/time.Millisecond)
}
