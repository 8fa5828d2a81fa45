package controllers_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/controllers"
)

// An older CRD may have accepted a simulation that is now invalid. Such a simulation must not prevent the operator
// from listing the others.
func TestReconcile_InvalidStoredSimulation_DoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	c := newDedicatedCluster(t)
	stored := map[string]struct {
		spec map[string]any
		path string // the path of the invalid field
	}{
		"fraction": {map[string]any{"entry": map[string]any{"resources": map[string]any{"limits": map[string]any{"memory": "1e1.5"}}}}, "spec.entry.resources.limits[memory]"},
		"huge":     {map[string]any{"processor": map[string]any{"resources": map[string]any{"limits": map[string]any{"memory": "1e2147483640"}}}}, "spec.processor.resources.limits[memory]"},
		"storage":  {map[string]any{"redis": map[string]any{"managed": map[string]any{"storage": map[string]any{"size": "1e10000000"}}}}, "spec.redis.managed.storage.size"},
		"soon":     {map[string]any{"duration": "soon"}, "spec.duration"},
		"rate":     {map[string]any{"entry": map[string]any{"rate": int64(-5)}}, "spec.entry.rate"},
		"url":      {map[string]any{"summaryAPI": map[string]any{"url": "https:/user:hunter2@h/v1"}}, "spec.summaryAPI.url"},
		"empty":    {map[string]any{"rabbitmq": map[string]any{"secretRef": map[string]any{}}}, "spec.rabbitmq.secretRef.name"},
		"replicas": {map[string]any{"entry": map[string]any{"replicas": "abc"}}, "spec.entry.replicas"},
		"template": {templateWithVolume(map[string]any{"sizeLimit": "1e-2147483640"}), "spec.processor.template.spec.volumes[0].emptyDir.sizeLimit"},
		"args":     {templateWithContainer(map[string]any{"args": "--requirepass hunter2"}), "spec.processor.template.spec.containers[0].args"},
		"env":      {templateWithContainer(map[string]any{"env": []any{"PASSWORD=hunter2"}}), "spec.processor.template.spec.containers[0].env[0]"},
		"secret":   {map[string]any{"redis": map[string]any{"secretRef": map[string]any{"name": "host=a password=hunter2"}}}, "spec.redis.secretRef.name"},
		"suspend":  {map[string]any{"suspend": []any{}}, "spec.suspend"},
	}
	// A CEL rule of the CRD reads these values. Because of their wrong types, the API server cannot evaluate the rule,
	// and rejects every change of the simulation.
	rejected := map[string]struct {
		spec map[string]any
		path string
	}{
		"text":   {map[string]any{"entry": map[string]any{"rate": "abc"}}, "spec.entry.rate"},
		"object": {map[string]any{"entry": map[string]any{"stages": map[string]any{"duration": "5m"}}}, "spec.entry.stages"},
		"number": {map[string]any{"redis": int64(5)}, "spec.redis"},
		"list":   {map[string]any{"rabbitmq": map[string]any{"secretRef": []any{"broker"}}}, "spec.rabbitmq.secretRef"},
	}
	strict := c.replaceSchema(func(schema *apiextensionsv1.JSONSchemaProps) {
		schema.XValidations = nil
		schema.Properties["spec"] = apiextensionsv1.JSONSchemaProps{XPreserveUnknownFields: new(true)}
	})
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		c.Eventually("store "+name, func() error { return c.Client.Create(t.Context(), c.unchecked(name, stored[name].spec)) })
	}
	for name, tt := range rejected {
		sim := c.unchecked(name, tt.spec)
		sim.SetFinalizers([]string{controllers.Finalizer}) // the operator does not add its finalizer, because the spec is invalid
		if err := c.Client.Create(t.Context(), sim); err != nil {
			t.Fatal(err)
		}
	}
	c.replaceSchema(func(schema *apiextensionsv1.JSONSchemaProps) { *schema = *strict })
	c.Eventually("the API server to use the strict schema again", func() error {
		if err := c.Client.Create(t.Context(), c.unchecked("trial", stored["soon"].spec), client.DryRunAll); err == nil {
			return errors.New("it accepts an invalid duration")
		}
		return nil
	})

	c.startOperator()
	good := c.Simulate("good", nil)
	c.Expect(good, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	c.Expect(good, "Ready", metav1.ConditionTrue, "Running")
	for name, tt := range stored {
		sim := &v1alpha1.ParkingSimulation{}
		c.Exists(sim, name)
		if got := c.Expect(sim, "Stalled", metav1.ConditionTrue, "InvalidSpec"); !strings.Contains(got.Message, tt.path+": ") || strings.Contains(got.Message, "hunter2") {
			t.Errorf("%s: the message is %q, want one about %s", name, got.Message, tt.path)
		}
	}
	for name, tt := range rejected {
		c.AwaitEvent(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Name: name}}, "InvalidSpec", "cannot write the status or finalizers of the simulation: "+tt.path+": ")
	}
	c.Edit(good, func() { good.Spec.Suspend = true })
	c.Expect(good, "Ready", metav1.ConditionTrue, "Suspended")
	c.Delete(good, "good")
	c.Gone(good)
	for name := range stored {
		sim := &v1alpha1.ParkingSimulation{}
		c.Delete(sim, name)
		c.Gone(sim)
	}
	// The API server rejects every change of this simulation, even the removal of the finalizer, until the spec is
	// valid.
	text := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "text"}}
	c.Delete(text, "text")
	c.Edit(text, func() { text.Spec.Entry.Rate = new(int32(5)) })
	c.Gone(text)
}

// templateWithVolume returns a spec with a pod template that has the given emptyDir volume.
func templateWithVolume(emptyDir map[string]any) map[string]any {
	volume := map[string]any{"name": "scratch", "emptyDir": emptyDir}
	return templateWith(map[string]any{"volumes": []any{volume}})
}

// templateWithContainer returns a spec with a pod template that sets fields of the container "parking".
func templateWithContainer(container map[string]any) map[string]any {
	container["name"] = "parking"
	return templateWith(map[string]any{"containers": []any{container}})
}

func templateWith(podSpec map[string]any) map[string]any {
	return map[string]any{"processor": map[string]any{"template": map[string]any{"spec": podSpec}}}
}

// unchecked returns a simulation with an arbitrary spec, as an unstructured object.
func (c *cluster) unchecked(name string, spec map[string]any) *unstructured.Unstructured {
	sim := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	sim.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind))
	sim.SetNamespace(c.Namespace)
	sim.SetName(name)
	return sim
}

// replaceSchema edits the schema in the ParkingSimulation CRD. It returns the schema before the edit.
func (c *cluster) replaceSchema(edit func(*apiextensionsv1.JSONSchemaProps)) (before *apiextensionsv1.JSONSchemaProps) {
	c.T.Helper()
	scheme := c.Client.Scheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		c.T.Fatal(err)
	}
	definition := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "parkingsimulations." + v1alpha1.GroupVersion.Group}}
	c.Edit(definition, func() {
		schema := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
		before = schema.DeepCopy()
		edit(schema)
	})
	return before
}
