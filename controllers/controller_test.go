package controllers_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

func TestReconcile_NewSimulation_StartsAndThenWritesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("rush-hour", nil)
	for _, name := range []string{"rush-hour-entry", "rush-hour-exit", "rush-hour-processor"} {
		c.Exists(&appsv1.Deployment{}, name)
	}
	for _, name := range []string{"rush-hour-rabbitmq", "rush-hour-redis", "rush-hour-summaries"} {
		c.Exists(&appsv1.StatefulSet{}, name)
	}
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.Expect(sim, "Reconciling", metav1.ConditionTrue, "Progressing")
	if p := c.plan(sim); !p.Suspended || !p.StartTime.IsZero() {
		t.Errorf("before everything is ready the plan is %+v, want it suspended and without a start time", p)
	}
	if sim.Status.StartTime != nil {
		t.Errorf("the start time is %v before anything is ready", sim.Status.StartTime)
	}

	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.Expect(sim, "LedgerReadable", metav1.ConditionTrue, "Read")
	c.Eventually("the plan to have the start", func() error {
		if p := c.plan(sim); p.Suspended || !p.StartTime.Equal(sim.Status.StartTime.Time) {
			return fmt.Errorf("the plan is %+v", p)
		}
		return nil
	})
	if *sim.Status.Replicas != 2 || !strings.Contains(sim.Status.Selector, "rush-hour") {
		t.Errorf("the scale status is %d of %q, want 2 processors", *sim.Status.Replicas, sim.Status.Selector)
	}

	// Each edit of an annotation causes a reconcile that must write nothing. On a busy machine, the operator may still
	// be creating objects during the first round of edits, so only writes in a second round fail the test.
	c.awaitQuiet()
	const times = 10
	touch := func(round string) (writes []string) {
		for i := range times {
			before := c.reconciles.calls.Load()
			o := c.object(&corev1.ConfigMap{}, "rush-hour-plan")
			c.Edit(o, func() { o.SetAnnotations(merge(o.GetAnnotations(), "touched", fmt.Sprint(round, i))) })
			c.Eventually("a reconcile", func() error {
				if c.reconciles.calls.Load() == before {
					return errors.New("there was none")
				}
				return nil
			})
		}
		return c.awaitQuiet()
	}
	if first := touch("first"); len(first) > 0 {
		if second := touch("second"); len(second) > 0 {
			t.Errorf("%d reconciles of an unchanged simulation wrote %q, and again %q", times, first, second)
		}
	}
}

func TestReconcile_RestartedOperator_WritesNothing(t *testing.T) {
	t.Parallel()
	c := newClusterWithoutOperator(t)
	stop := c.startOperator()
	sim := c.Simulate("steady", nil)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.Expect(sim, "LedgerReadable", metav1.ConditionTrue, "Read")
	c.awaitQuiet()
	stop()
	c.writes.drain()
	c.startOperator()
	// Delete an object and wait until the operator restores it. Otherwise, awaitQuiet could return before the restarted
	// operator begins its first reconcile.
	c.Delete(&corev1.ConfigMap{}, "steady-plan")
	c.Exists(&corev1.ConfigMap{}, "steady-plan")
	for _, write := range c.awaitQuiet() {
		if !strings.Contains(write, "configmaps/steady-plan") && !strings.HasSuffix(write, "/status") {
			t.Errorf("the operator wrote %s", write)
		}
	}
}

func TestReconcile_ObjectOfAnotherOwner_IsNotChanged(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	mine := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "taken-redis"}, StringData: map[string]string{"mine": "1"}}
	c.Create(mine)
	sim := c.Simulate("taken", nil)
	stalled := c.Expect(sim, "Stalled", metav1.ConditionTrue, "NameTaken")
	if !strings.Contains(stalled.Message, "taken-redis") {
		t.Errorf("the message is %q, want the Secret named", stalled.Message)
	}
	c.Delete(mine, "taken-redis")
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
}

