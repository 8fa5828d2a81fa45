package manifest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/parking-operator/parking-operator/internal/manifest"
)

// Decoding one of these texts as a resource.Quantity takes minutes or gigabytes of memory. The API server accepts the
// texts, because it does not decode pod templates.
func TestReadManifest_QuantityInTemplateIsExpensiveToDecode_IsRejected(t *testing.T) {
	t.Parallel()
	nines := strings.Repeat("9", 40)
	values := []string{
		`"1e-2147483640"`, `"1e-20000000"`, `1e-2147483640`, `"1e2147483640"`, `"` + nines + `"`, nines, `"0.` + nines + `"`,
		`"` + nines + `e-2147483640"`, `"-1e-2147483640"`, `"+1e-2147483640"`, `" 1e-2147483640"`,
	}
	fields := quantityFields("", reflect.TypeFor[corev1.PodSpec](), "%s")
	for _, want := range []string{
		"containers[0].resources.limits[a]", "initContainers[0].resources.requests[a]", "overhead[a]", "resources.limits[a]",
		"volumes[0].emptyDir.sizeLimit", "containers[0].env[0].valueFrom.resourceFieldRef.divisor",
	} {
		if _, found := fields[want]; !found {
			t.Errorf("%s is not among the fields, which are %v", want, fields)
		}
	}
	for path, format := range fields {
		for _, value := range values {
			spec := fmt.Sprintf(format, value)
			if !json.Valid([]byte(spec)) {
				t.Fatalf("the test writes invalid JSON: %s", spec)
			}
			text := `{"apiVersion": "simulation.parking.dev/v1alpha1", "kind": "ParkingSimulation", "metadata": {"name": "a"}, ` +
				`"spec": {"processor": {"template": {"spec": ` + spec + `}}}}`
			want := "spec.processor.template.spec." + path + ": Invalid value: "
			_, err := manifest.Read(strings.NewReader(text))
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "must be a quantity such as") {
				t.Errorf("%s = %s: error is %v, want %q", path, value, err, want)
			}
		}
	}
}

// quantityFields maps the path of each quantity in the type t to a JSON document that contains only this quantity, such
// as {"size": %s}. The first call must pass the path "" and the format "%s".
func quantityFields(path string, t reflect.Type, format string) map[string]string {
	fields := map[string]string{}
	add := func(path string, t reflect.Type, value string) {
		maps.Copy(fields, quantityFields(path, t, fmt.Sprintf(format, value)))
	}
	switch {
	case t == reflect.TypeFor[resource.Quantity]():
		fields[path] = format
	case t.Kind() == reflect.Pointer:
		add(path, t.Elem(), "%s")
	case t.Kind() == reflect.Slice:
		add(path+"[0]", t.Elem(), "[%s]")
	case t.Kind() == reflect.Map:
		add(path+"[a]", t.Elem(), `{"a": %s}`)
	case t.Kind() == reflect.Struct:
		for f := range t.Fields() {
			switch name, _, _ := strings.Cut(f.Tag.Get("json"), ","); {
			case name != "":
				add(strings.TrimPrefix(path+"."+name, "."), f.Type, `{"`+name+`": %s}`)
			case f.Anonymous:
				add(path, f.Type, "%s")
			}
		}
	}
	return fields
}
