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

// chart renders the Helm chart for a release named parking-operator in the namespace parking-operator-system.
func chart(t *testing.T, values ...string) []*unstructured.Unstructured {
	t.Helper()
	return release(t, system, values...)
}

// release renders the Helm chart for a release named parking-operator in the given namespace.
func release(t *testing.T, namespace string, values ...string) []*unstructured.Unstructured {
	t.Helper()
	args := []string{"template", "parking-operator", "charts/parking-operator", "--namespace", namespace}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	return parse(t, tool(t, "helm", args...))
}

func TestChart_MatchesKustomization(t *testing.T) {
	t.Parallel()
	for directories, values := range map[string][]string{
		"default":            nil,
		"default prometheus": {"metrics.serviceMonitor.enabled=true"},
		"namespaced":         {"simulations.namespaces={" + system + "}"},
	} {
		t.Run(directories, func(t *testing.T) {
			t.Parallel()
			var objects []*unstructured.Unstructured
			for directory := range strings.FieldsSeq(directories) {
				objects = append(objects, kustomization(t, directory)...)
			}
			if diff := cmp.Diff(common(t, objects), common(t, chart(t, values...))); diff != "" {
				t.Errorf("the chart differs from the kustomization (-kustomization +chart):\n%s", diff)
			}
		})
	}
}

func TestChart_WithValuesOfLocalCluster_MatchesKustomizationOfLocalCluster(t *testing.T) {
	t.Parallel()
	const config = "hack/cluster/config/"
	for _, kind := range []string{"native", "kind"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			kustomized := parse(t, tool(t, "kustomize", "build", config+"operator-"+kind))
			rendered := parse(t, tool(t, "helm", "template", "parking-operator", "charts/parking-operator",
				"--namespace", system, "--values", config+"values-"+kind+".yaml"))
			if diff := cmp.Diff(common(t, kustomized), common(t, rendered)); diff != "" {
				t.Errorf("the chart differs from the kustomization (-kustomization +chart):\n%s", diff)
			}
		})
	}
}

// common returns the objects by name, without the intended differences between installations with kubectl and Helm.
func common(t *testing.T, objects []*unstructured.Unstructured) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, object := range objects {
		if object.GetKind() == "Namespace" {
			continue // helm install --create-namespace creates the Namespace, so the chart does not contain it
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
		trimNamespace(object.Object)
		name := fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
		if all[name] != nil {
			t.Errorf("there are two objects %s", name)
		}
		all[name] = object.Object
	}
	return all
}

// trimNamespace removes the namespace of the release from the names of cluster-scoped objects, and from references
// to them.
func trimNamespace(value any) {
	switch value := value.(type) {
	case map[string]any:
		for name, field := range value {
			if text, isText := field.(string); isText && (name == "name" || name == "priorityClassName") {
				value[name] = strings.TrimSuffix(text, "."+system)
			} else {
				trimNamespace(field)
			}
		}
	case []any:
		for _, element := range value {
			trimNamespace(element)
		}
	}
}

// resolveNamespace replaces $(POD_NAMESPACE) in the arguments of a container, as Kubernetes does, and then removes the
// namespace of the release from the arguments.
func resolveNamespace(t *testing.T, deployment *unstructured.Unstructured) {
	t.Helper()
	containers, _, err := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	if err != nil {
		t.Fatal(err)
	}
	args := containers[0].(map[string]any)["args"].([]any)
	for i, arg := range args {
		args[i] = strings.TrimSuffix(strings.ReplaceAll(arg.(string), "$(POD_NAMESPACE)", system), "."+system)
	}
	if err := unstructured.SetNestedSlice(deployment.Object, containers, "spec", "template", "spec", "containers"); err != nil {
		t.Fatal(err)
	}
}

func TestChart_APIServerAcceptsAllObjects(t *testing.T) {
	t.Parallel()
	c := apiserver.New(t).Client
	namespaced(t, c)
	for name, values := range map[string][]string{
		"default values":            nil,
		"limited to two namespaces": {"simulations.namespaces={" + system + ",default}"},
		"all options": {
			"replicas=2", "metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.labels.release=prometheus",
			"metrics.serviceMonitor.reader.name=prometheus", "metrics.serviceMonitor.reader.namespace=monitoring",
			"metrics.certificateSecret=certificates", "imagePullSecrets={a}", "simulations.images.pullSecrets={b}",
			"image.pullPolicy=IfNotPresent", "serviceAccount.annotations.a=b", "nodeSelector.disk=ssd",
			"tolerations[0].operator=Exists", "podAnnotations.a=b", "podLabels.a=b", "extraArgs={--pprof-address=0}",
			"topologySpreadConstraints[0].maxSkew=1,topologySpreadConstraints[0].topologyKey=zone,topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
		},
		"as few objects as possible": {
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

// TestChart_TwoReleases_ShareNoObject renders two releases with the same name in two namespaces. Helm refuses to
// install a release that contains an object of another release.
func TestChart_TwoReleases_ShareNoObject(t *testing.T) {
	t.Parallel()
	first := map[string]bool{}
	id := func(o *unstructured.Unstructured) string {
		return fmt.Sprintf("%s %s/%s", o.GetKind(), o.GetNamespace(), o.GetName())
	}
	for _, object := range release(t, "team-a", "simulations.namespaces={team-a}") {
		first[id(object)] = true
	}
	second := release(t, "team-b", "simulations.namespaces={team-b}", "crds.install=false")
	for _, object := range second {
		if first[id(object)] {
			t.Errorf("both releases contain %s", id(object))
		}
	}
	const least = 15
	if len(second) < least {
		t.Errorf("the second release has %d objects, want %d or more", len(second), least)
	}
}
