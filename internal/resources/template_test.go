package resources_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/resources"
)

// A template may omit the image of a container that the operator creates.
func TestBuild_TemplateWithoutImages_IsAccepted(t *testing.T) {
	t.Parallel()
	workloads := workloadsWithTemplate()
	own := templates(t, build(t, input(t, "sim", "")))
	if len(own) != len(workloads) {
		t.Errorf("%d workloads have a pod template, want %d", len(own), len(workloads))
	}
	for name, spec := range workloads {
		var patches []string
		for _, c := range own[name].Spec.Containers {
			patches = append(patches, fmt.Sprintf("spec: {containers: [{name: %s, workingDir: /tmp}]}", c.Name))
		}
		for _, c := range own[name].Spec.InitContainers {
			patches = append(patches, fmt.Sprintf("spec: {initContainers: [{name: %s, workingDir: /tmp}]}", c.Name))
		}
		if len(patches) == 0 {
			t.Errorf("%s has no containers", name)
		}
		for _, patch := range patches {
			build(t, input(t, "sim", fmt.Sprintf(spec, patch)))
		}
	}
}

// workloadsWithTemplate maps each workload of the simulation "sim" to a spec with a template. %s stands for the content
// of the template.
func workloadsWithTemplate() map[string]string {
	return map[string]string{
		"sim-entry":     "entry: {template: {%s}}",
		"sim-exit":      "exit: {template: {%s}}",
		"sim-processor": "processor: {template: {%s}}",
		"sim-summaries": "summaryAPI: {managed: {template: {%s}}}",
		"sim-rabbitmq":  "rabbitmq: {managed: {template: {%s}}}",
		"sim-redis":     "redis: {managed: {template: {%s}}}",
	}
}

// The API server limits the size of annotations. Build adds a hash of the configuration, and the controller adds a hash
// of the mounted files.
func TestBuild_TemplateWithLargestAnnotations_LeavesRoomForAnnotationsOfTheOperator(t *testing.T) {
	t.Parallel()
	const room = 512
	patch := "metadata: {annotations: {a: " + strings.Repeat("x", 255<<10-1) + "}}"
	for name, spec := range workloadsWithTemplate() {
		annotations := templates(t, build(t, input(t, "sim", fmt.Sprintf(spec, patch))))[name].Annotations
		annotations["b"] = strings.Repeat("x", room-1)
		if err := validation.ValidateAnnotationsSize(annotations); err != nil {
			t.Errorf("%s: after %d bytes are added, %v", name, room, err)
		}
	}
}

// The API server rejects a container whose request exceeds its limit. So a limit below the default request must lower
// the request.
func TestBuild_TemplateWithLimitBelowTheDefaultRequest_LowersTheRequest(t *testing.T) {
	t.Parallel()
	own := templates(t, build(t, input(t, "sim", "")))
	for workload, spec := range workloadsWithTemplate() {
		for list, containers := range map[string][]corev1.Container{"containers": own[workload].Spec.Containers, "initContainers": own[workload].Spec.InitContainers} {
			for _, c := range containers {
				if c.Resources.Requests.Cpu().MilliValue() <= 1 || c.Resources.Requests.Memory().Value() <= 1<<20 {
					t.Errorf("%s: container %s requests too little for this test: %v", workload, c.Name, c.Resources.Requests)
				}
				patch := fmt.Sprintf("spec: {%s: [{name: %s, resources: {limits: {cpu: 1m, memory: 1Mi}}}]}", list, c.Name)
				got := container(t, input(t, "sim", fmt.Sprintf(spec, patch)), workload, c.Name).Resources.Requests
				if got.Cpu().String() != "1m" || got.Memory().String() != "1Mi" {
					t.Errorf("%s: container %s requests %v, want its limits, 1m of CPU and 1Mi of memory", workload, c.Name, got)
				}
				patch = fmt.Sprintf("spec: {%s: [{name: %s, resources: {limits: {cpu: null, memory: null}}}]}", list, c.Name)
				got = container(t, input(t, "sim", fmt.Sprintf(spec, patch)), workload, c.Name).Resources.Requests
				if diff := cmp.Diff(c.Resources.Requests, got); diff != "" {
					t.Errorf("%s: container %s without limits has other requests (-default +got):\n%s", workload, c.Name, diff)
				}
			}
		}
	}
}