func TestReconcile_MissingSecret_StallsUntilItExists(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("external", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.SecretRef = &v1alpha1.SecretReference{Name: "broker"}
	})
	stalled := c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretNotFound")
	if !strings.Contains(stalled.Message, c.Namespace+"/broker") || !strings.Contains(stalled.Message, "create it") {
		t.Errorf("the message is %q, want the Secret and the remedy", stalled.Message)
	}
	secret, _ := c.Secret("broker", map[string]string{"password": "geheim"})
	invalid := c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretInvalid")
	if !strings.Contains(invalid.Message, `"uri"`) || strings.Contains(invalid.Message, "geheim") {
		t.Errorf("the message is %q, want the missing key and no value", invalid.Message)
	}
	c.servers.fail(errors.New("connection refused"))
	c.Edit(secret, func() { secret.StringData = map[string]string{"host": "broker.example", "username": "u"} })
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Connecting")
	c.MakeWorkloadsReady()
	unreachable := c.Expect(sim, "BrokerReady", metav1.ConditionFalse, "Unreachable")
	if !strings.Contains(unreachable.Message, "connection refused") {
		t.Errorf("the message is %q, want the cause", unreachable.Message)
	}
	c.servers.fail(nil)
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")

	if err := c.Client.Delete(t.Context(), sim); err != nil {
		t.Fatal(err)
	}
	c.Gone(sim)
	if want := "queues of " + manifest.ID(sim) + " on amqp://broker.example"; !slices.Contains(c.servers.gone(), want) {
		t.Errorf("removed are %q, want %s", c.servers.gone(), want)
	}
	if slices.ContainsFunc(c.servers.gone(), func(gone string) bool { return !strings.HasPrefix(gone, "queues of ") }) {
		t.Errorf("removed are %q, want only queues: Redis is managed", c.servers.gone())
	}
}

// A restarted operator that never read the deleted Secrets does not know the credentials, and cannot remove the queues
// and keys.
func TestFinalize_UnknownBindings_EventSaysHowToCleanUp(t *testing.T) {
	t.Parallel()
	c := newClusterWithoutOperator(t)
	stop := c.startOperator()
	broker, brokerRef := c.Secret("broker", map[string]string{"uri": "amqp://u:p@far.example"})
	redis, storeRef := c.Secret("store", map[string]string{"uri": "redis://u:p@far.example"})
	sim := c.Simulate("forgotten", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.SecretRef, s.Redis.SecretRef = brokerRef, storeRef
	})
	c.Exists(&appsv1.Deployment{}, "forgotten-processor")
	stop()
	c.Delete(broker, broker.Name)
	c.Delete(redis, redis.Name)
	c.Delete(sim, sim.Name)
	c.startOperator()
	c.Gone(sim)
	note := c.AwaitEvent(sim, "CleanupAbandoned", "'parking purge --simulation "+manifest.ID(sim)+" --rabbitmq-uri URI --redis-uri URI'")
	for _, want := range []string{
		"exchange and queues parking." + manifest.ID(sim) + "* on RabbitMQ (Secret " + c.Namespace + "/broker)",
		"keys parking:{" + manifest.ID(sim) + ":* on Redis (Secret " + c.Namespace + "/store)", "the Secret no longer exists",
	} {
		if !strings.Contains(note, want) {
			t.Errorf("the event is %q, want %q", note, want)
		}
	}
}

func TestFinalize_RetainPolicy_KeepsQueues(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("retained", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.SecretRef = &v1alpha1.SecretReference{Name: "broker"}
		s.DeletionPolicy = v1alpha1.DeletionPolicyRetain
	})
	c.Secret("broker", map[string]string{"uri": "amqp://u:p@far.example"})
	c.Exists(&appsv1.Deployment{}, "retained-processor")
	c.Delete(sim, sim.Name)
	c.Gone(sim)
	if gone := c.servers.gone(); len(gone) > 0 {
		t.Errorf("removed are %q, want nothing", gone)
	}
}

func TestFinalize_ProcessorPodHasNotEnded_SimulationIsNotDeletedYet(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("deleted", nil)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	pod := c.Pod(sim, resources.ComponentProcessor, nil)
	deployment := &appsv1.Deployment{}
	c.Exists(deployment, "deleted-processor")
	c.Delete(sim, sim.Name)
	c.Eventually("the processors to be deleted", func() error {
		err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(deployment), deployment)
		if err == nil && deployment.DeletionTimestamp == nil {
			return errors.New("they still exist")
		}
		return client.IgnoreNotFound(err)
	})
	if err := c.Absent(sim); err == nil {
		t.Error("the simulation was deleted before its processors")
	}
	if err := c.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	c.Gone(sim)
}

