package view

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// message is a received server-sent event.
type message struct{ kind, id, data string }

// listen requests the event stream. The request ends with the test.
func listen(t *testing.T, base, after string) (*http.Response, func() (message, error)) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if after != "" {
		request.Header.Set("Last-Event-ID", after)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	reader := bufio.NewReader(response.Body)
	return response, func() (message, error) {
		var m message
		for {
			line, err := reader.ReadString('\n')
			if err != nil {
				return m, err
			}
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch name {
			case "event":
				m.kind = value
			case "id":
				m.id = value
			case "data":
				m.data = value
			case "":
				return m, nil
			}
		}
	}
}

// receive reads events until it receives one of the given kind.
func receive(t *testing.T, next func() (message, error), kind string) message {
	t.Helper()
	for {
		m, err := next()
		if err != nil {
			t.Fatalf("the events end without %s: %v", kind, err)
		}
		if m.kind == kind {
			return m
		}
	}
}

func rowsOf(t *testing.T, m message) []timeline.Row {
	t.Helper()
	var rows []timeline.Row
	if err := json.Unmarshal([]byte(m.data), &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestEvents_NewClient_ReceivesTheStateAndAllRowsFirst(t *testing.T) {
	t.Parallel()
	f := newFake("run", 500)
	_, next := listen(t, serveHTTP(t, newView(f)), "")
	if m, err := next(); err != nil || m.kind != "state" || !strings.Contains(m.data, `"run":"run"`) {
		t.Fatalf("the first event is %+v, %v", m, err)
	}
	seen := map[int64]bool{}
	for len(seen) < 500 {
		for _, row := range rowsOf(t, receive(t, next, "rows")) {
			seen[row.Second] = true
		}
	}
}

func TestEvents_NewAndChangedRows_AreSent(t *testing.T) {
	t.Parallel()
	f := newFake("run", 3)
	_, next := listen(t, serveHTTP(t, newView(f)), "")
	receive(t, next, "rows")
	f.grow()
	last := f.rows[3].Second
	for {
		if rows := rowsOf(t, receive(t, next, "rows")); rows[len(rows)-1].Second == last {
			break
		}
	}
	f.change(func(f *fake) { f.rows[1].Entry.Published = 12345 })
	for {
		rows := rowsOf(t, receive(t, next, "rows"))
		if len(rows) == 1 && rows[0].Entry.Published == 12345 {
			break
		}
	}
}

func TestEvents_ClientReconnects_ReceivesOnlyLaterRows(t *testing.T) {
	t.Parallel()
	f := newFake("run", 600)
	base := serveHTTP(t, newView(f))
	_, next := listen(t, base, "")
	var last message
	for count := 0; count < 600; count += len(rowsOf(t, last)) {
		last = receive(t, next, "rows")
	}
	for name, tt := range map[string]struct {
		id   string
		want int
	}{
		"the rows since then, and those that may have changed": {last.id, int(lookback.Seconds()) + 1},
		"all rows for another run":                             {"other@" + strings.TrimPrefix(last.id, "run@"), rowsPerEvent},
		"all rows for an invalid identifier":                   {"run@-5", rowsPerEvent},
		"all rows for an identifier without a second":          {"run@", rowsPerEvent},
	} {
		_, next := listen(t, base, tt.id)
		if rows := rowsOf(t, receive(t, next, "rows")); len(rows) != tt.want {
			t.Errorf("%s: %d rows, want %d", name, len(rows), tt.want)
		}
	}
}

func TestEvents_SourceFails_SendsHeartbeats(t *testing.T) {
	t.Parallel()
	f := newFake("run", 3)
	_, next := listen(t, serveHTTP(t, newView(f)), "")
	receive(t, next, "rows")
	f.change(func(f *fake) { f.err = errSecret })
	receive(t, next, "heartbeat")
	f.change(func(f *fake) { f.err = nil })
	receive(t, next, "state")
}

func TestEvents_TooManyClients_RespondsWithStatus503(t *testing.T) {
	t.Parallel()
	v := newView(newFake("run", 3))
	v.feed.maxClients = 3
	base := serveHTTP(t, v)
	var first *http.Response
	for range 3 {
		response, next := listen(t, base, "")
		receive(t, next, "state")
		first = response
	}
	response, _ := listen(t, base, "")
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Fatalf("the fourth client is answered %s", response.Status)
	}
	_ = first.Body.Close()
	polltest.Until(t, "a client that left makes room", func() bool {
		response, _ := listen(t, base, "")
		return response.StatusCode == http.StatusOK
	})
}

func TestEvents_SlowClient_IsDisconnected(t *testing.T) {
	t.Parallel()
	f := newFake("run", 2000)
	v := New(Config{Interval: time.Millisecond, writeTimeout: 100 * time.Millisecond}, Dependencies{Source: f, Logger: slog.New(slog.DiscardHandler)})
	base := serveHTTP(t, v)
	connection, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	_ = connection.(*net.TCPConn).SetReadBuffer(4096)
	_, _ = io.WriteString(connection, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	polls := func() bool {
		v.feed.mu.Lock()
		defer v.feed.mu.Unlock()
		return v.feed.stop != nil
	}
	polltest.Until(t, "the client is connected, so that the source is polled", polls)
	polltest.Until(t, "the client that reads nothing is gone, and nothing is polled", func() bool { return !polls() })
}

func TestViewClose_SendsTheLastStateAndEndsTheStreams(t *testing.T) {
	t.Parallel()
	f := newFake("run", 3)
	v := New(Config{Interval: time.Hour}, Dependencies{Source: f, Logger: slog.New(slog.DiscardHandler)})
	base := serveHTTP(t, v)
	_, next := listen(t, base, "")
	receive(t, next, "rows")
	f.change(func(f *fake) { f.state.Phase = Finished })
	v.Close(context.Background())
	var last message
	for {
		m, err := next()
		if err != nil {
			break
		}
		if m.kind == "state" {
			last = m
		}
	}
	if !strings.Contains(last.data, `"phase":"finished"`) {
		t.Errorf("the last state is %.200s", last.data)
	}
	response, _ := listen(t, base, "")
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a client after the end is answered %s", response.Status)
	}
}