func TestBuild_TemplateThatRemovesAnImage_IsRejected(t *testing.T) {
	t.Parallel()
	_, err := input(t, "sim", "redis: {managed: {template: {spec: {containers: [{name: redis, image: null}]}}}}").build()
	if want := `spec.redis.managed.template.spec: container "redis" needs an image`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want it to contain %q", err, want)
	}
}

func TestBuild_TemplateForDisabledContainer_IsIgnored(t *testing.T) {
	t.Parallel()
	in := input(t, "sim", "redis: {managed: {template: {spec: {containers: [{name: exporter, workingDir: /tmp}, {name: agent, resources: {limits: {cpu: 1}}}]}}}}")
	in.Images.RedisExporter = ""
	for _, object := range build(t, in) {
		if set, ok := object.(*appsv1.StatefulSet); ok && set.Name == "sim-redis" && len(set.Spec.Template.Spec.Containers) != 1 {
			t.Errorf("Redis has the containers %v, want only its own", set.Spec.Template.Spec.Containers)
		}
	}
}

func TestBuild_TemplateErrors_DoNotContainTemplateValues(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{
		`{$setElementOrder/containers: [{name: hunter2}], containers: [{name: parking}]}`,
		`{containers: [{name: parking, env: [{value: hunter2}]}]}`,
		`{containers: [{name: parking, env: [{name: A, value: {hunter2: hunter2}}]}]}`,
		`{containers: [{$patch: hunter2}]}`,
		`{containers: [{name: parking, args: "--requirepass hunter2"}]}`,
		`{containers: [{name: parking, command: hunter2}]}`,
		`{containers: [{name: parking, env: ["PASSWORD=hunter2"]}]}`,
		`{containers: [{name: parking, env: [{name: A, valueFrom: hunter2}]}]}`,
		`{containers: [{name: parking, livenessProbe: {httpGet: {port: 1, httpHeaders: ["Authorization: hunter2"]}}}]}`,
		`{containers: [{name: parking, lifecycle: {preStop: {exec: {command: hunter2}}}}]}`,
		`{terminationGracePeriodSeconds: hunter2}`,
	} {
		in := input(t, "sim", fmt.Sprintf("processor: {template: {spec: %s}}", spec))
		in.AllowPrivilegedTemplates = true
		if _, err := in.build(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error is %v, want one that does not quote a value", spec, err)
		}
	}
}

func TestSpecPaths_PathInAPodTemplate_BecomesAPathInTheSpec(t *testing.T) {
	t.Parallel()
	containers := []corev1.Container{{Name: "parking"}, {Name: "side"}}
	pods := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: containers, InitContainers: []corev1.Container{{Name: "setup"}}}}
	labels := func(c string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: "a-" + c, Labels: map[string]string{resources.ComponentLabel: c}}
	}
	deployment := &appsv1.Deployment{ObjectMeta: labels("processor"), Spec: appsv1.DeploymentSpec{Template: pods}}
	servers := &appsv1.StatefulSet{ObjectMeta: labels("rabbitmq"), Spec: appsv1.StatefulSetSpec{Template: pods}}
	summaries := &appsv1.Deployment{ObjectMeta: labels("summaries"), Spec: appsv1.DeploymentSpec{Template: pods}}
	for _, tt := range []struct {
		object        client.Object
		message, want string
	}{
		{deployment, "spec.template.spec.containers[1].ports[0].name: x", "spec.processor.template.spec.containers[side].ports[0].name: x"},
		{deployment, "[spec.template.spec.dnsConfig: x, spec.template.labels: y]", "[spec.processor.template.spec.dnsConfig: x, spec.processor.template.metadata.labels: y]"},
		{servers, "spec.template.spec.initContainers[0].env: x", "spec.rabbitmq.managed.template.spec.initContainers[setup].env: x"},
		{summaries, "spec.template.annotations: x", "spec.summaryAPI.managed.template.metadata.annotations: x"},
		{deployment, "spec.selector: x", "spec.selector: x"},
		{&corev1.ConfigMap{ObjectMeta: labels("processor")}, "spec.template.spec.a: x", "spec.template.spec.a: x"},
	} {
		if got := resources.SpecPaths(tt.object, tt.message); got != tt.want {
			t.Errorf("SpecPaths(%q) = %q, want %q", tt.message, got, tt.want)
		}
	}
}
