package rest

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
)

// newService returns a service with a new SQLite database.
func newService(tb testing.TB) *summary.Service {
	tb.Helper()
	return newServiceOn(tb, summarytest.New())
}

func newServiceOn(tb testing.TB, db summary.Database) *summary.Service {
	tb.Helper()
	s, err := summary.New(db, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// serve returns a handler that serves the API of the service s and the endpoints of package httpserver.
func serve(tb testing.TB, s Summaries, l limits) http.Handler {
	tb.Helper()
	log := slog.New(slog.DiscardHandler)
	registry := prometheus.NewRegistry()
	api, err := newHandler(l, Dependencies{Summaries: s, Registerer: registry, Logger: log})
	if err != nil {
		tb.Fatal(err)
	}
	var checks []httpserver.Check
	if service, ok := s.(interface{ Ready(context.Context) error }); ok {
		checks = append(checks, httpserver.Check{Name: "database", Check: service.Ready})
	}
	return httpserver.Handler(httpserver.Options{Metrics: registry, Ready: checks, Routes: []httpserver.Route{{Pattern: "/", Handler: api}}, Log: log})
}

// exchange is an HTTP request together with its expected response.
type exchange struct {
	name        string
	method      string
	path        string
	contentType string
	header      http.Header
	body        string

	status int
	// want contains substrings of the expected response body.
	want []string
	// headers contains the expected headers of the response.
	headers map[string]string
}

const (
	visitA = `{"id":"a","vehicle_plate":"P-1","entry_date_time":"2026-03-01T08:00:00Z","exit_date_time":"2026-03-01T09:30:00.25Z","duration":"1h30m0.25s","duration_seconds":5400.25}`
	visitB = `{"id":"b","vehicle_plate":"P-2","entry_date_time":"2026-03-01T08:00:00Z","exit_date_time":"2026-03-01T08:00:01Z"}`
	// otherA has the same id as visitA but a different content, so the two conflict.
	otherA = `{"id":"a","vehicle_plate":"P-9","entry_date_time":"2026-03-01T08:00:00Z","exit_date_time":"2026-03-01T09:30:00.25Z"}`
)

// exchanges returns the requests of a test in order, with their expected responses. The database is empty before the
// first request.
func exchanges() []exchange {
	long := strings.Repeat("x", event.MaxBodyBytes)
	post := func(name, body string, status int, want ...string) exchange {
		return exchange{name: name, method: "POST", path: "/v1/summaries", contentType: typeJSON, body: body, status: status, want: want}
	}
	many := func(name, body string, want ...string) exchange {
		return exchange{name: name, method: "POST", path: "/v1/summaries", contentType: typeNDJSON, body: body, status: 200, want: want}
	}
	get := func(name, path string, status int, want ...string) exchange {
		return exchange{name: name, method: "GET", path: path, status: status, want: want}
	}
	with := func(e exchange, headers map[string]string) exchange {
		e.headers = headers
		return e
	}
	typed := func(e exchange, contentType string) exchange {
		e.contentType = contentType
		return e
	}
	return []exchange{
		get("nothing is stored at first", "/v1/summaries", 200, `{"items":[]}`),
		get("the totals of an empty database contain only a count", "/v1/stats", 200, `{"count":0}`),
		get("a summary that does not exist is not found", "/v1/summaries/a", 404),

		with(post("a new summary is created", visitA, 201, visitA), map[string]string{"Location": "/v1/summaries/a"}),
		post("the same summary is accepted again", visitA, 200, visitA),
		typed(post("a charset does not matter", visitA, 200, visitA), "Application/JSON; charset=utf-8"),
		post("another summary with the same id is a conflict", otherA, 409, "another summary is stored under this id"),
		post("the duration fields are ignored", strings.Replace(visitA, "5400.25", `"long"`, 1), 200, visitA),
		post("what is not JSON is malformed", `{"id":`, 400, "not valid JSON"),
		post("an empty body is malformed", ``, 400),
		post("an array is malformed", `[]`, 400, "is not an object"),
		post("invalid UTF-8 is malformed", "{\"id\":\"\xff\"}", 400, "UTF-8"),
		post("a missing field is invalid", `{"id":"x"}`, 422, "vehicle_plate", "missing"),
		post("a field of another type is invalid", strings.Replace(visitA, `"P-1"`, `7`, 1), 422, "vehicle_plate"),
		post("an exit before its entry is invalid", strings.Replace(visitA, "T09:30", "T07:30", 1), 422, "exit_date_time", "before"),
		post("a date in the year 9999 is invalid", strings.Replace(visitA, "2026-03-01T09", "9999-03-01T09", 1), 422, "exit_date_time must be between the years 1678 and 2261"),
		post("a date in the year 0 is invalid", strings.Replace(visitA, "2026-03-01T08", "0000-03-01T08", 1), 422, "entry_date_time must be between the years 1678 and 2261"),
		post("a long body is too large", `{"more":"`+long+`"}`, 413, "65536 bytes"),
		with(typed(post("text is not supported", visitA, 415), "text/plain"), map[string]string{"Accept-Post": "application/json, application/x-ndjson"}),
		typed(post("a missing content type is not supported", visitA, 415), ""),
		typed(post("a damaged content type is not supported", visitA, 415), "application/json; charset"),
		{name: "a compressed body is not supported", method: "POST", path: "/v1/summaries", contentType: typeJSON, header: http.Header{"Content-Encoding": {"gzip"}}, body: visitA, status: 415, want: []string{"gzip"}},

		many("each line gets a result in order, and an invalid line does not prevent the storing of the others",
			visitA+"\n"+visitB+"\n{\"id\":\n"+otherA+"\n{\"id\":\"x\"}\n"+strings.Replace(visitB, `"b"`, `"c"`, 1)+"\n",
			`{"id":"a","status":200}
{"id":"b","status":201}
{"status":400,"detail":"summary: not valid JSON at byte 6: unexpected end of JSON input"}
{"id":"a","status":409,"detail":"another summary is stored under this id; it is never overwritten"}
{"status":422,"detail":"summary: field vehicle_plate: missing"}
{"id":"c","status":201}
`),
		many("blank lines and CRLF do not matter", "\r\n\n"+visitB+"\r\n \t\n"+visitA, `{"id":"b","status":200}
{"id":"a","status":200}
`),
		many("only the line that is too long is rejected", `{"more":"`+long+`"}`+"\n"+visitB, `{"status":413,`, `{"id":"b","status":200}`),
		many("the result of an invalid line contains its id if the id is valid", strings.Replace(visitA, "2026-03-01T09", "9999-03-01T09", 1), `{"id":"a","status":422,`),
		many("an id with quotes and an umlaut is quoted", strings.Replace(visitB, `"b"`, `"\"ü\""`, 1), `{"id":"\"ü\"","status":201}`),
		many("a body in which every line is invalid has status 200", "1\n2\n", `{"status":400,`),
		{name: "a body without lines is malformed", method: "POST", path: "/v1/summaries", contentType: typeNDJSON, body: " \n\n", status: 400, want: []string{"no summary"}},

		get("summaries are sorted by their exit times", "/v1/summaries?limit=2", 200, `"id":"b"`, `"id":"c"`, `"next_cursor":"`),
		get("the parameter plate selects the visits of this plate", "/v1/summaries?plate=P-1", 200, `{"items":[`+visitA+`]}`),
		get("the parameters from and to select by the exit time", "/v1/summaries?from=2026-03-01T09:00:00Z&to=2026-03-01T10:30:00.5%2B01:00", 200, `{"items":[`+visitA+`]}`),
		get("an unknown plate selects nothing", "/v1/summaries?plate=none", 200, `{"items":[]}`),
		get("the error about an unknown parameter contains the parameter", "/v1/summaries?plat=P-1", 400, `\"plat\" is unknown`, "cursor, from, limit, plate, to"),
		get("a parameter that is given twice is not valid", "/v1/summaries?limit=1&limit=2", 400, `\"limit\" is given 2 times`),
		get("a limit of 0 is not valid", "/v1/summaries?limit=0", 400, "from 1 to 1000"),
		get("a limit of 1001 is not valid", "/v1/summaries?limit=1001", 400, "from 1 to 1000"),
		get("a limit that is no number is not valid", "/v1/summaries?limit=ten", 400, "from 1 to 1000"),
		get("a bound that is no instant is not valid", "/v1/summaries?from=yesterday", 400, `\"from\" must be an RFC 3339 date`),
		get("a cursor that no response contained is not valid", "/v1/summaries?cursor=AAAA", 400, "next_cursor"),
		get("a plate that is too long is not valid", "/v1/summaries?plate="+strings.Repeat("P", 33), 400, "1 to 32 bytes"),
		get("a query that is not well formed is not valid", "/v1/summaries?plate=%zz", 400),
		get("a summary is found", "/v1/summaries/a", 200, visitA),
		get("an id is found in its escaped form", "/v1/summaries/%22%C3%BC%22", 200, `"id":"\"ü\""`),
		get("the totals include all stored summaries", "/v1/stats", 200,
			`{"count":4,"duration":{"mean":"22m30.8125s","min":"1s","max":"1h30m0.25s"},"duration_seconds":{"mean":1350.812500000,"min":1.000000000,"max":5400.250000000},"first_exit_date_time":"2026-03-01T08:00:01Z","last_exit_date_time":"2026-03-01T09:30:00.25Z"}`),

		get("the OpenAPI document is served", "/openapi.json", 200, `"openapi": "3.1.0"`),
		get("the process is alive", "/healthz", 200, "ok"),
		get("the process is ready", "/readyz", 200, "ok"),
		get("the process has metrics", "/metrics", 200, `parking_summary_requests_seconds_count{code="409"} 1`),
		get("an unknown path is not found", "/v2", 404, "/openapi.json"),
		{name: "a method that the path does not support is rejected", method: "DELETE", path: "/v1/summaries", status: 405, headers: map[string]string{"Allow": "GET, HEAD, POST"}},
		{name: "a summary cannot be deleted", method: "DELETE", path: "/v1/summaries/a", status: 405, headers: map[string]string{"Allow": "GET, HEAD"}},
		{name: "totals cannot be changed", method: "PUT", path: "/v1/stats", status: 405},
		{name: "the OpenAPI document cannot be changed", method: "PUT", path: "/openapi.json", status: 405},
	}
}

// do sends the request of an exchange and checks the response.
func (e *exchange) do(t *testing.T, base string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), e.method, base+e.path, strings.NewReader(e.body))
	if err != nil {
		t.Fatal(err)
	}
	if e.header != nil {
		request.Header = e.header.Clone()
	}
	if e.contentType != "" {
		request.Header.Set("Content-Type", e.contentType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != e.status {
		t.Errorf("status is %d, want %d: %s", response.StatusCode, e.status, body)
	}
	for _, part := range e.want {
		if !bytes.Contains(body, []byte(part)) {
			t.Errorf("the answer lacks %s:\n%s", part, body)
		}
	}
	for name, want := range e.headers {
		if got := response.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
}

// TestAPI_EveryDocumentedResponse_Occurs sends requests to every endpoint. It fails if a documented response
// never occurs.
func TestAPI_EveryDocumentedResponse_Occurs(t *testing.T) {
	t.Parallel()
	c := newContract(t)
	server := httptest.NewServer(c.wrap(t, serve(t, newService(t), defaultLimits())))
	defer server.Close()
	for _, e := range exchanges() {
		t.Run(e.name, func(t *testing.T) { e.do(t, server.URL) })
	}

	broken := httptest.NewServer(c.wrap(t, serve(t, unavailable{}, defaultLimits())))
	defer broken.Close()
	for _, e := range []exchange{
		{method: "POST", path: "/v1/summaries", contentType: typeJSON, body: visitA},
		{method: "POST", path: "/v1/summaries", contentType: typeNDJSON, body: visitA},
		{method: "GET", path: "/v1/summaries"},
		{method: "GET", path: "/v1/summaries/a"},
		{method: "GET", path: "/v1/stats"},
		{method: "GET", path: "/readyz"},
	} {
		t.Run("without a database "+e.method+" "+e.path+" is unavailable "+e.contentType, func(t *testing.T) {
			e.status, e.want = 503, []string{"the volume is full"}
			if e.path != "/readyz" {
				e.headers = map[string]string{"Retry-After": "2"}
			}
			e.do(t, broken.URL)
		})
	}
	t.Run("a body that does not arrive times out", func(t *testing.T) { sendHalfABody(t, server.Listener.Addr().String()) })

	documented := slices.DeleteFunc(c.answers(), func(answer string) bool { return strings.HasSuffix(answer, " 405") })
	met := slices.DeleteFunc(slices.Sorted(maps.Keys(c.met)), func(answer string) bool { return strings.HasSuffix(answer, " 405") })
	if diff := cmp.Diff(documented, met); diff != "" {
		t.Errorf("answers that are documented, and that were met (-documented +met):\n%s", diff)
	}
}

// sendHalfABody sends half of a request body and closes its side of the connection. It expects status 408.
func sendHalfABody(t *testing.T, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	head := "POST /v1/summaries HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
	if _, err := io.WriteString(conn, head+visitA[:50]); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 408 ")) {
		t.Errorf("answer is %q (%v), want 408", answer, err)
	}
}

// unavailable is a service whose calls all fail.
type unavailable struct{}

func errUnavailable() error {
	return &summary.UnavailableError{Err: errors.New("the volume is full"), After: 1500 * time.Millisecond}
}

func (unavailable) Store(context.Context, []event.Summary) ([]summary.Outcome, error) {
	return nil, errUnavailable()
}

func (unavailable) Find(context.Context, string) (event.Summary, bool, error) {
	return event.Summary{}, false, errUnavailable()
}

func (unavailable) List(context.Context, summary.Query) (summary.Page, error) {
	return summary.Page{}, errUnavailable()
}

func (unavailable) Stats(context.Context) (summary.Stats, error) {
	return summary.Stats{}, errUnavailable()
}

func (unavailable) Ready(context.Context) error { return errUnavailable() }

// TestOpenAPI_HasEveryRoute checks that the OpenAPI document contains exactly the paths and methods of the API and of
// package httpserver.
func TestOpenAPI_HasEveryRoute(t *testing.T) {
	t.Parallel()
	want := []string{"GET /healthz", "GET /metrics", "GET /readyz"}
	for path, endpoints := range (&api{}).routes() {
		for method := range endpoints {
			want = append(want, method+" "+path)
		}
	}
	slices.Sort(want)
	c := newContract(t)
	var got []string
	for _, path := range c.paths() {
		operations, _ := c.at("paths", path).(map[string]any)
		for method := range operations {
			got = append(got, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-handlers +document):\n%s", diff)
	}
}

func TestOpenAPI_Limits_MatchThoseInTheCode(t *testing.T) {
	t.Parallel()
	c := newContract(t)
	number := func(path ...string) int {
		n, ok := c.at(path...).(float64)
		if !ok {
			t.Errorf("there is no number at %v", path)
		}
		return int(n)
	}
	schemas := []string{"components", "schemas"}
	for _, tt := range []struct {
		name string
		got  int
		want int
	}{
		{"id", number(append(schemas, "Summary", "properties", "id", "maxLength")...), event.MaxIDBytes},
		{"plate", number(append(schemas, "Summary", "properties", "vehicle_plate", "maxLength")...), event.MaxPlateBytes},
		{"items", number(append(schemas, "Page", "properties", "items", "maxItems")...), maxLimit},
	} {
		if tt.got != tt.want {
			t.Errorf("%s has %d in the document, want %d", tt.name, tt.got, tt.want)
		}
	}
	text, _ := c.at("paths", "/v1/summaries", "post", "description").(string)
	for _, part := range []string{"65,536 bytes", "10,000", "4 MiB"} {
		if !strings.Contains(text, part) {
			t.Errorf("the description of POST lacks %q:\n%s", part, text)
		}
	}
	parameters, _ := c.at("paths", "/v1/summaries", "get", "parameters").([]any)
	var names []string
	for _, p := range parameters {
		names = append(names, p.(map[string]any)["name"].(string))
	}
	if diff := cmp.Diff([]string{paramPlate, paramFrom, paramTo, paramLimit, paramCursor}, names); diff != "" {
		t.Errorf("parameters (-handler +document):\n%s", diff)
	}
	if err := c.checkJSON(map[string]any{"$ref": "#/components/schemas/Summary"}, []byte(visitA)); err != nil {
		t.Errorf("a valid summary is not valid by the document: %v", err)
	}
}

func TestListSummaries_SeveralPages_CursorsLeadToAllSummaries(t *testing.T) {
	t.Parallel()
	const count = 25
	server := httptest.NewServer(newContract(t).wrap(t, serve(t, newService(t), defaultLimits())))
	defer server.Close()
	var body strings.Builder
	var want []string
	for i := range count {
		id := fmt.Sprintf("id-%02d", i)
		want = append(want, id)
		// The summaries form groups of three with the same exit time.
		body.Write(append(event.AppendSummary(nil, event.Summary{
			ID: id, Plate: "P", EntryAt: time.Unix(0, 0), ExitAt: time.Unix(int64(i/3), 0),
		}), '\n'))
	}
	(&exchange{method: "POST", path: "/v1/summaries", contentType: typeNDJSON, body: body.String(), status: 200}).do(t, server.URL)

	var got []string
	for query := (url.Values{"limit": {"4"}}); ; {
		response, err := http.Get(server.URL + "/v1/summaries?" + query.Encode())
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Items      []struct{ ID string }
			NextCursor string `json:"next_cursor"`
		}
		if err := json.NewDecoder(response.Body).Decode(&page); err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		for _, item := range page.Items {
			got = append(got, item.ID)
		}
		if page.NextCursor == "" {
			break
		}
		query.Set("cursor", page.NextCursor)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPostSummaries_BodyExceedsLimit_IsRejected(t *testing.T) {
	t.Parallel()
	limits := defaultLimits()
	limits.maxBytes, limits.maxLines = 1000, 3
	server := httptest.NewServer(newContract(t).wrap(t, serve(t, newService(t), limits)))
	defer server.Close()
	lines := func(n int) string { return strings.Repeat("1\n", n) }
	for _, e := range []exchange{
		{name: "a body with as many lines as allowed is accepted", body: lines(3), status: 200},
		{name: "a body with more lines than allowed is rejected", body: lines(4), status: 413, want: []string{"more than 3 summaries", "nothing was stored"}},
		{name: "a body with as many bytes as allowed is accepted", body: lines(1) + strings.Repeat(" ", 998), status: 200},
		{name: "a body with more bytes than allowed is rejected", body: lines(1) + strings.Repeat(" ", 999), status: 413, want: []string{"more than 1000 bytes", "nothing was stored"}},
	} {
		e.method, e.path, e.contentType = "POST", "/v1/summaries", typeNDJSON
		t.Run(e.name, func(t *testing.T) { e.do(t, server.URL) })
	}
	t.Run("a body with more bytes than allowed is rejected even without a Content-Length", func(t *testing.T) {
		// The client does not know the length of the body, so it sends the body in chunks, without a Content-Length.
		body := io.MultiReader(strings.NewReader(lines(1)), strings.NewReader(strings.Repeat(" ", 999)))
		response, err := http.Post(server.URL+"/v1/summaries", typeNDJSON, body)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status is %d, want 413", response.StatusCode)
		}
	})
}

// TestPostSummaries_DatabaseIsLocked_IsUnavailable locks the database as another process would do.
func TestPostSummaries_DatabaseIsLocked_IsUnavailable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "summaries.db")
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newContract(t).wrap(t, serve(t, newServiceOn(t, db), defaultLimits())))
	defer server.Close()
	other, err := sql.Open("sqlite", path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	post := exchange{method: "POST", path: "/v1/summaries", contentType: typeJSON, body: visitA}
	stats := exchange{method: "GET", path: "/v1/stats", status: 200}

	post.status, post.want, post.headers = 503, []string{"another process has locked"}, map[string]string{"Retry-After": "1"}
	post.do(t, server.URL)
	(&exchange{method: "GET", path: "/readyz", status: 503}).do(t, server.URL)
	stats.want = []string{`{"count":0}`}
	stats.do(t, server.URL)

	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	post.status, post.want, post.headers = 201, nil, nil
	post.do(t, server.URL)
	stats.want = []string{`{"count":1,`}
	stats.do(t, server.URL)
}

// hanging is a service whose calls block until their context ends.
type hanging struct {
	Summaries // nil, because the tests call only the method that hanging overrides

	entered chan struct{}
}

func (h hanging) Store(ctx context.Context, _ []event.Summary) ([]summary.Outcome, error) {
	h.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestPostSummaries_TooManyRequestsInFlight_IsUnavailable(t *testing.T) {
	t.Parallel()
	limits := defaultLimits()
	limits.maxBytesInFlight, limits.maxWait = 2*minWeight, time.Millisecond
	backend := hanging{entered: make(chan struct{})}
	server := httptest.NewServer(newContract(t).wrap(t, serve(t, backend, limits)))
	defer server.Close()

	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	for range 2 {
		go func() {
			defer func() { left <- struct{}{} }()
			request, err := http.NewRequestWithContext(ctx, "POST", server.URL+"/v1/summaries", strings.NewReader(visitA))
			if err != nil {
				t.Error(err)
				return
			}
			request.Header.Set("Content-Type", typeJSON)
			if response, err := http.DefaultClient.Do(request); err == nil {
				_ = response.Body.Close()
			}
		}()
		<-backend.entered
	}
	e := exchange{
		method: "POST", path: "/v1/summaries", contentType: typeJSON, body: visitA,
		status: 503, want: []string{"too many requests at a time"}, headers: map[string]string{"Retry-After": "1"},
	}
	e.do(t, server.URL)
	cancel()
	<-left
	<-left
}

func TestPostSummaries_Timeout_RespondsWithServiceUnavailable(t *testing.T) {
	t.Parallel()
	limits := defaultLimits()
	limits.timeout = time.Millisecond
	backend := hanging{entered: make(chan struct{}, 1)}
	server := httptest.NewServer(newContract(t).wrap(t, serve(t, backend, limits)))
	defer server.Close()
	e := exchange{
		method: "POST", path: "/v1/summaries", contentType: typeJSON, body: visitA,
		status: 503, want: []string{"too long", "whether anything was stored is not known"}, headers: map[string]string{"Retry-After": "1"},
	}
	e.do(t, server.URL)
}

func TestPostSummaries_SlowClient_IsDisconnected(t *testing.T) {
	t.Parallel()
	limits := defaultLimits()
	limits.maxTransfer = 5 * time.Second // long enough for a busy server to send its response
	server := httptest.NewServer(serve(t, newService(t), limits))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	head := "POST /v1/summaries HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
	if _, err := io.WriteString(conn, head+visitA[:50]); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn) // ReadAll returns when the server closes the connection
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 408 ")) {
		t.Errorf("answer is %q (%v), want 408", answer, err)
	}
}
