package resources

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// ContainerParking is the name of the container that runs the parking command.
const ContainerParking = "parking"

// merge applies the patch in a spec to a pod template. The operator's labels do not change, because selectors
// depend on them. An error contains the path of the invalid field. A *TemplateNotAllowedError says that the patch
// asks for rights that its author may lack.
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
		return base, fmt.Errorf("encode the pod template as JSON: %w", err)
	}
	text, err := strategicpatch.StrategicMergePatch(original, patch, corev1.PodSpec{})
	var patched corev1.PodSpec
	if err != nil || json.Unmarshal(text, &patched) != nil {
		return base, errNotAPatch // err quotes values of the patch, which may be secret
	}
	return patched, checkContainers(patched.Containers, main)
}

var errNotAPatch = errors.New("must be a strategic merge patch of the operator's PodSpec: a directive such as $patch is not valid here")

// checkContainers returns an error if the pod lacks its main container, or if a container has no image. An image is
// missing if the patch adds a container without one, or refers to a container of the operator that is absent with
// the current spec.
func checkContainers(containers []corev1.Container, main string) error {
	if !slices.ContainsFunc(containers, func(c corev1.Container) bool { return c.Name == main }) {
		return fmt.Errorf("must keep the container named %q", main)
	}
	for _, c := range containers {
		if c.Image == "" {
			return fmt.Errorf("container %q needs an image, because these pods have no container of that name: the operator's container is named %q", c.Name, main)
		}
	}
	return nil
}
