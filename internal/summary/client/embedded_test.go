package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/rest"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
)

// lines decodes the summaries in a request body, one per line.
func lines(t *testing.T, r *http.Request) []event.Summary {
	t.Helper()
	var all []event.Summary
	scanner := bufio.NewScanner(r.Body)
	for scanner.Scan() {
		s, err := event.ParseSummary(scanner.Bytes())
		if err != nil {
			t.Error(err)
		}
		all = append(all, s)
	}
	return all
}

// answerLines returns a handler that responds with result(s) for each posted summary s.
func answerLines(t *testing.T, result func(s event.Summary) string) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		for _, s := range lines(t, r) {
			_, _ = io.WriteString(w, result(s))
		}
	}
}

func line201(s event.Summary) string { return fmt.Sprintf("{\"id\":%q,\"status\":201}\n", s.ID) }

func TestEmbeddedPost_EachResponse_ReturnsTheMatchingError(t *testing.T) {
	t.Parallel()
	fixed := func(answer string) http.HandlerFunc {
		return answerLines(t, func(event.Summary) string { return answer })
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"status 201 accepts the summary", answerLines(t, line201), "accepted"},
		{"status 200 accepts the summary", fixed(`{"id":"a","status":200}` + "\n"), "accepted"},
		{"the order of members and white space do not matter", fixed(` { "status": 201, "id": "a" } ` + "\r\n"), "accepted"},
		{"status 409 rejects the summary, because its id belongs to another summary", fixed(`{"id":"a","status":409,"detail":"another"}` + "\n"), "rejected 409"},
		{"status 422 rejects the summary", fixed(`{"id":"a","status":422,"detail":"too old"}` + "\n"), "rejected 422"},
		{"a result with status 400, but without an id, rejects the summary", fixed(`{"status":400,"detail":"what"}` + "\n"), "rejected 400"},
		{"status 503 in a result is temporary", fixed(`{"id":"a","status":503}` + "\n"), "again"},
		{"an empty response is invalid", fixed(""), "again"},
		{"a last line without a line end may be incomplete", fixed(`{"id":"a","status":201}`), "again"},
		{"a result for another summary is invalid", fixed(`{"id":"b","status":201}` + "\n"), "again"},
		{"a rejection of another summary is invalid", fixed(`{"id":"b","status":422}` + "\n"), "again"},
		{"status 201 without an id is invalid", fixed(`{"status":201}` + "\n"), "again"},
		{"a result without a status is invalid", fixed(`{"id":"a"}` + "\n"), "again"},
		{"an HTML page is invalid", fixed("<html>It works!</html>\n"), "again"},
		{"an endless response is not read completely", writeForEver, "again"},
		{"status 422 of the HTTP response rejects the summary", answerWith(422, "application/problem+json", `{"detail":"no"}`), "rejected 422"},
		{"status 400 from a proxy is temporary", answerWith(400, "text/html", "<html>Bad Request</html>"), "again"},
		{"status 503 with Retry-After is temporary", answerWith(503, "application/problem+json", `{"detail":"full"}`, "Retry-After", "1"), "again in 1s"},
		{"status 404 is temporary", answerWith(404, "text/plain", "404 page not found"), "again"},
		{"a server that hangs before its response", hang, "again"},
		{"a server that hangs within its response", func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			untilGone(r)
		}, "again"},
		{"a connection that is closed without a response", func(w http.ResponseWriter, _ *http.Request) { hijack(t, w, "") }, "again"},
		{"a response that ends within a result", func(w http.ResponseWriter, _ *http.Request) {
			hijack(t, w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id\":\"a\",\"st")
		}, "again"},
		{"an incomplete response that contains the result accepts the summary", func(w http.ResponseWriter, _ *http.Request) {
			hijack(t, w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id\":\"a\",\"status\":201}\n")
		}, "accepted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			config := Config{URL: serve(t, tt.handler).URL}
			if strings.Contains(tt.name, "hangs") {
				config.timeout = 100 * time.Millisecond
			}
			err := newEmbedded(t, config).Post(t.Context(), visit("a"))
			if got := kind(err); got != tt.want {
				t.Errorf("the result is %s (%v), want %s", got, err, tt.want)
			}
			if err != nil && len(err.Error()) > 600 {
				t.Errorf("error has %d bytes", len(err.Error()))
			}
		})
	}
}

// gathered blocks the first request until release is closed, so that the client queues all other posts.
type gathered struct {
	t       *testing.T
	rest    http.HandlerFunc // serves all requests after the first
	entered chan struct{}
	release chan struct{}
	first   sync.Once
}

func (g *gathered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isFirst := false
	g.first.Do(func() { isFirst = true })
	if !isFirst {
		g.rest(w, r)
		return
	}
	summaries := lines(g.t, r)
	close(g.entered)
	<-g.release
	for _, s := range summaries {
		_, _ = io.WriteString(w, line201(s))
	}
}

