package controllers

import (
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
)

func TestPrune_FaultInEffect_DeletionOfWorkloadWaits(t *testing.T) {
	t.Parallel()
	meta := metav1.ObjectMeta{Namespace: "default", Name: "sim-summaries"}
	deployment, config := &appsv1.Deployment{ObjectMeta: meta}, &corev1.ConfigMap{ObjectMeta: meta}
	r := &Reconciler{client: fake.NewClientBuilder().WithObjects(deployment, config).Build()}
	s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, time.Now())
	s.held = hold{reasonFaultInEffect, "fault stall/0 has ended"}
	s.children = map[childKey]client.Object{{"Deployment", meta.Name}: deployment, {"ConfigMap", meta.Name}: config}
	if err := r.prune(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := r.client.Get(t.Context(), client.ObjectKeyFromObject(deployment), deployment); err != nil {
		t.Errorf("the Deployment was deleted during the fault: %v", err)
	}
	if err := r.client.Get(t.Context(), client.ObjectKeyFromObject(config), config); !apierrors.IsNotFound(err) {
		t.Errorf("the ConfigMap was not deleted: %v", err)
	}
	const want = "The deletion of Deployment sim-summaries waits until fault stall/0 has ended"
	if f := s.findings.objects; f.state != progressing || f.reason != reasonFaultInEffect || f.message != want {
		t.Errorf("the finding is %v/%s: %q, want %v/%s: %q", f.state, f.reason, f.message, progressing, reasonFaultInEffect, want)
	}
}

func TestBuild_PrivilegedTemplate_IsRejectedUnlessTheOptionsAllowIt(t *testing.T) {
	t.Parallel()
	const class = "parking-operator"
	host, priority := `{"hostNetwork":true}`, `{"priorityClassName":"`+class+`"}`
	for name, tt := range map[string]struct {
		options  Options
		template string
		allowed  bool
	}{
		"the host's network": {Options{}, host, false},
		"the host's network, privileged templates allowed":   {Options{AllowPrivilegedTemplates: true}, host, true},
		"a priority class that the operator does not use":    {Options{PriorityClass: "other"}, priority, true},
		"the operator's priority class":                      {Options{PriorityClass: class}, priority, false},
		"the operator's class, privileged templates allowed": {Options{PriorityClass: class, AllowPrivilegedTemplates: true}, priority, true},
	} {
		sim := externalSimulation()
		sim.Spec.Processor.Template = &v1alpha1.PodTemplate{Spec: &runtime.RawExtension{Raw: []byte(tt.template)}}
		c, s := fake.NewClientBuilder().Build(), newScope(sim, time.Now())
		tt.options.Images.Parking = "parking:test"
		err := NewReconciler(tt.options, Dependencies{Client: c, Direct: c}).build(t.Context(), s)
		switch {
		case tt.allowed && (err != nil || len(s.desired) == 0):
			t.Errorf("%s: there are %d desired objects (%v), want some: %s", name, len(s.desired), err, s.findings.spec.message)
		case !tt.allowed && (!errors.Is(err, errHalt) || s.findings.spec.reason != reasonTemplateNotAllowed):
			t.Errorf("%s: the finding is %+v (%v), want the reason %s", name, s.findings.spec, err, reasonTemplateNotAllowed)
		}
	}
}

