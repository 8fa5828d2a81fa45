package controllers_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// child is an object of a simulation, and what somebody may do to it by hand.
type child struct {
	object client.Object
	name   string
	edit   func(client.Object)
	// spoilt reports whether the edit is still there.
	spoilt func(client.Object) bool
}

// childOf keeps the type of an object in its edit.
func childOf[O client.Object](object O, name string, edit func(O), spoilt func(O) bool) child {
	return child{
		object, name,
		func(o client.Object) { edit(o.(O)) },
		func(o client.Object) bool { return spoilt(o.(O)) },
	}
}

// children are one of each kind.
func children() []child {
	return []child{
		childOf(&networkingv1.NetworkPolicy{}, "sim-deny",
			func(o *networkingv1.NetworkPolicy) { o.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}} },
			func(o *networkingv1.NetworkPolicy) bool { return len(o.Spec.Ingress) > 0 }),
		childOf(&networkingv1.NetworkPolicy{}, "sim-redis",
			func(o *networkingv1.NetworkPolicy) { o.Spec.PodSelector.MatchLabels["only"] = "x" },
			func(o *networkingv1.NetworkPolicy) bool { return o.Spec.PodSelector.MatchLabels["only"] == "x" }),
		childOf(&corev1.ServiceAccount{}, "sim-pods",
			func(o *corev1.ServiceAccount) { o.AutomountServiceAccountToken = new(true) },
			func(o *corev1.ServiceAccount) bool { return *o.AutomountServiceAccountToken }),
		childOf(&networkingv1.NetworkPolicy{}, "sim-redis",
			func(o *networkingv1.NetworkPolicy) { o.Spec.Ingress[0].From = nil },
			func(o *networkingv1.NetworkPolicy) bool { return o.Spec.Ingress[0].From == nil }),
		childOf(&corev1.Secret{}, "sim-rabbitmq",
			func(o *corev1.Secret) { o.Data["host"] = []byte("elsewhere") },
			func(o *corev1.Secret) bool { return string(o.Data["host"]) == "elsewhere" }),
		childOf(&corev1.ConfigMap{}, "sim-redis",
			func(o *corev1.ConfigMap) { o.Data["redis.conf"] = "appendonly no" },
			func(o *corev1.ConfigMap) bool { return o.Data["redis.conf"] == "appendonly no" }),
		childOf(&corev1.Service{}, "sim-summaries",
			func(o *corev1.Service) { o.Spec.Selector = map[string]string{"app": "other"} },
			func(o *corev1.Service) bool { return o.Spec.Selector[resources.SimulationLabel] != "sim" }),
		childOf(&appsv1.StatefulSet{}, "sim-summaries",
			func(o *appsv1.StatefulSet) { o.Spec.Template.Spec.Containers[0].Image = "evil:latest" },
			func(o *appsv1.StatefulSet) bool { return o.Spec.Template.Spec.Containers[0].Image == "evil:latest" }),
		childOf(&appsv1.Deployment{}, "sim-processor",
			func(o *appsv1.Deployment) { *o.Spec.Replicas = 7 },
			func(o *appsv1.Deployment) bool { return *o.Spec.Replicas == 7 }),
		childOf(&policyv1.PodDisruptionBudget{}, "sim-processor",
			func(o *policyv1.PodDisruptionBudget) { o.Spec.MaxUnavailable = new(intstr.FromInt32(2)) },
			func(o *policyv1.PodDisruptionBudget) bool { return o.Spec.MaxUnavailable.IntValue() == 2 }),
	}
}

func TestEveryKindOfChildIsHealed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("sim", nil)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	for _, child := range children() {
		what := fmt.Sprintf("%T %s", child.object, child.name)
		c.Exists(child.object, child.name)
		c.Edit(child.object, func() { child.edit(child.object) })
		c.heals(child, what+" to be as it was before an edit", child.spoilt)

		// Without its label it is in no cache.
		c.Edit(child.object, func() {
			child.object.SetLabels(merge(nil, "app.kubernetes.io/name", "other"))
		})
		c.heals(child, what+" to have its labels again", func(o client.Object) bool {
			return o.GetLabels()[resources.SimulationLabel] != "sim"
		})

		uid := child.object.GetUID()
		c.Delete(child.object, child.name)
		c.heals(child, what+" to come back", func(o client.Object) bool { return o.GetUID() == uid })
	}
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.isCalm(1)
}

// heals waits until an object exists and is not spoilt.
func (c *cluster) heals(child child, what string, spoilt func(client.Object) bool) {
	c.T.Helper()
	c.Eventually(what, func() error {
		if err := c.Client.Get(c.T.Context(), client.ObjectKey{Namespace: c.Namespace, Name: child.name}, child.object); err != nil {
			return err
		}
		if spoilt(child.object) {
			return errors.New("it is not")
		}
		return nil
	})
}

func TestADeletedSecretComesBackAndRollsItsServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("rotated", nil)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	const configHash = resources.ConfigHashAnnotation
	for _, name := range []string{"rotated-rabbitmq", "rotated-redis"} {
		secret, set := &corev1.Secret{}, &appsv1.StatefulSet{}
		c.Exists(secret, name)
		c.Exists(set, name)
		password, before := string(secret.Data["password"]), set.Spec.Template.Annotations[configHash]
		c.Delete(secret, name)
		c.Eventually(name+" to come back with another password, and the server to be rolled", func() error {
			key := client.ObjectKey{Namespace: c.Namespace, Name: name}
			if err := errors.Join(c.Client.Get(t.Context(), key, secret), c.Client.Get(t.Context(), key, set)); err != nil {
				return err
			}
			if string(secret.Data["password"]) == password || set.Spec.Template.Annotations[configHash] == before {
				return errors.New("it is as before")
			}
			return nil
		})
		for key, value := range secret.Data {
			if strings.Contains(string(value), password) {
				t.Errorf("%s of Secret %s has the old password", key, name)
			}
		}
	}
}

func TestRunningPodsHearOfPlanAndPasswords(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	binding := map[string]string{"uri": "redis://:first@redis.example:6379"}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "store"}, StringData: binding}
	c.Create(secret)
	sim := c.Simulate("told", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Redis.SecretRef = &v1alpha1.SecretReference{Name: "store"}
	})
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.Settle()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	pod := c.Pod(sim, resources.ComponentEntry, nil)
	before := c.annotated(pod, "")
	deployment := &appsv1.Deployment{}
	c.Exists(deployment, "told-entry")

	c.Edit(sim, func() { sim.Spec.Entry.Rate = new(int32(77)) })
	edited := c.annotated(pod, before)
	if p := c.plan(sim); p.Entry.Rate != 77 {
		t.Errorf("the pod was told of a plan with rate %v, want 77", p.Entry.Rate)
	}
	c.Edit(secret, func() { secret.StringData = map[string]string{"uri": "redis://:second@redis.example:6379"} })
	c.annotated(pod, edited)

	after := &appsv1.Deployment{}
	c.Exists(after, "told-entry")
	if after.Generation != deployment.Generation {
		t.Errorf("the Deployment is of generation %d, want %d: no pod is to be replaced", after.Generation, deployment.Generation)
	}
}

// annotated waits until the hash of what a pod mounts differs from that of before.
func (c *cluster) annotated(pod *corev1.Pod, before string) string {
	c.T.Helper()
	var now string
	c.Eventually("the pod to be told", func() error {
		if err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		if now = pod.Annotations["simulation.parking.dev/mounts-hash"]; now == before {
			return fmt.Errorf("its annotations are %v", pod.Annotations)
		}
		return nil
	})
	return now
}
