package resources_test

import (
	"fmt"
	"strings"
	"testing"
)

// The validation of a manifest knows the names of all containers of the operator. So a template may change any of
// them without setting an image.
func TestBuild_PodTemplate_PatchesContainersWithoutNamingAnImage(t *testing.T) {
	t.Parallel()
	workloads := map[string]string{
		"sim-entry":     "entry: {template: {%s}}",
		"sim-exit":      "exit: {template: {%s}}",
		"sim-processor": "processor: {template: {%s}}",
		"sim-summaries": "summaryAPI: {managed: {template: {%s}}}",
		"sim-rabbitmq":  "rabbitmq: {managed: {template: {%s}}}",
		"sim-redis":     "redis: {managed: {template: {%s}}}",
	}
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

func TestBuild_TemplateForAbsentContainerWithoutImage_IsRejected(t *testing.T) {
	t.Parallel()
	in := input(t, "sim", "redis: {managed: {template: {spec: {containers: [{name: exporter, workingDir: /tmp}]}}}}")
	in.Images.RedisExporter = ""
	_, err := in.build()
	if want := `spec.redis.managed.template.spec: container "exporter" needs an image`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want it to contain %q", err, want)
	}
}

func TestBuild_TemplateErrors_DoNotContainTemplateValues(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{
		`{$setElementOrder/containers: [{name: hunter2}], containers: [{name: parking}]}`,
		`{containers: [{name: parking, env: [{value: hunter2}]}]}`,
		`{containers: [{name: parking, env: [{name: A, value: {hunter2: hunter2}}]}]}`,
		`{containers: [{$patch: hunter2}]}`,
	} {
		in := input(t, "sim", fmt.Sprintf("processor: {template: {spec: %s}}", spec))
		in.AllowPrivilegedTemplates = true
		if _, err := in.build(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error is %v, want one that does not quote a value", spec, err)
		}
	}
}
