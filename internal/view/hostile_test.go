package view

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/timeline"
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
	go func() { _, _ = io.WriteString(connection, text) }() // may fail, because the server may stop reading
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		return nil
	}
	return response
}

// The requests are sent as raw text, because package http would correct some of them.
func TestView_HostileRequest_ReturnsNoData(t *testing.T) {
	t.Parallel()
	v := newView(newFake("run", 30))
	v.config.heartbeat, v.feed.maxClients = time.Hour, 100
	address := listenHTTP(t, v)
	long := strings.Repeat("x", 1<<20)
	attacks := map[string]struct {
		request  string // an HTTP request, with %s for the path of the endpoint
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
					t.Fatal("there is no response")
				}
				if status := fmt.Sprint(response.StatusCode); !strings.Contains(tt.statuses, status) {
					t.Errorf("the status is %s, want %s", status, tt.statuses)
				}
				if to := response.Header.Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, "/\\")) {
					t.Errorf("the response redirects to %s", to)
				}
				if response.StatusCode == http.StatusOK {
					return // do not read the body, which may be an endless stream of events
				}
				body, _ := io.ReadAll(response.Body)
				if strings.Contains(string(body), "rush-hour") || strings.Contains(string(body), `"t":`) || strings.Contains(string(body), "root:") {
					t.Errorf("the body of the response is %.200q", body)
				}
			})
		}
	}
}

func TestEventStream_InvalidEventID_SendsAllRows(t *testing.T) {
	t.Parallel()
	base := serveHTTP(t, newView(newFake("run", 30)))
	for _, id := range []string{"run@9223372036854775807", "run@99999999999999999999", "run@1e9", "@", "run@-1", strings.Repeat("x", 10_000)} {
		_, next := listen(t, base, id)
		if rows := rowsOf(t, receive(t, next, "rows")); len(rows) != 30 {
			t.Errorf("the response to the event ID %.30q has %d rows", id, len(rows))
		}
	}
}

// request sends a request over a new connection that has a small buffer for the response. The server closes the
// connection after every response, even after an error.
func request(t *testing.T, address, path string) *net.TCPConn {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	slow := connection.(*net.TCPConn)
	_ = slow.SetReadBuffer(4096)
	if _, err := fmt.Fprintf(slow, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	return slow
}

// startSlowly sends a request over a new connection, and reads only the beginning of the response.
func startSlowly(t *testing.T, address, path string) *net.TCPConn {
	t.Helper()
	slow := request(t, address, path)
	for _, want := range []string{"HTTP/1.1 200", `"t":`} { // read until the first row begins
		var got []byte
		for buffer := make([]byte, 1); !bytes.HasSuffix(got, []byte(want)); got = append(got, buffer...) {
			if _, err := io.ReadFull(slow, buffer); err != nil {
				t.Fatalf("the response begins with %.300q: %v", got, err)
			}
		}
	}
	return slow
}

// newLargeFake returns a source of random, incompressible rows, which exceed the buffers of a connection (at most 4 MB
// on Linux).
func newLargeFake() *fake {
	f := newFake("run", 600)
	random := rand.NewChaCha8([32]byte{})
	for i := range f.rows[:24] {
		text := make([]byte, 192<<10)
		_, _ = random.Read(text) // never fails
		f.rows[i].Marks = []timeline.Mark{{At: f.rows[i].Start(), Kind: timeline.MarkStarted, Message: base64.StdEncoding.EncodeToString(text)}}
	}
	return f
}

// isSpoolEmpty reports whether no response is waiting to be sent.
func isSpoolEmpty(v *View) bool {
	if !v.spooled.TryAcquire(maxSpooled) {
		return false
	}
	v.spooled.Release(maxSpooled)
	return true
}

func TestView_SlowReadersOfATimeline_DoNotDelayOthers(t *testing.T) {
	t.Parallel()
	// The timeouts are long, so that the slow clients stay connected. The interval is long, so that no client receives
	// an update during the test.
	c := Config{Interval: time.Hour, writeTimeout: time.Hour, transferTimeout: time.Hour}
	v := New(c, Dependencies{Source: newLargeFake(), Logger: slog.New(slog.DiscardHandler)})
	address := listenHTTP(t, v)
	var slow []*net.TCPConn
	for _, path := range []string{"/v1/timeline", "/v1/events"} {
		slow = append(slow, startSlowly(t, address, path))
	}
	response, err := http.Get("http://" + address + "/v1/timeline")
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Rows []timeline.Row }
	err = json.NewDecoder(response.Body).Decode(&got)
	_ = response.Body.Close()
	if err != nil || len(got.Rows) != 600 {
		t.Errorf("the answer to another client is %s with %d rows: %v", response.Status, len(got.Rows), err)
	}
	_, next := listen(t, "http://"+address, "")
	receive(t, next, "rows")
	if isSpoolEmpty(v) {
		t.Error("the slow clients have received everything")
	}
	for _, connection := range slow {
		_ = connection.Close()
	}
	polltest.Until(t, "the responses to the slow clients are dropped", func() bool { return isSpoolEmpty(v) })
}

