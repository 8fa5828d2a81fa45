package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/field"
)

// pod contains the names of the containers that the operator creates in a pod, the main container first. Only these
// need no image in a template.
type pod []string

// The container "agent" exists only in the pods of a component that is the target of a fault.
var (
	parkingPod  = pod{"parking", "agent"}
	rabbitMQPod = pod{"rabbitmq", "agent"}
	redisPod    = pod{"redis", "exporter", "agent"}
)

// podPatch contains the fields of a pod spec whose values are checked in a template. For other fields, only names and
// types are checked.
type podPatch struct {
	RestartPolicy  string              `json:"restartPolicy"`
	DNSPolicy      string              `json:"dnsPolicy"`
	GracePeriod    int64               `json:"terminationGracePeriodSeconds"`
	NodeSelector   map[string]string   `json:"nodeSelector"`
	Tolerations    []corev1.Toleration `json:"tolerations"`
	Containers     []containerPatch    `json:"containers"`
	InitContainers []containerPatch    `json:"initContainers"`
}

type containerPatch struct {
	Name          string         `json:"name"`
	Image         string         `json:"image"`
	PullPolicy    string         `json:"imagePullPolicy"`
	RestartPolicy string         `json:"restartPolicy"`
	Ports         []portPatch    `json:"ports"`
	Env           []envPatch     `json:"env"`
	Resources     resourcesPatch `json:"resources"`
	Directive     string         `json:"$patch"`
}

type portPatch struct {
	Port      int64  `json:"containerPort"`
	Protocol  string `json:"protocol"`
	Directive string `json:"$patch"`
}

type envPatch struct {
	Name      string `json:"name"`
	Directive string `json:"$patch"`
}

// resourcesPatch contains quantities by the name of the resource. A nil quantity means that the patch removes
// this resource.
type resourcesPatch struct {
	Limits   map[string]*v1alpha1.Quantity `json:"limits"`
	Requests map[string]*v1alpha1.Quantity `json:"requests"`
}

// maxPodAnnotations is the maximum size of a template's annotations in bytes, as in the CRD. It leaves 1 KiB for the
// annotations that the operator adds.
const maxPodAnnotations = apivalidation.TotalAnnotationSizeLimitB - 1<<10

// template checks the metadata and the pod spec of a pod template.
func (c *checks) template(path field.Path, t *v1alpha1.PodTemplate, of pod) {
	if t == nil {
		return
	}
	metadata := path.Child("metadata")
	c.labels(metadata.Child("labels"), t.Metadata.Labels, 64)
	c.entries(metadata.Child("annotations"), len(t.Metadata.Annotations), 64)
	annotations(c, metadata.Child("annotations"), t.Metadata.Annotations, maxPodAnnotations)
	if t.Spec != nil && len(t.Spec.Raw) > 0 {
		c.podSpec(path.Child("spec"), t.Spec.Raw, of)
	}
}

