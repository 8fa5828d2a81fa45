package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
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
		if w.desired == 0 {
			w.ending = int32(len(s.livePodsOf(w.component)))
		}
		r.findFailure(ctx, s, &w)
		if w.failure == "" && w.lacksPods() {
			if w.failure, err = r.creationFailure(ctx, s, s.children[key]); err != nil {
				return err
			}
		}
		s.workloads[w.component] = w
	}
	return nil
}

// findFailure sets w.failure from the status of the pods. For the summary API, it also asks a pod whether the database
// is the reason.
func (r *Reconciler) findFailure(ctx context.Context, s *scope, w *workload) {
	if w.failure == "" && !w.isReady() {
		w.failure = s.podFailureOf(w.component)
	}
	if w.component != resources.ComponentSummaries {
		return
	}
	if w.isReady() {
		r.databases.evict(s.key)
	} else if w.failure == "" {
		w.failure = r.databaseFailure(ctx, s)
	}
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

// persistentFailure returns why a pod is not ready, or "" if the pod may only need more time.
func (s *scope) persistentFailure(pod *corev1.Pod) string {
	const grace = 5 * time.Second // a scheduling failure often resolves by itself, for example once a volume is bound
	for _, c := range pod.Status.Conditions {
		if left := c.LastTransitionTime.Add(grace).Sub(s.now); c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && left > 0 {
			s.wakeAfter(left)
			return ""
		}
	}
	if failure := podFailure(pod); failure != "" {
		return failure
	}
	if !s.isFaultRecent() {
		if failure := s.crashFailure(pod); failure != "" {
			return failure
		}
	}
	return s.overduePod(pod)
}

// crashFailure returns why a container in a crash loop last crashed, even while the container runs between two
// crashes.
func (s *scope) crashFailure(pod *corev1.Pod) string {
	const (
		restarts = 2
		recent   = 10 * time.Minute // the kubelet resets the backoff of a container that has run for this time
	)
	for i := range pod.Status.ContainerStatuses {
		c := &pod.Status.ContainerStatuses[i]
		last := c.LastTerminationState.Terminated
		if c.State.Running == nil || c.Ready || c.RestartCount < restarts || last == nil || last.ExitCode == 0 {
			continue
		}
		left := last.FinishedAt.Add(recent).Sub(s.now)
		if left <= 0 {
			continue
		}
		s.wakeAfter(left)
		return fmt.Sprintf("pod %s, container %s has been restarted %d times (its last exit code was %d, %s; see 'kubectl logs --previous')",
			pod.Name, c.Name, c.RestartCount, last.ExitCode, orElse(last.Message, last.Reason))
	}
	return ""
}

// isFaultRecent reports whether a fault is in effect or ended less than 5 min ago. After a fault, restarts of
// containers are expected.
func (s *scope) isFaultRecent() bool {
	const recent = 5 * time.Minute
	faults := s.before.Status.Faults
	if faults == nil {
		return false
	}
	var healed time.Time
	for _, f := range faults.Latest {
		healed = latest(healed, f.HealedTime)
	}
	return faults.Active != "" || s.now.Sub(healed) < recent
}

// overduePod detects a pod that should have ended or become ready long ago, which Kubernetes does not report. It
// returns "" if the pod may need more time.
func (s *scope) overduePod(pod *corev1.Pod) string {
	const endPatience = 2 * time.Minute
	due, text := time.Time{}, ""
	switch node := pod.Spec.NodeName; {
	case pod.DeletionTimestamp != nil:
		end := pod.DeletionTimestamp // the end of the grace period
		due = end.Add(endPatience)
		text = fmt.Sprintf("pod %s should have ended at %s, but node %s has not confirmed this: check the node. If it is lost for good, "+
			"delete the node, or the pod with --force", pod.Name, end.UTC().Format(time.RFC3339), node)
	case pod.Status.Phase == corev1.PodRunning:
		due, text = s.readyDue(pod)
	}
	if text == "" {
		return ""
	}
	if left := due.Sub(s.now); left > 0 {
		s.wakeAfter(left)
		return ""
	}
	return text
}

// readyDue returns the time by which a running pod should be ready, and the message to report if the pod is late. The
// message is "" if there is nothing to report.
func (s *scope) readyDue(pod *corev1.Pod) (due time.Time, text string) {
	const patience = 5 * time.Minute
	for _, c := range pod.Status.Conditions {
		if c.Type != corev1.PodReady || c.Status != corev1.ConditionFalse {
			continue
		}
		explained, until := s.explainsUnready(componentOf(pod.Labels))
		if explained {
			s.wakeAfter(patience)
			return time.Time{}, ""
		}
		if due = c.LastTransitionTime.Add(patience); until.Add(patience).After(due) {
			due = until.Add(patience)
		}
		text = fmt.Sprintf("pod %s on node %s runs, but has not been ready since %s: see its log, its readiness probe and the node",
			pod.Name, pod.Spec.NodeName, c.LastTransitionTime.UTC().Format(time.RFC3339))
	}
	return due, text
}

// explainsUnready reports whether a current fault explains that pods are not ready. For generators and processors, an
// outage of RabbitMQ or Redis explains this, too. If neither does, until is when the latest fault or outage ended.
func (s *scope) explainsUnready(c resources.Component) (explained bool, until time.Time) {
	// Use the status of the previous reconcile, because a reconcile examines the servers only after the pods.
	status := &s.before.Status
	if status.Faults != nil {
		explained = status.Faults.Active != ""
		for _, f := range status.Faults.Latest {
			until = latest(until, f.HealedTime)
		}
	}
	if !slices.ContainsFunc(ownComponents(), func(own component) bool { return own.component == c }) {
		return explained, until
	}
	for _, kind := range []string{v1alpha1.ConditionBrokerReady, v1alpha1.ConditionStoreReady} {
		if server := meta.FindStatusCondition(status.Conditions, kind); server != nil {
			explained = explained || server.Status != metav1.ConditionTrue
			until = latest(until, &server.LastTransitionTime)
		}
	}
	return explained, until
}

// latest returns the later of two times. The second one may be nil.
func latest(a time.Time, b *metav1.Time) time.Time {
	if b == nil || b.Time.Before(a) {
		return a
	}
	return b.Time
}

// creationFailure returns why the pods of a StatefulSet cannot be created, for example because of a quota. Only events
// contain this reason.
func (r *Reconciler) creationFailure(ctx context.Context, s *scope, live client.Object) (string, error) {
	set, ok := live.(*appsv1.StatefulSet)
	if !ok {
		return "", nil
	}
	const retry, maxAge = 5 * time.Second, 20 * time.Minute
	s.wakeAfter(retry) // a Kubernetes event causes no reconcile, so look for new events after this time
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

// component is a generator or processor, with the singular and the plural of its name for messages.
type component struct {
	component        resources.Component
	singular, plural string
}

// ownComponents lists the components whose workloads the condition WorkloadsReady covers.
func ownComponents() []component {
	return []component{
		{resources.ComponentProcessor, "processor", "processors"},
		{resources.ComponentEntry, "entry generator", "entry generators"},
		{resources.ComponentExit, "exit generator", "exit generators"},
	}
}

// assessParts examines the servers, the summary API, the workloads and the monitoring objects. It looks only at
// Kubernetes objects, and does not connect to the servers.
func (r *Reconciler) assessParts(_ context.Context, s *scope) error {
	s.findings.suspended = s.sim.Spec.Suspend
	s.findings.complete = s.isComplete()
	s.findings.notes = append(s.findings.notes, s.warnings...)
	s.findings.broker = s.assessServer(s.broker, resources.ComponentRabbitMQ)
	s.findings.store = s.assessServer(s.store, resources.ComponentRedis)
	s.findings.summaryAPI = s.assessSummaryAPI()
	s.findings.monitoring = monitoringFinding(s.sim.Spec.Monitoring, s.served)
	s.findings.workloads = s.assessOwn()
	s.findings.running = s.running()
	return nil
}

// assessOwn returns the state of the generators and processors. A problem with the Secret of their certificate comes
// first.
func (s *scope) assessOwn() finding {
	if s.metrics.finding.state != unchecked {
		return s.metrics.finding
	}
	var all []finding
	for _, c := range ownComponents() {
		all = append(all, s.workloads[c.component].assess(c.plural))
	}
	return assessAll(all...)
}

// setScale sets the status fields of the scale subresource. It reads the Deployment itself, so that the fields are
// correct even if the reconcile ends early.
func (r *Reconciler) setScale(ctx context.Context, s *scope) {
	status, processors := &s.sim.Status, &appsv1.Deployment{}
	status.Selector = metav1.FormatLabelSelector(&metav1.LabelSelector{
		MatchLabels: resources.Selector(s.sim, resources.ComponentProcessor),
	})
	err := r.client.Get(ctx, client.ObjectKey{Namespace: s.key.Namespace, Name: resources.Name(s.sim, resources.ComponentProcessor)}, processors)
	switch {
	case err == nil && metav1.IsControlledBy(processors, s.sim):
		status.Replicas, status.ReadyReplicas = new(processors.Status.Replicas), new(processors.Status.ReadyReplicas)
	case err == nil, apierrors.IsNotFound(err): // the Deployment does not exist or, if err is nil, has another owner
		status.Replicas, status.ReadyReplicas = new(int32), new(int32)
	default:
		status.Replicas, status.ReadyReplicas = nil, nil
	}
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
		return "No generators or processors run: all of them have 0 replicas"
	}
	return "Running: " + strings.Join(parts, ", ")
}

// assessServer returns the state of RabbitMQ or Redis, based on the server's pods or on its Secret.
func (s *scope) assessServer(server server, c resources.Component) finding {
	switch {
	case server.finding.state != unchecked:
		return server.finding
	case server.managed:
		return s.workloads[c].assess(server.name)
	case s.isComplete(): // external servers are no longer observed, so their conditions must not change
		return finding{}
	}
	return server.pending()
}

// assessSummaryAPI returns the state of the summary API. A managed API is ready only while its database accepts writes.
func (s *scope) assessSummaryAPI() finding {
	url := s.sim.Spec.SummaryAPI.URL
	switch {
	case s.database.finding.state != unchecked:
		return s.database.finding
	case s.summaries.finding.state != unchecked:
		return s.summaries.finding
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
			"Created: %s. Not created: %s, because the CRDs of the Prometheus Operator are not installed; these objects are created once the CRDs exist",
			orElse(strings.Join(created, ", "), "none"), strings.Join(missing, ", "))
	case len(created) == 0:
		return found(ready, reasonDisabled, "spec.monitoring disables all monitoring objects")
	default:
		return found(ready, reasonCreated, "Created: %s", strings.Join(created, ", "))
	}
}
