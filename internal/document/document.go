// Package document reads and writes files, and decodes small JSON documents such as plan files and manifests. Errors
// of Format.Decode name the invalid fields.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strconv"

	"github.com/parking-operator/parking-operator/internal/field"
)

// MaxBytes is the maximum size of a document in bytes.
const MaxBytes = 1 << 20

// ReadFile reads a file. It returns an error if the file is larger than MaxBytes.
func ReadFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // ignore the error, because nothing was written to the file
	return ReadAll(file, strconv.Quote(path))
}

// ReadAll reads everything from r. It returns an error if there are more than MaxBytes bytes. Errors begin with name,
// the name of the source.
func ReadAll(r io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err // omit the path, because the returned error already begins with the name of the source
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("%s is larger than 1 MiB", name)
	}
	return text, nil
}

// Format configures how documents of one kind are checked, and what the errors say.
type Format struct {
	// Expected describes the valid values of a type in errors, for example "must be a duration".
	Expected map[reflect.Type]string
	// Examples maps struct, list and map types to a valid value in YAML, for use in errors. The parts of such a value
	// are checked separately, even if the type has an UnmarshalJSON method.
	Examples map[reflect.Type]string
	// Words maps the name of a string field or string list to an example. Errors show the example for an object or a
	// list in place of a string.
	Words map[string]string
	// Validators check values of the given types without decoding them. Decoding a number with a large exponent could
	// take minutes. The types must also be in Expected.
	Validators map[reflect.Type]func(value json.RawMessage) error
	// Owners maps the name of a field to the paths of the objects with this field. Errors for misplaced fields list
	// these paths.
	Owners map[string][]string
	// Hint returns an explanation if the name of an unknown field is a common mistake, and "" otherwise. The path is
	// that of the object with the unknown field. Hint may be nil.
	Hint func(path field.Path, name string) string
	// FromNumber contains, by type, functions that suggest a valid string in place of a number, such as "5s" for 5. A
	// function returns "" if it has no suggestion. The parameter written is the number as its author wrote it.
	FromNumber map[reflect.Type]func(path field.Path, number, written string) string
	// Source returns the value at a path as its author wrote it, for use in errors about a document that was converted
	// to JSON. If Source is nil, errors show JSON.
	Source func(path field.Path, decoded any) any
	// MayBeSecret reports whether the string field at a path may contain a password. Errors do not show the value of
	// such a field. MayBeSecret may be nil.
	MayBeSecret func(path field.Path) bool
	// Directives allows the directives of a strategic merge patch. Directives are fields whose names begin with "$".
	Directives bool

	ignoresUnknown bool
}

// Decode decodes a JSON object into the struct *into. Field names are case-sensitive. The error is one line that names
// the invalid fields.
func (f Format) Decode(text []byte, into any) error {
	if err := f.checkDocument(text, reflect.TypeOf(into)); err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// DecodeKnown is like Decode, but faster, and ignores unknown fields and the case of field names.
func (f Format) DecodeKnown(text []byte, into any) error {
	if json.Unmarshal(text, into) == nil {
		return nil
	}
	// Return the error of checkDocument, because the error of package json contains Go types.
	f.ignoresUnknown = true
	if err := f.checkDocument(text, reflect.TypeOf(into)); err != nil {
		return err
	}
	// The remaining cause is a wrong value of a field whose name differs from a known name only in case. Package json
	// decodes such a field, but checkDocument ignores it.
	return errors.New("a field whose name differs only in case from a known field has a value of the wrong type")
}

// checkDocument returns an error if a text is not a JSON object that can be decoded into type t.
func (f Format) checkDocument(text []byte, t reflect.Type) error {
	if err := checkSyntax(text); err != nil {
		return err
	}
	if err := CheckObject(text); err != nil {
		return err
	}
	return f.Check("", text, t).Err()
}

func checkSyntax(text []byte) error {
	err := json.Unmarshal(text, new(json.RawMessage))
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line := 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
		return fmt.Errorf("line %d: not valid JSON: %w", line, err)
	}
	return err
}

// CheckObject returns an error if a valid JSON value is not an object. The error does not quote the value, which may
// contain a password.
func CheckObject(value []byte) error {
	kinds := map[byte]string{'[': "a list", '"': "a text", 't': "a boolean", 'f': "a boolean", 'n': "null"}
	start := bytes.TrimSpace(value)[0]
	if start == '{' {
		return nil
	}
	kind, known := kinds[start]
	if !known {
		kind = "a number"
	}
	return fmt.Errorf("must be an object with fields, not %s", kind)
}
