// Package document reads small JSON documents, such as plan files and manifests, and writes files. Reading is strict:
// it rejects unknown and duplicate fields, and each error names the invalid field.
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
	defer func() { _ = file.Close() }() // ignore the error, because the file was only read
	return ReadAll(file, strconv.Quote(path))
}

// ReadAll reads everything from r. It returns an error if there are more than MaxBytes bytes. Errors begin with the
// given name of the source.
func ReadAll(r io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err // omit the path of the file, because the error begins with it anyway
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
	// Expected describes the valid values of a type for errors, for example "must be a duration". If there is no
	// entry for a type with its own UnmarshalJSON method, errors contain the error of this method.
	Expected map[reflect.Type]string
	// Examples contains valid YAML values of struct, list and map types. Errors show these values. If a type has an
	// example, its values are checked field by field, even if the type has its own UnmarshalJSON method.
	Examples map[reflect.Type]string
	// Words maps the name of a string field, or of a list of strings, to an example of a valid string. An error shows
	// the example if the document has an object or a list where a string is expected.
	Words map[string]string
	// Validators check values of a type instead of decoding them. A type needs a validator if some short texts, such
	// as a number with a large exponent, take minutes to decode. Expected must have an entry for the type.
	Validators map[reflect.Type]func(value json.RawMessage) error
	// Owners maps the name of a field to the paths of the objects that have this field. An error about a field in
	// the wrong object names these paths.
	Owners map[string][]string
	// Hint explains an unknown field that people often write by mistake in the object at a path. Errors show the
	// explanation. Hint returns "" for any other unknown field. nil means that there are no hints.
	Hint func(path field.Path, name string) string
	// FromNumber contains functions for types whose values are strings. If a document has a number in place of such a
	// string, the function of the type returns the valid value to suggest in the error, for example the number with a
	// unit. It returns "" if there is no valid value, or if the author may have meant another number. The function gets
	// the number twice: in the syntax of JSON, and as the author of the document wrote it.
	FromNumber map[reflect.Type]func(path field.Path, number, written string) string
	// Source converts a decoded value, given its path, to the form in which the author wrote it, for use in errors.
	// It is needed for documents that were converted to JSON. If Source is nil, errors show the decoded value.
	Source func(path field.Path, decoded any) any
	// MayBeSecret reports whether the text at a path may be a password, whatever it looks like. Errors do not show such
	// a text. nil means that there is no such path.
	MayBeSecret func(path field.Path) bool
	// Directives allows the directives of a strategic merge patch, which are unknown fields whose names begin with
	// "$".
	Directives bool

	ignoresUnknown bool // true if unknown fields are permitted
}

// Decode decodes a JSON object. The parameter into is a pointer to the struct that receives the values. Field names are
// case-sensitive. An error is one line that names each invalid field, its value and the expected value.
func (f Format) Decode(text []byte, into any) error {
	if err := f.checkDocument(text, reflect.TypeOf(into)); err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// DecodeKnown is like Decode, but ignores unknown fields, and ignores the case of field names. It is faster than
// Decode, because it checks the fields one by one only if the text is invalid.
func (f Format) DecodeKnown(text []byte, into any) error {
	if json.Unmarshal(text, into) == nil {
		return nil
	}
	// Let checkDocument find the error, because its errors name the invalid fields. The errors of package json name Go
	// types.
	f.ignoresUnknown = true
	if err := f.checkDocument(text, reflect.TypeOf(into)); err != nil {
		return err
	}
	// To checkDocument, a field whose name differs in case from a known field is unknown, so it does not check the
	// value. But package json decodes such a field.
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
