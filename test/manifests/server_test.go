// Package manifests_test checks the installation manifests, both in config and in the Helm chart, against a real
// API server.
package manifests_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/test/apiserver"
)

const (
	root = "../.."
	// system is the namespace of the operator in the manifests.
	system = "parking-operator-system"
)

func TestMain(m *testing.M) { os.Exit(apiserver.NewTests(m, "testdata").Run()) }

// tool runs a program that the Makefile has built and returns the output. The working directory is the root of the
// repository.
func tool(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	output, err := runTool(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

func runTool(t *testing.T, name string, args ...string) ([]byte, error) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, ".tools/bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		apiserver.Missing(t, fmt.Sprintf("%s is not built: run make .tools/bin/%s", name, name))
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = root
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %v: %w\n%s", name, args, err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

func parse(t *testing.T, text []byte) []*unstructured.Unstructured {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// kustomization renders the kustomization in a subdirectory of config.
func kustomization(t *testing.T, directory string) []*unstructured.Unstructured {
	t.Helper()
	return parse(t, tool(t, "kustomize", "build", filepath.Join("config", directory)))
}

// namespaced makes sure that the namespace of the manifests exists.
func namespaced(t *testing.T, c client.Client) {
	t.Helper()
	for _, object := range kustomization(t, "manager") {
		if object.GetKind() == "Namespace" {
			object.SetName(system)
			install(t, c, object)
		}
	}
}

func install(t *testing.T, c client.Client, object *unstructured.Unstructured) {
	t.Helper()
	err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object.DeepCopy()), client.FieldOwner("test"), client.ForceOwnership)
	if err != nil {
		t.Fatalf("%s %s: %v", object.GetKind(), object.GetName(), err)
	}
}

// admitted fails the test unless the API server accepts the objects, and the pods of their templates, in dry-run
// requests. Unknown fields also fail the test.
func admitted(t *testing.T, c client.Client, objects []*unstructured.Unstructured) {
	t.Helper()
	if len(objects) == 0 {
		t.Error("the manifests contain no objects")
	}
	for _, object := range objects {
		object := object.DeepCopy()
		if object.GetNamespace() == "" && object.GetKind() == "ParkingSimulation" {
			object.SetNamespace(metav1.NamespaceDefault)
		}
		if object.GetKind() == "PriorityClass" { // a pod is admitted only if its PriorityClass exists
			install(t, c, object)
		}
		err := c.Patch(t.Context(), object, client.Apply, client.DryRunAll, client.FieldOwner("test"), client.ForceOwnership, client.FieldValidation("Strict")) //nolint:staticcheck // Apply takes no field validation
		if err != nil {
			t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
		}
		if object.GetKind() == "Deployment" {
			podAdmitted(t, c, object)
		}
	}
}

// podAdmitted checks that the API server accepts the pod of a Deployment. Some admission plugins check only pods.
func podAdmitted(t *testing.T, c client.Client, deployment *unstructured.Unstructured) {
	t.Helper()
	template, _, err := unstructured.NestedMap(deployment.Object, "spec", "template")
	if err != nil {
		t.Fatal(err)
	}
	pod := &unstructured.Unstructured{Object: template}
	pod.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	pod.SetNamespace(deployment.GetNamespace())
	pod.SetName("a-pod")
	var last error
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		last = c.Create(ctx, pod.DeepCopy(), client.DryRunAll, client.FieldValidation("Strict"))
		// The priority admission plugin rejects pods with a new PriorityClass until its informer has received the
		// class.
		return last == nil || !strings.Contains(last.Error(), "no PriorityClass"), nil
	})
	if err = errors.Join(err, last); err != nil {
		t.Errorf("a pod of %s: %v", deployment.GetName(), err)
	}
}
