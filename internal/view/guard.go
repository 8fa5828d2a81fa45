package view

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// problem is a response of type application/problem+json (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// retryAfter is the value of the header Retry-After that accompanies status 503.
const retryAfter = time.Second

// refuse responds with a problem document (RFC 9457).
func refuse(w http.ResponseWriter, status int, detail string) {
	body, err := json.Marshal(problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail})
	if err != nil {
		body = nil // cannot happen: the fields are texts and a number
	}
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	if status == http.StatusServiceUnavailable {
		header.Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs no answer
}

// contentSecurityPolicy permits only files from the page's own origin. It forbids inline scripts and styles.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// maxQuery is the maximum length of a query in bytes.
const maxQuery = 512

// origins says which requests an endpoint accepts, depending on the site that sends them.
type origins int

const (
	// sameOrigin accepts requests from the page itself and from programs other than browsers.
	sameOrigin origins = iota
	// navigation also accepts requests of a browser that opens the page from a link on another site.
	navigation
)

// guard returns a handler that passes to next only requests that the page could send. It rejects all other requests. It
// also limits the time for sending the response.
func (v *View) guard(allowed origins, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Now().Add(v.config.writeTimeout)) // tests have no connection
		defer func() {
			_ = control.Flush()                       // before the deadline
			_ = control.SetWriteDeadline(time.Time{}) // it would apply to the next request as well
		}()
		switch {
		case !v.isOwnHost(r.Host):
			refuse(w, http.StatusForbidden, "the page does not answer requests for this host name; use localhost or an IP address")
		case !isOwnOrigin(allowed, r):
			refuse(w, http.StatusForbidden, "the page does not answer requests of other sites")
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

// isOwnHost reports whether a Host header refers to this machine. All IP addresses are accepted, because DNS rebinding
// works only with names.
func (v *View) isOwnHost(hostport string) bool {
	host := strings.ToLower(hostname(hostport))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(v.config.Hosts, host)
}

// hostname returns the host name or address in a Host header, without the port and without brackets.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
}

// isOwnOrigin reports whether an endpoint accepts a request, given the site that sends it. It always accepts requests
// from the page itself and from programs other than browsers. It accepts links on other sites only if the parameter
// allowed is navigation.
func isOwnOrigin(allowed origins, r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return allowed == navigation && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}
