package apply_test

import (
	"context"
	"errors"
	"os"
	"reflect"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

func TestMain(m *testing.M) { os.Exit(apiserver.NewTests(m).Run()) }

// server is a client for one namespace of a real API server. It counts the patch requests that changed an object.
type server struct {
	client.WithWatch

	namespace string
	writes    int
}

func newServer(t *testing.T) *server {
	t.Helper()
	cluster := apiserver.New(t)
	c, err := client.NewWithWatch(cluster.Config, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &server{WithWatch: c, namespace: cluster.Namespace}
}

func (s *server) Patch(ctx context.Context, o client.Object, patch client.Patch, options ...client.PatchOption) error {
	err := s.WithWatch.Patch(ctx, o, patch, options...)
	if err == nil {
		s.writes++
	}
	return err
}

func (s *server) applier() *apply.Applier { return apply.New(s, s, clientgoscheme.Scheme) }

// cached returns the live object with only the metadata that a Slimmer retains.
func (s *server) cached(t *testing.T, like client.Object) client.Object {
	t.Helper()
	live := s.read(t, like)
	slim := &metav1.PartialObjectMetadata{ObjectMeta: apply.NewSlimmer().Metadata(live)}
	return slim
}

func (s *server) read(t *testing.T, like client.Object) client.Object {
	t.Helper()
	live := like.DeepCopyObject().(client.Object)
	if err := s.Get(t.Context(), client.ObjectKeyFromObject(like), live); err != nil {
		t.Fatal(err)
	}
	return live
}

func (s *server) in(o client.Object) client.Object {
	moved := o.DeepCopyObject().(client.Object)
	moved.SetNamespace(s.namespace)
	return moved
}

func meta(name string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{
		Name: name, Labels: map[string]string{"a": "b"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Owner", Name: "owner", UID: "1", Controller: &yes}},
	}
}

func deployment() *appsv1.Deployment {
	replicas := int32(2)
	return &appsv1.Deployment{
		ObjectMeta: meta("d"),
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "c", Image: "i", Args: []string{"one", "two"},
				Env: []corev1.EnvVar{{Name: "A", Value: "1"}},
				// The port lacks the protocol, which is one of the keys of this list. The API server sets a default.
				Ports:     []corev1.ContainerPort{{ContainerPort: 8080}},
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("1000m")}},
			}}}},
		},
	}
}

func TestApply_EditsBetweenTwoCalls_ReturnsWhetherTheObjectWasChanged(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		desired client.Object
		// change modifies the live object between the two calls of Apply. edit modifies the desired object before the
		// second call.
		change func(client.Object)
		edit   func(client.Object)
		want   apply.Result
	}{
		"an object as desired is unchanged": {desired: deployment(), want: apply.Unchanged},
		"defaults of the API server are kept": {
			desired: deployment(),
			change: func(o client.Object) {
				d := o.(*appsv1.Deployment)
				d.Status.Replicas = 2
				d.Spec.Template.Spec.DNSPolicy = corev1.DNSClusterFirst
				d.Spec.Template.Spec.Containers[0].TerminationMessagePath = "/dev/termination-log"
			},
			want: apply.Unchanged,
		},
		"list items that others add are kept": {
			desired: deployment(),
			change: func(o client.Object) {
				c := &o.(*appsv1.Deployment).Spec.Template.Spec.Containers
				(*c)[0].Env = append([]corev1.EnvVar{{Name: "B"}}, (*c)[0].Env...)
				*c = append([]corev1.Container{{Name: "sidecar", Image: "i"}}, *c...)
			},
			want: apply.Unchanged,
		},
		"labels that others add are kept": {
			desired: deployment(),
			change:  func(o client.Object) { o.GetLabels()["theirs"] = "1" },
			want:    apply.Unchanged,
		},
		"an edit of the desired object is applied": {
			desired: deployment(),
			edit:    func(o client.Object) { o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image = "j" },
			want:    apply.Updated,
		},
		"a field that is no longer desired is removed": {
			desired: deployment(),
			edit:    func(o client.Object) { o.(*appsv1.Deployment).Spec.Replicas = nil },
			want:    apply.Updated,
		},
		"a changed value is restored": {
			desired: deployment(),
			change:  func(o client.Object) { *o.(*appsv1.Deployment).Spec.Replicas = 7 },
			want:    apply.Healed,
		},
		"a changed value of a list item is restored": {
			desired: deployment(),
			change:  func(o client.Object) { o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Env[0].Value = "2" },
			want:    apply.Healed,
		},
		"a removed list item is restored": {
			desired: deployment(),
			change:  func(o client.Object) { o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Ports = nil },
			want:    apply.Healed,
		},
		"a changed owner reference is restored": {
			desired: deployment(),
			change:  func(o client.Object) { o.(*appsv1.Deployment).OwnerReferences[0].Name = "renamed" },
			want:    apply.Healed,
		},
		"removed managed fields are restored": {
			desired: deployment(),
			change:  func(o client.Object) { o.SetManagedFields([]metav1.ManagedFieldsEntry{{}}) },
			want:    apply.Healed,
		},
		"a removed label is restored": {
			desired: deployment(),
			change:  func(o client.Object) { delete(o.GetLabels(), "a") },
			want:    apply.Healed,
		},
		"an added argument is removed": {
			desired: deployment(),
			change: func(o client.Object) {
				c := &o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0]
				c.Args = append(c.Args, "three")
			},
			want: apply.Healed,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			test.desired = s.in(test.desired)
			if got, err := s.applier().Apply(t.Context(), test.desired, nil); err != nil || got != apply.Created {
				t.Fatalf("the first result is %q (%v), want %q", got, err, apply.Created)
			}
			if test.change != nil {
				live := s.read(t, test.desired)
				test.change(live)
				if err := s.Update(t.Context(), live, client.FieldOwner("someone")); err != nil {
					t.Fatal(err)
				}
			}
			if test.edit != nil {
				test.edit(test.desired)
			}
			s.writes = 0
			got, err := s.applier().Apply(t.Context(), test.desired, s.cached(t, test.desired))
			if err != nil || got != test.want {
				t.Fatalf("the result is %q (%v), want %q", got, err, test.want)
			}
			if wrote := s.writes > 0; wrote != (test.want != apply.Unchanged) {
				t.Errorf("%d writes for %q", s.writes, test.want)
			}
			if got, err := s.applier().Apply(t.Context(), test.desired, s.cached(t, test.desired)); err != nil || got != apply.Unchanged {
				t.Errorf("a second Apply returns %q (%v), want %q", got, err, apply.Unchanged)
			}
		})
	}
}

