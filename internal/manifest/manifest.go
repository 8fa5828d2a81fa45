// Package manifest turns the manifest of a ParkingSimulation into a plan: it parses, defaults and validates the
// manifest, and warns of probable mistakes. It accesses neither a cluster nor a server.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/plan"
)

var (
	// format describes the fields of a manifest. patchFormat describes the fields of a pod spec in a pod template.
	format = document.Format{
		Expected:    expected,
		Examples:    examples,
		Words:       words,
		Owners:      owners(),
		Hint:        hint,
		FromNumber:  map[reflect.Type]func(field.Path, string, string) string{reflect.TypeFor[v1alpha1.Duration](): withUnit},
		MayBeSecret: func(path field.Path) bool { return strings.Contains(string(path), "metadata.annotations") },
	}
	patchFormat = document.Format{
		Expected:    expected,
		Examples:    patchExamples,
		Words:       words,
		Validators:  map[reflect.Type]func(json.RawMessage) error{reflect.TypeFor[resource.Quantity](): checkQuantity},
		MayBeSecret: func(field.Path) bool { return true },
		Directives:  true,
	}

	expected = map[reflect.Type]string{
		reflect.TypeFor[v1alpha1.Duration]():       `must be a duration such as "30s" or "1h30m"`,
		reflect.TypeFor[resource.Quantity]():       `must be a quantity such as "2Gi" or "500m"`,
		reflect.TypeFor[v1alpha1.DeletionPolicy](): oneOf(v1alpha1.DeletionPolicyDelete, v1alpha1.DeletionPolicyRetain),
		reflect.TypeFor[v1alpha1.MonitoringMode](): oneOf(v1alpha1.MonitoringAuto, v1alpha1.MonitoringDisabled),
		reflect.TypeFor[v1alpha1.Arrivals]():       oneOf(v1alpha1.ArrivalsUniform, v1alpha1.ArrivalsPoisson),
		reflect.TypeFor[v1alpha1.QueueType]():      oneOf(v1alpha1.QueueTypeQuorum, v1alpha1.QueueTypeClassic),
		reflect.TypeFor[v1alpha1.Durability]():     oneOf(v1alpha1.DurabilityWritten, v1alpha1.DurabilitySynced),
		reflect.TypeFor[v1alpha1.FaultTarget]():    oneOf(v1alpha1.FaultTargetRabbitMQ, v1alpha1.FaultTargetRabbitMQLeader, v1alpha1.FaultTargetRedis, v1alpha1.FaultTargetSummaryAPI, v1alpha1.FaultTargetProcessor, v1alpha1.FaultTargetEntryGenerator, v1alpha1.FaultTargetExitGenerator),
		reflect.TypeFor[v1alpha1.FaultAction]():    oneOf(v1alpha1.FaultActionKill, v1alpha1.FaultActionRestart, v1alpha1.FaultActionEvict, v1alpha1.FaultActionPause, v1alpha1.FaultActionIsolate),
		reflect.TypeFor[metav1.Time]():             `must be a date and time such as "2006-01-02T15:04:05Z"`,
	}

	// examples contains a valid value for each type of object or list. Error messages show these values.
	examples = map[reflect.Type]string{
		reflect.TypeFor[v1alpha1.ParkingSimulationSpec]():      "{duration: 30m}",
		reflect.TypeFor[v1alpha1.EntrySpec]():                  "{rate: 200}",
		reflect.TypeFor[v1alpha1.ExitSpec]():                   "{rate: 180}",
		reflect.TypeFor[v1alpha1.PlatesSpec]():                 "{maxStay: 1h}",
		reflect.TypeFor[v1alpha1.ProcessorSpec]():              "{replicas: 2}",
		reflect.TypeFor[[]v1alpha1.Stage]():                    "[{duration: 5m, rate: 2000}]",
		reflect.TypeFor[v1alpha1.Stage]():                      "{duration: 5m, rate: 2000}",
		reflect.TypeFor[v1alpha1.RabbitMQSpec]():               "{secretRef: {name: my-secret}}",
		reflect.TypeFor[v1alpha1.ManagedRabbitMQ]():            "{storage: {size: 2Gi}}",
		reflect.TypeFor[v1alpha1.RedisSpec]():                  "{secretRef: {name: my-secret}}",
		reflect.TypeFor[v1alpha1.ManagedRedis]():               "{storage: {size: 2Gi}}",
		reflect.TypeFor[v1alpha1.SummaryAPISpec]():             "{managed: {storage: {size: 2Gi}}}",
		reflect.TypeFor[v1alpha1.ManagedSummaryAPI]():          "{storage: {size: 2Gi}}",
		reflect.TypeFor[v1alpha1.SummaryDatabase]():            "{secretRef: {name: my-secret}}",
		reflect.TypeFor[v1alpha1.StorageSpec]():                "{size: 2Gi}",
		reflect.TypeFor[v1alpha1.TLSSpec]():                    "{secretName: my-secret}",
		reflect.TypeFor[v1alpha1.SecretReference]():            "{name: my-secret}",
		reflect.TypeFor[v1alpha1.ClusterReference]():           "{name: my-cluster}",
		reflect.TypeFor[v1alpha1.ResourceRequirements]():       "{limits: {memory: 512Mi}}",
		reflect.TypeFor[v1alpha1.ResourceList]():               "{memory: 512Mi}",
		reflect.TypeFor[v1alpha1.PodTemplate]():                "{spec: {nodeSelector: {disk: ssd}}}",
		reflect.TypeFor[v1alpha1.PodMetadata]():                "{labels: {team: a}}",
		reflect.TypeFor[v1alpha1.MonitoringSpec]():             "{interval: 15s}",
		reflect.TypeFor[[]v1alpha1.Fault]():                    "[{name: redis-crash, target: Redis, action: Kill, at: 2m}]",
		reflect.TypeFor[v1alpha1.Fault]():                      "{name: redis-crash, target: Redis, action: Kill, at: 2m}",
		reflect.TypeFor[v1alpha1.ObjectivesSpec]():             "{endToEndP99: 1s}",
		reflect.TypeFor[v1alpha1.PhaseObjectivesSpec]():        "{endToEndP99: 1s}",
		reflect.TypeFor[map[string]v1alpha1.LabelValue]():      "{team: a}",
		reflect.TypeFor[map[string]v1alpha1.AnnotationValue](): "{team: a}",
		reflect.TypeFor[map[string]string]():                   "{team: a}",
		reflect.TypeFor[metav1.ObjectMeta]():                   "{name: rush-hour}",
		reflect.TypeFor[v1alpha1.ParkingSimulationStatus]():    "{replicas: 2}",
	}

	// patchExamples contains a valid example for each type of field in a pod template. Error messages show these
	// examples.
	patchExamples = map[reflect.Type]string{
		reflect.TypeFor[corev1.PodSpec]():              "{nodeSelector: {disk: ssd}}",
		reflect.TypeFor[map[string]string]():           "{disk: ssd}",
		reflect.TypeFor[[]corev1.Toleration]():         "[{operator: Exists}]",
		reflect.TypeFor[corev1.Toleration]():           "{operator: Exists}",
		reflect.TypeFor[[]corev1.Container]():          "[{name: parking}]",
		reflect.TypeFor[corev1.Container]():            "{name: parking}",
		reflect.TypeFor[[]string]():                    `["--flag", "value"]`,
		reflect.TypeFor[[]corev1.EnvVar]():             "[{name: LOG_LEVEL, value: debug}]",
		reflect.TypeFor[corev1.EnvVar]():               "{name: LOG_LEVEL, value: debug}",
		reflect.TypeFor[[]corev1.Volume]():             "[{name: data, emptyDir: {}}]",
		reflect.TypeFor[corev1.Volume]():               "{name: data, emptyDir: {}}",
		reflect.TypeFor[[]corev1.VolumeMount]():        "[{name: data, mountPath: /data}]",
		reflect.TypeFor[corev1.VolumeMount]():          "{name: data, mountPath: /data}",
		reflect.TypeFor[[]corev1.ContainerPort]():      "[{containerPort: 8080}]",
		reflect.TypeFor[corev1.ContainerPort]():        "{containerPort: 8080}",
		reflect.TypeFor[corev1.ResourceRequirements](): "{limits: {memory: 512Mi}}",
		reflect.TypeFor[corev1.ResourceList]():         "{memory: 512Mi}",
		reflect.TypeFor[corev1.Probe]():                "{periodSeconds: 30}",
	}

	// words contains a valid value for each field that is a string or a list of strings, by the name of the field.
	words = map[string]string{
		"image":            "redis:8",
		"url":              "https://example.com/v1/visits",
		"name":             "my-name",
		"namespace":        "my-namespace",
		"storageClassName": "my-class",
		"labels":           "blue",
		"args":             "--flag",
		"command":          "/bin/sh",
	}
)

