package controllers

import (
	"encoding/json"
	"regexp"
	"strings"
)

// redactedError is an error of the API server without the values that its message quotes. A template may hold secrets,
// such as the value of a variable, and conditions and logs have more readers than the template.
type redactedError struct{ err error }

// Error returns the message without values.
func (e redactedError) Error() string { return redact(e.err.Error()) }

// Unwrap returns the original error.
func (e redactedError) Unwrap() error { return e.err }

// rejectedValue matches the text before a value in a validation error of Kubernetes.
var rejectedValue = regexp.MustCompile(`\b(?:Invalid|Unsupported|Duplicate) value: `)

// redact replaces the values in validation errors of Kubernetes by "…". It keeps the fields and what is expected.
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

// afterValue returns what follows the value at the start of a text: a JSON value or, in messages about internal types, a
// Go value such as core.EnvVar{Name:"a"}.
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