func TestReconcile_Suspend_StopsAndResumesGenerators(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("paused", nil)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	started := sim.Status.StartTime
	c.Edit(sim, func() { sim.Spec.Suspend = true })
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Suspended")
	c.Eventually("scale-down of the generators", func() error { return c.hasReplicas("paused-entry", 0) })
	c.Edit(sim, func() { sim.Spec.Suspend = false })
	c.Eventually("the generators to come back", func() error { return c.hasReplicas("paused-entry", 1) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	if !sim.Status.StartTime.Equal(started) {
		t.Errorf("the start time was %v and is %v", started, sim.Status.StartTime)
	}
}

func TestReconcile_DurationEnds_CompletesTheSimulation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("short", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration = v1alpha1.NewDuration(time.Second)
		// With rates above 0, the verdict would be FAIL, because the fake servers contain no events.
		s.Entry.Rate, s.Exit.Rate = new(int32(0)), new(int32(0))
	})
	c.Expect(sim, "Complete", metav1.ConditionFalse, "NotStarted")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionFalse, "StoppingGenerators")
	c.Eventually("scale-down of the generators", func() error { return c.hasReplicas("short-exit", 0) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	c.Expect(sim, "ObjectivesMet", metav1.ConditionTrue, "Met")
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Complete")
	if sim.Status.Verdict != v1alpha1.VerdictPass || sim.Status.CompletionTime == nil || sim.Status.Ledger == nil || sim.Status.Ledger.Lost == nil {
		t.Errorf("the status is %+v, want PASS with a final ledger", sim.Status)
	}
	c.AwaitEvent(sim, "Complete", "The verdict is PASS")
	list := &corev1.EventList{}
	if err := c.Client.List(t.Context(), list, client.InNamespace(c.Namespace)); err != nil {
		t.Fatal(err)
	}
	var recorded []string
	for i := range list.Items {
		if e := &list.Items[i]; e.InvolvedObject.Name == sim.Name {
			recorded = append(recorded, e.Reason)
			if e.Series != nil {
				t.Errorf("event %s was recorded more than once", e.Reason)
			}
		}
	}
	slices.Sort(recorded)
	if diff := cmp.Diff([]string{"Complete", "Running", "Started"}, recorded); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestReconcile_SimulationCompletes_WritesAReportAndKeepsIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("done", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration = v1alpha1.NewDuration(time.Second)
		s.Processor.Template = &v1alpha1.PodTemplate{Spec: rawExtension(`{"containers":[{"name":"parking","env":[{"name":"TOKEN","value":"hush"}]}]}`)}
	})
	c.Exists(&appsv1.Deployment{}, "done-processor") // the operator creates this object last
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionFalse, "StoppingGenerators")
	c.Eventually("scale-down of the generators", func() error { return c.hasReplicas("done-exit", 0) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	if sim.Status.Report != "done-report" {
		t.Fatalf("the status names the report %q, want done-report", sim.Status.Report)
	}
	config := &corev1.ConfigMap{}
	c.Exists(config, sim.Status.Report)
	if !metav1.IsControlledBy(config, sim) {
		t.Errorf("the owners of the report are %+v, want the simulation", config.OwnerReferences)
	}
	text := config.Data[resources.ReportKey]
	d, err := report.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if string(d.Outcome) != string(sim.Status.Verdict) || d.StartTime.IsZero() || d.ElapsedSeconds != 1 || d.Ledger == nil || len(d.Checks) == 0 {
		t.Errorf("the run in the report is %+v", d.Run)
	}
	if e := d.Environment; e.RabbitMQ != "RabbitMQ 4.1.2" || e.Redis != "in memory" || e.Kubernetes == "" {
		t.Errorf("the environment is %+v", e)
	}
	if !strings.Contains(text, "TOKEN") || strings.Contains(text, "hush") {
		t.Errorf("the report holds the value of an environment variable, or no manifest:\n%s", text)
	}
	// After an edit of the spec, the next reconcile deletes objects that are no longer desired. It must keep the
	// report.
	c.Edit(sim, func() { sim.Spec.Duration = v1alpha1.NewDuration(time.Hour) })
	c.AwaitEvent(sim, "EditIgnored", "has no effect")
	c.Exists(&corev1.ConfigMap{}, sim.Status.Report)
}

func TestReconcile_ReportNameTaken_CompletesWithoutAReport(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.Create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "used-report", Namespace: c.Namespace}})
	sim := c.Simulate("used", func(s *v1alpha1.ParkingSimulationSpec) { s.Duration = v1alpha1.NewDuration(time.Second) })
	c.Exists(&appsv1.Deployment{}, "used-processor") // the operator creates this object last
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionFalse, "StoppingGenerators")
	c.Eventually("scale-down of the generators", func() error { return c.hasReplicas("used-exit", 0) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	if sim.Status.Report != "" || sim.Status.Verdict == "" {
		t.Errorf("the verdict is %q with report %q, want a verdict without a report", sim.Status.Verdict, sim.Status.Report)
	}
	c.AwaitEvent(sim, "ReportNotWritten", "used-report")
}

func TestReconcile_RabbitMQClusterForming_StartsNoClients(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("nodes", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Replicas: new(int32(3))}
	})
	c.Exists(&appsv1.Deployment{}, "nodes-processor") // the operator creates this object last
	c.MakeWorkloadsReady("nodes-rabbitmq")
	c.Expect(sim, "StoreReady", metav1.ConditionTrue, "Ready")
	c.Expect(sim, "BrokerReady", metav1.ConditionFalse, "Progressing")
	for _, name := range []string{"nodes-entry", "nodes-exit", "nodes-processor"} {
		if err := c.hasReplicas(name, 0); err != nil {
			t.Error(err)
		}
	}
	c.MakeWorkloadsReady()
	c.Eventually("the processors to be desired", func() error { return c.hasReplicas("nodes-processor", 2) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	if err := c.hasReplicas("nodes-entry", 1); err != nil {
		t.Error(err)
	}
}

func TestReconcile_EmptyQueues_CompletesTheSimulation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.servers.queue(5)
	sim := c.Simulate("draining", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration = v1alpha1.NewDuration(time.Second)
		s.Processor.Replicas = new(int32(0))
		s.SummaryAPI.URL = "https://visits.example"
		s.Exit.Rate, s.Exit.MatchPercent = new(int32(900)), new(int32(90))
		s.Monitoring = v1alpha1.MonitoringSpec{
			ServiceMonitors: v1alpha1.MonitoringDisabled, Rules: v1alpha1.MonitoringDisabled, Dashboards: v1alpha1.MonitoringDisabled,
		}
	})
	c.Expect(sim, "SummaryAPIReady", metav1.ConditionTrue, "External")
	c.Expect(sim, "MonitoringReady", metav1.ConditionTrue, "Disabled")
	c.MakeWorkloadsReady()
	ready := c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	if !strings.Contains(ready.Message, "raise entry.rate, or lower exit.rate or exit.matchPercent") {
		t.Errorf("the message is %q, want the warning that more vehicles leave than enter", ready.Message)
	}
	c.Eventually("scale-down of the generators", func() error { return c.hasReplicas("draining-exit", 0) })
	c.MakeWorkloadsReady()
	draining := c.Expect(sim, "Complete", metav1.ConditionFalse, "Draining")
	if !strings.Contains(draining.Message, "spec.processor.replicas is 0") {
		t.Errorf("the message is %q, want the reason why the queues are not emptied", draining.Message)
	}
	c.servers.queue(0)
	c.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
}