func TestApply_LaggingCache_CausesNoWrite(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, want := range []apply.Result{apply.Created, apply.Unchanged} {
		if got, err := s.applier().Apply(t.Context(), s.in(deployment()), nil); err != nil || got != want {
			t.Errorf("the result is %q (%v), want %q", got, err, want)
		}
	}
	if s.writes != 1 {
		t.Errorf("%d writes, want 1", s.writes)
	}
}

// customResource returns an object whose kind a CustomResourceDefinition defines.
func customResource() client.Object {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{}}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ParkingSimulation"))
	m := meta("c")
	o.SetName(m.Name)
	o.SetOwnerReferences(m.OwnerReferences)
	return o
}

func TestApply_ObjectOfAnotherOwner_ReturnsNameTakenError(t *testing.T) {
	t.Parallel()
	other := deployment().OwnerReferences
	other[0].UID = "2"
	for name, owners := range map[string][]metav1.OwnerReference{"of another owner": other, "without owner": nil} {
		for _, desired := range []client.Object{deployment(), customResource()} {
			s := newServer(t)
			desired = s.in(desired)
			live := s.in(desired)
			live.SetOwnerReferences(owners)
			if err := s.Create(t.Context(), live); err != nil {
				t.Fatal(err)
			}
			for _, cached := range []client.Object{nil, s.cached(t, live)} {
				_, err := s.applier().Apply(t.Context(), desired, cached)
				if taken, ok := errors.AsType[*apply.NameTakenError](err); !ok || taken.Key.Name != desired.GetName() || s.writes > 0 {
					t.Errorf("%T %s: the error is %v after %d writes, want a *NameTakenError and no write", desired, name, err, s.writes)
				}
			}
		}
	}
}

func TestSlimmer_ObjectsWithEqualFields_ShareOneCopy(t *testing.T) {
	t.Parallel()
	s, slimmer := newServer(t), apply.NewSlimmer()
	var all []metav1.ObjectMeta
	for _, name := range []string{"one", "two"} {
		o := deployment()
		o.Name, o.OwnerReferences[0].UID = name, types.UID("owner-of-"+name)
		desired := s.in(o)
		if _, err := s.applier().Apply(t.Context(), desired, nil); err != nil {
			t.Fatal(err)
		}
		all = append(all, slimmer.Metadata(s.read(t, desired)))
	}
	if all[0].ManagedFields[0].FieldsV1 != all[1].ManagedFields[0].FieldsV1 {
		t.Error("two similar objects have separate copies of their owned fields")
	}
}

func TestSlimmer_ObjectsWithEqualOwners_ShareOneCopy(t *testing.T) {
	t.Parallel()
	slimmer := apply.NewSlimmer()
	owners := func(change func(*metav1.OwnerReference)) []metav1.OwnerReference {
		o := deployment()
		change(&o.OwnerReferences[0])
		slim := slimmer.Metadata(o)
		if !reflect.DeepEqual(slim.OwnerReferences, o.OwnerReferences) {
			t.Errorf("the owners are %v, want %v", slim.OwnerReferences, o.OwnerReferences)
		}
		return slim.OwnerReferences
	}
	no := false
	original := owners(func(*metav1.OwnerReference) {})
	if again := owners(func(*metav1.OwnerReference) {}); &again[0] != &original[0] {
		t.Error("two objects with the same owner have separate copies of the reference")
	}
	for name, change := range map[string]func(*metav1.OwnerReference){
		"UID":                func(r *metav1.OwnerReference) { r.UID = "another" },
		"name":               func(r *metav1.OwnerReference) { r.Name = "another" },
		"controller":         func(r *metav1.OwnerReference) { r.Controller = &no },
		"blockOwnerDeletion": func(r *metav1.OwnerReference) { r.BlockOwnerDeletion = &no },
	} {
		if different := owners(change); &different[0] == &original[0] {
			t.Errorf("two objects whose owners differ in %s share one copy", name)
		}
	}
}
