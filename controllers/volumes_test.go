package controllers

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// claimOf returns a bound claim. A capacity of "" means that it is not bound.
func claimOf(requested, capacity string, conditions ...corev1.PersistentVolumeClaimConditionType) *corev1.PersistentVolumeClaim {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data-sim-redis-0"}}
	claim.Spec.StorageClassName = new("fast")
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(requested)}
	claim.Status.Phase = corev1.ClaimPending
	if capacity != "" {
		claim.Status.Phase = corev1.ClaimBound
		claim.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(capacity)}
	}
	for _, kind := range conditions {
		claim.Status.Conditions = append(claim.Status.Conditions, corev1.PersistentVolumeClaimCondition{Type: kind, Status: corev1.ConditionTrue, Message: "no room."})
	}
	return claim
}

func infeasible(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	claim.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{
		corev1.ResourceStorage: corev1.PersistentVolumeClaimControllerResizeInfeasible,
	}
	return claim
}

func TestExamineClaim_FindsOutWhatToDo(t *testing.T) {
	t.Parallel()
	const want = "4Gi"
	for name, tt := range map[string]struct {
		claim   *corev1.PersistentVolumeClaim
		state   claimState
		finding state
		reason  string
		message string
	}{
		"as large as wanted":            {claimOf("4Gi", "4Gi"), claimAccepted, unchecked, "", ""},
		"the same in other units":       {claimOf("4096Mi", "4096Mi"), claimAccepted, unchecked, "", ""},
		"larger than wanted":            {claimOf("8Gi", "8Gi"), claimAccepted, unchecked, "", ""},
		"more space than requested":     {claimOf("4Gi", "10Gi"), claimAccepted, unchecked, "", ""},
		"new and not bound":             {claimOf("4Gi", ""), claimAccepted, unchecked, "", ""},
		"growing beyond what is wanted": {claimOf("8Gi", "4Gi"), claimAccepted, unchecked, "", ""},
		"too small":                     {claimOf("2Gi", "2Gi"), claimTooSmall, progressing, reasonVolumeResizing, "data-sim-redis-0 grows from 2Gi to 4Gi"},
		"too small on a larger volume":  {claimOf("2Gi", "5Gi"), claimTooSmall, progressing, reasonVolumeResizing, "to 4Gi"},
		"too small and not bound":       {claimOf("2Gi", ""), claimUnbound, progressing, reasonVolumeResizing, "when it is bound"},
		"growing":                       {claimOf("4Gi", "2Gi", corev1.PersistentVolumeClaimResizing), claimAccepted, progressing, reasonVolumeResizing, "from 2Gi to 4Gi"},
		"growing, not begun":            {claimOf("4Gi", "2Gi"), claimAccepted, progressing, reasonVolumeResizing, "from 2Gi to 4Gi"},
		"the file system is too small":  {claimOf("4Gi", "2Gi", corev1.PersistentVolumeClaimFileSystemResizePending), claimAccepted, progressing, reasonVolumeResizing, "delete the pod"},
		"the storage system fails":      {claimOf("4Gi", "2Gi", corev1.PersistentVolumeClaimControllerResizeError), claimAccepted, stalled, reasonVolumeNotResized, "from 2Gi to 4Gi: no room. The server"},
		"the node fails":                {claimOf("4Gi", "2Gi", corev1.PersistentVolumeClaimNodeResizeError), claimAccepted, stalled, reasonVolumeNotResized, "no room"},
		"the size is not possible":      {infeasible(claimOf("4Gi", "2Gi")), claimAccepted, stalled, reasonVolumeNotResized, "cannot provide this size"},
		"a failure that is over":        {claimOf("4Gi", "4Gi", corev1.PersistentVolumeClaimControllerResizeError), claimAccepted, unchecked, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state, f := examineClaim(tt.claim, resource.MustParse(want))
			if state != tt.state || f.state != tt.finding || f.reason != tt.reason || !strings.Contains(f.message, tt.message) {
				t.Errorf("the state is %d with the finding %+v, want %d, %d, %q and a message with %q", state, f, tt.state, tt.finding, tt.reason, tt.message)
			}
		})
	}
}

func TestClaimRefused_ErrorsOfTheAPIServer_NameTheRemedy(t *testing.T) {
	t.Parallel()
	claims := schema.GroupResource{Resource: "persistentvolumeclaims"}
	denied := func(why string) error { return apierrors.NewForbidden(claims, "data-sim-redis-0", errors.New(why)) }
	for name, tt := range map[string]struct {
		err    error
		state  state
		reason string
		want   []string
	}{
		"a class that cannot grow": {
			denied("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"),
			stalled, reasonVolumeNotResized, []string{"StorageClass fast", "allowVolumeExpansion", "continues with the present size"},
		},
		"a quota":         {denied("exceeded quota: small, requested: requests.storage=2Gi"), progressing, reasonQuota, []string{"raise the quota", "4Gi"}},
		"a missing right": {denied(`User "operator" cannot patch resource "persistentvolumeclaims" in API group "" in the namespace "default"`), stalled, reasonForbidden, []string{"grant the operator's role"}},
		"a policy":        {denied("volumes have at most 2Gi"), stalled, reasonVolumeNotResized, []string{"volumes have at most 2Gi", "policy"}},
		"an invalid size": {apierrors.NewInvalid(schema.GroupKind{Kind: claimKind}, "data-sim-redis-0", nil), stalled, reasonVolumeNotResized, []string{"rejects"}},
		"a busy server":   {apierrors.NewTooManyRequests("later", 1), unchecked, "", nil},
		"a conflict":      {apierrors.NewConflict(claims, "data-sim-redis-0", errors.New("changed")), unchecked, "", nil},
		"no error":        {nil, unchecked, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := claimRefused(claimOf("2Gi", "2Gi"), resource.MustParse("4Gi"), tt.err)
			if f.state != tt.state || f.reason != tt.reason {
				t.Errorf("the finding is %+v, want state %d and reason %q", f, tt.state, tt.reason)
			}
			for _, want := range tt.want {
				if !strings.Contains(f.message, want) {
					t.Errorf("the message is %q, want it to contain %q", f.message, want)
				}
			}
		})
	}
}

