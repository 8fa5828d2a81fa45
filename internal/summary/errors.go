package summary

import (
	"errors"
	"strings"
	"time"
)

// ErrClosed is wrapped by the errors of all calls to a closed Service, Database or client.
var ErrClosed = errors.New("closed")

// ErrNotReady marks an error that may go away without a change of the configuration, for example because of a full
// volume, a proxy or a DNS failure.
var ErrNotReady = errors.New("the destination of summaries is not ready")

// NotReady returns an error that has the text of err, wraps err and matches ErrNotReady.
func NotReady(err error) error { return &notReadyError{err} }

type notReadyError struct{ error }

func (e *notReadyError) Unwrap() error { return e.error }

// Is makes every notReadyError match ErrNotReady.
func (*notReadyError) Is(target error) bool { return target == ErrNotReady }

// MaxDetail is the maximum length of RejectedError.Detail in bytes.
const MaxDetail = 256

// Shorten truncates a text that is longer than MaxDetail bytes, at a character boundary, and appends an ellipsis. The
// result, with the ellipsis, has at most MaxDetail bytes.
func Shorten(text string) string {
	if len(text) <= MaxDetail {
		return text
	}
	const ellipsis = "…"
	return strings.ToValidUTF8(text[:MaxDetail-len(ellipsis)], "") + ellipsis
}

// RejectedError means that a summary can never be stored. Another attempt fails in the same way.
type RejectedError struct {
	// Conflict is true if a different summary is already stored under the same identifier. It is false if the summary
	// itself is invalid.
	Conflict bool
	// Detail says why the summary was rejected. It is a single line of at most MaxDetail bytes.
	Detail string
}

// Error implements the interface error.
func (e *RejectedError) Error() string { return "the summary was rejected: " + e.Detail }

// Permanent reports that a retry cannot succeed.
func (e *RejectedError) Permanent() bool { return true }

// Conflict returns a RejectedError for a summary whose identifier is already in use by a different summary.
func Conflict() *RejectedError {
	return &RejectedError{Conflict: true, Detail: "another summary is stored under this id; it is never overwritten"}
}

// UnavailableError means that it is unknown whether a summary is stored. Another attempt may succeed.
type UnavailableError struct {
	Err error
	// After is the minimum delay before the next attempt. If it is 0, the caller chooses the delay.
	After time.Duration
}

// Error implements the interface error.
func (e *UnavailableError) Error() string { return e.Err.Error() }

// Unwrap returns the cause, for errors.Is and errors.As.
func (e *UnavailableError) Unwrap() error { return e.Err }

// RetryAfter returns the minimum delay before the next attempt. If it is 0, the caller chooses the delay.
func (e *UnavailableError) RetryAfter() time.Duration { return e.After }
