package controllers

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// builtKinds returns the kinds of the objects that internal/resources builds for a simulation with all optional
// parts.
func builtKinds(t *testing.T) []schema.GroupVersionKind {
	t.Helper()
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim", UID: "uid"}}
	sim.Spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Replicas: new(int32(3))}
	resolved, faults := manifest.Resolve(sim)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	objects, err := resources.Build(resources.Input{
		Resolved:    resolved,
		Images:      resources.Images{Parking: "parking", RabbitMQ: "rabbitmq", Redis: "redis", RedisExporter: "exporter"},
		Credentials: resources.Credentials{BrokerPassword: "a", ErlangCookie: "b", RedisPassword: "c"},
		Served:      resources.Served{ServiceMonitors: true, PrometheusRules: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []schema.GroupVersionKind
	for _, object := range objects {
		kind, err := apiutil.GVKForObject(object, scheme)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

func TestChildKinds_SimulationWithAllParts_ListExactlyTheKindsOfItsObjects(t *testing.T) {
	t.Parallel()
	var listed []schema.GroupVersionKind
	for _, kind := range childKinds() {
		listed = append(listed, kind.GroupVersionKind)
	}
	built := builtKinds(t)
	for _, kind := range built {
		if !slices.Contains(listed, kind) {
			t.Errorf("%s is built, but not in childKinds: it would neither be watched nor pruned", kind)
		}
	}
	for _, kind := range listed {
		if !slices.Contains(built, kind) {
			t.Errorf("%s is in childKinds, but never built", kind)
		}
	}
}

func TestReduce_KnownKind_KeepsOnlyFieldsThatTheOperatorReads(t *testing.T) {
	t.Parallel()
	transform := reduce(apply.NewSlimmer())
	for _, kind := range childKinds() {
		object := kind.object.DeepCopyObject()
		if _, err := transform(object); err != nil {
			t.Errorf("reduce %s: %v", kind.Kind, err)
		}
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Labels: map[string]string{"a": "b"}}, Data: map[string][]byte{"password": []byte("p")}, Type: "Opaque",
	}
	if _, err := transform(secret); err != nil || string(secret.Data["password"]) != "p" || secret.Type != "" || secret.Labels != nil {
		t.Errorf("the reduced Secret is %+v (%v), want its name and data", secret, err)
	}
	set := rabbitSet(3, 2)
	set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
	set.Spec.Template.Spec.NodeName = "n"
	_, err := transform(set)
	if size := volumeSize(set); err != nil || *set.Spec.Replicas != 3 || set.Status.Replicas != 2 || size.String() != "2Gi" || set.Spec.Template.Spec.NodeName != "" {
		t.Errorf("the reduced StatefulSet is %+v (%v), want its replicas, its status and the size of its volumes", set, err)
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n", Hostname: "h"}}
	if _, err := transform(pod); err != nil || !cmp.Equal(pod.Spec, corev1.PodSpec{NodeName: "n"}) {
		t.Errorf("the reduced pod is %+v (%v), want its node", pod.Spec, err)
	}
	deployment := &appsv1.Deployment{}
	deployment.Spec.Replicas = new(int32(2))
	deployment.Spec.Template.Spec = corev1.PodSpec{Hostname: "h", Volumes: []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", Optional: new(true)}}},
	}}
	_, err = transform(deployment)
	want := appsv1.DeploymentSpec{Replicas: new(int32(2))}
	want.Template.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}
	if diff := cmp.Diff(want, deployment.Spec); err != nil || diff != "" {
		t.Errorf("the reduced Deployment does not have exactly its replicas and Secrets (%v):\n%s", err, diff)
	}
}

func TestReduce_UnknownKind_ReturnsAnError(t *testing.T) {
	t.Parallel()
	transform := reduce(apply.NewSlimmer())
	if _, err := transform(&corev1.Endpoints{}); err == nil { //nolint:staticcheck // any kind that is not in childKinds will do
		t.Error("a kind that is not in childKinds is accepted")
	}
}
