package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// problem is a response of type application/problem+json (RFC 9457). Endpoints return it as an error.
type problem struct {
	Status int
	Detail string
	// RetryAfter is the value of the header Retry-After. If it is 0, the response has no such header.
	RetryAfter time.Duration
}

func problemf(status int, format string, args ...any) *problem {
	return &problem{Status: status, Detail: summary.Shorten(fmt.Sprintf(format, args...))}
}

// Error implements error.
func (p *problem) Error() string {
	return fmt.Sprintf("%d %s: %s", p.Status, http.StatusText(p.Status), p.Detail)
}

// asProblem returns the problem document for an error.
func asProblem(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if rejected, ok := errors.AsType[*summary.RejectedError](err); ok {
		if rejected.Conflict {
			return problemf(http.StatusConflict, "%s", rejected.Detail)
		}
		return problemf(http.StatusUnprocessableEntity, "%s", rejected.Detail)
	}
	if syntax, ok := errors.AsType[*event.SyntaxError](err); ok {
		if syntax.Field == "" {
			return problemf(http.StatusBadRequest, "%v", syntax)
		}
		return problemf(http.StatusUnprocessableEntity, "%v", syntax)
	}
	p := problemf(http.StatusServiceUnavailable, "%v", err)
	p.RetryAfter = time.Second
	if unavailable, ok := errors.AsType[*summary.UnavailableError](err); ok {
		p.RetryAfter = unavailable.After
	}
	if errors.Is(err, context.DeadlineExceeded) {
		p.Detail = summary.Shorten("the request took too long; whether anything was stored is not known, so send the request again: " + err.Error())
	}
	return p
}

func (p *problem) header(h http.Header) {
	if p.RetryAfter > 0 {
		seconds := (p.RetryAfter + time.Second - 1) / time.Second
		h.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
}

func (p *problem) body() []byte {
	b := append([]byte(nil), `{"type":"about:blank","title":`...)
	b = event.AppendString(b, http.StatusText(p.Status))
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(p.Status), 10)
	b = append(b, `,"detail":`...)
	b = event.AppendString(b, p.Detail)
	return append(b, '}', '\n')
}
