package view

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// lookback is how far back each poll looks for changed rows. Processes deliver their rows at different times.
	lookback = 2 * time.Minute
	// rereadInterval is the time between two reads of older rows. These reads find rows that processes stored late.
	rereadInterval = 6 * time.Second
	// rereadPart is the interval that one read of older rows covers. It is short, so that the read does not delay the
	// newest rows.
	rereadPart = 2 * time.Minute
	// keepTime is the approximate maximum time for which a process keeps rows that it could not store.
	keepTime = time.Hour
	// rowsPerEvent is the maximum number of rows per server-sent event. It is small, so that a client that loses its
	// connection must receive only a few rows again.
	rowsPerEvent = 200
)

// serveEvents sends server-sent events until the client disconnects:
//
//	state      a State
//	rows       an array of timeline.Row, each replacing the client's row for the same second; empty without changes
//	heartbeat  an empty object, perhaps before the first state, because reading the rows can take long
//
// A client first receives the state, and all rows or those since the event in Last-Event-ID or the query parameter
// "after".
func (v *View) serveEvents(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	c := v.feed.join()
	if c == nil {
		refuse(w, http.StatusServiceUnavailable, "too many clients receive events, or the simulation has ended")
		return
	}
	defer v.feed.leave(c)
	stream := v.stream(w, r)
	defer stream.close()
	err := v.begin(r, stream)
	stream.until = time.Time{}
	for err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-c.wake:
			u, hasEnded := v.feed.take(c)
			if u != nil {
				err = stream.writeUpdate(u)
			}
			if hasEnded {
				return
			}
		case <-time.After(v.config.heartbeat):
			err = stream.heartbeat()
		}
	}
	v.log.Debug("A client of the live page was disconnected", "error", err)
}

// begin starts the event stream of a client. It sends the state, and the rows of the timeline that the client does not
// have yet.
func (v *View) begin(r *http.Request, s *stream) error {
	s.w.Header().Set("Content-Type", "text/event-stream")
	s.w.Header().Set("X-Accel-Buffering", "no") // nginx must not buffer the events
	state, err := v.state.get(r.Context())
	if err != nil {
		v.unavailable(s.w, "the state", err)
		return err
	}
	var events *spool
	err = v.withHeartbeats(s, func() (err error) {
		events, err = v.spoolTimeline(r.Context(), since(r, state.Run), state.now().Add(clockDifference), func(w io.Writer, rows []timeline.Row) error {
			v.poller.begin(state.Run, rows)
			return writeEvents(w, &update{state: state, rows: rows})
		})
		return err
	})
	if err != nil {
		if !s.begun {
			v.unavailable(s.w, "the timeline", err)
		}
		return err
	}
	defer events.free()
	s.limit(v.config.transferTimeout)
	if err := s.include(events); err != nil {
		return err
	}
	return s.flush()
}

// withHeartbeats calls a function, and sends heartbeats until the function returns. Without heartbeats, the client
// would consider the connection broken.
func (v *View) withHeartbeats(s *stream, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	ticker := time.NewTicker(v.config.heartbeat)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			_ = s.heartbeat() // ignore the error: if the client is gone, the context of the request ends
		}
	}
}

// since returns the time from which a client still needs rows. A client without rows, or with rows of another run,
// needs the whole timeline.
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

// writeUpdate sends an update to the client immediately.
func (s *stream) writeUpdate(u *update) error {
	if err := writeEvents(s, u); err != nil {
		return err
	}
	return s.flush()
}

// heartbeat sends a heartbeat event, whose data is an empty object.
func (s *stream) heartbeat() error {
	if _, err := io.WriteString(s, "event: heartbeat\ndata: {}\n\n"); err != nil {
		return err
	}
	return s.flush()
}

// poller finds the rows that clients do not have yet.
type poller struct {
	reread time.Duration // time between two reads of older rows; see rereadInterval

	mu    sync.Mutex // guards the fields below
	run   string
	begun bool // whether the rows of the first client have been recorded
	// The field sent maps the start of each recent row, as a Unix time, to a hash of the row as it was last sent.
	sent map[int64]uint64
	// readUntil is the time of the latest successful read of the newest rows, or zero if there was no such read.
	readUntil time.Time
	// The older rows are read part by part. part is the start of the next part. nextPart is the earliest time for the
	// next read.
	part, nextPart time.Time
}