// postTogether posts summaries while another request is in flight, so that the client sends them together in the next
// request. It returns the result of each summary.
func postTogether(t *testing.T, rest http.HandlerFunc, ids ...string) []string {
	t.Helper()
	g := &gathered{t: t, rest: rest, entered: make(chan struct{}), release: make(chan struct{})}
	server := serve(t, g.ServeHTTP)
	c := newEmbedded(t, Config{URL: server.URL, maxInFlight: 1})
	lone := make(chan error, 1)
	go func() { lone <- c.Post(context.Background(), visit("lone")) }()
	<-g.entered
	results := make([]string, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { results[i] = kind(c.Post(context.Background(), visit(id))) })
		polltest.Until(t, "a post to be queued", func() bool { return len(c.queue) == i+1 })
	}
	close(g.release)
	wg.Wait()
	if err := <-lone; err != nil {
		t.Error(err)
	}
	return results
}

func TestEmbedded_QueuedPostsShareARequest(t *testing.T) {
	t.Parallel()
	var sizes []int
	got := postTogether(t, func(w http.ResponseWriter, r *http.Request) {
		summaries := lines(t, r)
		sizes = append(sizes, len(summaries))
		for _, s := range summaries {
			_, _ = io.WriteString(w, line201(s))
		}
	}, "a", "b", "c", "d")
	if diff := cmp.Diff([]string{"accepted", "accepted", "accepted", "accepted"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{4}, sizes); diff != "" {
		t.Errorf("sizes of the requests (-want +got):\n%s", diff)
	}
}

func TestEmbeddedGather_LingersOnlyIfSeveralPostsAreQueuedDuringARequest(t *testing.T) {
	t.Parallel()
	const late = linger / 2 // delay after which the test adds a post or closes the client
	tests := []struct {
		name     string
		waiting  int
		inFlight int32
		closed   bool
		want     int
		after    time.Duration
	}{
		{name: "a single post is sent at once during another request", waiting: 1, inFlight: 1, want: 1},
		{name: "several posts are sent at once if no request is in flight", waiting: 3, want: 3},
		{name: "several posts wait for more during another request", waiting: 3, inFlight: 1, want: 4, after: linger},
		{name: "a full request is sent at once", waiting: maxBatch, inFlight: 1, want: maxBatch},
		{name: "a client that is closed stops waiting", waiting: 3, inFlight: 1, closed: true, after: late},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &Embedded{queue: make(chan *item, maxBatch)}
				c.stopping, c.stop = context.WithCancel(t.Context())
				defer c.stop()
				c.inFlight.Store(tt.inFlight)
				for range tt.waiting {
					c.queue <- &item{ctx: t.Context()}
				}
				time.AfterFunc(late, func() {
					if tt.closed {
						c.stop()
						return
					}
					c.queue <- &item{ctx: t.Context()}
				})
				start := time.Now()
				batch := c.gather()
				if took := time.Since(start); len(batch) != tt.want || took != tt.after {
					t.Errorf("gather returned %d summaries after %v, want %d after %v", len(batch), took, tt.want, tt.after)
				}
				time.Sleep(linger) // wait until the function of time.AfterFunc has run
			})
		})
	}
}

