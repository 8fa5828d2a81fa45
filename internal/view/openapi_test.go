package view

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
)

// openAPI contains the parts of the OpenAPI document that describe the data of the live page.
type openAPI struct {
	Paths map[string]struct {
		Get struct{ Tags []string }
	}
	Components struct{ Schemas map[string]schema }
}

type schema struct {
	Ref        string            `json:"$ref"`
	Required   []string          `json:"required"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	OneOf      []schema          `json:"oneOf"` // a nullable value has two schemas: its own, and the schema of null
}

func readOpenAPI(t *testing.T) openAPI {
	t.Helper()
	text, err := os.ReadFile("../summary/rest/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var d openAPI
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOpenAPI_DescribesEveryDataPathOfTheLivePage(t *testing.T) {
	t.Parallel()
	var documented []string
	for path, operations := range readOpenAPI(t).Paths {
		if slices.Contains(operations.Get.Tags, "live") {
			documented = append(documented, path)
		}
	}
	slices.Sort(documented)
	want := []string{pathEvents, pathState, pathTimeline}
	if diff := cmp.Diff(want, documented); diff != "" {
		t.Errorf("paths differ (-handlers +document):\n%s", diff)
	}
}

func TestOpenAPI_DescribesEveryFieldOfTheResponses(t *testing.T) {
	t.Parallel()
	d := readOpenAPI(t)
	row := fakeRow(1, 3, 6) // a row with errors and a mark
	row.Width = 10
	e := &row.Exit
	e.Due, e.Starved, e.Missed, e.Errors, e.Lag = 1, 1, 1, map[string]int64{"post": 1}, 1
	row.Marks[0].Message = "down"
	state := newFake("run", 3).state
	state.Ledger, state.StartedAt = &ledger.Report{}, time.Now()
	fill(reflect.ValueOf(state.Ledger).Elem())
	state.Faults = make([]fault.Account, 1)
	fill(reflect.ValueOf(&state.Faults[0]).Elem())
	state.Verdict = Verdict{Outcome: ledger.Fail, Reasons: []string{"lost"}}
	row.Entry.Matched = 1
	for name, value := range map[string]any{"State": state, "Row": row} {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var decoded any
		if err := json.Unmarshal(text, &decoded); err != nil {
			t.Fatal(err)
		}
		for _, fault := range d.compare(d.Components.Schemas[name], decoded, name) {
			t.Error(fault)
		}
	}
}

// fill sets every field of a struct to a value other than zero, so that its JSON form has all fields.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if _, ok := reflect.TypeAssert[time.Time](v); ok {
			v.Set(reflect.ValueOf(time.Unix(1, 0)))
			return
		}
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	default:
		panic("fill does not support " + v.Type().String())
	}
}

// compare returns the differences between a value and its schema, namely fields that the schema does not contain and
// required fields that the value does not contain.
func (d *openAPI) compare(s schema, value any, at string) (faults []string) {
	if len(s.OneOf) > 0 {
		s = s.OneOf[0]
	}
	if s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	switch v := value.(type) {
	case []any:
		for i, item := range v {
			if s.Items != nil {
				faults = append(faults, d.compare(*s.Items, item, fmt.Sprintf("%s[%d]", at, i))...)
			}
		}
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				faults = append(faults, at+" lacks "+name)
			}
		}
		for name, member := range v {
			property, ok := s.Properties[name]
			if !ok && s.Properties != nil {
				faults = append(faults, at+" has the undocumented field "+name)
			}
			faults = append(faults, d.compare(property, member, at+"."+name)...)
		}
	}
	return faults
}
