package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// assessWorkloads compares the desired workloads with the workloads in the cluster, and finds out why pods are not
// ready.
func (r *Reconciler) assessWorkloads(ctx context.Context, s *scope) error {
	for _, object := range s.desired {
		w, ok := desiredWorkload(object)
		if !ok {
			continue
		}
		key, err := r.keyOf(object)
		if err != nil {
			return err
		}
		w.observe(s.children[key])
		if w.failure == "" && !w.isReady() {
			w.failure = s.podFailureOf(w.component)
		}
		if w.failure == "" && w.lacksPods() {
			if w.failure, err = r.creationFailure(ctx, s, s.children[key]); err != nil {
				return err
			}
		}
		s.workloads[w.component] = w
	}
	return nil
}

// podFailureOf returns the first persistent failure among the pods of a component.
func (s *scope) podFailureOf(c resources.Component) string {
	for _, pod := range s.podsOf(c) {
		if failure := s.persistentFailure(pod); failure != "" {
			return failure
		}
	}
	return ""
}

// persistentFailure returns why a pod is not ready. It ignores scheduling failures younger than 5 s, because they
// often resolve by themselves, for example once a volume is bound.
func (s *scope) persistentFailure(pod *corev1.Pod) string {
	const grace = 5 * time.Second
	for _, c := range pod.Status.Conditions {
		if left := c.LastTransitionTime.Add(grace).Sub(s.now); c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && left > 0 {
			s.wakeAfter(left)
			return ""
		}
	}
	return podFailure(pod)
}

// creationFailure returns why the pods of a StatefulSet cannot be created, for example because of a quota. This
// reason is only in events, not in the status of the StatefulSet. Because events do not cause a reconcile,
// creationFailure requests another reconcile.
func (r *Reconciler) creationFailure(ctx context.Context, s *scope, live client.Object) (string, error) {
	set, ok := live.(*appsv1.StatefulSet)
	if !ok {
		return "", nil
	}
	const retry, maxAge = 5 * time.Second, 20 * time.Minute
	s.wakeAfter(retry)
	list := &corev1.EventList{}
	err := r.direct.List(ctx, list, client.InNamespace(set.Namespace), client.MatchingFields{
		"involvedObject.uid": string(set.UID), "reason": "FailedCreate", "type": corev1.EventTypeWarning,
	})
	if err != nil {
		return "", fmt.Errorf("list the events of StatefulSet %s/%s: %w", set.Namespace, set.Name, err)
	}
	failure, latest := "", s.now.Add(-maxAge)
	for i := range list.Items {
		if e := &list.Items[i]; e.LastTimestamp.After(latest) {
			failure, latest = withRemedy(e.Message), e.LastTimestamp.Time
		}
	}
	return failure, nil
}

// component is a generator or processor with its name in singular and plural, for messages.
type component struct {
	component        resources.Component
	singular, plural string
}

// ownComponents lists the generators and processors. The condition WorkloadsReady is about their workloads.
func ownComponents() []component {
	return []component{
		{resources.ComponentProcessor, "processor", "processors"},
		{resources.ComponentEntry, "entry generator", "entry generators"},
		{resources.ComponentExit, "exit generator", "exit generators"},
	}
}

// assessParts examines the servers, the summary API, the workloads and the monitoring objects. It uses only objects
// in the cluster. It also writes the status fields that the scale subresource reads.
func (r *Reconciler) assessParts(_ context.Context, s *scope) error {
	s.findings.suspended = s.sim.Spec.Suspend
	s.findings.complete = s.isComplete()
	s.findings.notes = s.warnings
	s.findings.broker = s.assessServer(s.broker, resources.ComponentRabbitMQ)
	s.findings.store = s.assessServer(s.store, resources.ComponentRedis)
	s.findings.summaryAPI = s.assessSummaryAPI()
	s.findings.monitoring = monitoringFinding(s.sim.Spec.Monitoring, s.served)
	var all []finding
	for _, c := range ownComponents() {
		all = append(all, s.workloads[c.component].assess(c.plural))
	}
	s.findings.workloads = assessAll(all...)
	s.findings.running = s.running()
	s.setScale()
	return nil
}

// setScale sets the status fields that the scale subresource and kubectl get read.
func (s *scope) setScale() {
	processors := s.workloads[resources.ComponentProcessor]
	s.sim.Status.Replicas = &processors.pods
	s.sim.Status.ReadyReplicas = &processors.ready
	s.sim.Status.Selector = metav1.FormatLabelSelector(&metav1.LabelSelector{
		MatchLabels: resources.Selector(s.sim, resources.ComponentProcessor),
	})
}

// running describes which generators and processors are running.
func (s *scope) running() string {
	var parts []string
	for _, c := range ownComponents() {
		switch n := s.workloads[c.component].ready; n {
		case 0:
		case 1:
			parts = append(parts, "1 "+c.singular)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n, c.plural))
		}
	}
	if len(parts) == 0 {
		return "No generators or processors run: all their replicas are 0"
	}
	return "Running: " + strings.Join(parts, ", ")
}

// assessServer returns the state of RabbitMQ or Redis, based on the server's pods or on its Secret. After a
// simulation is complete, the operator no longer observes external servers, so their conditions do not change any
// more.
func (s *scope) assessServer(server server, c resources.Component) finding {
	switch {
	case server.finding.state != unchecked:
		return server.finding
	case server.managed:
		return s.workloads[c].assess(server.name)
	case s.isComplete():
		return finding{}
	}
	return server.pending()
}

// assessSummaryAPI returns the state of the summary API. The operator does not connect to an external summary API,
// because only the processors use it.
func (s *scope) assessSummaryAPI() finding {
	url := s.sim.Spec.SummaryAPI.URL
	switch {
	case url == "":
		return s.workloads[resources.ComponentSummaries].assess("summary API")
	case s.summaryAPI.finding.state != unchecked:
		return s.summaryAPI.finding
	}
	return found(ready, reasonExternal, "Processors post summaries to the URL in spec.summaryAPI.url")
}

// monitoringFinding returns the state of the monitoring objects: it says which of them exist.
func monitoringFinding(spec v1alpha1.MonitoringSpec, s served) finding {
	monitors, rules := s[resources.ServiceMonitorKind()], s[resources.PrometheusRuleKind()]
	var created, missing []string
	note := func(mode v1alpha1.MonitoringMode, isServed bool, what string) {
		switch {
		case mode == v1alpha1.MonitoringDisabled:
		case isServed:
			created = append(created, what)
		default:
			missing = append(missing, what)
		}
	}
	note(spec.ServiceMonitors, monitors, "ServiceMonitors")
	note(spec.Rules, rules, "PrometheusRule")
	note(spec.Dashboards, monitors || rules, "dashboard ConfigMap")
	switch {
	case len(missing) > 0:
		return found(progressing, reasonKindNotServed,
			"Created: %s. Not created: %s, because the CRDs of the Prometheus Operator are not installed; they are created once it is",
			orElse(strings.Join(created, ", "), "none"), strings.Join(missing, ", "))
	case len(created) == 0:
		return found(ready, reasonDisabled, "spec.monitoring disables all monitoring objects")
	default:
		return found(ready, reasonCreated, "Created: %s", strings.Join(created, ", "))
	}
}
