package controllers_test

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func TestReconcile_TemplateNotAllowed_Stalls(t *testing.T) {
	t.Parallel()
	c := newDedicatedCluster(t)
	c.startOperator()
	sim := c.Simulate("escalating", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Processor.Template = &v1alpha1.PodTemplate{Spec: &runtime.RawExtension{Raw: []byte(`{"hostNetwork":true}`)}}
	})
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "TemplateNotAllowed")
	c.Edit(sim, func() { sim.Spec.Processor.Template = nil })
	c.Exists(&appsv1.Deployment{}, "escalating-processor")
}

// If an edit makes the pod template invalid while the simulation runs, the pods keep the previous template until the
// template is corrected.
func TestReconcile_TemplateNotAllowedWhileRunning_KeepsPods(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("refused", nil)
	processor := &appsv1.Deployment{}
	c.Exists(processor, "refused-processor")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.Exists(processor, "refused-processor")
	before := processor.DeepCopy()
	c.Edit(sim, func() {
		sim.Spec.Processor.Replicas = new(int32(5))
		sim.Spec.Processor.Template = &v1alpha1.PodTemplate{Spec: rawExtension(`{"hostNetwork":true}`)}
	})
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "TemplateNotAllowed")
	// While the template is not allowed, the operator does not examine the workloads, so no condition may keep its
	// earlier value.
	for _, condition := range []string{"BrokerReady", "StoreReady", "SummaryAPIReady", "WorkloadsReady", "LedgerReadable", "Complete"} {
		c.Expect(sim, condition, metav1.ConditionUnknown, "NotExamined")
	}
	if rates := sim.Status.TargetRates; rates != nil {
		t.Errorf("the status shows the rates %+v, want none", rates)
	}
	c.Exists(processor, "refused-processor")
	if processor.Generation != before.Generation || processor.DeletionTimestamp != nil {
		t.Errorf("the Deployment was changed to %+v", processor.Spec)
	}

	// Pods may fail while the operator rejects the spec. The status must show this, because the scale subresource and
	// the HPA read it. The two rejections below end the reconcile in different phases.
	fail := func(pods, ready int32) {
		c.Exists(processor, "refused-processor")
		processor.Status = appsv1.DeploymentStatus{ObservedGeneration: processor.Generation, Replicas: pods, ReadyReplicas: ready}
		if err := c.Client.Status().Update(t.Context(), processor); err != nil {
			t.Fatal(err)
		}
		settled(c, sim, "refused", func(s *v1alpha1.ParkingSimulation) bool {
			return *s.Status.Replicas == pods && *s.Status.ReadyReplicas == ready
		})
	}
	fail(2, 1)
	c.Edit(sim, func() { sim.Spec.Processor.Template.Spec = rawExtension(`{"containerz":[]}`) })
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "InvalidSpec")
	fail(1, 0)

	c.Edit(sim, func() { sim.Spec.Processor.Template = nil })
	c.Eventually("the edit to be applied", func() error { return c.hasReplicas("refused-processor", 5) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
}

func TestReconcile_ClusterFeatures_ChangeTheDesiredObjects(t *testing.T) {
	t.Parallel()
	c := newDedicatedCluster(t)
	monitors := definition(resources.ServiceMonitorKind())
	spec := monitors.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	spec.Properties["scrapeNativeHistograms"] = apiextensionsv1.JSONSchemaProps{Type: "boolean"}
	constraints := definition(schema.GroupVersionKind{Group: "security.openshift.io", Version: "v1", Kind: "SecurityContextConstraints"})
	c.Define(monitors, constraints)
	c.startOperator()
	c.Simulate("featured", nil)
	c.Eventually("a ServiceMonitor that asks for native histograms", func() error {
		monitor := &unstructured.Unstructured{}
		monitor.SetGroupVersionKind(resources.ServiceMonitorKind())
		c.Exists(monitor, "featured-processor")
		if asks, _, err := unstructured.NestedBool(monitor.Object, "spec", "scrapeNativeHistograms"); err != nil || !asks {
			return fmt.Errorf("scrapeNativeHistograms is %v: %w", asks, err)
		}
		return nil
	})
	processor := &appsv1.Deployment{}
	c.Exists(processor, "featured-processor")
	if context := processor.Spec.Template.Spec.SecurityContext; context.RunAsUser != nil || context.FSGroup != nil {
		t.Errorf("the security context is %+v, want one without ids", context)
	}
}
