package apply_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/apply"
)

// server keeps what was applied to it last.
type server struct {
	client.Writer
	client.Reader

	applied []byte
	writes  int
}

func (s *server) Apply(_ context.Context, o runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	s.writes++
	var err error
	s.applied, err = json.Marshal(o)
	return err
}

func (s *server) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	if s.applied == nil {
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	}
	return json.Unmarshal(s.applied, into)
}

func meta(name string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{
		Namespace: "default", Name: name, Labels: map[string]string{"a": "b"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Owner", Name: "owner", UID: "1", Controller: &yes}},
	}
}

func deployment() *appsv1.Deployment {
	replicas := int32(2)
	return &appsv1.Deployment{
		ObjectMeta: meta("d"),
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "c", Image: "i", Args: []string{"one", "two"},
				Env:       []corev1.EnvVar{{Name: "A", Value: "1"}},
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("1000m")}},
			}}}},
		},
	}
}

func policy() *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: meta("p"),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		},
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		desired client.Object
		// change is what happened to the live object since it was applied, wish how the desired one changed.
		change func(client.Object)
		wish   func(client.Object)
		want   apply.Result
	}{
		"what is as it should be is left alone": {desired: deployment(), want: apply.Unchanged},
		"what the server adds is left alone": {
			desired: deployment(),
			change: func(o client.Object) {
				d := o.(*appsv1.Deployment)
				d.UID, d.ResourceVersion, d.Generation = "2", "3", 4
				d.Status.Replicas = 2
				d.Spec.Template.Spec.DNSPolicy = corev1.DNSClusterFirst
				d.Spec.Template.Spec.Containers[0].TerminationMessagePath = "/dev/termination-log"
			},
			want: apply.Unchanged,
		},
		"what others add to lists of named elements is left alone": {
			desired: deployment(),
			change: func(o client.Object) {
				c := &o.(*appsv1.Deployment).Spec.Template.Spec.Containers
				(*c)[0].Env = append([]corev1.EnvVar{{Name: "B"}}, (*c)[0].Env...)
				*c = append([]corev1.Container{{Name: "sidecar"}}, *c...)
			},
			want: apply.Unchanged,
		},
		"labels that others add are left alone": {
			desired: deployment(),
			change:  func(o client.Object) { o.GetLabels()["theirs"] = "1" },
			want:    apply.Unchanged,
		},
		"an edit of the wish is applied": {
			desired: deployment(),
			wish:    func(o client.Object) { o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image = "j" },
			want:    apply.Updated,
		},
		"a field that is no longer wished for is an edit": {
			desired: deployment(),
			wish:    func(o client.Object) { o.(*appsv1.Deployment).Spec.Replicas = nil },
			want:    apply.Updated,
		},
		"a value changed by hand is healed": {
			desired: deployment(),
			change:  func(o client.Object) { *o.(*appsv1.Deployment).Spec.Replicas = 7 },
			want:    apply.Healed,
		},
		"a label taken away is healed": {
			desired: deployment(),
			change:  func(o client.Object) { delete(o.GetLabels(), "a") },
			want:    apply.Healed,
		},
		"an argument added by hand is healed": {
			desired: deployment(),
			change: func(o client.Object) {
				c := &o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0]
				c.Args = append(c.Args, "three")
			},
			want: apply.Healed,
		},
		"a rule added to a network policy is healed": {
			desired: policy(),
			change: func(o client.Object) {
				o.(*networkingv1.NetworkPolicy).Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
			},
			want: apply.Healed,
		},
		"a policy that selects less than it should is healed": {
			desired: policy(),
			change:  func(o client.Object) { o.(*networkingv1.NetworkPolicy).Spec.PodSelector.MatchLabels["only"] = "x" },
			want:    apply.Healed,
		},
		"metadata of a policy may be added": {
			desired: policy(),
			change:  func(o client.Object) { o.GetLabels()["theirs"] = "1" },
			want:    apply.Unchanged,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &server{}
			a := apply.New(s, s, clientgoscheme.Scheme)
			if got, err := a.Apply(t.Context(), test.desired, nil); err != nil || got != apply.Created {
				t.Fatalf("at first the result is %q, %v", got, err)
			}
			live := test.desired.DeepCopyObject().(client.Object)
			if err := json.Unmarshal(s.applied, live); err != nil {
				t.Fatal(err)
			}
			if test.change != nil {
				test.change(live)
			}
			if test.wish != nil {
				test.wish(test.desired)
			}
			s.writes = 0
			got, err := a.Apply(t.Context(), test.desired, live)
			if err != nil || got != test.want {
				t.Errorf("the result is %q, %v, want %q", got, err, test.want)
			}
			if wrote := s.writes > 0; wrote != (test.want != apply.Unchanged) {
				t.Errorf("%d writes for %q", s.writes, test.want)
			}
		})
	}
}

func TestAPolicyWithoutRulesSaysSo(t *testing.T) {
	t.Parallel()
	s := &server{}
	if _, err := apply.New(s, s, clientgoscheme.Scheme).Apply(t.Context(), policy(), nil); err != nil {
		t.Fatal(err)
	}
	if got := string(s.applied); !strings.Contains(got, `"egress":[]`) || !strings.Contains(got, `"ingress":[]`) {
		t.Errorf("sent is %s, want empty lists, which take away what others have put there", got)
	}
}

func TestALateCacheCausesNoWrite(t *testing.T) {
	t.Parallel()
	s := &server{}
	a := apply.New(s, s, clientgoscheme.Scheme)
	for _, want := range []apply.Result{apply.Created, apply.Unchanged} {
		if got, err := a.Apply(t.Context(), deployment(), nil); err != nil || got != want {
			t.Errorf("the result is %q, %v, want %q", got, err, want)
		}
	}
	if s.writes != 1 {
		t.Errorf("%d writes, want 1", s.writes)
	}
}

func TestAnObjectOfAnotherOwnerIsRefused(t *testing.T) {
	t.Parallel()
	other := deployment()
	other.OwnerReferences[0].UID = "2"
	orphan := deployment()
	orphan.OwnerReferences = nil
	for name, live := range map[string]client.Object{"another's": other, "nobody's": orphan} {
		s := &server{}
		_, err := apply.New(s, s, clientgoscheme.Scheme).Apply(t.Context(), deployment(), live)
		var taken *apply.NameTakenError
		if !errors.As(err, &taken) || taken.Kind != "Deployment" || s.writes > 0 {
			t.Errorf("%s: the error is %v after %d writes, want that the name is taken", name, err, s.writes)
		}
	}
}
