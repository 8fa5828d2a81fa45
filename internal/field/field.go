// Package field provides validation errors that name a field, worded like those of the Kubernetes API server.
// Generators and processors use the package without importing Kubernetes packages.
package field

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/excerpt"
)

// Path is the path of a field, such as spec.entry.stages[0].rate. The empty path denotes the whole document.
type Path string

// Child returns the path of a field of the object at p. Several names denote a nested field: p.Child("a", "b") is the
// same as p.Child("a").Child("b").
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

// Key returns the path of the value with the given key in the map at p.
func (p Path) Key(key string) Path { return p + Path("["+name(key)+"]") }

// name returns the name of a field, or the key of a map, for an error message. It returns "…" if the text may contain a
// password.
func name(text string) string {
	if MayHoldPassword(text) {
		return "…"
	}
	return text
}

// Error says what is wrong with one field.
type Error struct {
	Path Path
	// Problem is one line with the kind of error, the value, and a description of valid values. A value that may be
	// secret is omitted.
	Problem string
}

// Error returns the path of the field and the problem.
func (e Error) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return string(e.Path) + ": " + e.Problem
}

// Raw is the text of a value, exactly as in the document. Errors show a Raw value without adding quotes.
type Raw string

// Invalid returns an error that quotes the value, unless the value may contain a password. The parameter detail
// describes the valid values.
func Invalid(path Path, value any, detail string) Error {
	text, isText := value.(string)
	if !isText {
		return Error{path, fmt.Sprintf("Invalid value: %s: %s", show(value), detail)}
	}
	if MayHoldPassword(text) {
		return InvalidSecret(path, text, detail)
	}
	return Error{path, fmt.Sprintf("Invalid value: %s: %s", show(text), withSpaceAdvice(text, detail))}
}

// InvalidSecret is like Invalid, but for a text that may contain a password. The error does not quote the text.
func InvalidSecret(path Path, text, detail string) Error {
	return Error{path, "Invalid value: " + withSpaceAdvice(text, detail)}
}

// withSpaceAdvice returns the detail of an error. If text begins or ends with white space, the result includes the
// advice to remove it.
func withSpaceAdvice(text, detail string) string {
	if strings.TrimSpace(text) != text {
		return detail + " (remove the white space around the value)"
	}
	return detail
}

// MayHoldPassword reports whether a text may contain a password. It returns true for URIs, even malformed ones, for
// "password=a" and for "--password a".
func MayHoldPassword(text string) bool {
	return strings.ContainsAny(text, "@\\=") || strings.Contains(text, ":/") || len(strings.Fields(text)) > 1
}

// LooksLikeURI reports whether a text is probably a URI, which may be malformed. A path may contain "@", so "@" counts
// only after a colon.
func LooksLikeURI(text string) bool {
	text = text[len(filepath.VolumeName(text)):]
	beforeAt, _, hasAt := strings.Cut(text, "@")
	return strings.Contains(text, ":/") || strings.Contains(text, `:\\`) || hasAt && strings.Contains(beforeAt, ":")
}

// Required returns an error for a missing field. The parameter detail says how to set the field.
func Required(path Path, detail string) Error {
	return Error{path, "Required value: " + detail}
}

// Forbidden returns an error for a field that must not be set. The parameter detail says why the field is forbidden, or
// which field to set instead.
func Forbidden(path Path, detail string) Error {
	return Error{path, "Forbidden: " + detail}
}

// NotSupported returns an error for a value that is not one of the allowed values.
func NotSupported(path Path, value string, allowed []string) Error {
	shown := value
	if MayHoldPassword(value) {
		shown = "…"
	}
	quoted := make([]string, len(allowed))
	for i, a := range allowed {
		quoted[i] = strconv.Quote(a)
	}
	return Error{path, fmt.Sprintf("Unsupported value: %s: %s", show(shown), withSpaceAdvice(value, "supported values: "+strings.Join(quoted, ", ")))}
}

// TooLong returns an error for a text of more than limit bytes. The error does not quote the text.
func TooLong(path Path, limit int) Error {
	return Error{path, fmt.Sprintf("Too long: may not be more than %d bytes", limit)}
}

// TooMany returns an error for a list or map with n items if at most limit items are allowed.
func TooMany(path Path, n, limit int) Error {
	return Error{path, fmt.Sprintf("Too many: %d: must have at most %d items", n, limit)}
}

// maxShown is the maximum number of bytes of a value that an error shows.
const maxShown = 64

// show returns a value as text, shortened to maxShown bytes. It quotes values of type string.
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

// Duration returns the text of a duration without trailing zero units: "1h1m", not "1h1m0s". v1alpha1.NewDuration
// duplicates this code, because package v1alpha1 imports nothing from this project.
func Duration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// ErrorList holds the validation errors of a document. For a valid document, the list is empty.
type ErrorList []Error

// Err returns an error whose text is the whole list on one line. It returns nil if the list is empty.
func (l ErrorList) Err() error {
	if len(l) == 0 {
		return nil
	}
	return errors.New(l.String())
}

// maxListed is the maximum number of errors in the text of an ErrorList.
const maxListed = 20

// String returns the errors on one line. The line shows at most maxListed errors, and the number of the others.
func (l ErrorList) String() string {
	listed := l[:min(len(l), maxListed)]
	lines := make([]string, 0, len(listed)+1)
	for _, err := range listed {
		lines = append(lines, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if more := len(l) - len(listed); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "; ")
}
