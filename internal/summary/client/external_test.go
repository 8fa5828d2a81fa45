package client

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
)

// answerWith returns a handler that sends the given response to every request.
func answerWith(status int, contentType, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Until the API has accepted a summary, status 400 may come from a proxy or web server because of a wrong URL.
func TestExternalPost_Status400_CountsAsRejectionOnlyIfAnEarlierSummaryWasAccepted(t *testing.T) {
	t.Parallel()
	for first, want := range map[int]string{201: "rejected 400", 409: "rejected 400", 400: "again", 503: "again"} {
		c := newExternal(t, Config{URL: serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Idempotency-Key") == "first" {
				w.WriteHeader(first)
				return
			}
			w.WriteHeader(http.StatusBadRequest)
		}).URL})
		_ = c.Post(t.Context(), visit("first"))
		if got := kind(c.Post(t.Context(), visit("second"))); got != want {
			t.Errorf("status 400 after status %d is %q, want %q", first, got, want)
		}
	}
}

func TestExternalPost_EachResponse_ReturnsTheMatchingError(t *testing.T) {
	t.Parallel()
	raw := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { hijack(t, w, answer) }
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string
		// parts are substrings of the expected error.
		parts []string
	}{
		{"200 accepts the summary", answerWith(200, "application/json", "{}"), "accepted", nil},
		{"201 accepts the summary", answerWith(201, "", ""), "accepted", nil},
		{"202 accepts the summary", answerWith(202, "text/plain", "later"), "accepted", nil},
		{"204 accepts the summary", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "accepted", nil},
		{"200 with an incomplete body accepts the summary", raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "accepted", nil},
		{"409 means that the summary already exists", answerWith(409, "text/plain", "exists"), "accepted", nil},
		{"409 with Retry-After means that the summary is being processed", answerWith(409, "text/plain", "busy", "Retry-After", "1"), "again in 1s", nil},
		{"400 before the first accepted summary is temporary", answerWith(400, "text/plain", "Invalid Hostname"), "again", []string{"400 Bad Request: Invalid Hostname: check the URL of the summary API"}},
		{"413 rejects the summary", answerWith(413, "text/plain", ""), "rejected 413", []string{"Request Entity Too Large"}},
		{"422 rejects the summary with the detail of a problem document", answerWith(422, "application/problem+json", `{"title":"Invalid","detail":"the plate is stolen"}`), "rejected 422", []string{"422 Unprocessable Entity: the plate is stolen"}},
		{"422 rejects the summary with the message in a JSON object", answerWith(422, "application/json", `{"message":"too old"}`), "rejected 422", []string{"too old"}},
		{"401 is temporary", answerWith(401, "text/plain", "who are you"), "again", []string{"401 Unauthorized: who are you"}},
		{"403 is temporary", answerWith(403, "text/html", "<html>Forbidden</html>"), "again", []string{"403 Forbidden"}},
		{"404 is temporary", answerWith(404, "text/plain", "404 page not found"), "again", []string{"404 Not Found"}},
		{"408 is temporary", answerWith(408, "text/plain", ""), "again", nil},
		{"415 is temporary", answerWith(415, "text/plain", ""), "again", nil},
		{"429 with Retry-After is temporary", answerWith(429, "text/plain", "", "Retry-After", "7"), "again in 7s", nil},
		{"a Retry-After of a day is reduced to an hour", answerWith(429, "text/plain", "", "Retry-After", "86400"), "again in 1h0m0s", nil},
		{"an invalid Retry-After is ignored", answerWith(429, "text/plain", "", "Retry-After", "-3"), "again", nil},
		{"500 is temporary", answerWith(500, "text/plain", "oops\n\x1b[31mgoroutine 1"), "again", []string{"500 Internal Server Error: oops [31mgoroutine 1"}},
		{"503 with Retry-After is temporary", answerWith(503, "text/plain", "", "Retry-After", "2"), "again in 2s", nil},
		{"an unknown status is temporary", answerWith(599, "text/plain", ""), "again", nil},
		{"a long detail is truncated", answerWith(500, "text/plain", strings.Repeat("ü", 5000)), "again", []string{"ü…"}},
		{"an endless body is not read completely", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			writeForEver(w, r)
		}, "again", []string{"500 Internal Server Error: more more"}},
		{"a server that hangs before its response", hang, "again", []string{"no answer in time"}},
		{"a server that hangs within an error response", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			untilGone(r)
		}, "again", []string{"500 Internal Server Error: half"}},
		{"a connection that is closed without a response", raw(""), "again", []string{"EOF"}},
		{"a response that is not HTTP", raw("SSH-2.0-OpenSSH_9.2\r\n"), "again", []string{"malformed HTTP"}},
		{"301 is not followed, because the POST would become a GET", answerWith(301, "", "", "Location", "/elsewhere"), "again", []string{"301 Moved Permanently", "a redirect to http://127.0.0.1:", "/elsewhere that is not followed"}},
		{"303 is not followed, because the POST would become a GET", answerWith(303, "", "", "Location", "/elsewhere"), "again", []string{"303 See Other"}},
		{"308 to another host is not followed", answerWith(308, "", "", "Location", "http://192.0.2.1/?token=secret"), "again", []string{"a redirect to http://192.0.2.1/ that is not followed"}},
		{"a loop of redirects with 307 ends", answerWith(307, "", "", "Location", "/"), "again", []string{"307 Temporary Redirect"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, tt.handler)
			config := Config{URL: server.URL + "/in?key=hidden"}
			if strings.Contains(tt.name, "hangs") {
				config.timeout = 5 * time.Second // long enough for the server to send the first half of the body
			}
			c := newExternal(t, config)
			err := c.Post(t.Context(), visit("a"))
			if got := kind(err); got != tt.want {
				t.Fatalf("the result is %s (%v), want %s", got, err, tt.want)
			}
			for _, part := range tt.parts {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			if err != nil && (strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "secret")) {
				t.Errorf("error %q quotes the query", err)
			}
			if err != nil && len(err.Error()) > 600 {
				t.Errorf("error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestExternalPost_NoServer_ReturnsUnavailableError(t *testing.T) {
	t.Parallel()
	server := serve(t, hang)
	server.Close()
	err := newExternal(t, Config{URL: server.URL}).Post(t.Context(), visit("a"))
	if kind(err) != "again" || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), server.URL) {
		t.Errorf("error is %v, want an error with \"connection refused\" and the URL of the server", err)
	}
}

