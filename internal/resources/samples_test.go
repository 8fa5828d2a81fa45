package resources_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// TestSamples_FitOnTwoCPUs adds up the CPU requests of the operator and the samples. The README must state the largest
// sum for a single sample, and the sum for the samples that kustomization.yaml applies together.
func TestSamples_FitOnTwoCPUs(t *testing.T) {
	t.Parallel()
	const directory = "../../config/samples/"
	// In a cluster made by kind, the system pods request, in millicores: API server 250, controller manager 200,
	// CoreDNS 200, etcd, scheduler and network 100 each.
	const capacity, system = 2000, 950
	const available = capacity - system
	var operator appsv1.Deployment
	read(t, "../../config/manager/manager.yaml", &operator)
	var together struct{ Resources []string }
	read(t, directory+"kustomization.yaml", &together)
	paths, err := filepath.Glob(directory + "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	base := operator.Spec.Template.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
	sum, most, samples := base, int64(0), 0
	for _, path := range paths {
		sim := &v1alpha1.ParkingSimulation{}
		read(t, path, sim)
		if sim.Kind != v1alpha1.Kind {
			continue
		}
		samples++
		in := input(t, "sim", "")
		sim.Namespace, sim.UID = in.Simulation.Namespace, in.Simulation.UID
		in.Simulation = sim
		cpu := requestedCPU(t, in)
		most = max(most, base+cpu)
		if base+cpu > available {
			t.Errorf("the operator and %s request %d millicores, want at most %d", path, base+cpu, available)
		}
		if slices.Contains(together.Resources, filepath.Base(path)) {
			sum += cpu
		}
	}
	const least = 6
	if samples < least {
		t.Errorf("there are %d samples, want %d or more", samples, least)
	}
	if sum == base || sum > available {
		t.Errorf("the operator and the samples of the kustomization request %d millicores, want more than %d and at most %d", sum, base, available)
	}
	if len(together.Resources) != 3 {
		t.Fatalf("the kustomization has the samples %q: adapt the README and this test", together.Resources)
	}
	checkReadme(t, fmt.Sprintf("request at most %d millicores", most))
	checkReadme(t, fmt.Sprintf("applies three samples at once: `%s`, `%s` and `%s`. Together with the operator, they request %d millicores",
		together.Resources[0], together.Resources[1], together.Resources[2], sum))
}

// checkReadme checks that the README contains a text. It ignores line breaks.
func checkReadme(t *testing.T, want string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), want) {
		t.Errorf("the README does not say %q", want)
	}
}

func read(t *testing.T, path string, object any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, object); err != nil {
		t.Fatal(err)
	}
}

// requestedCPU returns the CPU that all pods of a simulation request, in millicores.
func requestedCPU(t *testing.T, in testInput) int64 {
	t.Helper()
	var sum int64
	objects := build(t, in)
	replicas := replicasOf(t, objects)
	for workload, template := range templates(t, objects) {
		pod := resource.Quantity{}
		for _, c := range template.Spec.Containers {
			pod.Add(c.Resources.Requests[corev1.ResourceCPU])
		}
		// The pod requests the larger value: the largest request of an init container, or the sum of the requests of
		// the other containers. Init containers run one at a time, before the other containers.
		for _, c := range template.Spec.InitContainers {
			if request := c.Resources.Requests[corev1.ResourceCPU]; request.Cmp(pod) > 0 {
				pod = request
			}
		}
		sum += pod.MilliValue() * replicas[workload]
	}
	return sum
}
