package resources_test

import (
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

func TestMain(m *testing.M) { os.Exit(apiserver.NewTests(m).Run()) }

// definition returns a CRD of the Prometheus Operator. The schema of the CRD contains only the fields that package
// resources sets.
func definition(kind schema.GroupVersionKind, spec apiextensionsv1.JSONSchemaProps) *apiextensionsv1.CustomResourceDefinition {
	return apiserver.Definition(kind, fields(map[string]apiextensionsv1.JSONSchemaProps{"spec": spec}))
}

func fields(properties map[string]apiextensionsv1.JSONSchemaProps) *apiextensionsv1.JSONSchemaProps {
	return &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: properties}
}

func text(pattern string) apiextensionsv1.JSONSchemaProps {
	return apiextensionsv1.JSONSchemaProps{Type: "string", Pattern: pattern}
}

func listOf(item apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps {
	return apiextensionsv1.JSONSchemaProps{Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &item}}
}

func texts() apiextensionsv1.JSONSchemaProps {
	item := text("")
	return apiextensionsv1.JSONSchemaProps{Type: "object", AdditionalProperties: &apiextensionsv1.JSONSchemaPropsOrBool{Schema: &item}}
}

// prometheusTime is the pattern of a duration in the Prometheus Operator API.
const prometheusTime = `^([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$`

func serviceMonitorSpec() apiextensionsv1.JSONSchemaProps {
	return *fields(map[string]apiextensionsv1.JSONSchemaProps{
		"selector": *fields(map[string]apiextensionsv1.JSONSchemaProps{"matchLabels": texts()}),
		"endpoints": listOf(*fields(map[string]apiextensionsv1.JSONSchemaProps{
			"port": text(""), "path": text(""), "interval": text(prometheusTime),
			"scheme": text("^https?$"),
			"tlsConfig": *fields(map[string]apiextensionsv1.JSONSchemaProps{
				"serverName": text(""),
				"ca": *fields(map[string]apiextensionsv1.JSONSchemaProps{
					"secret": *fields(map[string]apiextensionsv1.JSONSchemaProps{"name": text(""), "key": text("")}),
				}),
			}),
			"relabelings": listOf(*fields(map[string]apiextensionsv1.JSONSchemaProps{
				"sourceLabels": listOf(text("^[a-zA-Z_][a-zA-Z0-9_]*$")), "targetLabel": text(""),
			})),
		})),
	})
}

func prometheusRuleSpec() apiextensionsv1.JSONSchemaProps {
	return *fields(map[string]apiextensionsv1.JSONSchemaProps{
		"groups": listOf(*fields(map[string]apiextensionsv1.JSONSchemaProps{
			"name": text(""),
			"rules": listOf(*fields(map[string]apiextensionsv1.JSONSchemaProps{
				"record": text(""), "alert": text(""), "expr": text(""), "for": text(prometheusTime), "labels": texts(), "annotations": texts(),
			})),
		})),
	})
}

func TestBuild_APIServerAcceptsObjectsAndPods(t *testing.T) {
	t.Parallel()
	server := apiserver.New(t)
	server.Define(
		definition(resources.ServiceMonitorKind(), serviceMonitorSpec()),
		definition(resources.PrometheusRuleKind(), prometheusRuleSpec()),
	)
	server.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "lot", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}})
	c := server.Client
	trial := apply.New(client.WithFieldValidation(client.NewDryRunClient(c), metav1.FieldValidationStrict), c, clientgoscheme.Scheme)
	checkDrawn(t, trial)
	for name, in := range simulations(t) {
		objects := build(t, in)
		for _, object := range objects {
			if _, err := trial.Apply(t.Context(), object, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		checkAppliedOnce(t, c, objects)
		for workload, template := range templates(t, objects) {
			pod := podOf(in.Simulation.Namespace, workload, template)
			if err := c.Create(t.Context(), pod, client.DryRunAll, client.FieldValidation("Strict")); err != nil {
				t.Errorf("%s: a pod of %s: %v", name, workload, err)
			}
		}
	}
}

func podOf(namespace, workload string, template corev1.PodTemplateSpec) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
	pod.Namespace, pod.Name = namespace, workload+"-0"
	pod.Spec.PriorityClassName = "" // the PriorityClass does not exist, so the API server would reject the pod
	// Add the volumes of the volume claim templates, as the StatefulSet controller does in a cluster.
	pod.Spec.Volumes = append(pod.Spec.Volumes, missingVolumes(pod.Spec)...)
	return pod
}

// checkDrawn checks by a dry run that the API server accepts randomly drawn specs. Unknown fields are errors.
func checkDrawn(t *testing.T, trial *apply.Applier) {
	t.Helper()
	const specs = 15
	for i := range specs {
		in := input(t, "drawn", "")
		in.Simulation.Spec = rapid.Custom(drawSpec).Example(i)
		for _, object := range build(t, in) {
			if _, err := trial.Apply(t.Context(), object, nil); err != nil {
				t.Errorf("drawn spec %d: %v", i, err)
			}
		}
	}
}

// checkAppliedOnce checks that the API server stores objects exactly as the operator applies them.
func checkAppliedOnce(t *testing.T, c client.Client, objects []client.Object) {
	t.Helper()
	applier := apply.New(c, c, clientgoscheme.Scheme)
	for _, want := range []apply.Result{apply.Created, apply.Unchanged} {
		for _, object := range objects {
			if got, err := applier.Apply(t.Context(), object, nil); err != nil || got != want {
				t.Errorf("Apply of %T %s returns %q (%v), want %q", object, object.GetName(), got, err, want)
			}
		}
	}
}

func missingVolumes(spec corev1.PodSpec) []corev1.Volume {
	for _, volume := range spec.Volumes {
		if volume.Name == "data" {
			return nil
		}
	}
	return []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}}}
}