func TestExternalReach_APIRespondsWithAnyStatus_ReturnsNil(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{
		"HEAD is not allowed": http.StatusMethodNotAllowed, "credentials are missing": http.StatusUnauthorized,
		"a redirect": http.StatusFound, "an internal error": http.StatusInternalServerError,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodHead {
					t.Errorf("the method of the request is %s, want HEAD", r.Method)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
			})
			c := newExternal(t, Config{URL: server.URL + "/in/box"})
			if err := c.Reach(t.Context()); err != nil {
				t.Error(err)
			}
			server.Close()
			err := c.Reach(t.Context())
			if err == nil || !strings.Contains(err.Error(), server.URL+"/in/box") || !strings.Contains(err.Error(), "connection refused: start the API there") {
				t.Errorf("after the server has stopped, the error is %v, want an error with the URL of the API", err)
			}
		})
	}
}

func TestExternalPost_EachID_SendsTheDocumentedRequest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, id, key string
	}{
		{"the id of a generated event is used unchanged as the key", "0l3q7v2mf9k1a-0-17", "0l3q7v2mf9k1a-0-17"},
		{"an id that is not valid in a header is percent-encoded", "ü %\"x", "%C3%BC%20%25%22x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if got, parseErr := event.ParseSummary(body); err != nil || parseErr != nil || got != visit(tt.id) {
					t.Errorf("body is %s (%v, %v)", body, err, parseErr)
				}
				if r.Method != http.MethodPost || r.URL.String() != "/in/box?a=b" || r.Header.Get("Content-Type") != "application/json" {
					t.Errorf("request is %s %s with %v", r.Method, r.URL, r.Header)
				}
				if got := r.Header.Get("Idempotency-Key"); got != tt.key {
					t.Errorf("Idempotency-Key is %q, want %q", got, tt.key)
				}
				if r.Header.Get("Authorization") != "" {
					t.Error("the request has credentials although none are configured")
				}
			})
			if err := newExternal(t, Config{URL: server.URL + "/in/box?a=b"}).Post(t.Context(), visit(tt.id)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestExternalPost_RedirectToTheSameHost_IsFollowed(t *testing.T) {
	t.Parallel()
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/new" {
			http.Redirect(w, r, "/new", http.StatusPermanentRedirect)
			return
		}
		if _, err := event.ParseSummary(body); err != nil || r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer token-1" {
			t.Errorf("followed with %s %v: %s", r.Method, r.Header, body)
		}
	})
	dir := writeSecret(t, t.TempDir(), map[string]string{"token": "token-1\n"})
	if err := newExternal(t, Config{URL: server.URL + "/old", SecretDir: dir}).Post(t.Context(), visit("a")); err != nil {
		t.Error(err)
	}
}

