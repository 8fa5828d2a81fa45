package view

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

func newView(s Source) *View {
	return New(
		Config{Interval: 100 * time.Millisecond, MaxClients: 8, heartbeat: 50 * time.Millisecond},
		Dependencies{Source: s, Logger: slog.New(slog.DiscardHandler)},
	)
}

func serveHTTP(t *testing.T, v *View) string {
	t.Helper()
	server := httptest.NewServer(v)
	t.Cleanup(func() {
		v.Close(t.Context())
		server.Close()
	})
	return server.URL
}

func TestView_PathAndQuery_DetermineStatusAndBody(t *testing.T) {
	t.Parallel()
	v := newView(newFake("run", 30))
	get := func(change func(*http.Request)) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/v1/state", http.NoBody)
		change(r)
		return r
	}
	to := func(path string) *http.Request { return get(func(r *http.Request) { r.URL, _ = url.Parse(path) }) }
	tests := map[string]struct {
		request *http.Request
		status  int
		body    string
	}{
		"the page":                 {to("/"), 200, "<!doctype html>"},
		"a file of the page":       {to("/assets/app.js"), 200, "import"},
		"the state":                {to("/v1/state"), 200, `"simulation":"default.rush-hour"`},
		"the timeline":             {to("/v1/timeline"), 200, `{"rows":[{"t":`},
		"an interval without rows": {to("/v1/timeline?from=2020-01-01T00:00:00Z&to=2020-01-01T01:00:00Z"), 200, `{"rows":[]}`},
		"a query that is too long": {to("/v1/timeline?from=" + strings.Repeat("1", 1000)), 414, "longer than 512 bytes"},
		"a long query of a path without parameters": {to("/v1/state?" + strings.Repeat("x", 1000)), 414, "longer"},
		"an invalid time":                        {to("/v1/timeline?from=yesterday"), 400, "RFC 3339"},
		"an unknown parameter":                   {to("/v1/timeline?since=2026-01-01T00:00:00Z"), 400, "unknown parameter"},
		"a parameter that is given twice":        {to("/v1/timeline?to=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z"), 400, "more than once"},
		"an interval that ends before it begins": {to("/v1/timeline?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"), 400, "must be earlier"},
		"an invalid query":                       {to("/v1/timeline?%zz"), 400, "the query string of the URL is invalid"},
		"a file that does not exist":             {to("/assets/passwd"), 404, "does not exist"},
		"a path that leaves the directory":       {to("/assets/..%2f..%2fview.go"), 404, "does not exist"},
		"a path with a null byte":                {to("/assets/app.js%00"), 404, "does not exist"},
		"a directory":                            {to("/assets/"), 404, ""},
		"an unknown path":                        {to("/v1/other"), 404, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			v.ServeHTTP(w, tt.request)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("the response is %d %.300q, want %d with %q", w.Code, w.Body, tt.status, tt.body)
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
				t.Errorf("%s %s: the response has the status %d and the header Allow %q, want 405 and GET, HEAD", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
		w := httptest.NewRecorder()
		v.ServeHTTP(w, httptest.NewRequest(http.MethodHead, "http://localhost"+path, http.NoBody))
		if w.Code != 200 {
			t.Errorf("HEAD %s: the response has the status %d, want 200", path, w.Code)
		}
	}
}

func TestView_EveryResponse_HasTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	v := newView(newFake("run", 1))
	want := map[string][]string{
		"Content-Security-Policy": {"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
		"X-Content-Type-Options": {"nosniff"}, "Referrer-Policy": {"no-referrer"},
		"Cross-Origin-Opener-Policy": {"same-origin"}, "Cross-Origin-Resource-Policy": {"same-origin"},
	}
	for _, path := range []string{"/", "/assets/app.js", "/assets/none", "/v1/state", "/v1/timeline"} {
		w := httptest.NewRecorder()
		v.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost"+path, http.NoBody))
		for name, want := range want {
			if got := w.Header().Values(name); !slices.Equal(got, want) {
				t.Errorf("%s: the header %s is %q, want %q", path, name, got, want)
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
			t.Errorf("%s: the response is %d %q, want 503 with Retry-After and without the error", path, w.Code, w.Body)
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

func TestView_TimelineHasMoreThanMaxRows_OldRowsAreMerged(t *testing.T) {
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
		t.Errorf("%d rows have %d events, want at most %d rows with %d events", len(rows), total.Entry.Published, maxRows, 3*maxRows)
	}
	for i := range rows {
		if i > 0 && rows[i].Start().Before(rows[i-1].End()) {
			t.Fatalf("the row at %d begins before the previous one ends", rows[i].Second)
		}
	}
	for _, row := range rows[len(rows)-3600:] {
		if row.Width > 1 {
			t.Fatalf("a row of the last hour is %d s wide, want 1 s", row.Width)
		}
	}
}

// longest is a source that records the longest interval that was requested. It ignores requests that return no rows.
type longest struct {
	*fake

	interval time.Duration
}

func (l *longest) Timeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	rows, err := l.fake.Timeline(ctx, from, to)
	if len(rows) > 0 {
		l.interval = max(l.interval, to.Sub(from))
	}
	return rows, err
}

func TestView_TimelineOfALongRun_IsReadInParts(t *testing.T) {
	t.Parallel()
	start := time.Now().Add(-50 * time.Hour)
	l := &longest{fake: &fake{state: State{StartedAt: start}}}
	for second := start.Unix() - start.Unix()%60; second < time.Now().Unix(); second += 60 {
		l.rows = append(l.rows, timeline.Row{Second: second, Width: 60, Entry: timeline.Events{Published: 1}})
	}
	rows, err := newView(l).rows(t.Context(), time.Unix(0, 0), time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(l.rows, rows) {
		t.Errorf("%d rows from %d to %d, want those of the source", len(rows), rows[0].Second, rows[len(rows)-1].Second)
	}
	if l.interval > partLength {
		t.Errorf("one call reads an interval of %s", l.interval)
	}
}

func TestView_TimelineUntilTheFarFuture_IsReadWithFewCallsOfTheSource(t *testing.T) {
	t.Parallel()
	f := newFake("run", 20)
	w := httptest.NewRecorder()
	newView(f).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/v1/timeline?to=9999-12-31T00:00:00Z", http.NoBody))
	if w.Code != 200 || f.reads > 3 {
		t.Errorf("the response has the status %d after %d reads of the source, want 200 after at most 3 reads", w.Code, f.reads)
	}
}

func TestView_StateCannotBeRead_LongIntervalIsNotRead(t *testing.T) {
	t.Parallel()
	f := newFake("run", 20)
	f.stateErr = errSecret
	if rows, err := newView(f).rows(t.Context(), time.Unix(0, 0), time.Now()); err == nil || f.reads > 0 {
		t.Errorf("%d rows, error %v, after %d reads of the timeline, want an error and no read", len(rows), err, f.reads)
	}
}

// getRaw sends a request with the given Accept-Encoding. It returns the response and its body, without decompression.
func getRaw(t *testing.T, url, accepted string) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", accepted)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

func TestView_ClientAcceptsGzip_ReceivesTheSameDataCompressed(t *testing.T) {
	t.Parallel()
	v := newView(newFake("run", 600))
	base := serveHTTP(t, v)
	for _, path := range []string{"/v1/state", "/v1/timeline"} {
		plain, want := getRaw(t, base+path, "identity")
		compressed, body := getRaw(t, base+path, "gzip")
		if got := plain.Header.Get("Content-Encoding") + compressed.Header.Get("Content-Encoding"); got != "gzip" {
			t.Errorf("%s: the encodings of both responses are %q, want gzip for the second response only", path, got)
		}
		if vary := plain.Header.Get("Vary"); vary != "Accept-Encoding" {
			t.Errorf("%s: the header Vary is %q, want Accept-Encoding", path, vary)
		}
		reader, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(reader)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the responses differ: %v", path, err)
		}
		t.Logf("%s: %d bytes, compressed %d", path, len(want), len(body))
		if len(body)*2 > len(want) {
			t.Errorf("%s: %d bytes, compressed %d", path, len(want), len(body))
		}
	}
	if !isSpoolEmpty(v) {
		t.Error("a response was sent, but is still in memory")
	}
}

func TestAcceptsGzip_EachHeader_ReturnsWhetherGzipIsAccepted(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]bool{
		"": false, "gzip": true, "deflate, gzip;q=1.0, *;q=0.5": true, "GZIP": true, "br;q=1,gzip ; q=0.1": true,
		"identity": false, "gzip;q=0": false, "gzip;q=0.000": false, "gzip;q=x": false, "xgzip": false, "deflate": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/v1/state", http.NoBody)
		r.Header.Set("Accept-Encoding", header)
		if got := acceptsGzip(r); got != want {
			t.Errorf("%q: %t, want %t", header, got, want)
		}
	}
}

func TestView_FaultThatHitManyInstances_ListsOnlySomeInstances(t *testing.T) {
	t.Parallel()
	f := newFake("run", 1)
	f.state.Faults = make([]fault.Account, 2)
	for i := range 1000 {
		f.state.Faults[0].Hit = append(f.state.Faults[0].Hit, fmt.Sprintf("processor-%d", i))
	}
	f.state.Faults[1].Hit = f.state.Faults[0].Hit[:maxHit]
	state, err := newView(f).state.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []fault.Account{{Hit: f.state.Faults[1].Hit, HitOmitted: 995}, {Hit: f.state.Faults[1].Hit}}
	if diff := cmp.Diff(want, state.Faults); diff != "" {
		t.Errorf("the instances of the faults differ (-want +got):\n%s", diff)
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

func TestAssets_AreSmallAndComplyWithTheContentSecurityPolicy(t *testing.T) {
	t.Parallel()
	const maxBytes = 250_000
	size := 0
	for name, file := range assets() {
		size += len(file.content)
		if path.Ext(name) == ".html" {
			const ofFile = `<script src="assets/[a-z]+\.js"( defer| type="module")?></script>`
			rest := regexp.MustCompile(ofFile).ReplaceAll(file.content, nil)
			if bad := regexp.MustCompile(`(?i)</?script|<style|\sstyle=|\son[a-z]+=|javascript:|https?://`).Find(rest); bad != nil {
				t.Errorf("%s contains the forbidden text %q", name, bad)
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
		t.Errorf("the second response has the status %s, want 304", again.Status)
	}
}
