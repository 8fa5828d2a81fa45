package controllers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// secretReferences returns one function for each field of the spec that refers to a Secret. The function sets the field
// to the Secret with the given name.
func secretReferences() map[string]func(s *v1alpha1.ParkingSimulationSpec, name string) {
	ref := func(name string) *v1alpha1.SecretReference { return &v1alpha1.SecretReference{Name: name} }
	tls := func(name string) *v1alpha1.TLSSpec { return &v1alpha1.TLSSpec{SecretName: name} }
	return map[string]func(s *v1alpha1.ParkingSimulationSpec, name string){
		"rabbitmq": func(s *v1alpha1.ParkingSimulationSpec, name string) { s.RabbitMQ.SecretRef = ref(name) },
		"redis":    func(s *v1alpha1.ParkingSimulationSpec, name string) { s.Redis.SecretRef = ref(name) },
		"database": func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{Database: &v1alpha1.SummaryDatabase{SecretRef: *ref(name)}}
		},
		"summary": func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.SummaryAPI = v1alpha1.SummaryAPISpec{URL: "https://visits.example", SecretRef: ref(name)}
		},
		"rabbitmq-tls": func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{TLS: tls(name)}
		},
		"redis-tls": func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.Redis.Managed = &v1alpha1.ManagedRedis{TLS: tls(name)}
		},
		"summaries-tls": func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{TLS: tls(name)}
		},
		"monitoring-tls": func(s *v1alpha1.ParkingSimulationSpec, name string) { s.Monitoring.TLS = tls(name) },
	}
}

// A pod that waits for a missing Secret would mount the Secret as soon as it exists, before the operator could check
// whether the owner of the Secret permits this.
func TestReconcile_RunningSimulationRefersToMissingSecret_NoPodWaitsForIt(t *testing.T) {
	t.Parallel()
	for name, refer := range secretReferences() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			binding := map[string]string{"host": "server.example", "port": "1", "username": "u", "password": "p"}
			if name == "database" {
				binding["database"] = "parking"
			}
			c.Secret("permitted", binding)
			sim := c.Simulate("sim", func(s *v1alpha1.ParkingSimulationSpec) {
				// An edit cannot replace a managed server by an external one, or a volume by a database. So these
				// simulations start with another Secret.
				if name == "rabbitmq" || name == "redis" || name == "database" {
					refer(s, "permitted")
				}
			})
			c.Eventually("the processors to run", func() error { return c.hasReplicas("sim-processor", 2) })
			c.MakeWorkloadsReady()
			settled(c, sim, "sim", func(s *v1alpha1.ParkingSimulation) bool { return s.Status.StartTime != nil })
			noneRefers := func(state string) {
				c.awaitQuiet()
				if users, err := c.referrers("foreign"); err != nil || len(users) > 0 {
					t.Errorf("%s: the pods of %v refer to the Secret (error: %v)", state, users, err)
				}
			}

			c.Edit(sim, func() { refer(&sim.Spec, "foreign") })
			c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretNotFound")
			noneRefers("the Secret does not exist")
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "foreign"}}
			c.Create(secret)
			c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretNotAllowed")
			noneRefers("the Secret does not permit the simulation")
			c.Delete(secret, "foreign")
			c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretNotFound")
			noneRefers("the Secret does not exist any more")

			// This Secret permits all simulations to use it. Its URI can be invalid, because the test only checks that
			// pods refer to the Secret.
			c.Secret("foreign", map[string]string{"uri": "invalid"})
			c.Eventually("the pods to use the Secret", func() error {
				users, err := c.referrers("foreign")
				if err == nil && len(users) == 0 {
					return fmt.Errorf("no pod refers to it")
				}
				return err
			})
		})
	}
}

// While a Secret is missing, edits wait, except scaling to zero.
func TestReconcile_EditWhileSecretIsMissing_OnlyScalingToZeroTakesEffect(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	binding := map[string]string{"uri": "amqp://u:p@broker.example:5672"}
	secret, ref := c.Secret("broker", binding)
	const before, after = "redis:8.0", "redis:8.2"
	sim := c.Simulate("sim", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.SecretRef = ref
		s.Redis.Managed = &v1alpha1.ManagedRedis{Image: before}
	})
	c.Eventually("the processors to run", func() error { return c.hasReplicas("sim-processor", 2) })
	c.MakeWorkloadsReady()
	settled(c, sim, "sim", func(s *v1alpha1.ParkingSimulation) bool { return s.Status.StartTime != nil })
	c.Eventually("the generators to run", func() error { return c.hasReplicas("sim-entry", 1) })
	hasImage := func(image string) error {
		set := &appsv1.StatefulSet{}
		c.Exists(set, "sim-redis")
		if !slices.ContainsFunc(set.Spec.Template.Spec.Containers, func(c corev1.Container) bool { return c.Image == image }) {
			return fmt.Errorf("Redis has no container with the image %s", image)
		}
		return nil
	}

	c.Delete(secret, "broker")
	missing := c.Expect(sim, "BrokerReady", metav1.ConditionFalse, "SecretNotFound")
	if want := "edits that replace, add or remove pods wait"; !strings.Contains(missing.Message, want) {
		t.Errorf("the message is %q, want %q", missing.Message, want)
	}
	c.Edit(sim, func() {
		sim.Spec.Processor.Replicas = new(int32(1))
		sim.Spec.Entry.Replicas = new(int32(0))
		sim.Spec.Redis.Managed.Image = after
	})
	c.Eventually("the entry generator to stop", func() error { return c.hasReplicas("sim-entry", 0) })
	c.awaitQuiet()
	c.Exists(&policyv1.PodDisruptionBudget{}, "sim-processor")
	for _, err := range []error{c.hasReplicas("sim-processor", 2), c.hasReplicas("sim-exit", 1), hasImage(before)} {
		if err != nil {
			t.Error(err)
		}
	}
	c.Secret("broker", binding)
	c.Eventually("fewer processors to run", func() error { return c.hasReplicas("sim-processor", 1) })
	c.Eventually("Redis to change", func() error { return hasImage(after) })
}

// Without the RabbitmqCluster, the operator creates no Secret with the binding. If someone else creates a Secret of
// that name, no pod may mount it.
func TestReconcile_ClusterRefWithoutBinding_NoPodMountsASecretOfAnotherOwner(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.Create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "sim-rabbitmq"}})
	c.Simulate("sim", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.ClusterRef = &v1alpha1.ClusterReference{Name: "nowhere"}
	})
	c.Eventually("the processors", func() error { return c.hasReplicas("sim-processor", 0) })
	c.awaitQuiet()
	if users, err := c.referrers("sim-rabbitmq"); err != nil || len(users) > 0 {
		t.Errorf("the pods of %v mount the Secret (error: %v)", users, err)
	}
}
