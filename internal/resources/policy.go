package resources

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	psaapi "k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// The operator creates pods with its own rights, so a template must not give its author further rights. Lists of
// dangerous fields become outdated, so three rules say what is allowed:
//
//  1. A template may set only the fields in templateFields.
//  2. The pod must meet the restricted Pod Security Standard.
//  3. Labels and annotations must not control other software.

// TemplateNotAllowedError lists the template fields that could give the pods rights that the author of the simulation
// lacks.
type TemplateNotAllowedError struct {
	Fields field.ErrorList
}

// Error lists the rejected fields by path, each with the reason and the remedy.
func (e *TemplateNotAllowedError) Error() string {
	lines := make([]string, len(e.Fields))
	for i, fault := range e.Fields {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "; ")
}

const (
	withoutIt       = "remove it, or ask an administrator to run the operator with --allow-privileged-templates"
	fieldNotAllowed = "a template may not set this field, because it could give the pods rights that the author of the simulation lacks, or affect pods of others: " + withoutIt
)

// fieldSet contains the fields that may be set in an object, or in each object of a list. A nil fieldSet allows any
// value.
type fieldSet map[string]fieldSet

// templateFields returns the PodSpec fields that a template may set. The Pod Security Standard forbids unsafe values
// of securityContext and of the probes.
func templateFields() fieldSet {
	container := containerFields()
	return fieldSet{
		"affinity":                      affinityFields(),
		"containers":                    container,
		"dnsConfig":                     nil,
		"dnsPolicy":                     nil,
		"hostAliases":                   nil,
		"initContainers":                container,
		"nodeSelector":                  nil,
		"priorityClassName":             nil,
		"securityContext":               podSecurityFields(),
		"terminationGracePeriodSeconds": nil,
		"tolerations":                   nil,
		"topologySpreadConstraints":     nil,
		"volumes":                       {"name": nil, "emptyDir": nil, "downwardAPI": nil},
	}
}

// affinityFields returns the fields of an affinity that a template may set. It omits namespaces and
// namespaceSelector: an anti-affinity with them could keep pods of other namespaces off a node.
func affinityFields() fieldSet {
	term := fieldSet{"labelSelector": nil, "topologyKey": nil, "matchLabelKeys": nil, "mismatchLabelKeys": nil}
	pods := fieldSet{
		"requiredDuringSchedulingIgnoredDuringExecution":  term,
		"preferredDuringSchedulingIgnoredDuringExecution": {"weight": nil, "podAffinityTerm": term},
	}
	return fieldSet{"nodeAffinity": nil, "podAffinity": pods, "podAntiAffinity": pods}
}

func containerFields() fieldSet {
	return fieldSet{
		"args":    nil,
		"command": nil,
		// References to Secrets and ConfigMaps are not allowed, because the author might lack the permission to
		// read them.
		"env":             {"name": nil, "value": nil, "valueFrom": {"fieldRef": nil, "resourceFieldRef": nil}},
		"image":           nil,
		"imagePullPolicy": nil,
		"lifecycle":       nil,
		"livenessProbe":   nil,
		"name":            nil,
		// hostPort is not allowed, because it would occupy a port of the node.
		"ports":                    {"name": nil, "containerPort": nil, "protocol": nil},
		"readinessProbe":           nil,
		"resources":                {"limits": nil, "requests": nil},
		"restartPolicy":            nil,
		"securityContext":          containerSecurityFields(),
		"startupProbe":             nil,
		"terminationMessagePath":   nil,
		"terminationMessagePolicy": nil,
		"volumeMounts":             {"name": nil, "mountPath": nil, "readOnly": nil, "subPath": nil, "subPathExpr": nil},
		"workingDir":               nil,
	}
}

// podSecurityFields omits windowsOptions, which can name credentials that the Pod Security Standard does not restrict.
func podSecurityFields() fieldSet {
	return fieldSet{
		"appArmorProfile": nil, "fsGroup": nil, "fsGroupChangePolicy": nil, "runAsGroup": nil, "runAsNonRoot": nil, "runAsUser": nil,
		"seLinuxChangePolicy": nil, "seLinuxOptions": nil, "seccompProfile": nil, "supplementalGroups": nil,
		"supplementalGroupsPolicy": nil, "sysctls": nil,
	}
}

// containerSecurityFields returns the fields of a container's security context that a template may set.
func containerSecurityFields() fieldSet {
	return fieldSet{
		"allowPrivilegeEscalation": nil, "appArmorProfile": nil, "capabilities": nil, "privileged": nil, "procMount": nil,
		"readOnlyRootFilesystem": nil, "runAsGroup": nil, "runAsNonRoot": nil, "runAsUser": nil, "seLinuxOptions": nil,
		"seccompProfile": nil,
	}
}

// labelPrefixes returns the prefixes that the labels of a template may have. Labels with these prefixes are safe: they
// only describe the pods, or the operator overwrites them.
func labelPrefixes() []string { return []string{"app.kubernetes.io", v1alpha1.Group} }

