package v1alpha1_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// Every field of spec and status must accept JSON values of every type. One object that cannot be decoded would break
// the operator's list of all simulations.
func TestParkingSimulation_ValuesOfWrongTypes_DoNotFailDecoding(t *testing.T) {
	t.Parallel()
	values := []string{
		`null`, `true`, `5`, `-1.5`, `1e400`, `30000000000000000000`, `""`, `"abc"`, `"1e1.5"`, `"1e2147483640"`, `"99999999999h"`,
		`"2026-01-01t00:00:00z"`, `[]`, `[5]`, `["abc"]`, `[null]`, `[[]]`, `[{}]`, `{}`, `{"a":5}`, `{"a":"b"}`, `{"a":{}}`, `{"name":[]}`,
	}
	tried := 0
	var try func(t *testing.T, of reflect.Type, before, after string)
	try = func(t *testing.T, of reflect.Type, before, after string) {
		t.Helper()
		for _, value := range values {
			tried++
			if err := json.Unmarshal([]byte(before+value+after), new(v1alpha1.ParkingSimulation)); err != nil {
				t.Errorf("%s%s%s: %v", before, value, after, err)
			}
		}
		switch of.Kind() {
		case reflect.Pointer:
			try(t, of.Elem(), before, after)
		case reflect.Slice:
			try(t, of.Elem(), before+"[", "]"+after)
		case reflect.Map:
			try(t, of.Elem(), before+`{"a":`, "}"+after)
		case reflect.Struct:
			for field := range of.Fields() {
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				switch {
				case name == "-" || !field.IsExported():
				case name == "":
					try(t, field.Type, before, after)
				default:
					try(t, field.Type, before+`{"`+name+`":`, "}"+after)
				}
			}
		}
	}
	try(t, reflect.TypeFor[v1alpha1.ParkingSimulationSpec](), `{"spec":`, "}")
	try(t, reflect.TypeFor[v1alpha1.ParkingSimulationStatus](), `{"status":`, "}")
	if least := 100 * len(values); tried < least {
		t.Errorf("%d documents were tried, want at least %d", tried, least)
	}
}

func TestParkingSimulationSpec_ValuesOfWrongTypes_AreSkipped(t *testing.T) {
	t.Parallel()
	const text = `{"seed":"abc","entry":{"rate":[5],"replicas":3},"redis":{"secretRef":{"name":"shared"}}}`
	var got v1alpha1.ParkingSimulationSpec
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Entry.Replicas == nil || *got.Entry.Replicas != 3 || got.Redis.SecretRef == nil || got.Redis.SecretRef.Name != "shared" {
		t.Errorf("the spec is decoded as %+v, want the fields with the right type", got)
	}
	if string(got.Undecodable) != text {
		t.Errorf("Undecodable is %q, want the text of the spec", got.Undecodable)
	}
	if err := json.Unmarshal([]byte(`{"seed":5}`), &got); err != nil || got.Undecodable != nil || *got.Seed != 5 {
		t.Errorf("a valid spec is decoded as %+v (%v)", got, err)
	}
}

func TestQuantity_AnyJSONValue_KeepsItsText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]v1alpha1.Quantity{
		`"2Gi"`: "2Gi", `"1024Mi"`: "1024Mi", `2`: "2", `1e3`: "1000", `2.0`: "2", `1.5`: "1.5", `-0`: "0", `-0.0`: "0", `-1`: "-1", `"1e2147483640"`: "1e2147483640", `true`: "true",
	} {
		var got v1alpha1.Quantity
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s is decoded as %q (%v), want %q", text, got, err, want)
		}
	}
}
