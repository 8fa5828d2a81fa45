package controllers_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// withAgents adds a fault to a simulation, so that the operator also creates the objects that agents need.
func withAgents(s *v1alpha1.ParkingSimulationSpec) {
	s.Faults = []v1alpha1.Fault{{Name: "kill", Target: "Processor", Action: "Kill", At: new(v1alpha1.Duration("1h"))}}
}

// ownedKinds lists the kinds of objects that simulations own, without the optional kinds.
func ownedKinds() []schema.GroupVersionKind {
	kinds := []schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "Deployment"}, {Group: "apps", Version: "v1", Kind: "StatefulSet"},
		{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"}, {Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
	}
	for _, kind := range []string{"ServiceAccount", "Secret", "ConfigMap", "Service"} {
		kinds = append(kinds, schema.GroupVersionKind{Version: "v1", Kind: kind})
	}
	return kinds
}

func (c *cluster) objectsOf(sim *v1alpha1.ParkingSimulation) []unstructured.Unstructured {
	c.T.Helper()
	var owned []unstructured.Unstructured
	for _, kind := range ownedKinds() {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := c.Client.List(c.T.Context(), list, client.InNamespace(c.Namespace)); err != nil {
			c.T.Fatal(err)
		}
		for _, o := range list.Items {
			if metav1.IsControlledBy(&o, sim) {
				owned = append(owned, o)
			}
		}
	}
	return owned
}

// foreignCopy returns a copy of an object. The copy has the given name and belongs to no simulation.
func foreignCopy(o *unstructured.Unstructured, name string) *unstructured.Unstructured {
	foreign := o.DeepCopy()
	metadata := map[string]any{"name": name, "namespace": o.GetNamespace()}
	foreign.Object["metadata"] = metadata
	delete(foreign.Object, "status")
	if _, isWorkload, _ := unstructured.NestedInt64(foreign.Object, "spec", "replicas"); isWorkload {
		_ = unstructured.SetNestedField(foreign.Object, int64(0), "spec", "replicas")
	}
	for _, assigned := range []string{"clusterIP", "clusterIPs"} {
		unstructured.RemoveNestedField(foreign.Object, "spec", assigned)
	}
	return foreign
}

// referrers returns the Deployments and StatefulSets that have replicas and refer to an object of the given name.
func (c *cluster) referrers(name string) ([]string, error) {
	deployments, sets := &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}
	for _, list := range []client.ObjectList{deployments, sets} {
		if err := c.Client.List(c.T.Context(), list, client.InNamespace(c.Namespace)); err != nil {
			return nil, err
		}
	}
	var found []string
	add := func(workload string, replicas int32, spec any) error {
		text, err := json.Marshal(spec)
		if replicas > 0 && strings.Contains(string(text), `"`+name+`"`) {
			found = append(found, workload)
		}
		return err
	}
	for i := range deployments.Items {
		if err := add(deployments.Items[i].Name, *deployments.Items[i].Spec.Replicas, deployments.Items[i].Spec); err != nil {
			return nil, err
		}
	}
	for i := range sets.Items {
		if err := add(sets.Items[i].Name, *sets.Items[i].Spec.Replicas, sets.Items[i].Spec); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// The names of a simulation's objects contain the name of the simulation, which its author chooses. No name may let the
// pods mount a Secret of another owner.
func TestReconcile_NameTaken_NoPodRefersToTheObjectOfAnotherOwner(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	model := c.Simulate("model", withAgents)
	c.Expect(model, "Ready", metav1.ConditionFalse, "Progressing")
	c.Exists(&appsv1.Deployment{}, "model-processor")
	c.awaitQuiet()
	objects := c.objectsOf(model)
	if seen := len(objects); seen < 20 {
		t.Fatalf("the simulation owns %d objects, want all kinds", seen)
	}
	foreign, sims := make([]*unstructured.Unstructured, len(objects)), make([]*v1alpha1.ParkingSimulation, len(objects))
	for i := range objects {
		name := fmt.Sprintf("taken%d", i)
		foreign[i] = foreignCopy(&objects[i], name+strings.TrimPrefix(objects[i].GetName(), "model"))
		c.Create(foreign[i])
		sims[i] = c.Simulate(name, withAgents)
	}
	for i, o := range foreign {
		resourceVersion := o.GetResourceVersion()
		stalled := c.Expect(sims[i], "Stalled", metav1.ConditionTrue, "NameTaken")
		if want := fmt.Sprintf("%s %s/%s", o.GetKind(), c.Namespace, o.GetName()); !strings.Contains(stalled.Message, want) {
			t.Errorf("the message is %q, want %q", stalled.Message, want)
		}
		c.Exists(o, o.GetName())
		if o.GetResourceVersion() != resourceVersion {
			t.Errorf("%s %s has changed", o.GetKind(), o.GetName())
		}
	}
	c.awaitQuiet()
	for _, o := range foreign {
		switch o.GetKind() {
		case "ServiceAccount", "Secret", "ConfigMap", "Service":
			if users, err := c.referrers(o.GetName()); err != nil || len(users) > 0 {
				t.Errorf("%v use the %s %s of another owner (%v)", users, o.GetKind(), o.GetName(), err)
			}
		}
		c.Delete(o, o.GetName())
	}
	for i := range sims {
		c.Expect(sims[i], "Ready", metav1.ConditionFalse, "Progressing")
	}
}

// A user can replace a Secret with another of the same name. The kubelet would mount the new Secret into the running
// pods, so the operator must stop these pods.
func TestReconcile_SecretReplacedWhileRunning_StopsThePodsThatUseIt(t *testing.T) {
	t.Parallel()
	for _, component := range []string{"redis", "rabbitmq", "agent"} {
		t.Run(component, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			sim := c.Simulate("running", withAgents)
			c.Exists(&appsv1.Deployment{}, "running-processor")
			c.MakeWorkloadsReady()
			c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
			secret := &corev1.Secret{}
			c.Exists(secret, "running-"+component)
			c.Edit(secret, func() { secret.OwnerReferences, secret.Labels = nil, nil })
			c.Expect(sim, "Stalled", metav1.ConditionTrue, "NameTaken")
			c.Eventually("no pod to mount the Secret", func() error {
				users, err := c.referrers(secret.Name)
				if err == nil && len(users) > 0 {
					return fmt.Errorf("%v mount it", users)
				}
				return err
			})
			c.Delete(secret, secret.Name)
			c.Eventually("the processors to run", func() error { return c.hasReplicas("running-processor", 2) })
		})
	}
}

