package httpserver

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/polltest"
)

// serve starts a server whose handler answers "ok" without reading the body. It returns the server's address.
func serve(t *testing.T, l limits, options ...func(*Server)) string {
	t.Helper()
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	s, err := listen(t.Context(), "127.0.0.1:0", ok, slog.New(slog.DiscardHandler), l)
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range options {
		option(s)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context()) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s.Address()
}

// dial opens a connection that is closed at the end of the test.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// fast returns limits with short timeouts. Only the timeout for headers is long, because on a busy machine a client may
// send them slowly.
func fast() limits {
	l := defaultLimits()
	l.header, l.body, l.idle = time.Minute, 100*time.Millisecond, 100*time.Millisecond
	return l
}

func TestHTTPServer_HostileClient_IsDisconnected(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sent string
		want string // a part of the expected response, or "" if no response is expected
	}{
		"sends nothing":                            {"", ""},
		"sends a part of the headers":              {"GET / HTTP/1.1\r\nHost: localhost\r\nX-", ""},
		"sends huge headers":                       {"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20), "431"},
		"sends a huge path":                        {"GET /" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "431"},
		"announces a body and sends none":          {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n", ""},
		"sends a part of a chunk":                  {"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nx", ""},
		"announces a huge body":                    {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", "200"},
		"sends GET with a body that never comes":   {"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n", ""},
		"sends something other than HTTP":          {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
		"sends two lengths":                        {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"},
		"sends no Host header":                     {"GET / HTTP/1.1\r\n\r\n", "400"},
		"makes one request and then sends nothing": {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := fast()
			// The server must soon close a connection on which the headers of a request stay incomplete.
			if tt.want == "" && !strings.Contains(tt.sent, "\r\n\r\n") {
				l.header = 100 * time.Millisecond
			}
			connection := dial(t, serve(t, l))
			go func() { _, _ = io.WriteString(connection, tt.sent) }() // the error is irrelevant: the server may stop reading
			answer, _ := io.ReadAll(connection)                        // read until the server closes the connection
			if !strings.Contains(string(answer), tt.want) {
				t.Errorf("the answer is %.200q, want %q", answer, tt.want)
			}
		})
	}
}

func TestHTTPServer_TooManyConnections_WaitUntilOthersClose(t *testing.T) {
	t.Parallel()
	const limit = 3
	l := defaultLimits()
	l.connections = limit
	for name, start := range map[string]func(*testing.T) string{
		"default": func(t *testing.T) string { return serve(t, l) },
		"WithConnections": func(t *testing.T) string {
			return serve(t, defaultLimits(), func(s *Server) { s.WithConnections(limit) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testConnectionLimit(t, start(t), limit)
		})
	}
}

func testConnectionLimit(t *testing.T, address string, limit int) {
	t.Helper()
	var open []net.Conn
	for range limit {
		c := dial(t, address)
		request(t, c)
		open = append(open, c)
	}
	another := dial(t, address)
	request := make(chan error, 1)
	go func() {
		_, err := fmt.Fprint(another, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if err == nil {
			_, err = http.ReadResponse(bufio.NewReader(another), nil)
		}
		request <- err
	}()
	select {
	case err := <-request:
		t.Fatalf("a connection beyond the limit is served: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	_ = open[0].Close()
	polltest.Until(t, "the connection is served", func() bool {
		select {
		case err := <-request:
			if err != nil {
				t.Fatal(err)
			}
			return true
		default:
			return false
		}
	})
}

// request sends a request on the connection and reads the response. The connection stays open.
func request(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("the answer is %v, %v", response, err)
	}
}

func TestHTTPServer_LongResponse_IsNotEndedByTheTimeoutForRequestBodies(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			ended <- r.Context().Err()
		case <-time.After(500 * time.Millisecond):
			ended <- nil
		}
	})
	s, err := listen(t.Context(), "127.0.0.1:0", h, slog.New(slog.DiscardHandler), fast())
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(t.Context()) }()
	if _, err := io.WriteString(dial(t, s.Address()), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the request ended early: %v", err)
	}
}

func TestHTTPServer_OldConnection_IsClosedAfterTheResponse(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]bool{time.Nanosecond: true, time.Hour: false} {
		l := defaultLimits()
		l.age = age
		connection := dial(t, serve(t, l))
		if _, err := fmt.Fprint(connection, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusOK || response.Close != want {
			t.Errorf("with the age %s the status is %s, and the connection is closed: %t, want %t", age, response.Status, response.Close, want)
		}
		_ = response.Body.Close()
	}
}
