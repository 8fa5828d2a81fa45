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

	// maxRetryAfter bounds for how long a server can keep its clients away.
	maxRetryAfter = time.Hour
)

// permanent reports whether a status says that a summary itself is wrong. All others may be the fault of the
// configuration or of the moment, which pass.
func permanent(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// failure is the error of an answer that does not accept what was posted.
func (r *reply) failure(endpoint *url.URL) error {
	if permanent(r.status) {
		return &summary.RejectedError{Detail: describe(r.status, r.detail())}
	}
	return r.unavailable(endpoint)
}

// unavailable is the error of an answer that says nothing of what was posted.
func (r *reply) unavailable(endpoint *url.URL) error {
	text := "it answers " + describe(r.status, r.detail())
	if r.wantsTLS() {
		text += ": " + remedyHTTPS
	}
	if location := r.redirect(endpoint); location != "" {
		text += ", a redirect to " + location + " that is not followed; if that is the address, give it instead"
	}
	return &summary.UnavailableError{Err: wrap(endpoint, errors.New(text)), After: retryAfter(r.header, time.Now())}
}

// describe returns a status and the detail that came with it, in one short line.
func describe(status int, detail string) string {
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	if detail != "" {
		text += ": " + detail
	}
	return line(text)
}

// isProblem reports whether the body is a problem as by RFC 9457, which the embedded API answers with.
func (r *reply) isProblem() bool { return r.mediaType() == typeProblem }

func (r *reply) mediaType() string {
	mediaType, _, err := mime.ParseMediaType(r.header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mediaType
}

// redirect returns where an answer that is a redirect leads to.
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

// detail returns what an answer says for itself, in one short line.
func (r *reply) detail() string {
	switch r.mediaType() {
	case typeProblem, typeJSON:
		var problem struct{ Title, Detail, Message, Error string }
		_ = json.Unmarshal(r.body, &problem) // what cannot be read says nothing
		for _, text := range []string{problem.Detail, problem.Message, problem.Error, problem.Title} {
			if text != "" {
				return line(text)
			}
		}
		return ""
	case "text/html": // a page for people, of some server in between
		return ""
	}
	return line(string(r.body))
}

// line makes one short line of printable characters of a text.
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

// retryAfter reads the header of that name, which has seconds or a date; 0 without one.
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