// Another owner's Secret can have the name and keys of the Secret that the operator creates for RabbitMQ. The operator
// must not connect to the server in that Secret.
func TestReconcile_SecretOfAnotherOwnerContainsABinding_IsNotUsed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.Secret("prod-rabbitmq", map[string]string{
		"type": "rabbitmq", "host": "production.example", "port": "5672", "username": "u", "password": "secret",
	})
	sim := c.Simulate("prod", nil)
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "NameTaken")
	c.MakeWorkloadsReady()
	c.awaitQuiet()
	if opened := c.servers.bindings(); len(opened) > 0 {
		t.Errorf("the operator has connected to %v", opened)
	}
}

// The StatefulSet controller uses, and later deletes, every volume claim with the right name. So the operator must not
// create the StatefulSet while another owner has such a claim.
func TestReconcile_VolumeClaimOfAnotherOwner_IsNotUsed(t *testing.T) {
	t.Parallel()
	for component, claim := range map[string]string{"rabbitmq": "data-prod-rabbitmq-1", "redis": "data-prod-redis-0", "summaries": "data-prod-summaries-0"} {
		t.Run(component, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			foreign := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: claim}}
			foreign.Labels = map[string]string{"app.kubernetes.io/name": "rabbitmq"}
			foreign.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
			foreign.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
			c.Create(foreign)
			sim := c.Simulate("prod", func(s *v1alpha1.ParkingSimulationSpec) {
				s.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Replicas: new(int32(3))}
			})
			stalled := c.Expect(sim, "Stalled", metav1.ConditionTrue, "NameTaken")
			if want := "PersistentVolumeClaim " + c.Namespace + "/" + claim; !strings.Contains(stalled.Message, want) || !strings.Contains(stalled.Message, "delete it, or give the simulation another name") {
				t.Errorf("the message is %q, want the claim and the remedy", stalled.Message)
			}
			c.awaitQuiet()
			if err := c.Absent(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "prod-" + component}}); err != nil {
				t.Error(err)
			}

			// With these labels, the claim looks like a claim that an earlier StatefulSet of the simulation left
			// behind. The operator may use such a claim.
			c.Edit(foreign, func() {
				foreign.Labels = map[string]string{"simulation.parking.dev/simulation": "prod", "app.kubernetes.io/component": component}
			})
			c.Exists(&appsv1.StatefulSet{}, "prod-"+component)
		})
	}
}