func TestApplyFailed_EachError_MessageHasCauseAndRemedy(t *testing.T) {
	t.Parallel()
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	services := schema.GroupResource{Resource: "services"}
	invalid := field.ErrorList{field.Invalid(field.NewPath("spec", "template"), 99999, "must be between 1 and 65535")}
	gone := apierrors.NewNotFound(schema.GroupResource{}, "")
	gone.ErrStatus.Message = "the server could not find the requested resource"
	terminating := apierrors.NewForbidden(deployments, "sim-entry", errors.New("because it is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	tests := map[string]struct {
		kind    string
		err     error
		state   state
		reason  string
		message []string
		wake    time.Duration
	}{
		"the name belongs to another object": {
			"Secret", &apply.NameTakenError{Kind: "Secret"}, stalled, reasonNameTaken, []string{"delete it, or give the simulation another name"}, 0,
		},
		"the object is invalid": {
			"Deployment", apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: "Deployment"}, "sim-entry", invalid),
			stalled, reasonRejected, []string{"Deployment sim-entry", "spec.template", "must be between 1 and 65535", "Undo the last edit"}, 0,
		},
		"a webhook rejects the object with the status 400": {
			"Deployment", apierrors.NewBadRequest(`admission webhook "policy.example.com" denied the request: no owner label`),
			stalled, reasonRejected, []string{"denied the request: no owner label", "Undo the last edit"}, 0,
		},
		"the namespace is being deleted": {
			"Secret", terminating, progressing, reasonApplyFailed, []string{"is being deleted"}, 0,
		},
		"a quota is exceeded": {
			"Deployment", apierrors.NewForbidden(deployments, "sim-entry", errors.New("exceeded quota: small")),
			progressing, reasonQuota, []string{"exceeded quota: small", "raise the namespace's quota"}, 0,
		},
		"a quota that is not counted yet": {
			"Service", apierrors.NewForbidden(services, "sim-entry", errors.New("status unknown for quota: small, resources: services")),
			progressing, reasonQuota, []string{"status unknown for quota: small", "wait until Kubernetes has counted"}, 0,
		},
		"a permission is missing": {
			"Deployment", apierrors.NewForbidden(deployments, "sim-entry", errors.New("no RBAC policy matched")),
			stalled, reasonForbidden, []string{"no RBAC policy matched", "grant the operator's role the permission"}, 0,
		},
		"the API server is overloaded": {
			"Deployment", apierrors.NewTooManyRequests("slow down", 1), progressing, reasonApplyFailed, []string{"slow down", "the operator retries"}, 0,
		},
		"an optional CRD has just been deleted": {"ServiceMonitor", gone, unchecked, "", nil, 5 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScope(&v1alpha1.ParkingSimulation{}, time.Now())
			err := (&Reconciler{}).applyFailed(s, childKey{tt.kind, "sim-entry"}, tt.err)
			if f := s.findings.objects; f.state != tt.state || f.reason != tt.reason || s.wake != tt.wake {
				t.Errorf("the finding is %v/%s with a wake after %v, want %v/%s after %v", f.state, f.reason, s.wake, tt.state, tt.reason, tt.wake)
			}
			if (err != nil) != (tt.reason != "") {
				t.Errorf("the error is %v", err)
			}
			for _, want := range tt.message {
				if !strings.Contains(s.findings.objects.message, want) {
					t.Errorf("the message is %q, want it to contain %q", s.findings.objects.message, want)
				}
			}
		})
	}
}

// Edits wait during a Pause or Isolate, because replacing a pod would end the fault early. But pods must stop at once
// if they mount a Secret without permission.
func TestIsHeld_PauseOrIsolateInEffect_HoldsEditsUnlessPodsMustStop(t *testing.T) {
	t.Parallel()
	redis, entry := childKey{"StatefulSet", "sim-redis"}, childKey{"Deployment", "sim-entry"}
	for name, tt := range map[string]struct {
		edit func(s *scope)
		want map[childKey]bool
	}{
		"no pod must stop":             {func(*scope) {}, map[childKey]bool{redis: true, entry: true, {"ConfigMap", "sim"}: false}},
		"the pods of Redis must stop":  {func(s *scope) { s.withheld[redis] = true }, map[childKey]bool{redis: false, entry: true}},
		"pods must not mount a Secret": {func(s *scope) { s.broker.withheld = true }, map[childKey]bool{redis: false, entry: false}},
		"no fault is in effect":        {func(s *scope) { s.held = hold{} }, map[childKey]bool{redis: false, entry: false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, time.Now())
			s.held = hold{reasonFaultInEffect, "fault stall/0 has ended"}
			tt.edit(s)
			for key, want := range tt.want {
				if got := s.isHeld(key); got != want {
					t.Errorf("an edit of %v waits: %t, want %t", key, got, want)
				}
			}
		})
	}
}