func TestExternalPost_EachKindOfCredentials_IsSentButNotInTheError(t *testing.T) {
	t.Parallel()
	var authorization atomic.Value
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		authorization.Store(r.Header.Get("Authorization"))
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "refused: "+r.Header.Get("Authorization")) // some servers echo the credentials
	})
	withUser := strings.Replace(server.URL, "http://", "http://fred:from-the-url@", 1)
	tests := []struct {
		name string
		url  string
		keys map[string]string
		want string
	}{
		{"a token", server.URL, map[string]string{"token": "s3cret-token\n"}, "Bearer s3cret-token"},
		{"a user name and a password", server.URL, map[string]string{"username": "anna", "password": "s3cret pass"}, "Basic YW5uYTpzM2NyZXQgcGFzcw=="},
		{"a token takes precedence over a user name", server.URL, map[string]string{"token": "t", "username": "anna", "password": "p"}, "Bearer t"},
		{"a user in the URL", withUser, nil, "Basic ZnJlZDpmcm9tLXRoZS11cmw="},
		{"a Secret takes precedence over the URL", withUser, map[string]string{"token": "s3cret-token"}, "Bearer s3cret-token"},
		{"an empty Secret", server.URL, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := writeSecret(t, t.TempDir(), tt.keys)
			err := newExternal(t, Config{URL: tt.url, SecretDir: dir}).Post(t.Context(), visit("a"))
			if got := authorization.Load(); got != tt.want {
				t.Errorf("Authorization is %q, want %q", got, tt.want)
			}
			if kind(err) != "again" {
				t.Errorf("error is %v, want a temporary error", err)
			}
			_, encoded, _ := strings.Cut(tt.want, " ")
			for _, secret := range []string{encoded, "s3cret", "from-the-url"} {
				if len(secret) > 1 && strings.Contains(err.Error(), secret) {
					t.Errorf("error %q quotes %q", err, secret)
				}
			}
		})
	}
}

func TestExternal_InvalidSecret_ErrorSaysWhatIsInvalid(t *testing.T) {
	t.Parallel()
	server := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	tests := []struct {
		name string
		dir  string
		want string
	}{
		{"a directory that does not exist", t.TempDir() + "/none", "check that the Secret is mounted there"},
		{"a token of two lines", writeSecret(t, t.TempDir(), map[string]string{"token": "s3c\nret"}), `the value of key "token" contains characters`},
		{"an invalid certificate", writeSecret(t, t.TempDir(), map[string]string{"ca.crt": "s3cret"}), "contains no PEM certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := newExternal(t, Config{URL: server.URL, SecretDir: tt.dir}).Post(t.Context(), visit("a"))
			if kind(err) != "again" || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3c") {
				t.Errorf("error is %v, want a temporary error with %q", err, tt.want)
			}
		})
	}
}

