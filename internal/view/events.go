package view

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// lookback is how far back the feed looks for rows that have changed since it sent them. Rows change because the
	// processes deliver their measurements of the same second at different times.
	lookback = 2 * time.Minute
	// rowsPerEvent is the maximum number of rows per event. It is small, so that a client that loses its connection
	// must receive only a few rows again.
	rowsPerEvent = 200
)

// serveEvents sends server-sent events until the client disconnects:
//
//	state      a State
//	rows       an array of timeline.Row; each replaces the previous row of its second
//	heartbeat  nothing
//
// For a new client, the stream begins with the state and all rows. For a client that resumes, it begins with the state
// and the rows since the last event that the client received. The header Last-Event-ID or the query parameter "after"
// identifies that event.
func (v *View) serveEvents(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	events, leave, ok := v.feed.join()
	if !ok {
		refuse(w, http.StatusServiceUnavailable, "too many clients receive events, or the simulation has ended")
		return
	}
	defer leave()
	stream := stream{w: w, control: http.NewResponseController(w), timeout: v.config.writeTimeout}
	err := v.begin(r, &stream)
	for err == nil {
		select {
		case <-r.Context().Done():
			return
		case update, ok := <-events:
			if !ok {
				return
			}
			err = stream.write(update)
		case <-time.After(v.config.heartbeat):
			err = stream.write([]byte("event: heartbeat\ndata: {}\n\n"))
		}
	}
	v.log.Debug("A client of the live page was disconnected", "error", err)
}

// begin sends the state and the rows that the client does not have yet.
func (v *View) begin(r *http.Request, s *stream) error {
	s.w.Header().Set("Content-Type", "text/event-stream")
	s.w.Header().Set("Cache-Control", "no-store")
	state, err := v.state.get(r.Context())
	if err != nil {
		v.unavailable(s.w, "the state", err)
		return err
	}
	leave, err := v.enter(r.Context())
	if err != nil {
		v.unavailable(s.w, "the timeline", err)
		return err
	}
	defer leave()
	rows, err := v.rows(r.Context(), since(r, state.Run), time.Now().Add(time.Minute))
	if err != nil {
		v.unavailable(s.w, "the timeline", err)
		return err
	}
	err = s.write(stateEvent(state))
	for len(rows) > 0 && err == nil {
		n := min(len(rows), rowsPerEvent)
		err = s.write(rowsEvent(state.Run, rows[:n]))
		rows = rows[n:]
	}
	return err
}

// since returns the start of the timeline that a client still needs. A client that received rows of another run needs
// the whole timeline.
func since(r *http.Request, run string) time.Time {
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = r.URL.Query().Get("after")
	}
	of, second, ok := strings.Cut(last, "@")
	unix, err := strconv.ParseInt(second, 10, 64)
	if !ok || of != run || err != nil || unix < 0 {
		return time.Unix(0, 0)
	}
	return time.Unix(unix, 0).Add(-lookback)
}

// stream is the response to one client that receives events.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

// write sends events. It returns an error if the client does not receive them in time.
func (s *stream) write(events []byte) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.timeout)) // tests have no connection
	if _, err := s.w.Write(events); err != nil {
		return err
	}
	if err := s.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// poller remembers the rows that earlier polls have sent.
type poller struct {
	run string
	// sent contains the recent rows as they were last sent, by second.
	sent map[int64]timeline.Row
}

// poll returns the events of one update. If the state cannot be read, poll returns no events, and clients receive
// heartbeats instead.
func (v *View) poll(ctx context.Context) []byte {
	state, err := v.state.get(ctx)
	if err != nil {
		v.log.Debug("The live page cannot read the state", "error", err)
		return nil
	}
	events := stateEvent(state)
	now := time.Now()
	rows, err := v.rows(ctx, now.Add(-lookback), now.Add(time.Minute))
	if err != nil {
		v.log.Debug("The live page cannot read the timeline", "error", err)
		return events
	}
	if changed := v.poller.changed(state.Run, rows); len(changed) > 0 {
		events = append(events, rowsEvent(state.Run, changed)...)
	}
	return events
}

// changed returns the rows that were not sent before, or that have changed since they were sent.
func (p *poller) changed(run string, rows []timeline.Row) []timeline.Row {
	if p.run != run {
		*p = poller{run: run}
	}
	sent := make(map[int64]timeline.Row, len(rows))
	var changed []timeline.Row
	for _, row := range rows {
		if before, ok := p.sent[row.Second]; !ok || !reflect.DeepEqual(before, row) {
			changed = append(changed, row)
		}
		sent[row.Second] = row
	}
	p.sent = sent
	return changed
}

func stateEvent(s State) []byte { return event("state", "", s) }

// rowsEvent returns an event with rows. Its identifier consists of the run and the second of the last row.
func rowsEvent(run string, rows []timeline.Row) []byte {
	return event("rows", fmt.Sprintf("%s@%d", run, rows[len(rows)-1].Second), rows)
}

func event(kind, id string, data any) []byte {
	text, err := json.Marshal(data) // one line: JSON escapes line breaks in texts
	if err != nil {
		return nil // cannot happen: every field has a JSON form
	}
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", kind, text)
	return b.Bytes()
}
