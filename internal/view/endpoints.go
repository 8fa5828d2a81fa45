package view

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/parking-operator/parking-operator/internal/timeline"
)

// maxRows is the maximum number of rows in one response. Longer timelines are merged into wider rows.
const maxRows = 8000

// serveState responds with the current state.
func (v *View) serveState(w http.ResponseWriter, r *http.Request) {
	state, err := v.state.get(r.Context())
	if err != nil {
		v.unavailable(w, "the state", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(state) // a client that is gone needs no answer
}

// serveTimeline responds with the rows in the interval [from, to). By default it responds with all rows.
func (v *View) serveTimeline(w http.ResponseWriter, r *http.Request) {
	from, to, err := interval(r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	leave, err := v.enter(r.Context())
	if err != nil {
		v.unavailable(w, "the timeline", err)
		return
	}
	defer leave()
	rows, err := v.rows(r.Context(), from, to)
	if err != nil {
		v.unavailable(w, "the timeline", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = v.writeRows(w, rows) // a client that is gone needs no answer
}

// writeRows writes {"rows":[...]}. It encodes one row at a time, because a timeline can be several megabytes long.
func (v *View) writeRows(w http.ResponseWriter, rows []timeline.Row) error {
	separator := `{"rows":[`
	control := http.NewResponseController(w)
	for i := range rows {
		text, err := json.Marshal(rows[i])
		if err != nil {
			return err
		}
		_ = control.SetWriteDeadline(time.Now().Add(v.config.writeTimeout)) // tests have no connection
		if _, err := fmt.Fprintf(w, "%s%s", separator, text); err != nil {
			return err
		}
		separator = ",\n"
	}
	if len(rows) > 0 {
		separator = ""
	}
	_, err := fmt.Fprintf(w, "%s]}\n", separator)
	return err
}

// enter waits until fewer than maxReads timelines are being read and sent. The caller must call leave after it has sent
// its timeline.
func (v *View) enter(ctx context.Context) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	if v.reads.Acquire(ctx, 1) != nil {
		return nil, errors.New("too many concurrent requests")
	}
	return func() { v.reads.Release(1) }, nil
}

// rows returns the rows in an interval. If there are more than maxRows, it merges them into wider rows.
func (v *View) rows(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	rows, err := v.source.Timeline(ctx, from, to)
	if err != nil {
		return nil, err
	}
	for width := int64(10); len(rows) > maxRows; width *= 6 {
		rows = timeline.Merge(width, rows...)
	}
	return rows, nil
}

// interval parses the query parameters "from" and "to", which are times in RFC 3339 format.
func interval(query string) (from, to time.Time, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return from, to, errors.New("the query string of the URL is invalid")
	}
	from, to = time.Unix(0, 0), time.Now().Add(time.Minute)
	for name, texts := range values {
		at, err := time.Parse(time.RFC3339, texts[0])
		switch {
		case name != "from" && name != "to":
			return from, to, errors.New("the query has an unknown parameter; the parameters are from and to")
		case len(texts) > 1:
			return from, to, fmt.Errorf("the parameter %s is given more than once", name)
		case err != nil:
			return from, to, fmt.Errorf("the parameter %s must be a time in RFC 3339 format, such as 2026-03-01T08:00:00Z", name)
		case name == "from":
			from = at
		default:
			to = at
		}
	}
	if !from.Before(to) {
		return from, to, errors.New("the parameter from must be before the parameter to")
	}
	return from, to, nil
}

// unavailable responds with status 503. It logs the error but does not send it to the client, because the error may
// contain names of servers that clients need not know.
func (v *View) unavailable(w http.ResponseWriter, what string, err error) {
	v.log.Debug("The live page cannot read "+what, "error", err)
	refuse(w, http.StatusServiceUnavailable, what+" cannot be read now; retry later")
}
