package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parking-operator/parking-operator/internal/summary"
)

const (
	typeJSON    = "application/json"
	typeNDJSON  = "application/x-ndjson"
	typeProblem = "application/problem+json"

	// maxRetryAfter is the maximum delay that the API can request with Retry-After.
	maxRetryAfter = time.Hour
)

// permanent reports whether a status means that the API will never accept the summary.
func permanent(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// failure returns the error for a response that does not accept the summary.
func (r *reply) failure(endpoint *url.URL) error {
	if permanent(r.status) {
		return &summary.RejectedError{Detail: describe(r.status, r.detail())}
	}
	return r.unavailable(endpoint)
}

// unavailable returns the error for a response after which another attempt may succeed.
func (r *reply) unavailable(endpoint *url.URL) error {
	text := "the API responded with " + describe(r.status, r.detail())
	if remedy := r.remedy(); remedy != "" {
		text += ": " + remedy
	}
	if location := r.redirect(endpoint); location != "" {
		text += ", a redirect to " + location + " that is not followed; configure this URL instead if it is the right one"
	}
	return &summary.UnavailableError{Err: wrap(endpoint, errors.New(text)), After: retryAfter(r.header, time.Now())}
}

// describe returns an HTTP status and a detail as one short line.
func describe(status int, detail string) string {
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	if detail != "" {
		text += ": " + detail
	}
	return line(text)
}

// isProblem reports whether the body is a problem document (RFC 9457), which the embedded API sends for errors.
func (r *reply) isProblem() bool { return r.mediaType() == typeProblem }

func (r *reply) mediaType() string {
	mediaType, _, err := mime.ParseMediaType(r.header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mediaType
}

// redirect returns the target of a redirect, or "" if the response is not a redirect.
func (r *reply) redirect(endpoint *url.URL) string {
	if r.status/100 != 3 {
		return ""
	}
	location, err := endpoint.Parse(r.header.Get("Location"))
	if err != nil {
		return ""
	}
	return shown(location)
}

// detail returns the explanation in the body of an error response, as one short line.
func (r *reply) detail() string {
	switch r.mediaType() {
	case typeProblem, typeJSON:
		var problem struct{ Title, Detail, Message, Error string }
		_ = json.Unmarshal(r.body, &problem) // an invalid body leaves the fields of problem empty
		for _, text := range []string{problem.Detail, problem.Message, problem.Error, problem.Title} {
			if text != "" {
				return line(text)
			}
		}
		return ""
	case "text/html": // an error page contains no short explanation
		return ""
	}
	return line(string(r.body))
}

// line converts a text to one short line of printable characters.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || r == utf8.RuneError:
			return -1
		}
		return r
	}, text)
	return summary.Shorten(strings.TrimSpace(text))
}

// retryAfter returns the delay in the header Retry-After, which is a number of seconds or a date. It returns 0 if
// there is no such header.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
