package resources

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// ContainerParking is the name of the container that runs the parking command.
const ContainerParking = "parking"

// mergeTemplate merges what the user wants of a pod over what the operator makes. Labels of the
// operator's own stay as they are: selectors depend on them. An error names the field at fault.
func mergeTemplate(template corev1.PodTemplateSpec, path *field.Path, wish *v1alpha1.PodTemplate) (corev1.PodTemplateSpec, error) {
	if wish == nil {
		return template, nil
	}
	extra := map[string]string{}
	for key, value := range wish.Metadata.Labels {
		extra[key] = string(value)
	}
	template.Labels = merged(extra, template.Labels)
	if len(wish.Metadata.Annotations) > 0 {
		template.Annotations = merged(wish.Metadata.Annotations, template.Annotations)
	}
	if wish.Spec == nil || len(wish.Spec.Raw) == 0 {
		return template, nil
	}
	spec, err := mergePodSpec(template.Spec, wish.Spec.Raw)
	if err != nil {
		return template, fmt.Errorf("%s: %w", path.Child("spec"), err)
	}
	template.Spec = spec
	return template, nil
}

func mergePodSpec(base corev1.PodSpec, patch []byte) (corev1.PodSpec, error) {
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
	return patched, checkContainers(patched.Containers)
}

// checkContainers refuses a pod that would not run its simulation.
func checkContainers(containers []corev1.Container) error {
	if !slices.ContainsFunc(containers, func(c corev1.Container) bool { return c.Name == ContainerParking }) {
		return fmt.Errorf("must keep the container named %q", ContainerParking)
	}
	for i, c := range containers {
		if c.Name == "" || c.Image == "" {
			return fmt.Errorf("containers[%d] needs a name and an image; the operator's container is named %q", i, ContainerParking)
		}
	}
	return nil
}
