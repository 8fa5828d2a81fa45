package resources_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/resources"
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

func TestBuild_TemplateWithMemoryLimit_SetsGOMEMLIMIT(t *testing.T) {
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

func TestBuild_TemplateWithMemoryLimit_SetsTheServersMemory(t *testing.T) {
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

func TestBuild_ServerTemplate_IsMerged(t *testing.T) {
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
			t.Errorf("%s: the environment is %v, want it to have A", server, env)
		}
	}
}

// quota is a part of a spec that sets CPU and memory requests and limits of every container.
const quota = `entry: {resources: RESOURCES, template: {spec: {containers: [AGENT]}}}, exit: {resources: RESOURCES, template: {spec: {containers: [AGENT]}}},
	processor: {resources: RESOURCES, template: {spec: {containers: [AGENT]}}},
	summaryAPI: {managed: {resources: RESOURCES, template: {spec: {containers: [AGENT]}}}},
	rabbitmq: {managed: {resources: RESOURCES, template: {spec: {containers: [AGENT]}}}},
	redis: {managed: {resources: RESOURCES, template: {spec: {containers: [AGENT, {name: exporter, resources: RESOURCES}]}}}},
	faults: [{name: a, target: EntryGenerator, action: Kill, at: 1m}, {name: b, target: ExitGenerator, action: Kill, at: 1m},
		{name: c, target: Processor, action: Kill, at: 1m}, {name: d, target: SummaryAPI, action: Kill, at: 1m},
		{name: e, target: RabbitMQ, action: Kill, at: 1m}, {name: f, target: Redis, action: Kill, at: 1m}]`

// withQuota returns a simulation whose containers all have the requests and limits that a ResourceQuota requires.
func withQuota(t *testing.T, name string) testInput {
	t.Helper()
	spec := strings.ReplaceAll(quota, "AGENT", "{name: agent, resources: RESOURCES}")
	return input(t, name, strings.ReplaceAll(spec, "RESOURCES", "{requests: {cpu: 10m, memory: 64Mi}, limits: {cpu: 100m, memory: 64Mi}}"))
}

func TestBuild_EveryContainer_HasTheResourcesInTheSpec(t *testing.T) {
	t.Parallel()
	found := templates(t, build(t, withQuota(t, "sim")))
	const workloads = 6
	if len(found) != workloads {
		t.Errorf("there are %d workloads, want %d", len(found), workloads)
	}
	for workload, template := range found {
		if !slices.ContainsFunc(template.Spec.Containers, func(c corev1.Container) bool { return c.Name == resources.ContainerAgent && c.Image != "" }) {
			t.Errorf("%s has no agent", workload)
		}
		for _, c := range append(template.Spec.InitContainers, template.Spec.Containers...) {
			for _, list := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits} {
				if list.Cpu().IsZero() || list.Memory().IsZero() {
					t.Errorf("%s: container %s has the resources %v, want requests and limits of CPU and memory", workload, c.Name, c.Resources)
				}
			}
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
			t.Errorf("%s: the security context is %+v, want one that names no ids, and not root", workload, c)
		}
	}
}

func TestBuild_CRDSupportsNativeHistograms_RequestsThem(t *testing.T) {
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

// replicasOf returns the number of pods of each workload.
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
