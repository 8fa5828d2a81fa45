// Package field provides validation errors that name a field of a document. Their wording is that of the Kubernetes API
// server. Generators and processors validate their plan with it, without importing Kubernetes.
package field

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/parking-operator/parking-operator/internal/excerpt"
)

// Path is the path of a field, such as spec.entry.stages[0].rate. The empty path is the document itself.
type Path string

// Child returns the path of a field below p.
func (p Path) Child(names ...string) Path {
	for _, child := range names {
		if p != "" {
			p += "."
		}
		p += Path(name(child))
	}
	return p
}

// Index returns the path of an element of the list at p.
func (p Path) Index(i int) Path { return p + Path("["+strconv.Itoa(i)+"]") }

// Key returns the path of the value that the map at p holds for a key.
func (p Path) Key(key string) Path { return p + Path("["+name(key)+"]") }

// name returns the key of a map for use in a path. It returns "…" for a key that may hold a password.
func name(text string) string {
	if MayHoldPassword(text) {
		return "…"
	}
	return text
}

// Error says what is wrong with one field.
type Error struct {
	Path Path
	// Problem is one line that has the kind of error, the value unless it may be secret, and a description of
	// valid values.
	Problem string
}

// Error returns the path of the field and the problem.
func (e Error) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return string(e.Path) + ": " + e.Problem
}

// Raw is a value as the document contains it. Errors show it without adding quotes.
type Raw string

// Invalid returns an error for an invalid value. detail describes valid values. The error quotes the value unless
// MayHoldPassword reports true for it.
func Invalid(path Path, value any, detail string) Error {
	text, isText := value.(string)
	if !isText {
		return Error{path, fmt.Sprintf("Invalid value: %s: %s", show(value), detail)}
	}
	if MayHoldPassword(text) {
		return InvalidSecret(path, text, detail)
	}
	return Error{path, fmt.Sprintf("Invalid value: %s: %s", show(text), withoutSurplus(text, detail))}
}

// InvalidSecret is like Invalid, for a text that may hold a password: the error does not quote the text.
func InvalidSecret(path Path, text, detail string) Error {
	return Error{path, "Invalid value: " + withoutSurplus(text, detail)}
}

// withoutSurplus adds advice to detail if text begins or ends with white space, which users easily overlook.
func withoutSurplus(text, detail string) string {
	if strings.TrimSpace(text) != text {
		return detail + ": remove the white space around the value"
	}
	return detail
}

// MayHoldPassword reports whether a text may hold a password, such as a URI with credentials, however malformed.
func MayHoldPassword(text string) bool {
	return strings.ContainsAny(text, "@\\") || strings.Contains(text, ":/")
}

// Required returns an error for a missing field. detail says how to set the field.
func Required(path Path, detail string) Error {
	return Error{path, "Required value: " + detail}
}

// Forbidden returns an error for a field that must not be set. detail says why, or what to set in its place.
func Forbidden(path Path, detail string) Error {
	return Error{path, "Forbidden: " + detail}
}

// NotSupported returns an error for a value that is not in allowed.
func NotSupported(path Path, value string, allowed []string) Error {
	shown := value
	if MayHoldPassword(value) {
		shown = "…"
	}
	quoted := make([]string, len(allowed))
	for i, a := range allowed {
		quoted[i] = strconv.Quote(a)
	}
	return Error{path, fmt.Sprintf("Unsupported value: %s: %s", show(shown), withoutSurplus(value, "supported values: "+strings.Join(quoted, ", ")))}
}

// TooLong returns an error for a text of more than limit bytes. The error does not quote the text.
func TooLong(path Path, limit int) Error {
	return Error{path, fmt.Sprintf("Too long: may not be more than %d bytes", limit)}
}

// TooMany returns an error for a list or map that has n items, which is more than limit.
func TooMany(path Path, n, limit int) Error {
	return Error{path, fmt.Sprintf("Too many: %d: must have at most %d items", n, limit)}
}

// maxShown is the largest number of bytes of a value that an error quotes.
const maxShown = 64

// show returns a value on one line, with strings in quotes.
func show(value any) string {
	text := fmt.Sprint(value)
	if len(text) > maxShown {
		text = strings.ToValidUTF8(excerpt.Of(text, maxShown), "") + "…"
	}
	if _, isText := value.(string); isText {
		return strconv.Quote(text)
	}
	return text
}

// ErrorList holds the validation errors of a document. A valid document has none.
type ErrorList []Error

// Err returns the list as one error of one line, or nil if the list is empty.
func (l ErrorList) Err() error {
	if len(l) == 0 {
		return nil
	}
	return errors.New(l.String())
}

// String returns the errors on one line, separated by semicolons.
func (l ErrorList) String() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = strings.ReplaceAll(e.Error(), "\n", " ")
	}
	return strings.Join(lines, "; ")
}
