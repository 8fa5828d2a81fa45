package plan_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// The page docs/plan.md must list every field of a plan file, and contain a valid example.
func TestPlanDoc_ListsEveryField(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/plan.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range rows(string(text)) {
		listed = append(listed, row[1])
	}
	if diff := cmp.Diff(fieldsOf("", reflect.TypeFor[plan.Plan]()), listed); diff != "" {
		t.Errorf("docs/plan.md does not list the fields of the plan (-code +listed):\n%s", diff)
	}
	_, example, _ := strings.Cut(string(text), "```json\n")
	example, _, _ = strings.Cut(example, "```")
	if _, err := plan.Parse([]byte(example)); err != nil {
		t.Errorf("the example is not a valid plan: %v", err)
	}
}

// rows returns each row of the table of fields: the whole line, the path of the field, and the effect of an edit.
func rows(page string) [][]string {
	return regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*\\| (rejected|at once|next start) \\|$").FindAllStringSubmatch(page, -1)
}

// fieldsOf returns the paths of all fields in the JSON form of a type, except fields that contain an object.
func fieldsOf(path string, t reflect.Type) (fields []string) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		at := path + name
		switch {
		case f.Anonymous:
			fields = append(fields, fieldsOf(path, f.Type)...)
		case f.Type.Kind() == reflect.Slice:
			fields = append(append(fields, at), fieldsOf(at+"[].", f.Type.Elem())...)
		case f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[time.Time]():
			fields = append(fields, fieldsOf(at+".", f.Type)...)
		default:
			fields = append(fields, at)
		}
	}
	return fields
}

func TestPlanDoc_EffectOfEachEdit_MatchesTheCode(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/plan.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows(string(text)) {
		if got := plan.EffectOfEdit(row[1]); got != row[2] {
			t.Errorf("an edit of %s has the effect %q; the page says %q", row[1], got, row[2])
		}
	}
}