// oneOf describes a field that has one of the given values.
func oneOf[T ~string](values ...T) string {
	quoted := make([]string, len(values))
	for i, value := range values {
		quoted[i] = strconv.Quote(string(value))
	}
	return "must be one of " + strings.Join(quoted, ", ")
}

// withUnit adds the unit s to a bare number. It returns "" if the duration would be invalid.
func withUnit(path field.Path, number, written string) string {
	// If the number has leading zeros, YAML may have read it as octal. The intended number is then unknown.
	if leadingZeros.MatchString(written) {
		return ""
	}
	d := v1alpha1.Duration(number + "s")
	value, err := d.Parse()
	mayBeZero := slices.ContainsFunc([]string{".minStay", ".jitter", ".at"}, func(name string) bool { return strings.HasSuffix(string(path), name) })
	if err != nil || value < 0 || value > plan.MaxDuration || value == 0 && !mayBeZero {
		return ""
	}
	return string(d)
}

// Read reads a ParkingSimulation of at most 1 MiB in YAML or JSON, with the API server's defaults and rules for new
// objects. Errors are one line.
func Read(r io.Reader) (*v1alpha1.ParkingSimulation, error) {
	text, err := document.ReadAll(r, "the manifest")
	if err != nil {
		return nil, err
	}
	sim, err := parse(text)
	if err != nil {
		return nil, withUnusualCharacters(withMissingSpace(withUnrendered(err, text), text), text)
	}
	return sim, nil
}

