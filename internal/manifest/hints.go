package manifest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/field"
)

// owners maps field names to the objects that have such a field, so that errors about unknown fields can name these
// objects.
func owners() map[string][]string {
	all := document.Owners("spec", reflect.TypeFor[v1alpha1.ParkingSimulationSpec]())
	for _, owner := range all["limits"] {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			all[string(name)] = append(all[string(name)], owner+".limits", owner+".requests")
		}
	}
	for _, owner := range all["template"] {
		pod := owner + ".template.spec"
		for _, name := range []string{
			"affinity", "containers", "initContainers", "nodeSelector", "priorityClassName", "terminationGracePeriodSeconds",
			"tolerations", "topologySpreadConstraints", "volumes",
		} {
			all[name] = append(all[name], pod)
		}
		for _, name := range []string{"args", "command", "env", "image", "imagePullPolicy", "livenessProbe", "readinessProbe", "volumeMounts"} {
			all[name] = append(all[name], pod+".containers[]")
		}
	}
	return all
}

// services maps the objects with a secretRef to the server that the Secret describes.
var services = map[field.Path]binding.Service{
	"spec.rabbitmq":                    binding.RabbitMQ(),
	"spec.redis":                       binding.Redis(),
	"spec.summaryAPI":                  binding.HTTP(),
	"spec.summaryAPI.managed.database": binding.PostgreSQL(),
}

// frequentMistakes contains hints for unknown fields that users often write.
var frequentMistakes = []struct {
	// parent is the path of the object with the unknown field. With a leading dot, it is a suffix of that path.
	// [] matches any index.
	parent string
	names  []string
	hint   string
}{
	{"", []string{"name", "namespace", "labels", "annotations"}, `"%s" is a field of metadata`},
	{"spec", []string{"name", "namespace", "annotations"}, `"%s" is a field of metadata`},
	{".template.metadata", []string{"name", "namespace"}, "the operator sets the %s of the pods: remove this field"},
	{".secretRef", []string{"namespace"}, "the Secret must be in the namespace of the simulation: remove this field"},
	{"spec.rabbitmq", []string{"cluster", "clusterName"}, `use "clusterRef: {name: my-cluster}" instead`},
	{"spec.rabbitmq", []string{"type"}, `did you mean "queueType"?`},
	{"spec.rabbitmq", []string{"secret", "secretName"}, `use "secretRef: {name: my-secret}" instead`},
	{"spec.redis", []string{"secret", "secretName"}, `use "secretRef: {name: my-secret}" instead`},
	{"spec.summaryAPI", []string{"secret", "secretName"}, `use "secretRef: {name: my-secret}" instead`},
	{".database", []string{"secret", "secretName"}, `use "secretRef: {name: my-secret}" instead`},
	{".storage", []string{"class", "className"}, `did you mean "storageClassName"?`},
	{".managed", []string{"storageClass", "storageClassName"}, `use "storage: {storageClassName: my-class}" instead`},
	{".managed", []string{"size"}, `use "storage: {size: 2Gi}" instead`},
	{".faults[]", []string{"duration"}, `did you mean "for"?`},
	{".faults[]", []string{"interval"}, `did you mean "every"?`},
	{".faults[]", []string{"replicas"}, `did you mean "pods"?`},
}

// hint returns a hint for the error about an unknown field. It returns "" if there is no hint.
func hint(path field.Path, name string) string {
	parent := string(path)
	if list, _, isItem := strings.Cut(parent, "["); isItem && strings.HasSuffix(parent, "]") {
		parent = list + "[]"
	}
	for _, mistake := range frequentMistakes {
		matches := parent == mistake.parent || strings.HasPrefix(mistake.parent, ".") && strings.HasSuffix(parent, mistake.parent)
		if matches && slices.Contains(mistake.names, name) {
			return strings.ReplaceAll(mistake.hint, "%s", name)
		}
	}
	if service, hasSecret := services[path]; hasSecret {
		switch key := service.KeyFor(name); key {
		case "":
		case name:
			return fmt.Sprintf("%q is a key of the Secret that %s names", name, path.Child("secretRef"))
		default:
			return fmt.Sprintf("%q belongs in the key %q of the Secret that %s names", name, key, path.Child("secretRef"))
		}
	}
	return ""
}
