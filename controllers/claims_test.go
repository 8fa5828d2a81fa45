package controllers

import (
	"context"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// rabbitSet returns a StatefulSet with a volume claim template, and with the given numbers of pods in its spec
// (replicas) and in its status (running).
func rabbitSet(replicas, running int32) *appsv1.StatefulSet {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim-rabbitmq"}}
	set.Spec.Replicas, set.Status.Replicas = new(replicas), running
	set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{
		{ObjectMeta: metav1.ObjectMeta{Name: "data", Labels: map[string]string{"simulation": "sim"}}},
	}
	return set
}

// When a missing Secret is created, a waiting pod mounts the Secret at once, even if the owner of the Secret has not
// consented.
func TestToApply_PodsWouldMountMissingSecret_AddsNoPods(t *testing.T) {
	t.Parallel()
	key := childKey{"Deployment", "sim-processor"}
	deployment := func(replicas int32, secret string) *appsv1.Deployment {
		d := &appsv1.Deployment{}
		d.Spec.Replicas = &replicas
		d.Spec.Template.Spec.Volumes = []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}},
		}
		return d
	}
	for name, tt := range map[string]struct {
		live      *appsv1.Deployment
		replicas  int32
		edit      func(*scope)
		isApplied bool
	}{
		"the Deployment does not exist":      {nil, 2, nil, false},
		"the Deployment has no pods":         {deployment(0, "missing"), 2, nil, false},
		"its pods mount another Secret":      {deployment(2, "other"), 2, nil, false},
		"its pods mount the Secret":          {deployment(2, "missing"), 4, nil, true}, // mustWait delays the scale-up
		"pods must not mount another Secret": {deployment(2, "missing"), 4, func(s *scope) { s.metrics.withheld = true }, false},
		"its pods are to stop":               {deployment(2, "missing"), 0, func(s *scope) { s.metrics.withheld = true }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScope(&v1alpha1.ParkingSimulation{}, time.Now())
			s.missing["missing"] = true
			if tt.live != nil {
				s.children[key] = tt.live
			}
			if tt.edit != nil {
				tt.edit(s)
			}
			if got := s.toApply(key, deployment(tt.replicas, "missing")) != nil; got != tt.isApplied {
				t.Errorf("the Deployment is applied: %t, want %t", got, tt.isApplied)
			}
		})
	}
}

// If the volume claim of a missing pod has lost its labels or cannot be read, the owner of the claim is uncertain. The
// operator must then not stop the running pods of the StatefulSet.
func TestCheckNames_OwnerOfVolumeClaimIsUncertain_RunningPodsStay(t *testing.T) {
	t.Parallel()
	const created = -1
	reject := interceptor.Funcs{Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, "data-sim-rabbitmq-0", nil)
	}}
	for name, tt := range map[string]struct {
		live      *appsv1.StatefulSet
		forbidden bool
		reason    string
		want      int32 // the expected number of replicas; -1 if the StatefulSet must not be applied
	}{
		"a node is away":                                {rabbitSet(3, 2), false, reasonNameTaken, 3},
		"the StatefulSet grows":                         {rabbitSet(1, 1), false, reasonNameTaken, 1},
		"the StatefulSet has no replicas":               {rabbitSet(0, 0), false, reasonNameTaken, 0},
		"the StatefulSet does not exist":                {nil, false, reasonNameTaken, created},
		"all nodes run":                                 {rabbitSet(3, 3), true, "", 3},
		"a node is away, and claims are unreadable":     {rabbitSet(3, 2), true, reasonForbidden, 3},
		"the set is missing, and claims are unreadable": {nil, true, reasonForbidden, created},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data-sim-rabbitmq-2"}}
			builder := fake.NewClientBuilder().WithObjects(claim)
			if tt.forbidden {
				builder = builder.WithInterceptorFuncs(reject)
			}
			c := builder.Build()
			r := &Reconciler{client: c, direct: c, childKinds: childKinds()}
			s := newScope(&v1alpha1.ParkingSimulation{}, time.Now())
			key, desired := childKey{"StatefulSet", "sim-rabbitmq"}, rabbitSet(3, 0)
			s.desired = []client.Object{desired}
			if tt.live != nil {
				s.children[key] = tt.live
			}
			if err := r.checkNames(t.Context(), s); err != nil {
				t.Fatalf("the reconcile ends: %v", err)
			}
			if s.findings.objects.reason != tt.reason {
				t.Errorf("the finding is %+v, want reason %q", s.findings.objects, tt.reason)
			}
			got := int32(created)
			if set, ok := s.toApply(key, desired).(*appsv1.StatefulSet); ok {
				got = *set.Spec.Replicas
			}
			if got != tt.want {
				t.Errorf("%d replicas are applied, want %d", got, tt.want)
			}
			if retries := s.wake > 0; retries != (tt.reason == reasonForbidden) {
				t.Errorf("another reconcile is requested after %s", s.wake)
			}
		})
	}
}
