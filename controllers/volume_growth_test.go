package controllers_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func storage(class, size string) v1alpha1.StorageSpec {
	return v1alpha1.StorageSpec{StorageClassName: class, Size: new(v1alpha1.Quantity(size))}
}

func (c *cluster) hasSize(claim *corev1.PersistentVolumeClaim, size string) error {
	if err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
		return err
	}
	if got := claim.Spec.Resources.Requests.Storage(); got.String() != size {
		return fmt.Errorf("claim %s requests %s, want %s", claim.Name, got, size)
	}
	return nil
}

func (c *cluster) readStatefulSet(name string) *appsv1.StatefulSet {
	c.T.Helper()
	set := &appsv1.StatefulSet{}
	c.Exists(set, name)
	return set
}

// keepsTemplate checks that a StatefulSet was not replaced, and that its claim template requests the given size.
func (c *cluster) keepsTemplate(before *appsv1.StatefulSet, size string) {
	c.T.Helper()
	now := c.readStatefulSet(before.Name)
	if got := now.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage(); got.String() != size {
		c.T.Errorf("the claim template of %s requests %s, want %s", before.Name, got, size)
	}
	if now.UID != before.UID || now.DeletionTimestamp != nil {
		c.T.Errorf("StatefulSet %s was replaced", before.Name)
	}
}

// pods returns the UIDs of all pods that are not being deleted.
func (c *cluster) pods() []types.UID {
	c.T.Helper()
	list := &corev1.PodList{}
	if err := c.Client.List(c.T.Context(), list, client.InNamespace(c.Namespace)); err != nil {
		c.T.Fatal(err)
	}
	var uids []types.UID
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			uids = append(uids, list.Items[i].UID)
		}
	}
	slices.Sort(uids)
	return uids
}

// templates returns the UID and the generation of each workload. The generation changes with the pod template.
func (c *cluster) templates() map[string]string {
	c.T.Helper()
	deployments, sets := &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}
	for _, list := range []client.ObjectList{deployments, sets} {
		if err := c.Client.List(c.T.Context(), list, client.InNamespace(c.Namespace)); err != nil {
			c.T.Fatal(err)
		}
	}
	generations := map[string]string{}
	for i := range deployments.Items {
		generations[deployments.Items[i].Name] = fmt.Sprint(deployments.Items[i].UID, deployments.Items[i].Generation)
	}
	for i := range sets.Items {
		generations[sets.Items[i].Name] = fmt.Sprint(sets.Items[i].UID, sets.Items[i].Generation)
	}
	return generations
}

func TestReconcile_VolumesGrow_NoPodIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	class := c.StorageClass(true)
	sim := c.Simulate("sim", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Replicas: new(int32(3)), Storage: storage(class, "2Gi")}
	})
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	set := c.readStatefulSet("sim-rabbitmq")
	claims := []*corev1.PersistentVolumeClaim{
		c.Claim(sim, resources.ComponentRabbitMQ, 0, class, "2Gi"),
		c.Claim(sim, resources.ComponentRabbitMQ, 1, class, "2Gi"),
		c.Claim(sim, resources.ComponentRabbitMQ, 2, class, "8Gi"), // a user has enlarged this volume
	}
	others := []*corev1.PersistentVolumeClaim{
		c.Claim(sim, resources.ComponentRabbitMQ, 3, class, "1Gi"), // there are only 3 pods, so no pod uses this claim
		c.Claim(sim, resources.ComponentRedis, 0, class, "2Gi"),
	}
	for range 3 {
		c.Pod(sim, resources.ComponentRabbitMQ, nil)
	}
	c.MakeWorkloadsReady()
	for name, replicas := range map[string]int32{"sim-processor": 2, "sim-entry": 1, "sim-exit": 1} {
		c.Eventually("clients of the formed cluster", func() error { return c.hasReplicas(name, replicas) })
	}
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.awaitQuiet()
	pods, templates := c.pods(), c.templates()

	c.Edit(sim, func() { sim.Spec.RabbitMQ.Managed.Storage = storage(class, "4Gi") })
	for i, size := range []string{"4Gi", "4Gi", "8Gi"} {
		c.Eventually("the claim to grow", func() error { return c.hasSize(claims[i], size) })
	}
	c.Expect(sim, "BrokerReady", metav1.ConditionTrue, "Ready")
	grows := c.Expect(sim, "Reconciling", metav1.ConditionTrue, "VolumeResizing")
	if want := claims[0].Name + " grows from 2Gi to 4Gi"; !strings.Contains(grows.Message, want) {
		t.Errorf("the message is %q, want it to contain %q", grows.Message, want)
	}

	// Simulate that the storage system fails to enlarge the volume of claims[0].
	c.Edit(claims[0], func() {}) // read the current claim
	claims[0].Status.Conditions = []corev1.PersistentVolumeClaimCondition{{
		Type: corev1.PersistentVolumeClaimControllerResizeError, Status: corev1.ConditionTrue, Message: "the pool is full",
	}}
	if err := c.Client.Status().Update(t.Context(), claims[0]); err != nil {
		t.Fatal(err)
	}
	if failed := c.Expect(sim, "Stalled", metav1.ConditionTrue, "VolumeNotResized"); !strings.Contains(failed.Message, "the pool is full") {
		t.Errorf("the message is %q, want the error of the storage system", failed.Message)
	}
	// Simulate that the storage system enlarges the volumes of claims[0] and claims[1].
	for _, claim := range claims[:2] {
		if err := c.hasSize(claim, "4Gi"); err != nil {
			t.Fatal(err)
		}
		claim.Status.Conditions, claim.Status.Capacity = nil, claim.Spec.Resources.Requests
		if err := c.Client.Status().Update(t.Context(), claim); err != nil {
			t.Fatal(err)
		}
	}
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.awaitQuiet()
	if now := c.pods(); !slices.Equal(now, pods) {
		t.Errorf("the pods are %v, want those before: %v", now, pods)
	}
	if now := c.templates(); !maps.Equal(now, templates) {
		t.Errorf("the workloads are %v, want those before: %v", now, templates)
	}
	c.keepsTemplate(set, "2Gi")
	for i, size := range []string{"1Gi", "2Gi"} {
		if err := c.hasSize(others[i], size); err != nil {
			t.Errorf("another claim has changed: %v", err)
		}
	}

	// Lowering the size in the spec has no effect.
	c.Edit(sim, func() { sim.Spec.RabbitMQ.Managed.Storage = storage(class, "1Gi") })
	c.Eventually("the edit to be observed", func() error { return c.observed(sim) })
	for _, write := range c.awaitQuiet() {
		if strings.Contains(write, "persistentvolumeclaims") || strings.Contains(write, "statefulsets") {
			t.Errorf("the operator wrote %s", write)
		}
	}
	if err := c.hasSize(claims[0], "4Gi"); err != nil {
		t.Error(err)
	}
}