func parse(text []byte) (*v1alpha1.ParkingSimulation, error) {
	text, original, err := toJSON(text)
	if err != nil {
		return nil, err
	}
	sim, err := decode(text, original)
	if err != nil && original.hasBinary() {
		return nil, errors.New("the manifest is invalid. The errors are not shown, because a value with the tag !!binary may be a password: write the value as text")
	}
	return sim, err
}

// decode decodes a simulation in JSON. Its errors quote the values from the original document.
func decode(text []byte, original *source) (*v1alpha1.ParkingSimulation, error) {
	format := format
	format.Source = original.written
	if err := checkKind(text, &format); err != nil {
		return nil, err
	}
	text, err := normalize(text, &format)
	if err != nil {
		return nil, err
	}
	sim := new(v1alpha1.ParkingSimulation)
	if err := format.Decode(text, sim); err != nil {
		return nil, err
	}
	resolved, faults := resolve(sim, original.written)
	// YAML reads 010 as 8. Report such numbers only if there is no other error, so that no number is reported twice.
	if len(faults) == 0 {
		faults = notDecimal("", original.root())
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	return resolved.Simulation, nil
}

// ReadFile reads a manifest from a file, in the same way as Read. Its errors contain the path.
func ReadFile(path string) (*v1alpha1.ParkingSimulation, error) {
	if field.LooksLikeURI(path) { // the error does not quote the URI, which may contain a password
		return nil, errors.New("read manifest: URLs are not supported: download the manifest and pass the file, or pass \"-\" to read standard input")
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, fmt.Errorf("read manifest: %q is a directory: give one file, such as %q", path, filepath.Join(path, "simulation.yaml"))
	}
	text, err := document.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(path, ",*?[") {
		return nil, fmt.Errorf("read manifest: %w: give one file, not a list or a pattern", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	sim, err := Read(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", path, err)
	}
	return sim, nil
}

// checkKind rejects other kinds of documents. Call it before checking the fields, so that the error does not list all
// fields as unknown.
func checkKind(text []byte, format *document.Format) error {
	if err := document.CheckObject(text); err != nil {
		return fmt.Errorf("%w: %s", err, beginning())
	}
	var got struct {
		APIVersion json.RawMessage `json:"apiVersion"`
		Kind       json.RawMessage `json:"kind"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return err
	}
	if kind, isText := format.Written("kind", got.Kind).(string); isText && (kind == "List" || kind == v1alpha1.Kind+"List") {
		return field.Invalid("kind", kind, "must be "+v1alpha1.Kind+": write each of the items into a separate file")
	}
	var list field.ErrorList
	for _, check := range []struct {
		path field.Path
		got  json.RawMessage
		want string
	}{
		{"apiVersion", got.APIVersion, v1alpha1.GroupVersion.String()},
		{"kind", got.Kind, v1alpha1.Kind},
	} {
		value := format.Written(check.path, check.got)
		switch {
		case len(check.got) == 0:
			list = append(list, field.Required(check.path, "must be "+check.want))
		case value != check.want:
			list = append(list, field.Invalid(check.path, value, "must be "+check.want))
		}
	}
	return list.Err()
}

func beginning() string {
	return fmt.Sprintf("set apiVersion: %s, kind: %s and metadata.name", v1alpha1.GroupVersion, v1alpha1.Kind)
}
