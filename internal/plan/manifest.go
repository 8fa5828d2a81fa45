package plan

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// ReadManifest reads one ParkingSimulation, as YAML or JSON of at most 1 MiB, fills in its defaults and
// checks it as the API server would on creation. The error is one line that names the field at fault, its
// value, and what is expected.
func ReadManifest(r io.Reader) (*v1alpha1.ParkingSimulation, error) {
	text, err := readAll(r, "the manifest")
	if err != nil {
		return nil, err
	}
	document, err := onlyDocument(text)
	if err != nil {
		return nil, err
	}
	if err := checkKind(document); err != nil {
		return nil, err
	}
	sim := new(v1alpha1.ParkingSimulation)
	if err := decodeStrict(document, sim); err != nil {
		return nil, err
	}
	sim.Default()
	if err := oneLine(Validate(sim)); err != nil {
		return nil, err
	}
	return sim, nil
}

// ReadManifestFile reads a manifest file as ReadManifest does, and names it in its error.
func ReadManifestFile(path string) (*v1alpha1.ParkingSimulation, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	sim, err := ReadManifest(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", path, err)
	}
	return sim, nil
}

// onlyDocument returns, as JSON, the one document that has something in it.
func onlyDocument(text []byte) ([]byte, error) {
	if json.Valid(text) { // YAML does not allow the tabs that JSON does
		return text, nil
	}
	var found []byte
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the manifest's documents: %w", err)
		}
		converted, err := yaml.YAMLToJSONStrict(document)
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
func checkKind(document []byte) error {
	var got struct {
		APIVersion json.RawMessage `json:"apiVersion"`
		Kind       json.RawMessage `json:"kind"`
	}
	if err := json.Unmarshal(document, &got); err != nil {
		return fmt.Errorf("%s is not an object with fields", shown(document))
	}
	for _, check := range []struct {
		field string
		got   json.RawMessage
		want  string
	}{
		{"apiVersion", got.APIVersion, v1alpha1.GroupVersion.String()},
		{"kind", got.Kind, v1alpha1.Kind},
	} {
		switch got := shown(check.got); got {
		case check.want:
		case "":
			return fmt.Errorf("%s: Required value: must be %s", check.field, check.want)
		default:
			return fmt.Errorf("%s: Invalid value: %q: must be %s", check.field, got, check.want)
		}
	}
	return nil
}
