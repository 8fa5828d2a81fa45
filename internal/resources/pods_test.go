package resources_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func container(t *testing.T, in testInput, workload, name string) corev1.Container {
	t.Helper()
	template := templates(t, build(t, in))[workload]
	for _, c := range append(template.Spec.InitContainers, template.Spec.Containers...) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("%s has no container %s", workload, name)
	return corev1.Container{}
}

func TestBuild_ContainerWithMemoryLimit_SetsGOMEMLIMIT(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"": "483183810", // 90 % of 512Mi
		"processor: {resources: {limits: {memory: 100Mi}}}": "94371840",
		"processor: {resources: {limits: {memory: 1Gi}}, template: {spec: {containers: [{name: parking, resources: {limits: {memory: 100Mi}}}]}}}": "94371840",
		"processor: {template: {spec: {containers: [{name: parking, env: [{name: GOMEMLIMIT, value: 1MiB}]}]}}}":                                   "1MiB",
		"processor: {resources: {}}": "",
	} {
		var got string
		for _, variable := range container(t, input(t, "sim", spec), "sim-processor", "parking").Env {
			if variable.Name == "GOMEMLIMIT" {
				got = variable.Value
			}
		}
		if got != want {
			t.Errorf("%s: GOMEMLIMIT is %q, want %q", spec, got, want)
		}
	}
}

func TestBuild_TemplateWithMemoryLimit_LimitsMemoryInServerConfiguration(t *testing.T) {
	t.Parallel()
	objects := build(t, input(t, "sim", `rabbitmq: {managed: {template: {spec: {containers: [{name: rabbitmq, resources: {limits: {memory: 2000Mi}}}]}}}},
		redis: {managed: {template: {spec: {containers: [{name: redis, resources: {limits: {memory: 1000Mi}}}]}}}}`))
	for config, want := range map[string]string{
		"sim-rabbitmq": "total_memory_available_override_value = 1677721600\n", // 80 % of 2000Mi
		"sim-redis":    "maxmemory 734003200\n",                                // 70 % of 1000Mi
	} {
		var all []string
		for _, text := range find[*corev1.ConfigMap](t, objects, config).Data {
			all = append(all, text)
		}
		if !strings.Contains(strings.Join(all, ""), want) {
			t.Errorf("ConfigMap %s has %q, want %q", config, all, want)
		}
	}
}

func TestBuild_PodTemplateOfServer_IsMergedIntoItsPods(t *testing.T) {
	t.Parallel()
	const template = `template: {metadata: {labels: {team: a}}, spec: {nodeSelector: {disk: ssd}, tolerations: [{key: dedicated, operator: Exists}],
		priorityClassName: high, securityContext: {runAsUser: 1000}, containers: [{name: NAME, env: [{name: A, value: b}]}]}}`
	objects := build(t, input(t, "sim", "rabbitmq: {managed: {"+strings.ReplaceAll(template, "NAME", "rabbitmq")+
		"}}, redis: {managed: {"+strings.ReplaceAll(template, "NAME", "redis")+"}}"))
	for _, server := range []string{"rabbitmq", "redis"} {
		pod := templates(t, objects)["sim-"+server]
		spec := pod.Spec
		if spec.NodeSelector["disk"] != "ssd" || len(spec.Tolerations) != 1 || spec.PriorityClassName != "high" || *spec.SecurityContext.RunAsUser != 1000 || pod.Labels["team"] != "a" {
			t.Errorf("%s: the template is not merged: %+v", server, spec)
		}
		if env := spec.Containers[0].Env; env[0].Name != "A" || env[0].Value != "b" {
			t.Errorf("%s: the environment is %v, want A=b as the first variable", server, env)
		}
	}
}

func TestBuild_ClusterAssignsUserIDs_SetsNoUserIDs(t *testing.T) {
	t.Parallel()
	in := input(t, "sim", "")
	in.ClusterAssignsUserIDs = true
	for workload, template := range templates(t, build(t, in)) {
		c := template.Spec.SecurityContext
		if c.RunAsUser != nil || c.RunAsGroup != nil || c.FSGroup != nil || c.RunAsNonRoot == nil || !*c.RunAsNonRoot {
			t.Errorf("%s: the security context is %+v, want one without IDs and with runAsNonRoot", workload, c)
		}
	}
}

func TestBuild_NativeHistograms_AreRequestedOnlyIfServiceMonitorCRDSupportsThem(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{false, true} {
		in := input(t, "sim", "")
		in.Served.NativeHistograms = known
		monitor := find[*unstructured.Unstructured](t, build(t, in), "sim-processor")
		got, _, err := unstructured.NestedBool(monitor.Object, "spec", "scrapeNativeHistograms")
		if err != nil || got != known {
			t.Errorf("scrapeNativeHistograms is %v (%v), want %v", got, err, known)
		}
	}
}

// replicasOf returns the number of replicas of each workload, by the name of the workload.
func replicasOf(t *testing.T, objects []client.Object) map[string]int64 {
	t.Helper()
	found := map[string]int64{}
	for _, object := range objects {
		if n, isWorkload, err := unstructured.NestedInt64(asMap(t, object), "spec", "replicas"); err == nil && isWorkload {
			found[object.GetName()] = n
		}
	}
	return found
}
