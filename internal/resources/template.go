package resources

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ContainerParking is the name of the container that runs the parking command.
const ContainerParking = "parking"

// templatePath returns the path of a component's pod template in the spec. It returns nil for a component without pods.
func templatePath(c Component) *field.Path {
	switch c {
	case ComponentEntry, ComponentExit, ComponentProcessor:
		return field.NewPath("spec", string(c), "template")
	case ComponentRabbitMQ, ComponentRedis:
		return field.NewPath("spec", string(c), "managed", "template")
	case ComponentSummaries:
		return field.NewPath("spec", "summaryAPI", "managed", "template")
	}
	return nil
}

// podField matches the path of a field of the pods in a Deployment or a StatefulSet.
var podField = regexp.MustCompile(`\bspec\.template\.(?:(labels|annotations)\b|spec(?:\.(containers|initContainers)\[(\d+)\])?)`)

// SpecPaths replaces paths of pod fields, in a message about a Deployment or a StatefulSet, with paths in the spec of
// the simulation.
func SpecPaths(object client.Object, message string) string {
	path := templatePath(Component(object.GetLabels()[ComponentLabel]))
	var spec corev1.PodSpec
	switch o := object.(type) {
	case *appsv1.Deployment:
		spec = o.Spec.Template.Spec
	case *appsv1.StatefulSet:
		spec = o.Spec.Template.Spec
	default:
		return message
	}
	if path == nil {
		return message
	}
	return podField.ReplaceAllStringFunc(message, func(found string) string {
		groups := podField.FindStringSubmatch(found)
		if groups[1] != "" {
			return path.Child("metadata", groups[1]).String()
		}
		containers := spec.Containers
		if groups[2] == "initContainers" {
			containers = spec.InitContainers
		}
		at := path.Child("spec")
		if i, err := strconv.Atoi(groups[3]); err == nil && i < len(containers) {
			// Use the container's name, because its index in the pod can differ from its index in the template of the
			// spec.
			at = at.Child(groups[2]).Key(containers[i].Name)
		}
		return at.String()
	})
}

// merge applies the patch in a spec to a pod template. A *TemplateNotAllowedError means that the patch asks for rights
// that its author may lack.
func (b *builder) merge(template corev1.PodTemplateSpec, p pod) (corev1.PodTemplateSpec, error) {
	if p.patch == nil {
		return template, nil
	}
	if !b.AllowPrivilegedTemplates {
		if faults := b.checkTemplate(p.path, p.patch); len(faults) > 0 {
			return template, &TemplateNotAllowedError{Fields: faults}
		}
	}
	// Keep the operator's labels, because selectors depend on them.
	template.Labels = merged(texts(p.patch.Metadata.Labels), template.Labels)
	if len(p.patch.Metadata.Annotations) > 0 {
		template.Annotations = merged(texts(p.patch.Metadata.Annotations), template.Annotations)
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

// texts returns a copy of a map, with values of type string.
func texts[V ~string](values map[string]V) map[string]string {
	converted := make(map[string]string, len(values))
	for key, value := range values {
		converted[key] = string(value)
	}
	return converted
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
		return base, errNotAPatch // do not wrap err: it quotes values of the patch, which may be secret
	}
	var written corev1.PodSpec
	if err := json.Unmarshal(patch, &written); err != nil {
		return base, errNotAPatch
	}
	lowerRequests(patched.InitContainers, written.InitContainers)
	lowerRequests(patched.Containers, written.Containers)
	patched.Containers = slices.DeleteFunc(patched.Containers, isAbsent)
	return patched, checkContainers(patched.Containers, main)
}

// lowerRequests lowers a request of a container to the limit if the patch sets the limit but not the request. The API
// server would reject a request above the limit. The containers in written are those of the patch.
func lowerRequests(patched, written []corev1.Container) {
	for i := range written {
		at := slices.IndexFunc(patched, func(c corev1.Container) bool { return c.Name == written[i].Name })
		if at < 0 {
			continue
		}
		requests := patched[at].Resources.Requests
		for name := range written[i].Resources.Limits {
			limit, isLimited := patched[at].Resources.Limits[name] // absent if the limit is null in the patch
			_, isWritten := written[i].Resources.Requests[name]
			if request, ok := requests[name]; ok && isLimited && !isWritten && request.Cmp(limit) > 0 {
				requests[name] = limit
			}
		}
	}
}

// isAbsent reports whether a template changes an agent or exporter that this pod lacks. Such a change is valid,
// because a pod has an agent only while the spec contains faults.
func isAbsent(c corev1.Container) bool {
	return c.Image == "" && (c.Name == ContainerAgent || c.Name == containerExporter)
}

var errNotAPatch = errors.New("must be a valid strategic merge patch of the PodSpec that the operator creates: check directives such as $patch")

// checkContainers returns an error if the pod lacks its main container, or if a container has no image.
func checkContainers(containers []corev1.Container, main string) error {
	if !slices.ContainsFunc(containers, func(c corev1.Container) bool { return c.Name == main }) {
		return fmt.Errorf("must keep the container named %q", main)
	}
	for _, c := range containers {
		if c.Image == "" {
			return fmt.Errorf("container %q needs an image", c.Name)
		}
	}
	return nil
}