func TestReconcile_DeadLetters_AreReportedWhileRunning(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("dead", nil)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	c.Expect(sim, "ObjectivesMet", metav1.ConditionUnknown, "NotComplete")
	c.servers.deadLetter(broker.ReasonCount{Reason: broker.Reason{Stage: "parse", Detail: "no JSON"}, Count: 3})
	unmet := c.Expect(sim, "ObjectivesMet", metav1.ConditionFalse, "NotMet")
	const want = "3 events were dead-lettered: 3 × parse: no JSON"
	if !strings.Contains(unmet.Message, want) || sim.Status.Ledger.DeadLettered != 3 {
		t.Errorf("the message is %q with %d dead letters, want %q", unmet.Message, sim.Status.Ledger.DeadLettered, want)
	}
	c.AwaitEvent(sim, "ObjectivesNotMet", want)
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.Eventually("a mark in the timeline", func() error {
		if m := c.servers.marks(); len(m) != 1 || m[0].Kind != timeline.MarkObjective || m[0].Subject != ledger.CheckDeadLetters || m[0].Message != want {
			return fmt.Errorf("the marks are %+v", m)
		}
		return nil
	})
}

func (c *cluster) plan(sim *v1alpha1.ParkingSimulation) *plan.Plan {
	c.T.Helper()
	config := &corev1.ConfigMap{}
	c.Exists(config, resources.PlanName(sim))
	p, err := plan.Parse([]byte(config.Data[resources.PlanKey]))
	if err != nil {
		c.T.Fatal(err)
	}
	return p
}

