// Package manifest turns the manifest of a ParkingSimulation into a plan: it reads the manifest strictly, fills in
// defaults, validates it, derives the plan and warns of what is valid but probably not intended. It looks at
// nothing but the manifest.
package manifest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/document"
)

var (
	// format says how manifests are checked, patchFormat how pod templates are.
	format      = document.Format{Expected: expected}
	patchFormat = document.Format{Expected: expected, Directives: true}

	expected = map[reflect.Type]string{
		reflect.TypeFor[v1alpha1.Duration](): `must be a duration such as "30s" or "1h30m"`,
		reflect.TypeFor[resource.Quantity](): `must be a quantity such as "2Gi" or "500m"`,
		reflect.TypeFor[metav1.Time]():       `must be a date and time such as "2006-01-02T15:04:05Z"`,
	}
)

// Read reads one ParkingSimulation, as YAML or JSON of at most 1 MiB, fills in its defaults and
// checks it as the API server would on creation. The error is one line that names the field at fault, its
// value, and what is expected.
func Read(r io.Reader) (*v1alpha1.ParkingSimulation, error) {
	text, err := document.ReadAll(r, "the manifest")
	if err != nil {
		return nil, err
	}
	text, err = toJSON(text)
	if err != nil {
		return nil, err
	}
	if err := checkKind(text); err != nil {
		return nil, err
	}
	text, err = normalize(text)
	if err != nil {
		return nil, err
	}
	sim := new(v1alpha1.ParkingSimulation)
	if err := format.Decode(text, sim); err != nil {
		return nil, err
	}
	resolved, faults := Resolve(sim)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	return resolved.Simulation, nil
}

// ReadFile reads a manifest file as Read does, and names it in its error.
func ReadFile(path string) (*v1alpha1.ParkingSimulation, error) {
	text, err := document.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	sim, err := Read(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", path, err)
	}
	return sim, nil
}

// toJSON returns the only document that is not empty, as JSON.
func toJSON(text []byte) ([]byte, error) {
	if json.Valid(text) { // YAML does not allow the tabs that JSON does
		return text, nil
	}
	var found []byte
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the manifest's documents: %w", err)
		}
		converted, err := yaml.YAMLToJSONStrict(text)
		if err != nil {
			return nil, yamlError(err)
		}
		if string(converted) == "null" { // nothing but comments
			continue
		}
		if found != nil {
			return nil, errors.New("there is more than one document: leave one ParkingSimulation in the file")
		}
		found = converted
	}
	if found == nil {
		return nil, fmt.Errorf("the manifest is empty: give it apiVersion: %s, kind: %s and a metadata.name", v1alpha1.GroupVersion, v1alpha1.Kind)
	}
	return found, nil
}

// yamlError puts a parser's error on one line.
func yamlError(err error) error {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n")
	text = strings.Join(strings.Fields(text), " ")
	return fmt.Errorf("not valid YAML: %s", text)
}

// checkKind refuses what is not a ParkingSimulation before its fields are looked at.
func checkKind(text []byte) error {
	var got struct {
		APIVersion json.RawMessage `json:"apiVersion"`
		Kind       json.RawMessage `json:"kind"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return fmt.Errorf("%s is not an object with fields", document.Excerpt(text))
	}
	for _, check := range []struct {
		field string
		got   json.RawMessage
		want  string
	}{
		{"apiVersion", got.APIVersion, v1alpha1.GroupVersion.String()},
		{"kind", got.Kind, v1alpha1.Kind},
	} {
		switch got := document.Excerpt(check.got); got {
		case check.want:
		case "":
			return fmt.Errorf("%s: Required value: must be %s", check.field, check.want)
		default:
			return fmt.Errorf("%s: Invalid value: %q: must be %s", check.field, got, check.want)
		}
	}
	return nil
}
