package view

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/polltest"
)

// listenHTTP serves a View as the commands do, and returns the address.
func listenHTTP(t *testing.T, v *View) string {
	t.Helper()
	server, err := httpserver.Listen(t.Context(), "127.0.0.1:0", httpserver.Guard(nil, v), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(t.Context()) }()
	t.Cleanup(func() { <-served })
	return server.Address()
}

// send sends the text of a request over a new connection and returns the response. It returns nil if the server closes
// the connection without a response.
func send(t *testing.T, address, text string) *http.Response {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	go func() { _, _ = io.WriteString(connection, text) }() // the server need not read all of it
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		return nil
	}
	return response
}

// The attacks are sent as text, because package http would correct some of them.
func TestView_HostileRequest_ReturnsNoData(t *testing.T) {
	t.Parallel()
	v := newView(newFake("run", 30))
	v.config.heartbeat, v.feed.maxClients = time.Hour, 100
	address := listenHTTP(t, v)
	long := strings.Repeat("x", 1<<20)
	attacks := map[string]struct {
		request  string // %s is the path of the endpoint
		statuses string
	}{
		"another host":                     {"GET %s HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"},
		"another host in the target":       {"GET http://evil.example%s HTTP/1.1\r\nHost: localhost\r\n\r\n", "403"},
		"two hosts":                        {"GET %s HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", "400"},
		"no host":                          {"GET %s HTTP/1.0\r\n\r\n", "403"},
		"a host with a user":               {"GET %s HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n", "400 403"},
		"a huge host":                      {"GET %s HTTP/1.1\r\nHost: " + long + "\r\n\r\n", "431"},
		"another origin":                   {"GET %s HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", "403"},
		"a script of another site":         {"GET %s HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\n\r\n", "403"},
		"another method":                   {"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", "405"},
		"a huge body":                      {"PUT %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n" + long, "405"},
		"an invented method":               {"STEAL %s HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"},
		"a tunnel":                         {"CONNECT localhost%s HTTP/1.1\r\nHost: localhost\r\n\r\n", "400 404 405"},
		"a huge header":                    {"GET %s HTTP/1.1\r\nHost: localhost\r\nX: " + long + "\r\n\r\n", "431"},
		"a huge query":                     {"GET %s?" + long + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "431"},
		"a long query":                     {"GET %s?" + long[:1000] + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "414"},
		"a path that continues":            {"GET %s/.. HTTP/1.1\r\nHost: evil.example\r\n\r\n", "301 307 403 404"},
		"a detour":                         {"GET /v1/..%s HTTP/1.1\r\nHost: localhost\r\n\r\n", "301 307 404"},
		"an encoded detour":                {"GET /v1/%%2e%%2e%s HTTP/1.1\r\nHost: localhost\r\n\r\n", "301 307 404"},
		"an encoded detour with a slash":   {"GET /v1/%%2e%%2e%%2f%s HTTP/1.1\r\nHost: localhost\r\n\r\n", "301 307 404"},
		"two slashes":                      {"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n", "301 307 404"},
		"two slashes and another host":     {"GET //evil.example%s HTTP/1.1\r\nHost: localhost\r\n\r\n", "301 307 404"},
		"a backslash":                      {"GET /\\evil.example%s HTTP/1.1\r\nHost: localhost\r\n\r\n", "301 307 400 404"},
		"a null byte":                      {"GET %s%%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"},
		"a line break":                     {"GET %s%%0d%%0aX:%%20y HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"},
		"a directory of the machine":       {"GET /assets/..%%2f..%%2f..%%2fetc%%2fpasswd?%s HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"},
		"a request for another simulation": {"GET /v1/timeline?simulation=other&path=%s HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
	}
	for _, endpoint := range []string{"/", "/assets/app.js", "/v1/state", "/v1/timeline", "/v1/events"} {
		for name, tt := range attacks {
			t.Run(endpoint+" "+name, func(t *testing.T) {
				t.Parallel()
				response := send(t, address, fmt.Sprintf(tt.request, endpoint))
				if response == nil {
					t.Fatal("there is no answer")
				}
				if status := fmt.Sprint(response.StatusCode); !strings.Contains(tt.statuses, status) {
					t.Errorf("the status is %s, want %s", status, tt.statuses)
				}
				if to := response.Header.Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, "/\\")) {
					t.Errorf("the answer leads to %s", to)
				}
				if response.StatusCode == http.StatusOK {
					return // a stream of events does not end
				}
				body, _ := io.ReadAll(response.Body)
				if strings.Contains(string(body), "rush-hour") || strings.Contains(string(body), `"t":`) || strings.Contains(string(body), "root:") {
					t.Errorf("the answer is %.200q", body)
				}
			})
		}
	}
}

