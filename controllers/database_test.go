package controllers_test

import (
	"errors"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// withDatabase makes the summary API of a simulation use a PostgreSQL database. The given Secret contains the address
// and the credentials of the database.
func withDatabase(secret string, replicas int32) func(*v1alpha1.ParkingSimulationSpec) {
	return func(s *v1alpha1.ParkingSimulationSpec) {
		s.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{
			Replicas: new(replicas), Database: &v1alpha1.SummaryDatabase{SecretRef: v1alpha1.SecretReference{Name: secret}},
		}
	}
}

func TestReconcile_DatabaseSecretIsMissingAndLaterChanges_WaitsForItAndReplacesNoPod(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("stored", withDatabase("summaries-app", 2))
	expect := func(reason string, parts ...string) {
		t.Helper()
		got := c.Expect(sim, "SummaryAPIReady", metav1.ConditionFalse, reason).Message
		for _, part := range append(parts, "Secret "+c.Namespace+"/summaries-app") {
			if !strings.Contains(got, part) {
				t.Errorf("the message is %q, want it to contain %q", got, part)
			}
		}
		if strings.Contains(got, "hunter2") {
			t.Errorf("the message %q contains a password", got)
		}
	}
	expect("SecretNotFound", "the binding of PostgreSQL", "host, port, database, username and password (or only uri instead)")
	c.Exists(&policyv1.PodDisruptionBudget{}, "stored-summaries")
	c.awaitQuiet()
	if err := c.Absent(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "stored-summaries"}}); err != nil {
		t.Error(err)
	}

	secret, _ := c.Secret("summaries-app", map[string]string{"username": "app", "password": "hunter2"})
	expect("SecretInvalid", `key "uri" is missing`)
	c.Edit(secret, func() {
		secret.StringData = map[string]string{"host": "summaries-rw", "port": "5432", "dbname": "app", "jdbc-uri": "jdbc:postgresql://summaries-rw:5432/app?password=hunter2"}
	})
	c.Expect(sim, "SummaryAPIReady", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady("stored-summaries")
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	c.Expect(sim, "SummaryAPIReady", metav1.ConditionTrue, "Ready")
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")

	pod := c.Pod(sim, resources.ComponentSummaries, nil)
	before := c.annotated(pod, "")
	deployment := &appsv1.Deployment{}
	c.Exists(deployment, "stored-summaries")
	c.Edit(secret, func() { secret.StringData = map[string]string{"password": "hunter22"} })
	c.annotated(pod, before)
	after := &appsv1.Deployment{}
	c.Exists(after, "stored-summaries")
	if after.Generation != deployment.Generation {
		t.Errorf("the Deployment has generation %d, want %d: no pod may be replaced", after.Generation, deployment.Generation)
	}
}

func TestReconcile_DatabaseUnusable_ConditionShowsTheMessageOfAPod(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.Secret("summaries-app", map[string]string{"uri": "postgresql://app:hunter2@summaries-rw/app"})
	sim := c.Simulate("full", withDatabase("summaries-app", 2))
	c.Exists(&appsv1.Deployment{}, "full-summaries")
	c.servers.fail(errors.New("the disk of the database is full: free some space"))
	pod := c.Pod(sim, resources.ComponentSummaries, func(s *corev1.PodStatus) { s.PodIP, s.PodIPs = "10.0.0.7", []corev1.PodIP{{IP: "10.0.0.7"}} })
	c.MakeWorkloadsReady("full-summaries")
	failing := c.Expect(sim, "SummaryAPIReady", metav1.ConditionFalse, "PodsFailing")
	if want := "pod " + pod.Name + ": the disk of the database is full: free some space"; !strings.Contains(failing.Message, want) {
		t.Errorf("the message is %q, want it to contain %q", failing.Message, want)
	}
	c.servers.fail(nil)
	c.Expect(sim, "SummaryAPIReady", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	c.Expect(sim, "SummaryAPIReady", metav1.ConditionTrue, "Ready")
}

// With SQLite, the pod of the summary API mounts neither the plan nor a Secret, so the kubelet has nothing to refresh.
func TestSyncMounts_SummaryAPIWithSQLite_PodIsNotAnnotated(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("plain", nil)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	pod := c.Pod(sim, resources.ComponentSummaries, nil)
	c.annotated(c.Pod(sim, resources.ComponentEntry, nil), "")
	c.Exists(pod, pod.Name)
	if len(pod.Annotations) > 0 {
		t.Errorf("the pod of the summary API has the annotations %v, want none", pod.Annotations)
	}
	absent := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "plain-summaries"}}
	if err := c.Absent(absent); err != nil {
		t.Errorf("a summary API with SQLite has a disruption budget: %v", err)
	}
}
