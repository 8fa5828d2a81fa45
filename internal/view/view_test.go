package view

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/timeline"
)

// newView returns the View of a source, with short timeouts.
func newView(s Source) *View {
	return New(
		Config{Hosts: []string{"parking.example"}, Interval: 10 * time.Millisecond, MaxClients: 8, heartbeat: 50 * time.Millisecond},
		Dependencies{Source: s, Logger: slog.New(slog.DiscardHandler)},
	)
}

// serveHTTP starts an HTTP server with a handler and returns its URL.
func serveHTTP(t *testing.T, v *View) string {
	t.Helper()
	server := httptest.NewServer(v)
	t.Cleanup(func() {
		v.Close(t.Context())
		server.Close()
	})
	return server.URL
}

func TestView_EachRequest_HasTheExpectedResponse(t *testing.T) {
	t.Parallel()
	v := newView(newFake("run", 30))
	get := func(change func(*http.Request)) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/v1/state", http.NoBody)
		change(r)
		return r
	}
	to := func(path string) *http.Request { return get(func(r *http.Request) { r.URL, _ = url.Parse(path) }) }
	host := func(name string) *http.Request { return get(func(r *http.Request) { r.Host = name }) }
	header := func(name, value string) *http.Request {
		return get(func(r *http.Request) { r.Header.Set(name, value) })
	}
	page := func(mode, dest string) *http.Request {
		return get(func(r *http.Request) {
			r.URL.Path = "/"
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", mode)
			r.Header.Set("Sec-Fetch-Dest", dest)
		})
	}
	tests := map[string]struct {
		request *http.Request
		status  int
		body    string
	}{
		"the page":                                     {to("/"), 200, "<!doctype html>"},
		"a file of the page":                           {to("/assets/app.js"), 200, "import"},
		"the state":                                    {to("/v1/state"), 200, `"simulation":"default.rush-hour"`},
		"the timeline":                                 {to("/v1/timeline"), 200, `{"rows":[{"t":`},
		"an interval without rows":                     {to("/v1/timeline?from=2020-01-01T00:00:00Z&to=2020-01-01T01:00:00Z"), 200, `{"rows":[]}`},
		"another host name, as in DNS rebinding":       {host("evil.example"), 403, "host name"},
		"a host name that ends like an allowed one":    {host("evil-localhost"), 403, "host name"},
		"no host name":                                 {host(""), 403, "host name"},
		"localhost with a port":                        {host("localhost:8080"), 200, ""},
		"a name below localhost":                       {host("run.localhost:8080"), 200, ""},
		"an IPv4 address":                              {host("192.0.2.7:8080"), 200, ""},
		"an IPv6 address":                              {host("[::1]:8080"), 200, ""},
		"an IPv6 address without a port":               {host("[::1]"), 200, ""},
		"a configured host name":                       {host("PARKING.example:8080"), 200, ""},
		"the page's own origin":                        {header("Origin", "http://localhost"), 200, ""},
		"another origin":                               {header("Origin", "http://evil.example"), 403, "other sites"},
		"another port of this machine":                 {header("Origin", "http://localhost:3000"), 403, "other sites"},
		"an opaque origin":                             {header("Origin", "null"), 403, "other sites"},
		"a script of another site":                     {header("Sec-Fetch-Site", "cross-site"), 403, "other sites"},
		"a script of another port":                     {header("Sec-Fetch-Site", "same-site"), 403, "other sites"},
		"a user who types the address":                 {header("Sec-Fetch-Site", "none"), 200, ""},
		"a link of another site to the page":           {page("navigate", "document"), 200, "<!doctype html>"},
		"a frame of another site":                      {page("navigate", "iframe"), 403, "other sites"},
		"a script of another site that loads the page": {page("no-cors", "script"), 403, "other sites"},
		"a query that is too long":                     {to("/v1/timeline?from=" + strings.Repeat("1", 1000)), 414, "longer than 512 bytes"},
		"a long query of a path without parameters":    {to("/v1/state?" + strings.Repeat("x", 1000)), 414, "longer"},
		"an invalid time":                              {to("/v1/timeline?from=yesterday"), 400, "RFC 3339"},
		"an unknown parameter":                         {to("/v1/timeline?since=2026-01-01T00:00:00Z"), 400, "unknown parameter"},
		"a parameter twice":                            {to("/v1/timeline?to=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z"), 400, "more than once"},
		"an interval that ends before it begins":       {to("/v1/timeline?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"), 400, "before"},
		"an invalid query":                             {to("/v1/timeline?%zz"), 400, "the query string of the URL is invalid"},
		"a file that does not exist":                   {to("/assets/passwd"), 404, "does not exist"},
		"a path out of the folder":                     {to("/assets/..%2f..%2fview.go"), 404, "does not exist"},
		"a path with a null byte":                      {to("/assets/app.js%00"), 404, "does not exist"},
		"a folder":                                     {to("/assets/"), 404, ""},
		"another path":                                 {to("/v1/other"), 404, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			v.ServeHTTP(w, tt.request)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("the answer is %d %.300q, want %d with %q", w.Code, w.Body, tt.status, tt.body)
			}
		})
	}
}

