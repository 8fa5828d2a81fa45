package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// decodeStrict decodes one JSON object as the API server would, and refuses unknown fields and ones that
// are given twice. The error is one line that names each field at fault.
func decodeStrict(text []byte, into any) error {
	lax, err := kjson.UnmarshalStrict(text, into)
	if err == nil && len(lax) == 0 {
		return nil
	}
	if !json.Valid(text) {
		return syntaxError(text)
	}
	if bytes.TrimSpace(text)[0] != '{' {
		return fmt.Errorf("%s is not an object with fields", shown(text))
	}
	// The decoder does not say which field a faulty duration or quantity is in; looking at each does.
	if list := findFaults(nil, text, reflect.TypeOf(into)); len(list) > 0 {
		return oneLine(list)
	}
	if err != nil {
		return err
	}
	return errors.New(strings.ReplaceAll(errors.Join(lax...).Error(), "\n", "; ") + ": give each field once")
}

func syntaxError(text []byte) error {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(text, new(json.RawMessage)); errors.As(err, &syntax) {
		line := 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
		return fmt.Errorf("line %d: not valid JSON: %w", line, err)
	}
	return errors.New("not valid JSON")
}

// findPatchFaults returns what of a strategic merge patch, in JSON, cannot be merged into a value of
// like's type.
func findPatchFaults(path *field.Path, patch []byte, like any) field.ErrorList {
	if len(patch) > 0 && !json.Valid(patch) {
		return field.ErrorList{field.Invalid(path, shown(patch), "must be JSON")}
	}
	if len(patch) == 0 {
		return nil
	}
	return findFaults(path, patch, reflect.TypeOf(like))
}

// findFaults returns what of a valid JSON value cannot be decoded as type t, by its path.
func findFaults(path *field.Path, value json.RawMessage, t reflect.Type) field.ErrorList {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if string(bytes.TrimSpace(value)) == "null" {
		return nil
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return findLeafFault(path, value, t, expectation(t))
	}
	switch t.Kind() {
	case reflect.Struct:
		return findFieldFaults(path, value, t)
	case reflect.Map:
		return findMemberFaults(path, value, t)
	case reflect.Slice:
		return findElementFaults(path, value, t)
	case reflect.String:
		return findLeafFault(path, value, t, "must be a string: put it in quotes")
	case reflect.Bool:
		return findLeafFault(path, value, t, "must be true or false")
	default:
		return findLeafFault(path, value, t, fmt.Sprintf("must be a whole number of at most %d bits", t.Bits()))
	}
}

// expectation says what a type that decodes itself expects; "" leaves that to its own error.
func expectation(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration](), reflect.TypeFor[metav1.Duration]():
		return `must be a duration such as "30s" or "1h30m"`
	case reflect.TypeFor[resource.Quantity]():
		return `must be a quantity such as "2Gi" or "500m"`
	case reflect.TypeFor[time.Time](), reflect.TypeFor[metav1.Time]():
		return `must be a date and time such as "2006-01-02T15:04:05Z"`
	}
	return ""
}

// findLeafFault decodes a value as a whole; without a remedy the error of the type itself is given.
func findLeafFault(path *field.Path, value json.RawMessage, t reflect.Type, remedy string) field.ErrorList {
	err := json.Unmarshal(value, reflect.New(t).Interface())
	switch {
	case err == nil:
		return nil
	case remedy == "":
		remedy = err.Error()
	}
	return field.ErrorList{field.Invalid(path, shown(value), remedy)}
}

func findFieldFaults(path *field.Path, value json.RawMessage, t reflect.Type) field.ErrorList {
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return field.ErrorList{field.Invalid(path, shown(value), "must be an object")}
	}
	fields := fieldTypes(t)
	var list field.ErrorList
	for _, name := range sortedKeys(members) {
		switch fieldType, known := fields[name]; {
		case known:
			list = append(list, findFaults(child(path, name), members[name], fieldType)...)
		case !strings.HasPrefix(name, "$"): // the directives of a strategic merge patch
			list = append(list, field.Forbidden(child(path, name), unknownField(name, fields)))
		}
	}
	return list
}

func findMemberFaults(path *field.Path, value json.RawMessage, t reflect.Type) field.ErrorList {
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return field.ErrorList{field.Invalid(path, shown(value), "must be an object")}
	}
	var list field.ErrorList
	for _, key := range sortedKeys(members) {
		list = append(list, findFaults(path.Key(key), members[key], t.Elem())...)
	}
	return list
}

func findElementFaults(path *field.Path, value json.RawMessage, t reflect.Type) field.ErrorList {
	var elements []json.RawMessage
	if t.Elem().Kind() == reflect.Uint8 || json.Unmarshal(value, &elements) != nil {
		return findLeafFault(path, value, t, "must be a list")
	}
	var list field.ErrorList
	for i, element := range elements {
		list = append(list, findFaults(path.Index(i), element, t.Elem())...)
	}
	return list
}

// fieldTypes returns the types of a struct's fields by their names in JSON.
func fieldTypes(t reflect.Type) map[string]reflect.Type {
	types := make(map[string]reflect.Type)
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || (!f.IsExported() && !f.Anonymous):
		case name == "" && f.Anonymous:
			maps.Copy(types, fieldTypes(f.Type))
		case name == "":
			types[f.Name] = f.Type
		default:
			types[name] = f.Type
		}
	}
	return types
}

// maxListed is up to how many fields a person wants to read the names of.
const maxListed = 20

// unknownField says what to do about a field that there is not. Only a pod template has more fields than can
// be listed.
func unknownField(name string, known map[string]reflect.Type) string {
	names := sortedKeys(known)
	if near := closest(name, names); near != "" {
		return fmt.Sprintf("unknown field: did you mean %q?", near)
	}
	if len(names) <= maxListed {
		return "unknown field: remove it; what can be here is " + strings.Join(names, ", ")
	}
	return "unknown field: remove it, or look up with \"kubectl explain\" what there is"
}

// closest returns the name that is at most two edits, and half of its length, away; "" if none.
func closest(name string, names []string) string {
	best, bestDistance := "", 3
	for _, candidate := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(candidate)); d < bestDistance && 2*d <= len(candidate) {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two names; names of very different lengths are not compared.
func distance(a, b string) int {
	if diff := len(a) - len(b); diff > 2 || diff < -2 {
		return 3
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitution := diagonal
			if a[i] != b[j] {
				substitution++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitution, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func child(path *field.Path, name string) *field.Path {
	if path == nil {
		return field.NewPath(name)
	}
	return path.Child(name)
}

// shown is a value for an error, on one line and cut short.
func shown(value []byte) string {
	const limit = 64
	var text string
	if json.Unmarshal(value, &text) != nil {
		text = string(value)
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}