func TestEventStream_InvalidEventID_IsAnsweredWithAllRows(t *testing.T) {
	t.Parallel()
	base := serveHTTP(t, newView(newFake("run", 30)))
	for _, id := range []string{"run@9223372036854775807", "run@99999999999999999999", "run@1e9", "@", "run@-1", strings.Repeat("x", 10_000)} {
		_, next := listen(t, base, id)
		if rows := rowsOf(t, receive(t, next, "rows")); len(rows) != 30 {
			t.Errorf("%.30q is answered with %d rows", id, len(rows))
		}
	}
}

// A client that receives a timeline slowly must not keep others from reading theirs for a long time.
func TestView_SlowReaderOfATimeline_IsDisconnected(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/timeline", "/v1/events"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			f := newFake("run", maxRows)
			v := newView(f)
			v.config.transferTimeout = 200 * time.Millisecond
			address := listenHTTP(t, v)
			connection, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = connection.Close() }()
			_ = connection.(*net.TCPConn).SetReadBuffer(4096)
			_, _ = fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
			// The client reads a little again and again, so that writes to it make progress.
			stop := make(chan struct{})
			var reading sync.WaitGroup
			reading.Go(func() {
				buffer := make([]byte, 1024)
				for {
					select {
					case <-stop:
						return
					case <-time.After(10 * time.Millisecond):
						_, _ = connection.Read(buffer)
					}
				}
			})
			defer reading.Wait()
			defer close(stop)
			isFree := func() bool {
				if !v.reads.TryAcquire(maxReads) {
					return false
				}
				v.reads.Release(maxReads)
				return true
			}
			polltest.Until(t, "the timeline was read, to be sent", func() bool {
				var reads int
				f.change(func(f *fake) { reads = f.reads })
				return reads > 0
			})
			begin := time.Now()
			polltest.Until(t, "other clients can read", isFree)
			// Without the limit, the client would need more than 90 s for the timeline.
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("the client was disconnected after %s", took)
			}
		})
	}
}

// slowFailure is a source that does not respond for some time, and then fails.
type slowFailure struct {
	*fake

	started, release chan struct{}
}

func (s *slowFailure) State(context.Context) (State, error) {
	s.change(func(f *fake) { f.calls++ })
	s.started <- struct{}{}
	<-s.release
	return State{}, errSecret
}

func TestView_SourceDoesNotRespond_RequestsWaitTogether(t *testing.T) {
	t.Parallel()
	s := &slowFailure{fake: newFake("run", 1), started: make(chan struct{}, 100), release: make(chan struct{})}
	v := New(Config{Interval: time.Hour}, Dependencies{Source: s, Logger: slog.New(slog.DiscardHandler)})
	var waiting sync.WaitGroup
	for range 50 {
		waiting.Go(func() {
			w := httptest.NewRecorder()
			v.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/v1/state", http.NoBody))
			if w.Code != http.StatusServiceUnavailable {
				t.Errorf("the answer is %d", w.Code)
			}
		})
	}
	<-s.started
	close(s.release)
	waiting.Wait()
	if s.calls != 1 {
		t.Errorf("the source was called %d times", s.calls)
	}
}