// If a simulation is deleted while the StatefulSet of a server is being replaced, Kubernetes does not delete the pods of
// this server.
func TestDeleteOrphans_StatefulSetIsMissing_DeletesItsPods(t *testing.T) {
	t.Parallel()
	pod := func(name string, c resources.Component, owners ...metav1.OwnerReference) *corev1.Pod {
		labels := map[string]string{resources.SimulationLabel: "sim", resources.ComponentLabel: string(c)}
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid", Labels: labels, OwnerReferences: owners}}
	}
	owner := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "other", UID: "o", Controller: new(true)}
	pods := []*corev1.Pod{
		pod("sim-redis-0", resources.ComponentRedis), pod("sim-rabbitmq-2", resources.ComponentRabbitMQ),
		pod("sim-redis-x", resources.ComponentRedis), pod("sim-redis-1", resources.ComponentRedis, owner),
		pod("sim-summaries-0", resources.ComponentSummaries), pod("sim-entry-0", resources.ComponentEntry),
	}
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme)
	for _, p := range pods {
		builder = builder.WithObjects(p)
	}
	r := &Reconciler{client: builder.Build()}
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
	s := newScope(sim, time.Now())
	s.pods = pods
	s.children[childKey{"StatefulSet", "sim-summaries"}] = &appsv1.StatefulSet{}
	if done, err := r.deleteOrphans(t.Context(), s); err != nil || !done {
		t.Errorf("the orphans are deleted: %t (%v)", done, err)
	}
	left := &corev1.PodList{}
	if err := r.client.List(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range left.Items {
		names = append(names, left.Items[i].Name)
	}
	slices.Sort(names)
	if want := []string{"sim-entry-0", "sim-redis-1", "sim-redis-x", "sim-summaries-0"}; !slices.Equal(names, want) {
		t.Errorf("the pods %v are left, want %v", names, want)
	}

	// As long as the StatefulSet is being deleted, its pods may still have it as their owner.
	s.children[childKey{"StatefulSet", "sim-summaries"}] = &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: new(metav1.Now())}}
	if done, err := r.deleteOrphans(t.Context(), s); err != nil || done {
		t.Errorf("while a StatefulSet is being deleted, the orphans are deleted: %t (%v)", done, err)
	}
}

// The pods of a withheld StatefulSet must end, even if the StatefulSet was about to be replaced.
func TestToApply_WithheldStatefulSetWasReplaced_StopsItsPods(t *testing.T) {
	t.Parallel()
	key, desired := childKey{"StatefulSet", "sim-rabbitmq"}, rabbitSet(3, 0)
	s := newScope(&v1alpha1.ParkingSimulation{}, time.Now())
	s.withheld[key] = true
	if object := s.toApply(key, desired); object != nil {
		t.Errorf("without pods, %+v is created", object)
	}
	s.pods = []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "sim-rabbitmq-1"}}}
	if set, ok := s.toApply(key, desired).(*appsv1.StatefulSet); !ok || *set.Spec.Replicas != 0 {
		t.Errorf("with a pod, %+v is created, want a StatefulSet with 0 replicas", set)
	}
	s.withheld[key], s.limited[key] = false, true
	if object := s.toApply(key, desired); object != nil {
		t.Errorf("a limited StatefulSet is created: %+v", object)
	}
}

// A refused resize must not stop a simulation that would otherwise start.
func TestConditionsOf_VolumeCannotGrow_OnlyReadyIsFalse(t *testing.T) {
	t.Parallel()
	works := found(ready, reasonReady, "works")
	f := findings{broker: works, store: works, summaryAPI: works, workloads: works, volumes: found(stalled, reasonVolumeNotResized, "no room")}
	got := map[string]string{}
	for _, c := range conditionsOf(f) {
		got[c.Type] = string(c.Status) + " " + c.Reason
	}
	for kind, want := range map[string]string{
		v1alpha1.ConditionReady: "False VolumeNotResized", v1alpha1.ConditionStalled: "True VolumeNotResized",
		v1alpha1.ConditionBrokerReady: "True Ready", v1alpha1.ConditionStoreReady: "True Ready",
	} {
		if got[kind] != want {
			t.Errorf("%s is %q, want %q", kind, got[kind], want)
		}
	}
	f.complete = true
	for _, c := range conditionsOf(f) {
		if c.Type == v1alpha1.ConditionReady && c.Status != metav1.ConditionTrue {
			t.Errorf("a complete simulation is not ready: %s", c.Message)
		}
	}
}
