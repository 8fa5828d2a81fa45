// Package document reads small JSON documents strictly: unknown and duplicate fields are errors, and every error
// names the field at fault. It is used for plan files and for manifests.
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
)

// MaxBytes bounds the documents that are read.
const MaxBytes = 1 << 20

// ReadFile reads a file of at most MaxBytes.
func ReadFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the file was only read
	return ReadAll(file, strconv.Quote(path))
}

// ReadAll reads at most MaxBytes. Errors begin with name, which describes the source.
func ReadAll(r io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err // the path is in name
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("%s is larger than 1 MiB", name)
	}
	return text, nil
}

// Format describes documents of one kind.
type Format struct {
	// Expected describes valid values of a type, such as "must be a duration". For a type that has an UnmarshalJSON
	// method and no entry, errors contain the error of that method.
	Expected map[reflect.Type]string
	// Examples are valid values of structs, lists and maps in YAML, by their type. Errors show them. Values of these
	// types are checked part by part, even if the type has an UnmarshalJSON method.
	Examples map[reflect.Type]string
	// Owners are the paths of the objects that have a field, by the field's name. Errors about a field in the wrong
	// object name them.
	Owners map[string][]string
	// Directives allows unknown fields whose names begin with "$": the directives of a strategic merge patch.
	Directives bool
}

// Decode decodes one JSON object into the struct that into points to. Field names are case-sensitive. The error
// is one line. It names each invalid field, its value and the expected value.
func (f Format) Decode(text []byte, into any) error {
	if err := checkSyntax(text); err != nil {
		return err
	}
	if err := CheckObject(text); err != nil {
		return err
	}
	if err := f.Check("", text, reflect.TypeOf(into)).Err(); err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func checkSyntax(text []byte) error {
	err := json.Unmarshal(text, new(json.RawMessage))
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line := 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
		return fmt.Errorf("line %d: not valid JSON: %w", line, err)
	}
	return err
}

// CheckObject returns an error if a valid JSON value is not an object. The error does not quote the value.
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