// checkTemplate returns an error for each forbidden setting. Directives such as $patch are forbidden in the objects of
// templateFields, because they could remove settings that protect the pods.
func (b *builder) checkTemplate(path *field.Path, template *v1alpha1.PodTemplate) field.ErrorList {
	var faults field.ErrorList
	labels := path.Child("metadata", "labels")
	for _, key := range slices.Sorted(maps.Keys(template.Metadata.Labels)) {
		if prefix, _, hasPrefix := strings.Cut(key, "/"); hasPrefix && !slices.Contains(labelPrefixes(), prefix) {
			faults = append(faults, field.Forbidden(labels.Key(key),
				"a template may set only labels without a prefix or with the prefix app.kubernetes.io, because other labels can control software of the cluster: "+withoutIt))
		}
	}
	annotations := path.Child("metadata", "annotations")
	for _, key := range slices.Sorted(maps.Keys(template.Metadata.Annotations)) {
		if strings.Contains(key, "/") {
			faults = append(faults, field.Forbidden(annotations.Key(key),
				"a template may set only annotations without a prefix, because other annotations can control software of the cluster: "+withoutIt))
		}
	}
	if template.Spec == nil || len(template.Spec.Raw) == 0 {
		return faults
	}
	var spec any
	if err := json.Unmarshal(template.Spec.Raw, &spec); err != nil {
		return append(faults, field.Invalid(path.Child("spec"), "", "must be JSON: "+err.Error()))
	}
	faults = append(faults, templateFields().check(path.Child("spec"), spec)...)
	faults = append(faults, checkGracePeriods(path.Child("spec"), spec)...)
	return append(faults, b.checkPriority(path.Child("spec", "priorityClassName"), spec)...)
}

// maxGracePeriod is the longest grace period in seconds that a template may set. It is longer than the grace period of
// every managed server.
const maxGracePeriod = 600

// checkGracePeriods limits grace periods. A process that ignores SIGTERM delays the drain of its node and the deletion
// of its namespace.
func checkGracePeriods(path *field.Path, value any) field.ErrorList {
	var faults field.ErrorList
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			if seconds, ok := value[name].(float64); ok && name == "terminationGracePeriodSeconds" && seconds > maxGracePeriod {
				faults = append(faults, field.Forbidden(path.Child(name), fmt.Sprintf(
					"a template may set at most %d seconds, because the drain of a node waits for the pods of the node to end: set a lower value, or ask an administrator to run the operator with --allow-privileged-templates", maxGracePeriod)))
				continue
			}
			faults = append(faults, checkGracePeriods(path.Child(name), value[name])...)
		}
	case []any:
		for i, element := range value {
			faults = append(faults, checkGracePeriods(path.Index(i), element)...)
		}
	}
	return faults
}

// check returns an error for each field of the given JSON value that is not in the set. The value is an object or a
// list of objects.
func (s fieldSet) check(path *field.Path, value any) field.ErrorList {
	var faults field.ErrorList
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			below, isAllowed := s[name]
			switch {
			case !isAllowed:
				faults = append(faults, field.Forbidden(path.Child(name), fieldNotAllowed))
			case below != nil:
				faults = append(faults, below.check(path.Child(name), value[name])...)
			}
		}
	case []any:
		for i, element := range value {
			faults = append(faults, s.check(path.Index(i), element)...)
		}
	}
	return faults
}

// checkPriority rejects the priority classes of the operator and of Kubernetes. With such a class, pods could keep the
// operator from being scheduled.
func (b *builder) checkPriority(path *field.Path, spec any) field.ErrorList {
	fields, _ := spec.(map[string]any)
	class, _ := fields["priorityClassName"].(string)
	switch {
	case strings.HasPrefix(class, "system-"):
		return field.ErrorList{field.Forbidden(path, "a template may not use the priority classes system-*, which evict the pods of others: "+withoutIt)}
	case class != "" && class == b.OperatorPriorityClass:
		return field.ErrorList{field.Forbidden(path, "a template may not use the priority class of the operator: use another one, "+withoutIt)}
	}
	return nil
}

// checkPod returns an error for each violation of the restricted Pod Security Standard.
func checkPod(path *field.Path, template *corev1.PodTemplateSpec) (field.ErrorList, error) {
	evaluator, err := psapolicy.NewEvaluator(psapolicy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("create the Pod Security Standard checks: %w", err)
	}
	restricted := psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}
	results := evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec)
	violations := psapolicy.AggregateCheckResults(results)
	if violations.Allowed {
		return nil, nil
	}
	return field.ErrorList{field.Forbidden(path, fmt.Sprintf(
		"the pods would violate the restricted Pod Security Standard: %s: correct the template, or ask an administrator to run the operator with --allow-privileged-templates",
		violations.ForbiddenDetail()))}, nil
}

// restrict completes the security context of a container that a template adds. It sets the unset fields so that the
// container meets the restricted Pod Security Standard.
func restrict(containers []corev1.Container) {
	for i := range containers {
		c := &containers[i]
		if c.SecurityContext == nil {
			c.SecurityContext = &corev1.SecurityContext{}
		}
		if c.SecurityContext.AllowPrivilegeEscalation == nil {
			c.SecurityContext.AllowPrivilegeEscalation = new(false)
		}
		if c.SecurityContext.Capabilities == nil {
			c.SecurityContext.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
		}
	}
}