func TestExternalPost_TokenRotated_AttemptAfterStatus401SendsTheNewToken(t *testing.T) {
	t.Parallel()
	var valid atomic.Value
	valid.Store("Bearer one")
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != valid.Load() {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	dir := writeSecret(t, t.TempDir(), map[string]string{"token": "one"})
	c := newExternal(t, Config{URL: server.URL, SecretDir: dir})
	if err := c.Post(t.Context(), visit("a")); err != nil {
		t.Fatal(err)
	}
	valid.Store("Bearer two")
	writeSecret(t, dir, map[string]string{"token": "two"})
	if err := c.Post(t.Context(), visit("b")); err != nil && kind(err) != "again" {
		t.Fatalf("with the old token: %v", err)
	}
	if err := c.Post(t.Context(), visit("b")); err != nil {
		t.Errorf("the attempt after a response with status 401 still has the old token: %v", err)
	}
}

func TestExternal_SecretContainsTheCA_TrustsTheServer(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(answerWith(201, "", ""))
	defer server.Close()
	dir := t.TempDir()
	c := newExternal(t, Config{URL: server.URL, SecretDir: dir})
	if err := c.Post(t.Context(), visit("a")); kind(err) != "again" || !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("error is %v, want an error about an unknown certificate", err)
	}
	if err := c.Reach(t.Context()); err == nil || !strings.Contains(err.Error(), "put the certificate of that CA into ca.crt") {
		t.Errorf("error is %v, want an error that says where to put the certificate", err)
	}
	writeSecret(t, dir, map[string]string{
		"ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
	})
	polltest.Until(t, "the certificate to be trusted", func() bool { return c.Post(t.Context(), visit("a")) == nil })
}

func TestExternalPost_ConcurrentPosts_ShareALimitedNumberOfConnections(t *testing.T) {
	t.Parallel()
	const inFlight, posts = 4, 200
	var under, most atomic.Int64
	connections := sync.Map{}
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		now := under.Add(1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		connections.Store(r.RemoteAddr, true)
		_, _ = io.Copy(io.Discard, r.Body)
		under.Add(-1)
		w.WriteHeader(500)
		// The client does not read the whole body. It must discard the rest to reuse the connection.
		_, _ = io.WriteString(w, strings.Repeat("x", 20_000))
	})
	c := newExternal(t, Config{URL: server.URL, maxInFlight: inFlight, timeout: time.Minute})
	var wg sync.WaitGroup
	for range posts {
		wg.Go(func() {
			if err := c.Post(t.Context(), visit("a")); kind(err) != "again" {
				t.Errorf("error is %v", err)
			}
		})
	}
	wg.Wait()
	if most.Load() > inFlight {
		t.Errorf("%d requests were under way at a time, want at most %d", most.Load(), inFlight)
	}
	count := 0
	connections.Range(func(any, any) bool { count++; return true })
	// On a busy machine, package http may open more connections than there are concurrent requests. So require only
	// that one connection was used twice.
	if count == posts {
		t.Errorf("%d connections for %d requests: no connection was used twice", count, posts)
	}
	if bound := c.transport.client.Transport.(*http.Transport).MaxConnsPerHost; bound != inFlight {
		t.Errorf("MaxConnsPerHost is %d, want %d", bound, inFlight)
	}
}

func TestNewClient_InvalidURL_ReturnsAnErrorWithoutThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "ftp://x", "http://", "not a url", "http://user:s3cret@:80", "http://x:0/"} {
		_, external := NewExternal(Config{URL: url})
		_, embedded := NewEmbedded(Config{URL: url})
		for _, err := range []error{external, embedded} {
			if err == nil || !strings.Contains(err.Error(), "summary API") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("URL %q has error %v", url, err)
			}
		}
	}
}

func TestRetryAfter_ParsesSecondsAndDates(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		value string
		want  time.Duration
	}{
		{"Sun, 01 Mar 2026 08:00:30 GMT", 30 * time.Second},
		{"Sun, 01 Mar 2026 07:00:00 GMT", 0},
		{"Mon, 01 Mar 2027 08:00:00 GMT", time.Hour},
		{"soon", 0},
		{"", 0},
	} {
		got := retryAfter(http.Header{"Retry-After": {tt.value}}, now)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.value, diff)
		}
	}
}
