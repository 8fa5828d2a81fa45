package resources_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

// wirings returns simulations with all kinds of servers, with and without faults.
func wirings(t *testing.T) map[string]testInput {
	t.Helper()
	const generators = "{name: a, target: EntryGenerator, action: Kill, at: 1m}, {name: b, target: ExitGenerator, action: Kill, at: 1m}, {name: c, target: Processor, action: Kill, at: 1m}"
	all := simulations(t)
	all["agents"] = input(t, "agents", "faults: ["+generators+`, {name: d, target: SummaryAPI, action: Kill, at: 1m},
		{name: e, target: RabbitMQ, action: Kill, at: 1m}, {name: f, target: Redis, action: Kill, at: 1m}]`)
	all["external-agents"] = input(t, "external-agents", `rabbitmq: {secretRef: {name: broker}}, redis: {secretRef: {name: store}},
		summaryAPI: {url: "https://visits.example.com/v1/visits"}, faults: [`+generators+"]")
	return all
}

// withResources sets requests and limits of all containers in the ways that docs/operations.md describes.
func withResources(t *testing.T, in testInput) testInput {
	t.Helper()
	list := v1alpha1.ResourceList{"cpu": "100m", "memory": "64Mi"}
	r := &v1alpha1.ResourceRequirements{Requests: list, Limits: list}
	template := func(containers ...string) *v1alpha1.PodTemplate {
		var patch struct {
			Containers []any `json:"containers"`
		}
		for _, name := range containers {
			patch.Containers = append(patch.Containers, map[string]any{"name": name, "resources": r})
		}
		text, err := json.Marshal(patch)
		if err != nil {
			t.Fatal(err)
		}
		return &v1alpha1.PodTemplate{Spec: &runtime.RawExtension{Raw: text}}
	}
	spec := &in.Simulation.Spec
	spec.Entry.Resources, spec.Entry.Template = r, template("agent")
	spec.Exit.Resources, spec.Exit.Template = r, template("agent")
	spec.Processor.Resources, spec.Processor.Template = r, template("agent")
	if managed := spec.RabbitMQ.ManagedOrDefault(); managed != nil {
		managed.Resources, managed.Template = r, template("agent")
		spec.RabbitMQ.Managed = managed
	}
	if managed := spec.Redis.ManagedOrDefault(); managed != nil {
		managed.Resources, managed.Template = r, template("agent", "exporter")
		spec.Redis.Managed = managed
	}
	if managed := spec.SummaryAPI.ManagedOrDefault(); managed != nil {
		managed.Resources, managed.Template = r, template("agent")
		spec.SummaryAPI.Managed = managed
	}
	return in
}

func TestBuild_EveryContainer_HasTheResourcesInTheSpec(t *testing.T) {
	t.Parallel()
	for name, in := range wirings(t) {
		for workload, template := range templates(t, build(t, withResources(t, in))) {
			for _, c := range append(template.Spec.InitContainers, template.Spec.Containers...) {
				for _, list := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits} {
					if list.Cpu().String() != "100m" || list.Memory().String() != "64Mi" {
						t.Errorf("%s: container %s of %s has the resources %v, want those of the spec", name, c.Name, workload, c.Resources)
					}
				}
			}
		}
	}
}

// quotaNamespace is a namespace with a ResourceQuota on requests and limits of CPU and memory.
type quotaNamespace struct{ *apiserver.Cluster }

func newQuotaNamespace(t *testing.T) quotaNamespace {
	t.Helper()
	n := quotaNamespace{apiserver.New(t)}
	hard, used := corev1.ResourceList{}, corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
	} {
		hard[name], used[name] = resource.MustParse("100Gi"), resource.Quantity{}
	}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: n.Namespace, Name: "all"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
	n.Create(quota)
	// The API server enforces the quota in the status. The test writes the status, because no quota controller runs
	// here.
	quota.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: used}
	if err := n.Client.Status().Update(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	return n
}

// admit creates a pod as a dry run, and returns the error of the API server.
func (n quotaNamespace) admit(pod *corev1.Pod) error {
	n.T.Helper()
	var err error
	polltest.Until(n.T, "the API server knows the status of the quota", func() bool {
		err = n.Client.Create(n.T.Context(), pod.DeepCopy(), client.DryRunAll)
		return err == nil || !strings.Contains(err.Error(), "status unknown")
	})
	return err
}

// awaitAdmission calls admit until expected() returns true for the error. The first errors can be outdated, because the
// API server caches quotas and limit ranges.
func (n quotaNamespace) awaitAdmission(what string, pod *corev1.Pod, expected func(error) bool) {
	n.T.Helper()
	var err error
	polltest.UntilState(n.T, what, func() bool { err = n.admit(pod); return expected(err) }, func() any { return err })
}

func rejectedByQuota(err error) bool {
	return err != nil && strings.Contains(err.Error(), "failed quota: all: must specify limits.cpu")
}

// The ResourceQuota makes the API server reject a pod if any of its containers has no limit.
func TestBuild_ResourceQuota_AdmitsPodsWithResourcesInTheSpec(t *testing.T) {
	t.Parallel()
	n := newQuotaNamespace(t)
	n.awaitAdmission("the API server enforces the quota", podOf(n.Namespace, "without", templates(t, build(t, input(t, "without", "")))["without-processor"]), rejectedByQuota)
	containers := map[string]bool{}
	for name, in := range wirings(t) {
		for workload, template := range templates(t, build(t, withResources(t, in))) {
			pod := podOf(n.Namespace, workload, template)
			if err := n.admit(pod); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
				for i := range list {
					c := &list[i]
					containers[c.Name] = true
					for _, limit := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
						before := c.Resources.Limits
						c.Resources.Limits = maps.Clone(before)
						delete(c.Resources.Limits, limit)
						want := fmt.Sprintf("must specify limits.%s for: %s", limit, c.Name)
						if err := n.admit(pod); err == nil || !strings.Contains(err.Error(), want) {
							t.Errorf("%s: %s without limits.%s of %s: %v, want %q", name, workload, limit, c.Name, err, want)
						}
						c.Resources.Limits = before
					}
				}
			}
		}
	}
	want := []string{"agent", "exporter", "parking", "rabbitmq", "redis"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(containers))); diff != "" {
		t.Errorf("containers (-want +got):\n%s", diff)
	}
}

// The LimitRange gives limits to the containers that have none.
func TestBuild_ResourceQuotaAndLimitRange_AdmitPodsWithoutResourcesInTheSpec(t *testing.T) {
	t.Parallel()
	n := newQuotaNamespace(t)
	n.Create(&corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: n.Namespace, Name: "defaults"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type: corev1.LimitTypeContainer,
		Default: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("512Mi"),
		},
	}}}})
	n.awaitAdmission("the API server applies the limit range", podOf(n.Namespace, "without", templates(t, build(t, input(t, "without", "")))["without-processor"]),
		func(err error) bool { return err == nil })
	for name, in := range wirings(t) {
		for workload, template := range templates(t, build(t, in)) {
			if err := n.admit(podOf(n.Namespace, workload, template)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
