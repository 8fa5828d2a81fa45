package manifest

import (
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// If a value has the wrong type, the error shows an example of the expected object or list.
func TestExamples_CoverAllTypesInTheSpec(t *testing.T) {
	t.Parallel()
	found := map[reflect.Type]bool{
		reflect.TypeFor[metav1.ObjectMeta]():                true,
		reflect.TypeFor[map[string]string]():                true, // the labels and annotations of an ObjectMeta
		reflect.TypeFor[v1alpha1.ParkingSimulationStatus](): true,
	}
	collect(reflect.TypeFor[v1alpha1.ParkingSimulationSpec](), found)
	for typ := range found {
		if examples[typ] == "" {
			t.Errorf("%s has no example", typ)
		}
	}
	for typ, example := range examples {
		if !found[typ] {
			t.Errorf("%s has an example, but no manifest contains it", typ)
		}
		text, err := yaml.YAMLToJSON([]byte(example))
		if err != nil {
			t.Fatal(err)
		}
		if faults := format.Check("", text, typ); len(faults) > 0 {
			t.Errorf("the example %s of %s: %v", example, typ, faults)
		}
	}
}

// collect adds the types of all objects and lists in t, at any depth.
func collect(t reflect.Type, found map[reflect.Type]bool) {
	switch {
	case t == reflect.TypeFor[runtime.RawExtension]():
	case t.Kind() == reflect.Pointer:
		collect(t.Elem(), found)
	case t.Kind() == reflect.Map:
		found[t] = true
	case t.Kind() == reflect.Slice:
		found[t] = true
		collect(t.Elem(), found)
	case t.Kind() == reflect.Struct:
		found[t] = true
		for field := range t.Fields() {
			if field.Tag.Get("json") == "-" {
				continue
			}
			if strings.HasPrefix(field.Tag.Get("json"), ",inline") {
				embedded := map[reflect.Type]bool{}
				collect(field.Type, embedded)
				delete(embedded, field.Type)
				for typ := range embedded {
					found[typ] = true
				}
				continue
			}
			collect(field.Type, found)
		}
	}
}