// A client that receives a timeline slowly must not cause the server to keep the response in memory for a long time.
func TestView_SlowReaderOfATimeline_IsDisconnected(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/timeline", "/v1/events"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			c := Config{Interval: time.Hour, writeTimeout: time.Hour, transferTimeout: 2 * time.Second}
			v := New(c, Dependencies{Source: newLargeFake(), Logger: slog.New(slog.DiscardHandler)})
			slow := request(t, listenHTTP(t, v), path)
			// The client reads about 10 KiB per second. Each write makes progress, but the whole transfer would take
			// minutes.
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				buffer := make([]byte, 1024)
				for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
					if _, err := slow.Read(buffer); err != nil {
						return
					}
				}
			}()
			polltest.Until(t, "the response is sent", func() bool {
				select {
				case <-ended: // the machine is slow, and the server has already dropped the response
					return true
				default:
					return !isSpoolEmpty(v)
				}
			})
			polltest.Until(t, "the response is dropped", func() bool { return isSpoolEmpty(v) })
			_ = slow.Close()
			<-ended
		})
	}
}

func TestView_TooManyResponsesInMemory_RespondsWithStatus503(t *testing.T) {
	t.Parallel()
	v := newView(newFake("run", 600))
	v.spooled, v.config.heartbeat = semaphore.NewWeighted(spoolChunk), time.Hour
	for _, path := range []string{"/v1/timeline", "/v1/events"} {
		w := httptest.NewRecorder()
		v.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost"+path, http.NoBody))
		if text := w.Body.String(); w.Code != http.StatusServiceUnavailable || !strings.Contains(text, "cannot be read now") {
			t.Errorf("%s: the response has the status %d and the body %.300q", path, w.Code, text)
		}
		if !v.spooled.TryAcquire(spoolChunk) {
			t.Fatalf("%s: the memory is still reserved", path)
		}
		v.spooled.Release(spoolChunk)
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

func TestView_SourceFailsAfterTheWriteTimeout_RespondsWithStatus503(t *testing.T) {
	t.Parallel()
	s := &slowFailure{fake: newFake("run", 1), started: make(chan struct{}, 100), release: make(chan struct{})}
	const timeout = 2 * time.Second
	v := New(Config{writeTimeout: timeout}, Dependencies{Source: s, Logger: slog.New(slog.DiscardHandler)})
	time.AfterFunc(timeout*3/2, func() { close(s.release) })
	response, err := http.Get(serveHTTP(t, v) + "/v1/state")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the response has the status %s", response.Status)
	}
}

func TestView_SourceDoesNotRespond_RequestsShareOneCall(t *testing.T) {
	t.Parallel()
	s := &slowFailure{fake: newFake("run", 1), started: make(chan struct{}, 100), release: make(chan struct{})}
	v := New(Config{Interval: time.Hour}, Dependencies{Source: s, Logger: slog.New(slog.DiscardHandler)})
	var waiting sync.WaitGroup
	for range 50 {
		waiting.Go(func() {
			w := httptest.NewRecorder()
			v.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/v1/state", http.NoBody))
			if w.Code != http.StatusServiceUnavailable {
				t.Errorf("the response has the status %d", w.Code)
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

func TestSpool_Read_ReleasesTheMemoryOfDataThatWasRead(t *testing.T) {
	t.Parallel()
	data := make([]byte, 3*spoolChunk)
	for i := range data {
		data[i] = byte(rand.Uint32()) // random bytes, which gzip cannot compress
	}
	s, err := newSpool(semaphore.NewWeighted(10*spoolChunk), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.free()
	chunks := s.chunks
	if _, err := io.ReadFull(s, make([]byte, spoolChunk+1)); err != nil {
		t.Fatal(err)
	}
	if chunks[0] != nil || chunks[1] == nil {
		t.Error("the memory of the first chunk, which was read, is not released, or that of the second one is")
	}
}