func (c *cluster) hasReplicas(name string, want int32) error {
	d := &appsv1.Deployment{}
	if err := c.Client.Get(c.T.Context(), client.ObjectKey{Namespace: c.Namespace, Name: name}, d); err != nil {
		return err
	}
	if *d.Spec.Replicas != want {
		return fmt.Errorf("%s has %d replicas", name, *d.Spec.Replicas)
	}
	return nil
}

func (c *cluster) object(o client.Object, name string) client.Object {
	c.T.Helper()
	c.Exists(o, name)
	return o
}

// awaitQuiet waits until the operator has written nothing for 2 s. It returns the writes of the operator during the
// wait.
func (c *cluster) awaitQuiet() []string {
	c.T.Helper()
	const quiet = 2 * time.Second
	var all []string
	last := time.Now()
	c.Eventually("the operator to be quiet", func() error {
		if writes := c.writes.drain(); len(writes) > 0 {
			all = append(all, writes...)
			last = time.Now()
		}
		if time.Since(last) < quiet {
			return fmt.Errorf("it wrote %q", all)
		}
		return nil
	})
	return all
}

func merge(m map[string]string, key, value string) map[string]string {
	merged := map[string]string{key: value}
	for k, v := range m {
		if k != key {
			merged[k] = v
		}
	}
	return merged
}

func TestReconcile_DrainTimeout_VerdictCountsUnprocessedEvents(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.servers.queue(5)
	sim := c.Simulate("stuck", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Duration, s.DrainTimeout = v1alpha1.NewDuration(time.Second), v1alpha1.NewDuration(2*time.Second)
	})
	c.Exists(&appsv1.Deployment{}, "stuck-processor")
	c.MakeWorkloadsReady()
	c.Eventually("scale-down of the generators", func() error { return c.hasReplicas("stuck-exit", 0) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	reasons := strings.Join(sim.Status.Reasons, "; ")
	if sim.Status.Verdict != v1alpha1.VerdictFail || !strings.Contains(reasons, "5 messages wait in queues") ||
		!strings.Contains(reasons, "did not come to rest within the drain timeout of 2s") {
		t.Errorf("the verdict is %s: %s", sim.Status.Verdict, reasons)
	}
	if sim.Status.Ledger.Lost != nil {
		t.Error("the status says how many events were lost, although some are on their way")
	}
}

func TestReconcile_AbortOnFailure_EndsTheSimulation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("aborted", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Objectives.AbortOnFailure = true // without spec.duration, nothing else ends the simulation
	})
	c.Exists(&appsv1.Deployment{}, "aborted-processor")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.servers.deadLetter(broker.ReasonCount{Reason: broker.Reason{Stage: "parse", Detail: "no JSON"}, Count: 3})
	c.Eventually("scale-down of the generators", func() error { return c.hasReplicas("aborted-exit", 0) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	reasons := strings.Join(sim.Status.Reasons, "; ")
	if sim.Status.Verdict != v1alpha1.VerdictFail || !strings.Contains(reasons, "the run was ended early, because the verdict could only be FAIL: 3 events were dead-lettered") {
		t.Errorf("the verdict is %s: %s", sim.Status.Verdict, reasons)
	}
	if sim.Status.AbortTime == nil || sim.Status.EndTime == nil || !sim.Status.EndTime.Equal(sim.Status.AbortTime) {
		t.Errorf("aborted at %v, ended at %v", sim.Status.AbortTime, sim.Status.EndTime)
	}
	if c.plan(sim).Duration == 0 {
		t.Error("the plan of the generators has no end")
	}
}
