package controllers

import (
	"encoding/json"
	"regexp"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/resources"
)

// specPathsError wraps an error of the API server about an object. Its message names fields of the simulation's spec
// instead of fields of the object.
type specPathsError struct {
	err    error
	object client.Object
}

// Error returns the message with the paths of fields in the simulation's spec instead of paths in the rejected object.
func (e specPathsError) Error() string { return resources.SpecPaths(e.object, e.err.Error()) }

// Unwrap lets errors.Is and errors.As examine the original error.
func (e specPathsError) Unwrap() error { return e.err }

// redactedError hides the values that an error of the API server quotes. They may be secrets, and more users can read
// conditions and logs than templates.
type redactedError struct{ err error }

// Error returns the message without the quoted values.
func (e redactedError) Error() string { return redact(e.err.Error()) }

// Unwrap lets errors.Is and errors.As examine the original error.
func (e redactedError) Unwrap() error { return e.err }

// rejectedValue matches the text that precedes a quoted value in a validation error of Kubernetes.
var rejectedValue = regexp.MustCompile(`\b(?:Invalid|Unsupported|Duplicate) value: `)

// redact replaces the quoted values in validation errors of Kubernetes with "…". It keeps the names of fields and the
// expected values.
func redact(message string) string {
	var redacted strings.Builder
	for {
		at := rejectedValue.FindStringIndex(message)
		if at == nil {
			redacted.WriteString(message)
			return redacted.String()
		}
		redacted.WriteString(message[:at[1]])
		redacted.WriteString("…")
		message = afterValue(message[at[1]:])
	}
}

// afterValue skips the value at the beginning of the text. The value is JSON or, in messages about internal types, Go
// syntax such as core.EnvVar{Name:"a"}.
func afterValue(text string) string {
	decoder := json.NewDecoder(strings.NewReader(text))
	if decoder.Decode(new(json.RawMessage)) == nil {
		return text[decoder.InputOffset():]
	}
	if i := strings.Index(text, "}: "); i >= 0 {
		return text[i+1:]
	}
	if i := strings.Index(text, ": "); i >= 0 && !strings.ContainsAny(text[:i], `{"`) {
		return text[i:]
	}
	return ""
}
