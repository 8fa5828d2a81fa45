package document

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/parking-operator/parking-operator/internal/field"
)

// Check returns an error for each part of a value that does not fit type t, and for each unknown or duplicate field.
// The value must be valid JSON.
func (f Format) Check(path field.Path, value json.RawMessage, t reflect.Type) field.ErrorList {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if string(bytes.TrimSpace(value)) == "null" {
		return nil
	}
	if validate, known := f.Validators[t]; known {
		if validate(value) != nil {
			return field.ErrorList{f.invalid(path, value, f.Expected[t])}
		}
		return nil
	}
	if expected, known := f.Expected[t]; known || f.isLeaf(t) {
		if convert := f.FromNumber[t]; convert != nil && json.Unmarshal(value, new(json.Number)) == nil && value[0] != '"' {
			if valid := convert(path, string(value), fmt.Sprint(f.Written(path, value))); valid != "" {
				expected += fmt.Sprintf(": write %q", valid)
			}
		}
		return f.checkLeaf(path, value, t, expected)
	}
	switch t.Kind() {
	case reflect.Struct:
		return f.checkObject(path, value, t)
	case reflect.Map:
		return f.checkMap(path, value, t)
	case reflect.Slice:
		return f.checkList(path, value, t)
	default:
		return f.checkScalar(path, value, t)
	}
}

// checkScalar checks a value that should be a string, a boolean or a number.
func (f Format) checkScalar(path field.Path, value json.RawMessage, t reflect.Type) field.ErrorList {
	switch t.Kind() {
	case reflect.String:
		if f.mayBeSecret(path) && !strings.ContainsAny(string(value[:1]), `"{[`) {
			return field.ErrorList{field.InvalidSecret(path, "", "must be a string: put it in quotes")}
		}
		return f.checkLeaf(path, value, t, f.expectedString(path, value))
	case reflect.Bool:
		return f.checkLeaf(path, value, t, "must be true or false, without quotes")
	default:
		return f.checkLeaf(path, value, t, expectedNumber(path, value, t))
	}
}

// isLeaf reports whether only the UnmarshalJSON method of t checks a value. The parts of a type with an example are
// checked separately.
func (f Format) isLeaf(t reflect.Type) bool {
	_, hasExample := f.Examples[t]
	return !hasExample && decodesItself(t)
}

func decodesItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]())
}

// expectedString returns the error message for a value that should be a string but has another type.
func (f Format) expectedString(path field.Path, value json.RawMessage) string {
	if strings.ContainsAny(string(value[:1]), "{[") {
		name, _, _ := strings.Cut(string(path[strings.LastIndex(string(path), ".")+1:]), "[")
		if word, known := f.Words[name]; known {
			return fmt.Sprintf("must be a string such as %q", word)
		}
		return "must be a string"
	}
	return fmt.Sprintf("must be a string: write %q", fmt.Sprint(f.Written(path, value)))
}

func expectedNumber(path field.Path, value json.RawMessage, t reflect.Type) string {
	isPercent := strings.HasSuffix(string(path), "Percent")
	var text string
	if json.Unmarshal(value, &text) == nil {
		text = strings.TrimSpace(text)
		excess := "quotes"
		if number, hasSign := strings.CutSuffix(text, "%"); isPercent && hasSign {
			text, excess = strings.TrimSpace(number), "a percent sign"
		}
		// A file mode such as "0400" is octal, so it is not parsed as a decimal number.
		isOctal := strings.HasPrefix(text, "0") && strings.HasSuffix(strings.ToLower(string(path)), "mode")
		if number, err := strconv.ParseFloat(text, 64); err == nil && !isOctal && number == math.Trunc(number) && math.Abs(number) < 1<<53 {
			text = strconv.FormatFloat(number, 'f', -1, 64) // the suggestion for "200.0" and "2e2" is 200
		}
		if json.Unmarshal([]byte(text), reflect.New(t).Interface()) == nil {
			return "must be a number without " + excess + ": write " + text
		}
	}
	if isPercent {
		return "must be a whole number of percent, from 0 to 100, such as 20"
	}
	if t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32 {
		return "must be a number, such as 0.5"
	}
	return fmt.Sprintf("must be a whole number such as 10, of at most %d bits", t.Bits())
}

