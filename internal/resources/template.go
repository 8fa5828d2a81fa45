package resources

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// ContainerParking is the name of the container that runs the parking command.
const ContainerParking = "parking"

// merge applies a simulation's patch to a pod template. The operator's labels stay as they are, because
// selectors depend on them. An error names the invalid field by its path; a *TemplateNotAllowedError says that
// the patch asks for rights that its author may lack.
func (b *builder) merge(template corev1.PodTemplateSpec, p pod) (corev1.PodTemplateSpec, error) {
	if p.patch == nil {
		return template, nil
	}
	if !b.AllowPrivilegedTemplates {
		if faults := checkTemplate(p.path, p.patch); len(faults) > 0 {
			return template, &TemplateNotAllowedError{Fields: faults}
		}
	}
	extra := map[string]string{}
	for key, value := range p.patch.Metadata.Labels {
		extra[key] = string(value)
	}
	template.Labels = merged(extra, template.Labels)
	if len(p.patch.Metadata.Annotations) > 0 {
		template.Annotations = merged(p.patch.Metadata.Annotations, template.Annotations)
	}
	spec, err := mergePodSpec(template.Spec, p.patch.Spec, p.main)
	if err != nil {
		return template, fmt.Errorf("%s: %w", p.path.Child("spec"), err)
	}
	template.Spec = spec
	if b.AllowPrivilegedTemplates {
		return template, nil
	}
	restrict(template.Spec.InitContainers)
	restrict(template.Spec.Containers)
	faults, err := checkPod(p.path.Child("spec"), &template)
	if len(faults) > 0 {
		err = &TemplateNotAllowedError{Fields: faults}
	}
	return template, err
}

func mergePodSpec(base corev1.PodSpec, extension *runtime.RawExtension, main string) (corev1.PodSpec, error) {
	if extension == nil || len(extension.Raw) == 0 {
		return base, nil
	}
	patch := extension.Raw
	if strings.TrimSpace(string(patch)) == "null" {
		return base, nil
	}
	original, err := json.Marshal(base)
	if err != nil {
		return base, fmt.Errorf("marshal the pod: %w", err)
	}
	text, err := strategicpatch.StrategicMergePatch(original, patch, corev1.PodSpec{})
	if err != nil {
		return base, fmt.Errorf("must be a strategic merge patch of a PodSpec: %w", err)
	}
	var patched corev1.PodSpec
	if err := json.Unmarshal(text, &patched); err != nil {
		return base, fmt.Errorf("must be a strategic merge patch of a PodSpec: %w", err)
	}
	return patched, checkContainers(patched.Containers, main)
}

// checkContainers returns an error if the pod lacks the container that does its work, or if a container lacks
// a name or an image.
func checkContainers(containers []corev1.Container, main string) error {
	if !slices.ContainsFunc(containers, func(c corev1.Container) bool { return c.Name == main }) {
		return fmt.Errorf("must keep the container named %q", main)
	}
	for i, c := range containers {
		if c.Name == "" || c.Image == "" {
			return fmt.Errorf("containers[%d] needs a name and an image; the operator's container is named %q", i, main)
		}
	}
	return nil
}