// poll returns nil if the state cannot be read; clients then receive heartbeats. The update has no rows if the
// timeline cannot be read.
func (v *View) poll(ctx context.Context) *update {
	state, err := v.state.get(ctx)
	if err != nil {
		v.log.Debug("The live page cannot read the state of the simulation", "error", err)
		return nil
	}
	u := &update{state: state}
	p, now := &v.poller, state.now()
	from := p.from(state.Run, now)
	rows, err := v.rows(ctx, from, now.Add(clockDifference))
	if err != nil {
		v.log.Debug("The live page cannot read the timeline", "error", err)
		return u
	}
	u.wasRead, u.rows = true, p.changed(state.Run, rows)
	p.succeed(now)
	if from, to, due := p.older(time.Now(), now); due {
		rows, err := v.rows(ctx, from, to)
		if err != nil {
			v.log.Debug("The live page cannot read older rows of the timeline", "error", err)
		}
		u.rows = append(p.changed(state.Run, rows), u.rows...)
	}
	return u
}

// reset forgets which rows clients have received. It must be called before the first poll after a period without
// clients.
func (p *poller) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run, p.sent, p.begun = "", nil, false
	p.readUntil, p.part, p.nextPart = time.Time{}, time.Time{}, time.Time{}
}

// The method begin records the rows that the first client has received, so that no poll sends them again. It ignores
// the rows of later clients, which earlier clients may lack.
func (p *poller) begin(run string, rows []timeline.Row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun || p.run != "" && p.run != run {
		return
	}
	p.run, p.begun = run, true
	if p.sent == nil {
		p.sent = map[int64]uint64{}
	}
	for i := range rows {
		if _, ok := p.sent[rows[i].Second]; !ok {
			p.sent[rows[i].Second] = hashOf(&rows[i])
		}
	}
}

// The method from returns the time from which a poll reads rows: lookback before the last successful poll, if any, or
// before now, but at most keepTime ago.
func (p *poller) from(run string, now time.Time) (from time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from = now.Add(-lookback)
	if p.run == run && !p.readUntil.IsZero() {
		from = earlier(from, p.readUntil.Add(-lookback))
	}
	if oldest := now.Add(-keepTime); from.Before(oldest) {
		return oldest
	}
	return from
}

// succeed records that the newest rows were read at the given time. It forgets sent rows that are too old to be read
// again.
func (p *poller) succeed(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readUntil = now
	oldest := now.Add(-keepTime - rereadPart).Unix()
	maps.DeleteFunc(p.sent, func(second int64, _ uint64) bool { return second < oldest })
}

// older returns the interval of the next read of older rows. clock is the local time; it decides whether the read is
// due. now is the time of the state; it decides which rows are older.
func (p *poller) older(clock, now time.Time) (from, to time.Time, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nextPart.IsZero() {
		p.nextPart = clock.Add(p.reread) // wait: the first client receives the older rows when it connects
	}
	if clock.Before(p.nextPart) {
		return from, to, false
	}
	first, last := now.Add(-keepTime), now.Add(-lookback)
	if p.part.Before(first) || !p.part.Before(last) {
		p.part = first
	}
	from, p.part, p.nextPart = p.part, p.part.Add(rereadPart), clock.Add(p.reread)
	return from, earlier(p.part, last), true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// changed returns the rows that were not sent before, or that have changed since they were sent. It records the
// returned rows as sent.
func (p *poller) changed(run string, rows []timeline.Row) []timeline.Row {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != run {
		p.run, p.sent, p.readUntil = run, nil, time.Time{}
	}
	if p.sent == nil {
		p.sent = map[int64]uint64{}
	}
	var changed []timeline.Row
	for i := range rows {
		hash := hashOf(&rows[i])
		if before, ok := p.sent[rows[i].Second]; !ok || before != hash {
			changed = append(changed, rows[i])
			p.sent[rows[i].Second] = hash
		}
	}
	return changed
}

func hashOf(row *timeline.Row) uint64 {
	h := fnv.New64a()
	_ = json.NewEncoder(h).Encode(row) // Encode never fails, because every row has a JSON form
	return h.Sum64()
}

// writeEvents writes the events of an update. Only an event with rows has an identifier: the run and the second of the
// last row.
func writeEvents(w io.Writer, u *update) error {
	if err := writeEvent(w, "state", "", u.state); err != nil {
		return err
	}
	for rows := range slices.Chunk(u.rows, rowsPerEvent) {
		if err := writeEvent(w, "rows", fmt.Sprintf("%s@%d", u.state.Run, rows[len(rows)-1].Second), rows); err != nil {
			return err
		}
	}
	if len(u.rows) == 0 && u.wasRead {
		return writeEvent(w, "rows", "", []timeline.Row{})
	}
	return nil
}

func writeEvent(w io.Writer, kind, id string, data any) error {
	text, err := json.Marshal(data) // the result is a single line, because JSON escapes line breaks in strings
	if err != nil {
		return err // Marshal never fails, because every field has a JSON form
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	_, err = fmt.Fprintf(w, "%sevent: %s\ndata: %s\n\n", id, kind, text)
	return err
}
