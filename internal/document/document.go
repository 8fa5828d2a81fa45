// Package document decodes small JSON documents, such as plan files and manifests, and reads and writes files.
// Format.Decode rejects unknown and duplicate fields, and its errors name the invalid fields.
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

// ReadAll reads everything from r. It returns an error if there are more than MaxBytes bytes. The parameter name is the
// name of the source. Errors begin with this name.
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
	// Expected contains error texts that describe the valid values of a type, for example "must be a duration". If a
	// type with its own UnmarshalJSON method has no entry, errors contain the error of this method.
	Expected map[reflect.Type]string
	// Examples maps struct, list and map types to a valid value in YAML. Errors show this value. Values of a type with
	// an example are checked part by part, even if the type has its own UnmarshalJSON method.
	Examples map[reflect.Type]string
	// Words contains an example for each field that is a string or a list of strings, by the name of the field. If the
	// document has an object or a list in place of a string, the error shows the example.
	Words map[string]string
	// Validators contains functions that check the values of a type without decoding them. A type needs such a function
	// if decoding a short text, such as a number with a large exponent, could take minutes. The type must also be in
	// Expected.
	Validators map[reflect.Type]func(value json.RawMessage) error
	// Owners maps the name of a field to the paths of the objects that have this field. The error for a field in the
	// wrong object lists these paths.
	Owners map[string][]string
	// Hint explains an unknown field that is a frequent mistake. Errors show the explanation. The parameter path is the
	// path of the object with the field, and the parameter name is the name of the field. For any other unknown field,
	// Hint returns "". Hint may be nil.
	Hint func(path field.Path, name string) string
	// FromNumber suggests a valid value if a document contains a number in place of a string, such as the number with a
	// unit. It has one function for each type that needs this. The function returns "" if there is no valid value, or
	// if the author may have meant another number: YAML reads 010 as 8. number is the number in JSON, and written is
	// its text in the document.
	FromNumber map[reflect.Type]func(path field.Path, number, written string) string
	// Source returns the value at a path in the form in which the author wrote the value, for use in errors. Source is
	// needed for documents that were converted to JSON. If Source is nil, errors show the value in JSON.
	Source func(path field.Path, decoded any) any
	// MayBeSecret reports whether the string field at a path may contain a password. Errors do not show the value of
	// such a field. MayBeSecret may be nil.
	MayBeSecret func(path field.Path) bool
	// Directives allows the directives of a strategic merge patch. Directives are fields whose names begin with "$".
	Directives bool

	ignoresUnknown bool
}

// Decode decodes a JSON object. The parameter into is a pointer to the struct that receives the values. Field names are
// case-sensitive. An error is one line with the name of each invalid field, its value and the expected value.
func (f Format) Decode(text []byte, into any) error {
	if err := f.checkDocument(text, reflect.TypeOf(into)); err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// DecodeKnown is like Decode, but ignores unknown fields and the case of field names. DecodeKnown is faster than
// Decode, because it checks the fields one by one only after decoding has failed.
func (f Format) DecodeKnown(text []byte, into any) error {
	if json.Unmarshal(text, into) == nil {
		return nil
	}
	// The error of package json contains Go types, so return the error of checkDocument instead. Like package json,
	// checkDocument must ignore unknown fields.
	f.ignoresUnknown = true
	if err := f.checkDocument(text, reflect.TypeOf(into)); err != nil {
		return err
	}
	// Package json accepts a field whose name differs from that of a known field only in case, and decodes its value.
	// checkDocument does not. So the error of package json must come from such a value.
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