func TestEmbedded_PostsShareARequest_EachPostReturnsItsOwnResult(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    []string // the expected results of the summaries a, b, c and d
	}{
		{"each line is the result of one summary", answerLines(t, func(s event.Summary) string {
			return map[string]string{
				"a": `{"id":"a","status":201}`, "b": `{"id":"b","status":409}`, "c": `{"status":422}`, "d": `{"id":"d","status":200}`,
			}[s.ID] + "\n"
		}), []string{"accepted", "rejected 409", "rejected 422", "accepted"}},
		{"from the first missing line on, all summaries must be posted again", answerLines(t, func(s event.Summary) string {
			return map[string]string{"a": `{"id":"a","status":201}` + "\n", "b": `{"id":"b","status":422}` + "\n", "c": `{"id":"c","sta`}[s.ID]
		}), []string{"accepted", "rejected 422", "again", "again"}},
		{"from the first line that belongs to another summary on, all summaries must be posted again", answerLines(t, func(s event.Summary) string {
			return map[string]string{"a": `{"id":"a","status":201}`, "b": `{"id":"c","status":201}`, "c": `{"id":"b","status":201}`, "d": `{"id":"d","status":201}`}[s.ID] + "\n"
		}), []string{"accepted", "again", "again", "again"}},
		{"if one summary causes the rejection of a request, the others are accepted", func(w http.ResponseWriter, r *http.Request) {
			summaries := lines(t, r)
			if slices.Contains(summaries, visit("c")) {
				answerWith(413, "application/problem+json", `{"detail":"too large"}`)(w, r)
				return
			}
			for _, s := range summaries {
				_, _ = io.WriteString(w, line201(s))
			}
		}, []string{"accepted", "accepted", "rejected 413", "accepted"}},
		{"a request that is too large for a proxy is sent in halves", func(w http.ResponseWriter, r *http.Request) {
			summaries := lines(t, r)
			if len(summaries) > 1 {
				answerWith(413, "text/html", "<html>Request Entity Too Large</html>")(w, r)
				return
			}
			_, _ = io.WriteString(w, line201(summaries[0]))
		}, []string{"accepted", "accepted", "accepted", "accepted"}},
		{"status 400 from another server rejects no summary", answerWith(400, "text/html", "<html>Bad Request</html>"), []string{"again", "again", "again", "again"}},
		{"if a request fails, all its summaries must be posted again", answerWith(500, "text/plain", "oops"), []string{"again", "again", "again", "again"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, postTogether(t, tt.handler, "a", "b", "c", "d")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEmbedded_ManyQueuedPosts_RequestsHaveAtMostMaxBatchSummaries(t *testing.T) {
	t.Parallel()
	const posts = 3 * maxBatch
	largest := 0
	// The handler needs no lock, because the client sends only one request at a time.
	handler := func(w http.ResponseWriter, r *http.Request) {
		summaries := lines(t, r)
		largest = max(largest, len(summaries))
		for _, s := range summaries {
			_, _ = io.WriteString(w, line201(s))
		}
	}
	g := &gathered{t: t, rest: handler, entered: make(chan struct{}), release: make(chan struct{})}
	c := newEmbedded(t, Config{URL: serve(t, g.ServeHTTP).URL, maxInFlight: 1})
	var wg sync.WaitGroup
	for i := range posts {
		wg.Go(func() {
			if err := c.Post(context.Background(), visit(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	<-g.entered
	polltest.Until(t, "the queue to be full", func() bool { return len(c.queue) == maxBatch })
	close(g.release)
	wg.Wait()
	if largest != maxBatch {
		t.Errorf("the largest request has %d summaries, want %d", largest, maxBatch)
	}
}

func TestEmbedded_ContextEnded_PostIsNotSent(t *testing.T) {
	t.Parallel()
	var sent []event.Summary
	g := &gathered{t: t, entered: make(chan struct{}), release: make(chan struct{}), rest: func(w http.ResponseWriter, r *http.Request) {
		for _, s := range lines(t, r) {
			sent = append(sent, s)
			_, _ = io.WriteString(w, line201(s))
		}
	}}
	c := newEmbedded(t, Config{URL: serve(t, g.ServeHTTP).URL, maxInFlight: 1})
	lone := make(chan error)
	go func() { lone <- c.Post(context.Background(), visit("lone")) }()
	<-g.entered
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() { given <- c.Post(ctx, visit("given up")) }()
	polltest.Until(t, "the post to be queued", func() bool { return len(c.queue) == 1 })
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled", err)
	}
	close(g.release)
	if err := <-lone; err != nil {
		t.Error(err)
	}
	if err := c.Post(t.Context(), visit("next")); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]event.Summary{visit("next")}, sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestEmbedded_Close_FailsPendingPosts(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_ = lines(t, r)
		close(entered)
		<-r.Context().Done()
	})
	c := newEmbedded(t, Config{URL: server.URL})
	done := make(chan error)
	go func() { done <- c.Post(context.Background(), visit("a")) }()
	<-entered
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, err := range []error{<-done, c.Post(t.Context(), visit("b"))} {
		if !errors.Is(err, summary.ErrClosed) || kind(err) != "again" {
			t.Errorf("error is %v, want ErrClosed", err)
		}
	}
}

func TestEmbedded_ServerClosedIdleConnection_RequestIsRepeated(t *testing.T) {
	t.Parallel()
	server := serve(t, answerLines(t, line201))
	c := newEmbedded(t, Config{URL: server.URL})
	for i := range 50 {
		if err := c.Post(t.Context(), visit(fmt.Sprint(i))); err != nil {
			t.Fatalf("post %d: %v", i, err)
		}
		server.CloseClientConnections()
	}
}

func TestClients_EmbeddedAPI_StoresEachSummaryOnce(t *testing.T) {
	t.Parallel()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "summaries.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	service, err := summary.New(db, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = service.Close() }()
	handler, err := rest.New(rest.Dependencies{Summaries: service, Registerer: prometheus.NewRegistry(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()

	var ids, want []string
	for i := range 300 {
		ids = append(ids, fmt.Sprintf("id %d \"ü\"", i))
		want = append(want, "accepted")
	}
	clients := []poster{
		newEmbedded(t, Config{URL: server.URL}),
		newExternal(t, Config{URL: server.URL + "/v1/summaries"}),
	}
	for _, c := range clients {
		if diff := cmp.Diff(want, postAll(t, c, ids...)); diff != "" {
			t.Errorf("%T (-want +got):\n%s", c, diff)
		}
		if stats, err := service.Stats(t.Context()); err != nil || stats.Count != int64(len(ids)) {
			t.Errorf("%d summaries are stored (%v), want %d", stats.Count, err, len(ids))
		}
	}
	for _, c := range clients {
		late := visit("late")
		late.EntryAt = late.EntryAt.AddDate(-2026, 0, 0)
		if err := c.Post(t.Context(), late); kind(err) != "rejected 422" || !strings.Contains(err.Error(), "entry_date_time") {
			t.Errorf("%T: error is %v, want a rejection that names the field", c, err)
		}
	}
	other := visit(ids[0])
	other.Plate = "ANOTHER"
	if err := clients[0].Post(t.Context(), other); kind(err) != "rejected 409" {
		t.Errorf("error is %v, want a conflict", err)
	}
}
