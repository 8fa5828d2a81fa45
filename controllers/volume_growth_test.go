package controllers_test

import (
	"errors"
	"fmt"
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

// storage returns the volume of a managed server.
func storage(class, size string) v1alpha1.StorageSpec {
	return v1alpha1.StorageSpec{StorageClassName: class, Size: new(v1alpha1.Quantity(size))}
}

// hasSize returns an error if a claim does not request the given size.
func (c *cluster) hasSize(claim *corev1.PersistentVolumeClaim, size string) error {
	if err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
		return err
	}
	if got := claim.Spec.Resources.Requests.Storage(); got.String() != size {
		return fmt.Errorf("claim %s requests %s, want %s", claim.Name, got, size)
	}
	return nil
}

// set reads a StatefulSet.
func (c *cluster) set(name string) *appsv1.StatefulSet {
	c.T.Helper()
	set := &appsv1.StatefulSet{}
	c.Exists(set, name)
	return set
}

// awaitDeletion waits until the operator has deleted a StatefulSet without its pods. The API server then keeps the
// StatefulSet until the garbage collector has removed it from the owners of its pods and claims.
func (c *cluster) awaitDeletion(set *appsv1.StatefulSet) {
	c.T.Helper()
	c.Eventually("the StatefulSet to be deleted", func() error {
		err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(set), set)
		if err == nil && set.DeletionTimestamp == nil {
			err = errors.New("it is not being deleted")
		}
		return err
	})
	if !slices.Equal(set.Finalizers, []string{metav1.FinalizerOrphanDependents}) {
		c.T.Errorf("the StatefulSet is deleted with the finalizers %v, want that its pods are orphaned", set.Finalizers)
	}
}

// orphan does what the garbage collector does: it removes a deleted StatefulSet for good.
func (c *cluster) orphan(set *appsv1.StatefulSet) {
	c.T.Helper()
	c.Edit(set, func() { set.Finalizers = nil })
}

// isReplaced waits until a StatefulSet was created again with volumes of the given size.
func (c *cluster) isReplaced(before *appsv1.StatefulSet, size string) {
	c.T.Helper()
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: before.Namespace, Name: before.Name}}
	c.Eventually("the StatefulSet to be created again", func() error {
		err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(set), set)
		if err == nil && set.UID == before.UID {
			err = errors.New("the old one exists")
		}
		return err
	})
	if got := set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage(); got.String() != size {
		c.T.Errorf("the claim template of the new StatefulSet requests %s, want %s", got, size)
	}
	if !slices.EqualFunc(set.Spec.Template.Spec.Containers, before.Spec.Template.Spec.Containers, func(a, b corev1.Container) bool {
		return a.Name == b.Name && a.Image == b.Image
	}) || len(set.Spec.Template.Labels) != len(before.Spec.Template.Labels) {
		c.T.Errorf("the pod template of the new StatefulSet is %+v, want the old one", set.Spec.Template)
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

// templates returns the generation of each workload, which changes with its pod template, except that of the named one.
func (c *cluster) templates(but string) map[string]string {
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
	delete(generations, but)
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
	set := c.set("sim-rabbitmq")
	claims := []*corev1.PersistentVolumeClaim{
		c.Claim(sim, resources.ComponentRabbitMQ, 0, class, "2Gi"),
		c.Claim(sim, resources.ComponentRabbitMQ, 1, class, "2Gi"),
		c.Claim(sim, resources.ComponentRabbitMQ, 2, class, "8Gi"), // someone has enlarged it
	}
	others := []*corev1.PersistentVolumeClaim{
		c.Claim(sim, resources.ComponentRabbitMQ, 3, class, "1Gi"), // no pod of the StatefulSet uses it
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
	pods, templates := c.pods(), c.templates(set.Name)

	c.Edit(sim, func() { sim.Spec.RabbitMQ.Managed.Storage = storage(class, "4Gi") })
	for i, size := range []string{"4Gi", "4Gi", "8Gi"} {
		c.Eventually("the claim to grow", func() error {
			if err := c.hasSize(claims[i], size); err != nil {
				return err
			}
			if len(claims[i].OwnerReferences) != 1 || claims[i].OwnerReferences[0].UID != sim.UID {
				return fmt.Errorf("claim %s has the owners %v", claims[i].Name, claims[i].OwnerReferences)
			}
			return nil
		})
	}
	c.awaitDeletion(set)
	c.orphan(set)
	c.isReplaced(set, "4Gi")
	c.MakeWorkloadsReady()
	c.Expect(sim, "BrokerReady", metav1.ConditionTrue, "Ready")
	grows := c.Expect(sim, "Reconciling", metav1.ConditionTrue, "VolumeResizing")
	if want := claims[0].Name + " grows from 2Gi to 4Gi"; !strings.Contains(grows.Message, want) {
		t.Errorf("the message is %q, want it to contain %q", grows.Message, want)
	}

	// The storage system fails, then succeeds.
	c.Edit(claims[0], func() {})
	claims[0].Status.Conditions = []corev1.PersistentVolumeClaimCondition{{
		Type: corev1.PersistentVolumeClaimControllerResizeError, Status: corev1.ConditionTrue, Message: "the pool is full",
	}}
	if err := c.Client.Status().Update(t.Context(), claims[0]); err != nil {
		t.Fatal(err)
	}
	if failed := c.Expect(sim, "Stalled", metav1.ConditionTrue, "VolumeNotResized"); !strings.Contains(failed.Message, "the pool is full") {
		t.Errorf("the message is %q, want the error of the storage system", failed.Message)
	}
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
	for name, before := range templates {
		if now := c.templates(set.Name)[name]; now != before {
			t.Errorf("%s has changed from %s to %s", name, before, now)
		}
	}
	for i, size := range []string{"1Gi", "2Gi"} {
		if err := c.hasSize(others[i], size); err != nil || len(others[i].OwnerReferences) > 0 {
			t.Errorf("another claim has changed: %v, owners %v", err, others[i].OwnerReferences)
		}
	}
}

func TestReconcile_StorageClassCannotGrow_SimulationContinues(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	class := c.StorageClass(false)
	sim := c.Simulate("sim", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Redis.Managed = &v1alpha1.ManagedRedis{Storage: storage(class, "2Gi")}
	})
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	set := c.set("sim-redis")
	claim := c.Claim(sim, resources.ComponentRedis, 0, class, "2Gi")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")

	// The other part of the edit takes effect.
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
		now := c.set(set.Name)
		size := now.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage()
		if now.UID != set.UID || now.DeletionTimestamp != nil || size.String() != "2Gi" {
			t.Fatalf("the StatefulSet has been replaced, or its claims request %s", size)
		}
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

	allowed := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: class}}
	c.Edit(allowed, func() { allowed.AllowVolumeExpansion = new(true) })
	c.Eventually("the claim to grow", func() error { return c.hasSize(claim, "4Gi") })
	set = c.set(set.Name)
	c.awaitDeletion(set)
	c.orphan(set)
	c.isReplaced(set, "4Gi")
}