// podSpec checks a pod spec that has the form of a strategic merge patch.
func (c *checks) podSpec(path field.Path, patch []byte, of pod) {
	if !json.Valid(patch) {
		c.Invalid(path, field.Raw("{…}"), "must be JSON")
		return
	}
	faults := patchFormat.Check(path, patch, reflect.TypeFor[corev1.PodSpec]())
	c.Errors = append(c.Errors, faults...)
	var p podPatch
	if len(faults) > 0 || json.Unmarshal(patch, &p) != nil {
		return
	}
	c.alwaysRestarts(path, p.RestartPolicy, "a pod")
	optional(c, path.Child("dnsPolicy"), p.DNSPolicy, corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)
	if p.GracePeriod < 0 {
		c.Invalid(path.Child("terminationGracePeriodSeconds"), p.GracePeriod, "must not be negative")
	}
	c.nodeSelector(path.Child("nodeSelector"), p.NodeSelector)
	for i, toleration := range p.Tolerations {
		at := path.Child("tolerations").Index(i)
		optional(c, at.Child("operator"), string(toleration.Operator), corev1.TolerationOpEqual, corev1.TolerationOpExists)
		optional(c, at.Child("effect"), string(toleration.Effect), corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
	}
	names := map[string]field.Path{}
	c.containers(path.Child("containers"), p.Containers, of, names)
	c.containers(path.Child("initContainers"), p.InitContainers, nil, names)
}

// checkQuantity checks a resource.Quantity without decoding it. Even for a short text such as "1e-2147483640", decoding
// takes minutes and gigabytes of memory.
func checkQuantity(value json.RawMessage) error {
	var text string
	if json.Unmarshal(value, &text) != nil {
		text = string(value)
	}
	_, err := v1alpha1.Quantity(text).Parse()
	return err
}

// containers checks the containers in a template. own contains the names of the operator's containers. names contains
// the path of each container that was already checked, by its name.
func (c *checks) containers(path field.Path, containers []containerPatch, own []string, names map[string]field.Path) {
	for i, container := range containers {
		at := path.Index(i)
		if container.Directive != "" {
			continue
		}
		name := at.Child("name")
		if len(validation.IsDNS1123Label(container.Name)) > 0 {
			c.Invalid(name, container.Name, `must be the name of a container, such as %q: at most 63 characters of a-z, 0-9 and '-'`, "parking")
			continue
		}
		if other, taken := names[container.Name]; taken {
			c.Invalid(name, container.Name, "must differ from the name of %s", other)
		}
		names[container.Name] = at
		c.image(at.Child("image"), container.Image, container.Name+":v1")
		if container.Image == "" && !slices.Contains(own, container.Name) {
			c.required(at.Child("image"), missingImage(container.Name, own))
		}
		optional(c, at.Child("imagePullPolicy"), container.PullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
		c.ports(at.Child("ports"), container.Ports)
		c.env(at.Child("env"), container.Env)
		c.alwaysRestarts(at, container.RestartPolicy, "a container")
		c.resources(at.Child("resources"), container.Resources.requirements())
	}
}

func (c *checks) ports(path field.Path, ports []portPatch) {
	for i, port := range ports {
		if port.Directive != "" {
			continue
		}
		at := path.Index(i)
		if len(validation.IsValidPortNum(int(port.Port))) > 0 {
			c.Invalid(at.Child("containerPort"), port.Port, "must be from 1 to 65535")
		}
		optional(c, at.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
	}
}

// env checks the names of environment variables. The errors do not quote the names, because a name such as "KEY=value"
// may contain a password.
func (c *checks) env(path field.Path, env []envPatch) {
	for i, variable := range env {
		if variable.Directive == "" && len(validation.IsRelaxedEnvVarName(variable.Name)) > 0 {
			c.Add(field.InvalidSecret(path.Index(i).Child("name"), variable.Name, `must be the name of a variable, such as "LOG_LEVEL", without "="`))
		}
	}
}

func (c *checks) nodeSelector(path field.Path, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !strings.HasPrefix(key, "$") { // a key that begins with $ is a directive of the strategic merge patch
			c.label(path, key, labels[key])
		}
	}
}

// optional checks that a value is empty or is one of the allowed values.
func optional[V ~string](c *checks, path field.Path, value string, allowed ...V) {
	if value == "" {
		return
	}
	texts := make([]string, len(allowed))
	for i, v := range allowed {
		texts[i] = string(v)
	}
	c.OneOf(path, value, texts...)
}

// missingImage returns the advice for a container without an image. The containers in own need no image.
func missingImage(name string, own []string) string {
	text := fmt.Sprintf("%q is a new container: give it an image", name)
	if len(own) > 0 {
		text += fmt.Sprintf(", or use the name of the container that the operator creates, %q", own[0])
	}
	return text
}

// alwaysRestarts checks that a restart policy is Always or is not set. The pods must run until the simulation is
// deleted.
func (c *checks) alwaysRestarts(path field.Path, policy, of string) {
	if policy != "" && policy != string(corev1.RestartPolicyAlways) {
		c.Invalid(path.Child("restartPolicy"), policy, `must be "Always" or absent, because Deployments and StatefulSets restart %s that ends`, of)
	}
}

func (r resourcesPatch) requirements() *v1alpha1.ResourceRequirements {
	return &v1alpha1.ResourceRequirements{Limits: set(r.Limits), Requests: set(r.Requests)}
}

// set returns the quantities in a patch. It omits resources with the value null, because the patch removes them.
func set(patch map[string]*v1alpha1.Quantity) v1alpha1.ResourceList {
	list := make(v1alpha1.ResourceList, len(patch))
	for name, quantity := range patch {
		if quantity != nil {
			list[name] = *quantity
		}
	}
	return list
}