// observed returns an error until the operator has reconciled the current spec.
func (c *cluster) observed(sim *v1alpha1.ParkingSimulation) error {
	if err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
		return err
	}
	if sim.Status.ObservedGeneration != sim.Generation {
		return fmt.Errorf("generation %d is observed, want %d", sim.Status.ObservedGeneration, sim.Generation)
	}
	return nil
}

func TestReconcile_StorageClassForbidsExpansion_SimulationContinues(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	class := c.StorageClass(false)
	sim := c.Simulate("sim", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Redis.Managed = &v1alpha1.ManagedRedis{Storage: storage(class, "2Gi")}
	})
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	set := c.readStatefulSet("sim-redis")
	claim := c.Claim(sim, resources.ComponentRedis, 0, class, "2Gi")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")

	// The volume cannot grow, but the new image in the same edit takes effect.
	c.Edit(sim, func() {
		sim.Spec.Redis.Managed.Storage, sim.Spec.Redis.Managed.Image = storage(class, "4Gi"), "redis:other"
	})
	refused := c.Expect(sim, "Stalled", metav1.ConditionTrue, "VolumeNotResized")
	for _, want := range []string{claim.Name, "StorageClass " + class, "allowVolumeExpansion"} {
		if !strings.Contains(refused.Message, want) {
			t.Errorf("the message is %q, want it to contain %q", refused.Message, want)
		}
	}
	c.Eventually("the new image", func() error {
		now := c.readStatefulSet(set.Name)
		if !slices.ContainsFunc(now.Spec.Template.Spec.Containers, func(c corev1.Container) bool { return c.Image == "redis:other" }) {
			return errors.New("the StatefulSet has the old image")
		}
		return nil
	})
	c.MakeWorkloadsReady()
	c.Expect(sim, "StoreReady", metav1.ConditionTrue, "Ready")
	if err := c.hasSize(claim, "2Gi"); err != nil {
		t.Error(err)
	}
	c.keepsTemplate(set, "2Gi")

	// If the spec has the size of the existing claim again, the simulation is ready again.
	c.Edit(sim, func() { sim.Spec.Redis.Managed.Storage = storage(class, "2Gi") })
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.Edit(sim, func() { sim.Spec.Redis.Managed.Storage = storage(class, "4Gi") })
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "VolumeNotResized")

	allowed := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: class}}
	c.Edit(allowed, func() { allowed.AllowVolumeExpansion = new(true) })
	c.Eventually("the claim to grow", func() error { return c.hasSize(claim, "4Gi") })
	c.keepsTemplate(set, "2Gi")
}

func TestReconcile_VolumeClaimOfAnotherOwner_DoesNotGrow(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	class := c.StorageClass(true)
	sim := c.Simulate("sim", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Redis.Managed = &v1alpha1.ManagedRedis{Storage: storage(class, "2Gi")}
	})
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	set := c.readStatefulSet("sim-redis")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	claim := c.Claim(sim, resources.ComponentRedis, 0, class, "2Gi")
	c.Edit(claim, func() { claim.Labels = nil })
	c.Edit(sim, func() { sim.Spec.Redis.Managed.Storage = storage(class, "4Gi") })
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "NameTaken")
	c.awaitQuiet()
	if err := c.hasSize(claim, "2Gi"); err != nil {
		t.Error(err)
	}
	c.keepsTemplate(set, "2Gi")
}
