package view

import (
	"net/http"
	"strconv"
	"time"

	"github.com/parking-operator/parking-operator/internal/httpserver"
)

// retryAfter is the value of the header Retry-After that accompanies status 503.
const retryAfter = time.Second

// refuse responds with a problem document (RFC 9457).
func refuse(w http.ResponseWriter, status int, detail string) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	httpserver.Problem(w, status, detail)
}

// contentSecurityPolicy permits only files from the page's own origin. It forbids inline scripts and styles.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// maxQuery is the maximum length of a query in bytes.
const maxQuery = 512

// guard allows only GET and HEAD, and limits the length of the query and the time for sending the response.
// httpserver.Guard checks which site sends a request.
func (v *View) guard(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		control := http.NewResponseController(w)
		// Ignore the error: SetWriteDeadline fails only in tests, which use no real connection.
		_ = control.SetWriteDeadline(time.Now().Add(v.config.writeTimeout))
		defer func() {
			_ = control.Flush()                       // send the response before the deadline is removed
			_ = control.SetWriteDeadline(time.Time{}) // the next request must not inherit the deadline
		}()
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "this path does not support the method")
		case len(r.URL.RawQuery) > maxQuery:
			refuse(w, http.StatusRequestURITooLong, "the query is longer than "+strconv.Itoa(maxQuery)+" bytes")
		default:
			next(w, r)
		}
	})
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}
