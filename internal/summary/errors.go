package summary

import (
	"errors"
	"strings"
	"time"
)

// ErrClosed is wrapped by the errors of a closed Service, Database or client.
var ErrClosed = errors.New("closed")

// MaxDetail is the maximum length, in bytes, of the detail of an error.
const MaxDetail = 256

// Shorten returns text if it has at most MaxDetail bytes. Otherwise it cuts text between two characters and adds
// an ellipsis.
func Shorten(text string) string {
	if len(text) <= MaxDetail {
		return text
	}
	const ellipsis = "…"
	return strings.ToValidUTF8(text[:MaxDetail-len(ellipsis)], "") + ellipsis
}

// RejectedError says that a summary can never be stored. Another attempt fails in the same way.
type RejectedError struct {
	// Conflict is true if a different summary is stored under the same identifier. Otherwise the summary itself
	// is invalid.
	Conflict bool
	// Detail is the reason, one line of at most MaxDetail bytes.
	Detail string
}

// Error returns the reason.
func (e *RejectedError) Error() string { return "the summary was rejected: " + e.Detail }

// Permanent returns true.
func (e *RejectedError) Permanent() bool { return true }

// Conflict returns the error for a summary whose identifier belongs to a different one.
func Conflict() *RejectedError {
	return &RejectedError{Conflict: true, Detail: "another summary is stored under this id; it is never overwritten"}
}

// UnavailableError says that it is unknown whether a summary is stored. Another attempt may succeed.
type UnavailableError struct {
	// Err is the cause.
	Err error
	// After is how long to wait before the next attempt; 0 leaves that to the caller.
	After time.Duration
}

// Error returns the text of the cause.
func (e *UnavailableError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// RetryAfter returns how long to wait before the next attempt; 0 leaves that to the caller.
func (e *UnavailableError) RetryAfter() time.Duration { return e.After }
