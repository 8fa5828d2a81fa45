package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// normalize checks field names and types, and treats the spec as the API server does.
func normalize(text []byte, format *document.Format) ([]byte, error) {
	if err := format.Check("", text, reflect.TypeFor[v1alpha1.ParkingSimulation]()).Err(); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // a float64 would round large numbers
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	spec, isObject := object["spec"].(map[string]any)
	if !isObject {
		return text, nil
	}
	c := checks{plan.Checks{Source: format.Source}}
	c.normalize("spec", spec)
	if err := c.Errors.Err(); err != nil {
		return nil, err
	}
	return json.Marshal(object)
}

// normalize removes null values, and rejects empty strings and numbers with a fraction or an exponent.
func (c *checks) normalize(path field.Path, object map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		at := memberPath(path, name)
		switch value := object[name].(type) {
		case nil:
			delete(object, name)
		case string:
			if value == "" {
				c.Invalid(at, value, "must not be empty: remove the field, or give it a value")
			}
		case json.Number:
			if strings.ContainsAny(value.String(), ".eE") {
				c.Invalid(at, value, "%s", expectedForFraction(name, value.String()))
			}
		case map[string]any:
			c.normalizeMember(at, name, value)
		case []any:
			for i, element := range value {
				if member, isObject := element.(map[string]any); isObject {
					c.normalize(at.Index(i), member)
				}
			}
		}
	}
}

// expectedForFraction returns the valid values of a field, for the error about a number with a fraction or an exponent.
func expectedForFraction(name, number string) string {
	switch name {
	case "cpu":
		if _, err := v1alpha1.Quantity(number).Parse(); err == nil {
			return fmt.Sprintf("must be a whole number, or a quantity in quotes: write %q", number)
		}
		return expectedQuantity
	case "pods":
		_, _, err := v1alpha1.FaultPods(number).Parse()
		return err.Error()
	case "size":
		return expectedSize
	}
	return expectedWholeQuantity
}

func (c *checks) normalizeMember(path field.Path, name string, value map[string]any) {
	switch name {
	case "template":
		if metadata, isObject := value["metadata"].(map[string]any); isObject {
			c.normalize(path.Child("metadata"), metadata)
		}
	case "labels", "annotations":
		maps.DeleteFunc(value, func(_ string, v any) bool { return v == nil })
	default:
		c.normalize(path, value)
	}
}
