package view

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

type message struct{ kind, id, data string }

// listen requests the event stream. It returns the response, and a function that reads the next event. The request ends
// with the test.
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
	return response, messages(response.Body)
}

func messages(body io.Reader) func() (message, error) {
	reader := bufio.NewReader(body)
	return func() (message, error) {
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

// receive reads events until it receives an event of the given kind. It skips events whose list of rows is empty.
func receive(t *testing.T, next func() (message, error), kind string) message {
	t.Helper()
	for {
		m, err := next()
		if err != nil {
			t.Fatalf("the events end without %s: %v", kind, err)
		}
		if m.kind == kind && m.data != "[]" {
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

func TestEventStream_NewClient_ReceivesTheStateAndAllRowsFirst(t *testing.T) {
	t.Parallel()
	f := newFake("run", 500)
	_, next := listen(t, serveHTTP(t, newView(f)), "")
	m, err := next()
	for err == nil && m.kind == "heartbeat" { // skip the heartbeats that the server sends while it reads the timeline
		m, err = next()
	}
	if err != nil || m.kind != "state" || !strings.Contains(m.data, `"run":"run"`) {
		t.Fatalf("the first event is %+v, %v", m, err)
	}
	seen := map[int64]bool{}
	for len(seen) < 500 {
		for _, row := range rowsOf(t, receive(t, next, "rows")) {
			seen[row.Second] = true
		}
	}
}

func TestEventStream_NewAndChangedRows_AreSent(t *testing.T) {
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

func TestEventStream_ClientReconnects_ReceivesOnlyRowsThatItMayLack(t *testing.T) {
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
		"later rows, and earlier ones that may have changed": {last.id, int(lookback.Seconds()) + 1},
		"all rows for another run":                           {"other@" + strings.TrimPrefix(last.id, "run@"), rowsPerEvent},
		"all rows for an invalid identifier":                 {"run@-5", rowsPerEvent},
		"all rows for an identifier without a time":          {"run@", rowsPerEvent},
	} {
		_, next := listen(t, base, tt.id)
		if rows := rowsOf(t, receive(t, next, "rows")); len(rows) != tt.want {
			t.Errorf("%s: %d rows, want %d", name, len(rows), tt.want)
		}
	}
}

func TestEventStream_SourceFails_SendsHeartbeats(t *testing.T) {
	t.Parallel()
	f := newFake("run", 3)
	_, next := listen(t, serveHTTP(t, newView(f)), "")
	receive(t, next, "rows")
	f.change(func(f *fake) { f.err = errSecret })
	receive(t, next, "heartbeat")
	f.change(func(f *fake) { f.err = nil })
	receive(t, next, "state")
}

// slowSource is a source that delays each read of the whole timeline until the channel in the field release is closed.
type slowSource struct {
	*fake
	release chan struct{}
}

func (s slowSource) Timeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	if from.Unix() == 0 {
		select {
		case <-s.release:
		case <-ctx.Done():
		}
	}
	return s.fake.Timeline(ctx, from, to)
}

func TestEventStream_SlowSource_SendsHeartbeatsUntilTheTimelineIsRead(t *testing.T) {
	t.Parallel()
	source := slowSource{newFake("run-1", 3), make(chan struct{})}
	v := New(Config{heartbeat: 10 * time.Millisecond, TimelineTimeout: time.Minute}, Dependencies{Source: source, Logger: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	t.Cleanup(func() { v.Close(context.Background()) })
	_, next := listen(t, server.URL, "")
	for range 3 {
		receive(t, next, "heartbeat")
	}
	close(source.release)
	receive(t, next, "state")
	receive(t, next, "rows")
}

func TestEventStream_ReadingTheTimelineOutlastsManyUpdateIntervals_ClientStaysConnected(t *testing.T) {
	t.Parallel()
	source := slowSource{newFake("run-1", 3), make(chan struct{})}
	v := New(Config{Interval: 10 * time.Millisecond, TimelineTimeout: time.Hour}, Dependencies{Source: source, Logger: slog.New(slog.DiscardHandler)})
	_, next := listen(t, serveHTTP(t, v), "")
	for published := int64(1); published <= 60; published++ {
		source.change(func(f *fake) { f.state.Entry.Published = published })
		var before int
		source.change(func(f *fake) { before = f.reads })
		polltest.Until(t, "the feed polls", func() bool {
			var reads int
			source.change(func(f *fake) { reads = f.reads })
			return reads > before
		})
	}
	close(source.release)
	receiveSeconds(t, next, source.rows)
	source.grow()
	receiveSeconds(t, next, source.rows[3:])
}

func TestPoller_PollBeforeTheFirstClientHasItsRows_NoRowIsSentTwice(t *testing.T) {
	t.Parallel()
	f := newFake("run", 600)
	p := &poller{}
	for range 2 { // the second round begins after a time without clients
		p.reset()
		if n := len(p.changed("run", f.rows[500:])); n != 100 {
			t.Errorf("the first poll sends %d rows, want 100", n)
		}
		p.begin("run", f.rows)
		if n := len(p.changed("run", f.rows)); n != 0 {
			t.Errorf("%d rows are sent twice", n)
		}
		late := fakeRow(f.rows[0].Second-10, 0, 600)
		p.begin("run", []timeline.Row{late}) // a second client connects, and receives a row that the first client lacks
		if n := len(p.changed("run", []timeline.Row{late})); n != 1 {
			t.Errorf("%d rows that the first client lacks are sent, want 1", n)
		}
	}
}

func TestFeed_ClientJoinsAfterAllClientsHaveLeft_FeedStartsAgain(t *testing.T) {
	t.Parallel()
	starts := 0
	f := &feed{poll: func(context.Context) *update { return nil }, start: func() { starts++ }, interval: time.Hour, maxClients: 2}
	for range 2 {
		first, second := f.join(), f.join()
		f.leave(first)
		f.leave(second)
	}
	if starts != 2 {
		t.Errorf("the feed started %d times, want 2", starts)
	}
}

func TestEventStream_TimelineUnchanged_SendsAnEmptyListOfRows(t *testing.T) {
	t.Parallel()
	_, next := listen(t, serveHTTP(t, newView(newFake("run", 3))), "")
	receive(t, next, "rows")
	for {
		m, err := next()
		if err != nil {
			t.Fatal(err)
		}
		if m.kind == "rows" && m.data == "[]" && m.id == "" {
			return
		}
	}
}

// receiveSeconds reads events until it has received, for each given row, a row that begins in the same second.
func receiveSeconds(t *testing.T, next func() (message, error), rows []timeline.Row) {
	t.Helper()
	missing := map[int64]bool{}
	for i := range rows {
		missing[rows[i].Second] = true
	}
	for len(missing) > 0 {
		for _, row := range rowsOf(t, receive(t, next, "rows")) {
			delete(missing, row.Second)
		}
	}
}

func TestEventStream_LongOutageOfTheStoreEnds_SendsTheRowsOfTheOutage(t *testing.T) {
	t.Parallel()
	f := newFake("run", 60)
	_, next := listen(t, serveHTTP(t, newView(f)), "")
	receiveSeconds(t, next, f.rows)
	f.change(func(f *fake) { f.err = errSecret })
	receive(t, next, "heartbeat")
	for range 600 {
		f.grow()
	}
	f.change(func(f *fake) { f.err = nil })
	receiveSeconds(t, next, f.rows[60:])
}

func TestEventStream_RowThatAProcessDeliversLate_IsSent(t *testing.T) {
	t.Parallel()
	f := newFake("run", 3000)
	v := New(Config{Interval: 100 * time.Millisecond, reread: 10 * time.Millisecond}, Dependencies{Source: f, Logger: slog.New(slog.DiscardHandler)})
	_, next := listen(t, serveHTTP(t, v), "")
	receiveSeconds(t, next, f.rows)
	f.change(func(f *fake) { f.rows[100].Entry.Published = 12345 })
	for {
		rows := rowsOf(t, receive(t, next, "rows"))
		if len(rows) == 1 && rows[0].Second == f.rows[100].Second && rows[0].Entry.Published == 12345 {
			return
		}
	}
}

// The clocks of the processes, which set the timestamps of rows, may differ from the clock of this machine. New rows
// must be sent nevertheless.
func TestEventStream_ClockOfTheSourceDiffers_NewRowsAreSent(t *testing.T) {
	t.Parallel()
	for _, shift := range []time.Duration{-30 * time.Minute, 30 * time.Minute} {
		f := newFake("run", 10)
		f.state.At = f.state.At.Add(shift)
		for i := range f.rows {
			f.rows[i].Second += int64(shift / time.Second)
		}
		_, next := listen(t, serveHTTP(t, newView(f)), "")
		receiveSeconds(t, next, f.rows)
		f.grow()
		receiveSeconds(t, next, f.rows[10:])
	}
}

func TestEventStream_ResponseForbidsBuffering(t *testing.T) {
	t.Parallel()
	response, _ := listen(t, serveHTTP(t, newView(newFake("run", 1))), "")
	if got := response.Header.Get("X-Accel-Buffering"); got != "no" {
		t.Errorf("X-Accel-Buffering is %q", got)
	}
}

func TestEventStream_TooManyClients_RespondsWithStatus503(t *testing.T) {
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
		t.Fatalf("the fourth client received the status %s", response.Status)
	}
	_ = first.Body.Close()
	polltest.Until(t, "a new client is accepted after another client has left", func() bool {
		response, _ := listen(t, base, "")
		return response.StatusCode == http.StatusOK
	})
}

func TestEventStream_SlowClient_IsDisconnected(t *testing.T) {
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
	polltest.Until(t, "the source is polled, because the client is connected", func() bool {
		var calls int
		f.change(func(f *fake) { calls = f.calls })
		return calls > 0
	})
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
		t.Errorf("a client that connects after Close received the status %s", response.Status)
	}
}

type countingReader struct {
	io.Reader

	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// updateNow makes a View send an update with one new row and one changed row.
func updateNow(t *testing.T, v *View, f *fake) {
	t.Helper()
	f.change(func(f *fake) { f.rows[len(f.rows)-1].Entry.Published++ })
	f.grow()
	v.state.expire()
	v.feed.update(t.Context())
}

// updateSize returns the mean number of bytes that a client receives for an update with one new row and one changed row.
func updateSize(t *testing.T, accepted string) int {
	t.Helper()
	f := newFake("run", 60)
	v := New(Config{Interval: time.Hour, heartbeat: time.Hour}, Dependencies{Source: f, Logger: slog.New(slog.DiscardHandler)})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, serveHTTP(t, v)+"/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", accepted)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	raw := &countingReader{Reader: response.Body}
	body := io.Reader(raw)
	if response.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(raw); err != nil {
			t.Fatal(err)
		}
	}
	next := messages(body)
	update := func() {
		updateNow(t, v, f)
		receiveSeconds(t, next, f.rows[len(f.rows)-2:])
	}
	update() // bring the client up to date before the measurement
	const updates = 20
	before := raw.n
	for range updates {
		update()
	}
	return (raw.n - before) / updates
}

func TestEventStream_ClientAcceptsGzip_UpdatesAreSmall(t *testing.T) {
	t.Parallel()
	plain, compressed := updateSize(t, "identity"), updateSize(t, "gzip")
	t.Logf("an update has %d bytes, compressed %d", plain, compressed)
	if compressed*3 > plain {
		t.Errorf("a compressed update has %d bytes, an uncompressed one %d", compressed, plain)
	}
}

func TestEventStream_SlowClient_SkipsStatesButNoRows(t *testing.T) {
	t.Parallel()
	f := newFake("run", 60)
	f.state.Simulation = strings.Repeat("x", 1<<20) // so large that the connection cannot buffer 100 states
	v := New(Config{Interval: time.Hour, heartbeat: time.Hour, writeTimeout: time.Hour}, Dependencies{Source: f, Logger: slog.New(slog.DiscardHandler)})
	response := send(t, listenHTTP(t, v), "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	next := messages(response.Body)
	receiveSeconds(t, next, f.rows)
	const updates = 100
	for range updates { // meanwhile, the client reads nothing
		updateNow(t, v, f)
	}
	missing := map[int64]bool{}
	for i := range f.rows[60:] {
		missing[f.rows[60+i].Second] = true
	}
	states := 0
	for len(missing) > 0 {
		m, err := next()
		if err != nil {
			t.Fatalf("%d rows are missing: %v", len(missing), err)
		}
		if m.kind == "state" {
			states++
			continue
		}
		for _, row := range rowsOf(t, m) {
			delete(missing, row.Second)
		}
	}
	if states > updates/2 {
		t.Errorf("the client received %d states of %d updates", states, updates)
	}
}

func TestFeed_ClientDoesNotRead_IsDisconnected(t *testing.T) {
	t.Parallel()
	next := int64(0)
	f := &feed{interval: time.Hour, maxClients: 1, poll: func(context.Context) *update {
		u := &update{state: State{Run: "run"}, wasRead: true}
		for range maxBehind / 4 {
			u.rows = append(u.rows, timeline.Row{Second: next})
			next++
		}
		return u
	}}
	c := f.join()
	for range 5 {
		f.update(t.Context())
	}
	<-c.wake
	if u, hasEnded := f.take(c); u != nil || !hasEnded {
		t.Errorf("the client still receives updates; has ended: %t", hasEnded)
	}
	other := f.join()
	if other == nil {
		t.Fatal("the disconnected client still counts as a client")
	}
	f.leave(c)
	f.leave(other)
}

func TestFeed_AnotherRunBegins_RowsOfTheFirstRunAreDropped(t *testing.T) {
	t.Parallel()
	latest := State{Run: "second", Simulation: "latest"}
	c := &client{}
	for _, u := range []update{
		{state: State{Run: "first"}, wasRead: true, rows: []timeline.Row{{Second: 1}, {Second: 5}}},
		{state: State{Run: "second"}},
		{state: latest, wasRead: true, rows: []timeline.Row{{Second: 3}, {Second: 2}}},
		{state: latest, wasRead: true, rows: []timeline.Row{{Second: 3, Width: 7}}},
	} {
		c.add(&u)
	}
	f := &feed{}
	got, _ := f.take(c)
	want := &update{state: latest, wasRead: true, rows: []timeline.Row{{Second: 2}, {Second: 3, Width: 7}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the update is %+v, want %+v", got, want)
	}
	if got, _ := f.take(c); got != nil {
		t.Errorf("the second update is %+v", got)
	}
}
