package manifest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/internal/field"
)

// toJSON converts a YAML file to JSON. The file must contain exactly one document, not counting empty ones. A
// file that is already JSON is returned unchanged.
func toJSON(text []byte) ([]byte, error) {
	if json.Valid(text) { // may be indented with tabs, which the YAML parser rejects
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
			return nil, fmt.Errorf("read the documents in the manifest: %w", err)
		}
		converted, err := yaml.YAMLToJSONStrict(text)
		if err != nil {
			return nil, yamlError(err, text)
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
		return nil, errors.New("the manifest is empty: " + beginning())
	}
	return found, nil
}

var (
	// tabIndent matches a line that is indented with a tab.
	tabIndent = regexp.MustCompile(`(?m)^ *\t`)
	// templateExpression matches the start of an expression in a Helm template, or a variable for envsubst.
	templateExpression = regexp.MustCompile(`{{|\$\{\w+\}`)
)

// yamlError converts an error of the YAML parser to one line. For frequent mistakes, it adds how to correct
// them.
func yamlError(err error, document []byte) error {
	if at := tabIndent.FindIndex(document); at != nil {
		return fmt.Errorf("not valid YAML: line %d is indented with a tab: use spaces", lineAt(document, at[0]))
	}
	if path, number := unrepresentable(document); number != "" {
		return field.Invalid(path, field.Raw(number), "must be a finite number, such as 10")
	}
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n")
	if strings.HasPrefix(text, "invalid map key: ") { // the error quotes the key, which may hold a password
		text = "a key must be a text"
	}
	return fmt.Errorf("not valid YAML: %s", strings.Join(strings.Fields(text), " "))
}

// unrepresentable finds the first number in a YAML document that JSON cannot represent, such as .inf. It
// returns the number and its path.
func unrepresentable(document []byte) (field.Path, string) {
	var root yamlv3.Node
	if yamlv3.Unmarshal(document, &root) != nil || len(root.Content) == 0 {
		return "", ""
	}
	return unrepresentableIn("", root.Content[0])
}

func unrepresentableIn(path field.Path, node *yamlv3.Node) (field.Path, string) {
	special := []string{".inf", "+.inf", "-.inf", ".nan"}
	if node.Kind == yamlv3.ScalarNode && node.Tag == "!!float" && slices.Contains(special, strings.ToLower(node.Value)) {
		return path, node.Value
	}
	for i, child := range node.Content {
		at := path.Index(i)
		if node.Kind == yamlv3.MappingNode {
			if i%2 == 0 { // a key
				continue
			}
			at = path.Child(node.Content[i-1].Value)
		}
		if at, number := unrepresentableIn(at, child); number != "" {
			return at, number
		}
	}
	return "", ""
}

// withUnrendered adds to err the advice to render the manifest first, if the manifest contains a template
// expression. A template expression by itself is not an error, because a valid manifest may contain one, for
// example in an annotation.
func withUnrendered(err error, manifest []byte) error {
	at := templateExpression.FindIndex(manifest)
	if at == nil {
		return err
	}
	expression := string(manifest[at[0]:at[1]])
	if expression == "{{" {
		expression = "{{ }}"
	}
	return fmt.Errorf("%w; line %d has the template expression %s: render the manifest first, for example with \"helm template\" or \"envsubst\"",
		err, lineAt(manifest, at[0]), expression)
}

// lineAt returns the number of the line at the given offset. Lines are numbered from 1.
func lineAt(text []byte, offset int) int { return 1 + bytes.Count(text[:offset], []byte("\n")) }
