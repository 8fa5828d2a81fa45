package manifests_test

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/parking-operator/parking-operator/test/apiserver"
)

func TestKustomizations_APIServerAcceptsAllObjects(t *testing.T) {
	t.Parallel()
	c := apiserver.New(t).Client
	namespaced(t, c)
	for _, directory := range []string{"crd", "default", "namespaced", "prometheus", "samples"} {
		t.Run(directory, func(t *testing.T) {
			t.Parallel()
			admitted(t, c, kustomization(t, directory))
		})
	}
}

func TestRoles_GrantNoWildcardsAndNoPrivilegeEscalation(t *testing.T) {
	t.Parallel()
	for _, directory := range []string{"default", "namespaced"} {
		for _, object := range kustomization(t, directory) {
			for _, rule := range rules(t, object) {
				what := slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs, rule.NonResourceURLs)
				for _, forbidden := range []string{"*", rbacv1.GroupName, "escalate", "bind", "impersonate", "serviceaccounts/token", "pods/exec"} {
					if slices.Contains(what, forbidden) {
						t.Errorf("%s: %s %s has %q in %v", directory, object.GetKind(), object.GetName(), forbidden, rule)
					}
				}
			}
		}
	}
}

func rules(t *testing.T, object *unstructured.Unstructured) []rbacv1.PolicyRule {
	t.Helper()
	var role rbacv1.ClusterRole
	if object.GetKind() != "Role" && object.GetKind() != "ClusterRole" {
		return nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
		t.Fatal(err)
	}
	if len(role.Rules) == 0 {
		t.Errorf("%s %s has no rules", object.GetKind(), object.GetName())
	}
	return role.Rules
}

func TestNamespacedRoles_AreBoundInOneNamespace(t *testing.T) {
	t.Parallel()
	for _, object := range kustomization(t, "namespaced") {
		if object.GetKind() != "ClusterRoleBinding" {
			continue
		}
		switch object.GetName() {
		case "parking-operator-definition-reader-rolebinding", "parking-operator-metrics-auth-rolebinding":
		default:
			t.Errorf("ClusterRoleBinding %s gives rights in every namespace", object.GetName())
		}
	}
}

func TestManagerDeployment_UsesItsOwnImageForSimulations(t *testing.T) {
	t.Parallel()
	for _, object := range kustomization(t, "default") {
		if object.GetKind() != "Deployment" {
			continue
		}
		containers, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
		container := containers[0].(map[string]any)
		if args := container["args"].([]any); !slices.Contains(args, any("--image="+container["image"].(string))) {
			t.Errorf("the image is %v, the arguments are %v", container["image"], args)
		}
	}
}
