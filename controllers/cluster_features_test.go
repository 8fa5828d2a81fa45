package controllers_test

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// If an edit sets a forbidden pod template while the simulation runs, the pods keep the previous template until a user
// corrects the new template.
func TestReconcile_RunningSimulationGetsForbiddenTemplate_KeepsPods(t *testing.T) {
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
	// While the operator rejects the template, it examines no part of the simulation, so the earlier values of these
	// conditions may be outdated.
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

	// An HPA reads the numbers of pods from the scale subresource, even while the spec is invalid. The two
	// templates end the reconcile in different phases.
	fail := func(pods, ready int32) {
		c.setProcessorPods(sim, pods, ready)
		c.checkScale(sim, 5, pods)
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

// setProcessorPods acts as the Deployment controller: it sets the numbers of existing and ready processor pods. Then
// it waits for the status of the simulation.
func (c *cluster) setProcessorPods(sim *v1alpha1.ParkingSimulation, pods, ready int32) {
	c.T.Helper()
	name := resources.Name(sim, resources.ComponentProcessor)
	c.Eventually("the status of "+name+" to be written", func() error {
		d := &appsv1.Deployment{}
		if err := c.Client.Get(c.T.Context(), client.ObjectKey{Namespace: c.Namespace, Name: name}, d); err != nil {
			return err
		}
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: pods, UpdatedReplicas: pods, ReadyReplicas: ready}
		return c.Client.Status().Update(c.T.Context(), d)
	})
	settled(c, sim, sim.Name, func(s *v1alpha1.ParkingSimulation) bool {
		return *s.Status.Replicas == pods && *s.Status.ReadyReplicas == ready
	})
}

// checkScale checks the scale subresource, which an HPA reads: the numbers of desired and existing pods, and that the
// selector selects exactly the processor pods.
func (c *cluster) checkScale(sim *v1alpha1.ParkingSimulation, desired, pods int32) {
	c.T.Helper()
	scale := &autoscalingv1.Scale{}
	if err := c.Client.SubResource("scale").Get(c.T.Context(), sim, scale); err != nil {
		c.T.Fatal(err)
	}
	if scale.Spec.Replicas != desired || scale.Status.Replicas != pods {
		c.T.Errorf("the scale has %d desired and %d existing pods, want %d and %d", scale.Spec.Replicas, scale.Status.Replicas, desired, pods)
	}
	selector, err := labels.Parse(scale.Status.Selector)
	if err != nil {
		c.T.Fatal(err)
	}
	for _, component := range []resources.Component{resources.ComponentProcessor, resources.ComponentEntry, resources.ComponentExit} {
		d := &appsv1.Deployment{}
		c.Exists(d, resources.Name(sim, component))
		if selects := selector.Matches(labels.Set(d.Spec.Template.Labels)); selects != (component == resources.ComponentProcessor) {
			c.T.Errorf("the selector %q of the scale selects the pods of the %s: %t", scale.Status.Selector, component, selects)
		}
	}
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
