package controllers_test

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// The owner of a Secret must permit its use, and can revoke the permission. A pod that waits for a missing Secret would
// mount the Secret before the operator could check this permission.
func TestReconcile_ReferencedSecrets_AreUsedOnlyWhileTheirOwnersConsent(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		refer     func(s *v1alpha1.ParkingSimulationSpec, ref *v1alpha1.SecretReference)
		values    map[string]string
		condition string
	}{
		"rabbitmq": {
			func(s *v1alpha1.ParkingSimulationSpec, ref *v1alpha1.SecretReference) { s.RabbitMQ.SecretRef = ref },
			map[string]string{"uri": "amqp://u:p@broker.example"}, "BrokerReady",
		},
		"redis": {
			func(s *v1alpha1.ParkingSimulationSpec, ref *v1alpha1.SecretReference) { s.Redis.SecretRef = ref },
			map[string]string{"uri": "redis://:p@store.example:6379"}, "StoreReady",
		},
		"database": {
			func(s *v1alpha1.ParkingSimulationSpec, ref *v1alpha1.SecretReference) {
				s.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{Replicas: new(int32(2)), Database: &v1alpha1.SummaryDatabase{SecretRef: *ref}}
			},
			map[string]string{"uri": "postgresql://u:p@summaries.example/parking"}, "SummaryAPIReady",
		},
		"summary": {
			func(s *v1alpha1.ParkingSimulationSpec, ref *v1alpha1.SecretReference) {
				s.SummaryAPI = v1alpha1.SummaryAPISpec{URL: "https://visits.example", SecretRef: ref}
			},
			map[string]string{"token": "t"}, "SummaryAPIReady",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "shared"}, StringData: tt.values}
			secret.Annotations = map[string]string{v1alpha1.AllowedSimulationsAnnotation: "other"}
			sim := c.Simulate(name, func(s *v1alpha1.ParkingSimulationSpec) { tt.refer(s, &v1alpha1.SecretReference{Name: "shared"}) })
			c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretNotFound")
			c.Eventually("no processor to run", func() error { return c.hasReplicas(name+"-processor", 0) })
			if name == "database" {
				c.awaitQuiet()
				if err := c.Absent(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "database-summaries"}}); err != nil {
					t.Error(err)
				}
			}
			c.Create(secret)
			denied := c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretNotAllowed")
			want := fmt.Sprintf("kubectl annotate secret shared --namespace %s simulation.parking.dev/allowed-simulations=other,%s --overwrite", c.Namespace, name)
			if !strings.Contains(denied.Message, want) {
				t.Errorf("the message is %q, want the command %q", denied.Message, want)
			}
			c.Eventually("no processor to run", func() error { return c.hasReplicas(name+"-processor", 0) })

			allow := func(names string) {
				c.Edit(secret, func() { secret.Annotations = map[string]string{v1alpha1.AllowedSimulationsAnnotation: names} })
			}
			allow("other, " + name)
			c.Eventually("the processors to run", func() error { return c.hasReplicas(name+"-processor", 2) })
			c.MakeWorkloadsReady()
			c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")

			allow("other")
			c.Expect(sim, tt.condition, metav1.ConditionFalse, "SecretNotAllowed")
			for _, workload := range []string{"-processor", "-entry", "-exit"} {
				c.Eventually(workload+" to stop", func() error { return c.hasReplicas(name+workload, 0) })
			}
			if name == "database" {
				c.Eventually("the summary API to stop", func() error { return c.hasReplicas("database-summaries", 0) })
			}
			c.Delete(sim, name)
			c.Gone(sim)
			if gone := c.servers.gone(); len(gone) > 0 {
				t.Errorf("removed are %q, with a Secret that does not allow it", gone)
			}
		})
	}
}

// Pods and operator keep using a binding after its Secret is deleted, because a user may be replacing the Secret.
func TestReconcile_SecretDeletedWhileRunning_StatusIsStillUpdated(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	secret, ref := c.Secret("store", map[string]string{"uri": "redis://:p@store.example:6379"})
	sim := c.Simulate("deleted", func(s *v1alpha1.ParkingSimulationSpec) { s.Redis.SecretRef = ref })
	c.Exists(&appsv1.Deployment{}, "deleted-processor")
	c.MakeWorkloadsReady()
	settled(c, sim, "deleted", func(s *v1alpha1.ParkingSimulation) bool { return s.Status.StartTime != nil })
	c.Expect(sim, "LedgerReadable", metav1.ConditionTrue, "Read")
	c.Delete(secret, "store")
	c.Expect(sim, "StoreReady", metav1.ConditionFalse, "SecretNotFound")
	c.awaitQuiet()
	c.Expect(sim, "LedgerReadable", metav1.ConditionTrue, "Read")
	c.Expect(sim, "StoreReady", metav1.ConditionFalse, "SecretNotFound")
	if err := c.hasReplicas("deleted-processor", 2); err != nil {
		t.Error(err)
	}
}

// The generators of a suspended simulation publish events until they have ended. Until then, the simulation must not be
// ready.
func TestReconcile_Suspended_IsReadyWhenTheGeneratorsHaveEnded(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("paused", nil)
	c.Exists(&appsv1.Deployment{}, "paused-processor")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	pod := c.Pod(sim, resources.ComponentEntry, nil)
	c.Edit(sim, func() { sim.Spec.Suspend = true })
	stopping := c.Expect(sim, "WorkloadsReady", metav1.ConditionFalse, "Progressing")
	if !strings.Contains(stopping.Message, "entry generators: 0 pods are desired, 1 has not ended yet") {
		t.Errorf("the message is %q", stopping.Message)
	}
	if err := c.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Suspended")
}