// The operator can end at any moment, also between the deletion and the creation of a StatefulSet.
func TestReconcile_OperatorEndsWhileVolumesGrow_TheNextOneContinues(t *testing.T) {
	t.Parallel()
	c := newClusterWithoutOperator(t)
	stop := c.startOperator()
	class := c.StorageClass(true)
	sim := c.Simulate("sim", func(s *v1alpha1.ParkingSimulationSpec) {
		s.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{Storage: storage(class, "1Gi")}
	})
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	set := c.set("sim-summaries")
	claim := c.Claim(sim, resources.ComponentSummaries, 0, class, "1Gi")
	c.Pod(sim, resources.ComponentSummaries, nil)
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	pods := c.pods()
	c.Edit(sim, func() { sim.Spec.SummaryAPI.Managed.Storage = storage(class, "1.5Gi") })
	c.awaitDeletion(set)
	stop()
	c.orphan(set)
	c.Gone(set)
	c.startOperator()
	c.isReplaced(set, "1536Mi")
	if err := c.hasSize(claim, "1536Mi"); err != nil {
		t.Error(err)
	}
	if now := c.pods(); !slices.Equal(now, pods) {
		t.Errorf("the pods are %v, want those before: %v", now, pods)
	}
}

// A volume of another owner must neither grow nor be lost.
func TestReconcile_VolumeClaimOfAnotherOwner_DoesNotGrow(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	class := c.StorageClass(true)
	sim := c.Simulate("sim", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Redis.Managed = &v1alpha1.ManagedRedis{Storage: storage(class, "2Gi")}
	})
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	set := c.set("sim-redis")
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
	if now := c.set(set.Name); now.UID != set.UID || now.DeletionTimestamp != nil {
		t.Error("the StatefulSet has been replaced")
	}
}

func TestParkingSimulation_VolumeShrinks_IsRejected(t *testing.T) {
	t.Parallel()
	c := newClusterWithoutOperator(t)
	sim := c.Simulate("sim", nil)
	sim.Spec.Redis.Managed = &v1alpha1.ManagedRedis{Storage: storage("", "1Gi")}
	err := c.Client.Update(t.Context(), sim)
	if err == nil || !strings.Contains(err.Error(), "spec.redis.managed.storage.size: Invalid value: can only grow") {
		t.Errorf("the error is %v, want one that says that the size can only grow", err)
	}
}
