package summary

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ErrClosed is wrapped by the errors of a Service or a client that was closed.
var ErrClosed = errors.New("closed")

// MaxDetail bounds in bytes what is said of one summary, or of one request.
const MaxDetail = 256

// Shorten cuts a text to MaxDetail bytes, between characters.
func Shorten(text string) string {
	if len(text) <= MaxDetail {
		return text
	}
	const ellipsis = "…"
	return strings.ToValidUTF8(text[:MaxDetail-len(ellipsis)], "") + ellipsis
}

// RejectedError says that a summary is refused for good: posting it again is of no use.
type RejectedError struct {
	// Status is the HTTP status code that says so.
	Status int
	// Detail says why, in a line of at most MaxDetail bytes.
	Detail string
}

// Error names the status and the reason.
func (e *RejectedError) Error() string {
	text := fmt.Sprintf("the summary was rejected: %d %s", e.Status, http.StatusText(e.Status))
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Permanent returns true.
func (e *RejectedError) Permanent() bool { return true }

// Conflict returns the error of a summary whose identifier is another's.
func Conflict() *RejectedError {
	return &RejectedError{Status: http.StatusConflict, Detail: "another summary is stored under this id; it is never overwritten"}
}

// UnavailableError says that a summary is not known to be stored, and is to be posted again.
type UnavailableError struct {
	// Err is the cause.
	Err error
	// After is how long to wait before; 0 leaves that to the caller.
	After time.Duration
}

// Error names the cause.
func (e *UnavailableError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// RetryAfter returns how long to wait before posting again, 0 if nothing was said of it.
func (e *UnavailableError) RetryAfter() time.Duration { return e.After }