// checkLeaf returns an error if a value cannot be decoded. The error says what is expected. If expected is empty, it
// contains the error of the decoder.
func (f Format) checkLeaf(path field.Path, value json.RawMessage, t reflect.Type, expected string) field.ErrorList {
	err := json.Unmarshal(value, reflect.New(t).Interface())
	switch {
	case err == nil:
		return f.checkDuplicates(path, value)
	case expected == "":
		expected = err.Error()
	}
	return field.ErrorList{f.invalid(path, value, expected)}
}

// checkDuplicates returns an error for each duplicate field name in a JSON value of unknown structure. Package json
// would accept duplicate names, and keep only the last value.
func (f Format) checkDuplicates(path field.Path, value json.RawMessage) field.ErrorList {
	var list field.ErrorList
	switch value[0] {
	case '{':
		var members map[string]json.RawMessage
		members, list = f.membersOf(path, value, "must be an object")
		for _, name := range slices.Sorted(maps.Keys(members)) {
			list = append(list, f.checkDuplicates(path.Child(name), members[name])...)
		}
	case '[':
		var elements []json.RawMessage
		_ = json.Unmarshal(value, &elements) // cannot fail, because the value is valid JSON
		for i, element := range elements {
			list = append(list, f.checkDuplicates(path.Index(i), element)...)
		}
	}
	return list
}

// invalid returns an error for a value. If the value is a text that may be a secret, the error does not show the text.
func (f Format) invalid(path field.Path, value json.RawMessage, expected string) field.Error {
	written := f.Written(path, value)
	if text, isText := written.(string); isText && f.mayBeSecret(path) {
		return field.InvalidSecret(path, text, expected)
	}
	return field.Invalid(path, written, expected)
}

func (f Format) mayBeSecret(path field.Path) bool { return f.MayBeSecret != nil && f.MayBeSecret(path) }

// Written returns a JSON value as error messages show it: a string without quotes, and an object or a list without its
// contents, which may include a password.
func (f Format) Written(path field.Path, value json.RawMessage) any {
	var text string
	switch {
	case json.Unmarshal(value, &text) == nil:
		return text
	case len(value) > 2 && value[0] == '{':
		return field.Raw("{…}")
	case len(value) > 2 && value[0] == '[':
		return field.Raw("[…]")
	case f.Source != nil:
		return f.Source(path, field.Raw(value))
	}
	return field.Raw(value)
}

// example appends an example of type t to a description of the expected value, if the format has such an example.
func (f Format) example(expected string, t reflect.Type) string {
	if example, known := f.Examples[t]; known {
		return expected + " such as " + example
	}
	return expected
}

func (f Format) checkObject(path field.Path, value json.RawMessage, t reflect.Type) field.ErrorList {
	members, list := f.membersOf(path, value, f.example("must be an object", t))
	fields := fieldsOf(t)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch member, known := fields[name]; {
		case known:
			at := path.Child(name)
			list = append(list, f.Check(at, members[name], member.Type)...)
			if key := member.Tag.Get("patchMergeKey"); key != "" && f.Directives {
				list = append(list, checkMergeKey(at, members[name], key)...)
			}
		case f.ignoresUnknown, f.Directives && strings.HasPrefix(name, "$"):
		default:
			list = append(list, field.Forbidden(path.Child(name), f.unknownField(path, name, fields)))
		}
	}
	return list
}

// checkMergeKey returns an error for each list item that lacks the merge key. The merge key is the field by which a
// strategic merge patch identifies list items.
func checkMergeKey(path field.Path, value json.RawMessage, key string) field.ErrorList {
	var items []map[string]json.RawMessage
	if json.Unmarshal(value, &items) != nil {
		return nil // the method Check reports that the value is not a list of objects
	}
	var list field.ErrorList
	for i, item := range items {
		_, hasKey := item[key]
		if _, isDirective := item["$patch"]; !hasKey && !isDirective {
			list = append(list, field.Required(path.Index(i).Child(key), "set it, because the items of this list are merged by "+key))
		}
	}
	return list
}

func (f Format) checkMap(path field.Path, value json.RawMessage, t reflect.Type) field.ErrorList {
	members, list := f.membersOf(path, value, f.example("must be an object", t))
	for _, key := range slices.Sorted(maps.Keys(members)) {
		list = append(list, f.Check(path.Key(key), members[key], t.Elem())...)
	}
	return list
}

