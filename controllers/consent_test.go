package controllers_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// The owner of a Secret must permit each simulation to use it. The owner can revoke this permission while the
// simulation runs.
func TestReconcile_ReferencedSecrets_AreUsedOnlyWhilePermitted(t *testing.T) {
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
			c.Create(secret)
			sim := c.Simulate(name, func(s *v1alpha1.ParkingSimulationSpec) { tt.refer(s, &v1alpha1.SecretReference{Name: "shared"}) })
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
			c.Delete(sim, name)
			c.Gone(sim)
			if gone := c.servers.gone(); len(gone) > 0 {
				t.Errorf("removed are %q, with a Secret that does not allow it", gone)
			}
		})
	}
}
