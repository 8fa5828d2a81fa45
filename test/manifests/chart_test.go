package manifests_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/parking-operator/parking-operator/test/apiserver"
)

// chart renders the chart as an installation under its own name would.
func chart(t *testing.T, values ...string) []*unstructured.Unstructured {
	t.Helper()
	args := []string{"template", "parking-operator", "charts/parking-operator", "--namespace", system}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	return parse(t, tool(t, "helm", args...))
}

func TestTheChartInstallsWhatTheKustomizationDoes(t *testing.T) {
	t.Parallel()
	for folders, values := range map[string][]string{
		"default":            nil,
		"default prometheus": {"metrics.serviceMonitor.enabled=true"},
		"namespaced":         {"simulations.namespaces={" + system + "}"},
	} {
		t.Run(folders, func(t *testing.T) {
			t.Parallel()
			var objects []*unstructured.Unstructured
			for folder := range strings.FieldsSeq(folders) {
				objects = append(objects, kustomization(t, folder)...)
			}
			if diff := cmp.Diff(common(t, objects), common(t, chart(t, values...))); diff != "" {
				t.Errorf("the chart installs something else (-config +chart):\n%s", diff)
			}
		})
	}
}

// common returns objects by name, without what tells how they were installed.
func common(t *testing.T, objects []*unstructured.Unstructured) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, object := range objects {
		if object.GetKind() == "Namespace" {
			continue // Helm makes it, or somebody else
		}
		labels := object.GetLabels()
		maps.DeleteFunc(labels, func(key, _ string) bool {
			return slices.Contains([]string{"app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"}, key)
		})
		object.SetLabels(labels)
		annotations := object.GetAnnotations()
		delete(annotations, "helm.sh/resource-policy")
		object.SetAnnotations(annotations)
		if object.GetKind() == "Deployment" {
			resolveNamespace(t, object)
		}
		name := fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
		if all[name] != nil {
			t.Errorf("%s is there twice", name)
		}
		all[name] = object.Object
	}
	return all
}

// resolveNamespace does as Kubernetes with an argument that names the pod's namespace.
func resolveNamespace(t *testing.T, deployment *unstructured.Unstructured) {
	t.Helper()
	containers, _, err := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	if err != nil {
		t.Fatal(err)
	}
	args := containers[0].(map[string]any)["args"].([]any)
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg.(string), "$(POD_NAMESPACE)", system)
	}
	if err := unstructured.SetNestedSlice(deployment.Object, containers, "spec", "template", "spec", "containers"); err != nil {
		t.Fatal(err)
	}
}

func TestTheAPIServerTakesTheChart(t *testing.T) {
	t.Parallel()
	c := apiserver.New(t).Client
	namespaced(t, c)
	for name, values := range map[string][]string{
		"as it is":       nil,
		"for namespaces": {"simulations.namespaces={" + system + ",default}"},
		"with everything": {
			"replicas=2", "metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.labels.release=prometheus",
			"metrics.serviceMonitor.reader.name=prometheus", "metrics.serviceMonitor.reader.namespace=monitoring",
			"metrics.certificateSecret=certificates", "imagePullSecrets={a}", "simulations.images.pullSecrets={b}",
			"image.pullPolicy=IfNotPresent", "serviceAccount.annotations.a=b", "nodeSelector.disk=ssd",
			"tolerations[0].operator=Exists", "podAnnotations.a=b", "podLabels.a=b", "extraArgs={--pprof-address=0}",
			"topologySpreadConstraints[0].maxSkew=1,topologySpreadConstraints[0].topologyKey=zone,topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
		},
		"with little": {
			"crds.install=false", "rbac.create=false", "serviceAccount.create=false", "metrics.enabled=false",
			"networkPolicy.enabled=false", "podDisruptionBudget.enabled=false",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			admitted(t, c, chart(t, values...))
		})
	}
}