func (f Format) checkList(path field.Path, value json.RawMessage, t reflect.Type) field.ErrorList {
	var elements []json.RawMessage
	if t.Elem().Kind() == reflect.Uint8 || json.Unmarshal(value, &elements) != nil {
		return f.checkLeaf(path, value, t, f.example("must be a list", t))
	}
	var list field.ErrorList
	for i, element := range elements {
		list = append(list, f.Check(path.Index(i), element, t.Elem())...)
	}
	return list
}

// membersOf returns the members of a JSON object, and an error for each duplicate name. For any other value, it returns
// an error with the expected text.
func (f Format) membersOf(path field.Path, value json.RawMessage, expected string) (map[string]json.RawMessage, field.ErrorList) {
	decoder := json.NewDecoder(bytes.NewReader(value))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, field.ErrorList{f.invalid(path, value, expected)}
	}
	members := map[string]json.RawMessage{}
	var list field.ErrorList
	for decoder.More() {
		name, err := decoder.Token()
		var member json.RawMessage
		if err == nil {
			err = decoder.Decode(&member)
		}
		if err != nil { // never happens, because the value is valid JSON
			return nil, append(list, f.invalid(path, value, err.Error()))
		}
		key, _ := name.(string)
		if _, twice := members[key]; twice {
			list = append(list, field.Forbidden(path.Child(key), "duplicate field: give each field once"))
		}
		members[key] = member
	}
	return members, list
}

// Owners maps each field name to the paths of the structs that have this field. It searches the struct type t, whose
// path is given, and its nested structs. It skips lists, maps, and types with UnmarshalJSON.
func Owners(path field.Path, t reflect.Type) map[string][]string {
	owners := make(map[string][]string)
	addOwners(owners, path, t)
	return owners
}

func addOwners(owners map[string][]string, path field.Path, t reflect.Type) {
	fields := fieldsOf(t)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		owners[name] = append(owners[name], string(path))
		of := fields[name].Type
		for of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if of.Kind() == reflect.Struct && !decodesItself(of) {
			addOwners(owners, path.Child(name), of)
		}
	}
}

// fieldsOf returns a map from JSON names to the fields of a struct.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := make(map[string]reflect.StructField)
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || (!f.IsExported() && !f.Anonymous):
		case name == "" && f.Anonymous:
			maps.Copy(fields, fieldsOf(f.Type))
		case name == "":
			fields[f.Name] = f
		default:
			fields[name] = f
		}
	}
	return fields
}

const (
	// maxListed is the maximum number of known fields that an error lists.
	maxListed = 20
	// maxOwners is the maximum number of objects that an error lists as possible places of a misplaced field.
	maxOwners = 8
)

func (f Format) unknownField(path field.Path, name string, known map[string]reflect.StructField) string {
	if f.Hint != nil {
		if hint := f.Hint(path, name); hint != "" {
			return "unknown field: " + hint
		}
	}
	owners := f.Owners[name]
	isBelow := func(owner string) bool { return strings.HasPrefix(owner, string(path)+".") }
	if slices.ContainsFunc(owners, isBelow) {
		owners = slices.DeleteFunc(slices.Clone(owners), func(owner string) bool { return !isBelow(owner) })
	}
	if len(owners) > 0 && len(owners) <= maxOwners {
		return fmt.Sprintf("unknown field: %q is a field of %s", name, strings.Join(owners, ", "))
	}
	names := slices.Sorted(maps.Keys(known))
	if near := Closest(name, names); near != "" {
		return fmt.Sprintf("unknown field: did you mean %q?", near)
	}
	if len(names) <= maxListed {
		return "unknown field: remove it; known fields are " + strings.Join(names, ", ")
	}
	return "unknown field: remove it; \"kubectl explain\" lists the known fields"
}

// Closest returns the known name that is most similar to an unknown name, or "". Case is ignored. A similar name
//
//   - has a Levenshtein distance of at most 2, and of at most half its length, or
//   - begins with the unknown name, and is at most twice as long.
func Closest(name string, names []string) string {
	best, bestDistance, longer := "", 3, ""
	for _, candidate := range names {
		unknown, known := strings.ToLower(name), strings.ToLower(candidate)
		if d := distance(unknown, known); d < bestDistance && 2*d <= len(candidate) {
			best, bestDistance = candidate, d
		}
		if strings.HasPrefix(known, unknown) && 2*len(unknown) >= len(known) {
			longer = candidate
		}
	}
	return cmp.Or(best, longer)
}

// distance returns the Levenshtein distance between two names. It returns 3 if their lengths differ by more than 2.
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