func TestView_MethodsOtherThanGETAndHEAD_AreRejected(t *testing.T) {
	t.Parallel()
	v := newView(newFake("run", 1))
	for _, path := range []string{"/", "/assets/app.js", "/v1/state", "/v1/timeline", "/v1/events"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "INVENTED"} {
			w := httptest.NewRecorder()
			v.ServeHTTP(w, httptest.NewRequest(method, "http://localhost"+path, strings.NewReader("{}")))
			if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s is answered %d with Allow %q", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
		w := httptest.NewRecorder()
		v.ServeHTTP(w, httptest.NewRequest(http.MethodHead, "http://localhost"+path, http.NoBody))
		if w.Code != 200 {
			t.Errorf("HEAD %s is answered %d", path, w.Code)
		}
	}
}

func TestView_EveryResponse_HasTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	v := newView(newFake("run", 1))
	for _, path := range []string{"/", "/assets/app.js", "/assets/none", "/v1/state", "/v1/timeline"} {
		w := httptest.NewRecorder()
		v.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost"+path, http.NoBody))
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := w.Header().Get(name); !strings.Contains(got, want) {
				t.Errorf("%s has %s %q, want %q", path, name, got, want)
			}
		}
	}
}

func TestView_SourceFails_ResponseDoesNotContainTheError(t *testing.T) {
	t.Parallel()
	f := newFake("run", 1)
	f.err = errSecret
	v := newView(f)
	for _, path := range []string{"/v1/state", "/v1/timeline", "/v1/events"} {
		w := httptest.NewRecorder()
		v.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost"+path, http.NoBody))
		if w.Code != 503 || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "10.0.0.1") {
			t.Errorf("%s is answered %d %q", path, w.Code, w.Body)
		}
	}
}

func TestView_ManyRequestsForTheState_CallTheSourceOnce(t *testing.T) {
	t.Parallel()
	f := newFake("run", 1)
	v := New(Config{Interval: time.Hour}, Dependencies{Source: f, Logger: slog.New(slog.DiscardHandler)})
	for range 100 {
		v.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://localhost/v1/state", http.NoBody))
	}
	if f.calls != 1 {
		t.Errorf("the source was called %d times", f.calls)
	}
}

func TestView_LongTimeline_IsMergedIntoWiderRows(t *testing.T) {
	t.Parallel()
	f := &fake{}
	for i := range int64(3 * maxRows) {
		f.rows = append(f.rows, timeline.Row{Second: i, Entry: timeline.Events{Published: 1}})
	}
	rows, err := newView(f).rows(t.Context(), time.Unix(0, 0), time.Unix(4*maxRows, 0))
	if err != nil {
		t.Fatal(err)
	}
	if total := timeline.Sum(rows...); len(rows) > maxRows || total.Entry.Published != 3*maxRows {
		t.Errorf("%d rows have %d events, want at most %d with %d", len(rows), total.Entry.Published, maxRows, 3*maxRows)
	}
}

func TestView_Timeline_ReturnsRowsOfTheSource(t *testing.T) {
	t.Parallel()
	f := newFake("run", 20)
	w := httptest.NewRecorder()
	from := f.rows[5].Start().Format(time.RFC3339)
	newView(f).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/v1/timeline?from="+from, http.NoBody))
	var got struct{ Rows []timeline.Row }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Rows) != 15 || got.Rows[0].Second != f.rows[5].Second || got.Rows[14].Entry.EndToEnd.Count() != 200 {
		t.Errorf("the rows are %+v", got.Rows)
	}
}

// The page must be small and must not contain anything that its content security policy forbids.
func TestAssets_AreSmallAndComplyWithTheContentSecurityPolicy(t *testing.T) {
	t.Parallel()
	const maxBytes = 250_000
	size := 0
	for name, file := range assets() {
		size += len(file.content)
		if path.Ext(name) == ".html" {
			if bad := regexp.MustCompile(`(?i)<script>|<style|\sstyle=|\son[a-z]+=|javascript:|https?://`).Find(file.content); bad != nil {
				t.Errorf("%s has %q", name, bad)
			}
		}
		if file.contentType == "" {
			t.Errorf("%s has no content type", name)
		}
	}
	if size > maxBytes {
		t.Errorf("the page has %d bytes, want at most %d", size, maxBytes)
	}
	t.Logf("the page has %d bytes in %d files", size, len(assets()))
}

func TestAssets_Unchanged_AreNotSentAgain(t *testing.T) {
	t.Parallel()
	base := serveHTTP(t, newView(newFake("run", 1)))
	response, err := http.Get(base + "/assets/app.js")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	request, _ := http.NewRequest(http.MethodGet, base+"/assets/app.js", http.NoBody)
	request.Header.Set("If-None-Match", response.Header.Get("ETag"))
	again, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Body.Close()
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("the second answer is %s", again.Status)
	}
}
