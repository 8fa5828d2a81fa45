package view

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// maxRows is the maximum number of rows in one response. If a timeline has more rows, old rows are merged into rows
	// that cover a longer time.
	maxRows = 8000
	// partLength is the length of one part of a long timeline. It limits the memory for unmerged rows.
	partLength = 6 * time.Hour
	// clockDifference is how far the time of a row may be in the future. The clocks of two machines may differ.
	clockDifference = time.Hour
)

func (v *View) serveState(w http.ResponseWriter, r *http.Request) {
	state, err := v.state.get(r.Context())
	if err != nil {
		v.unavailable(w, "the state", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	stream := v.stream(w, r)
	defer stream.close()
	_ = json.NewEncoder(stream).Encode(state) // ignore the error: the client has disconnected
}

// serveTimeline responds with the rows in the interval of the query parameters "from" and "to". Without parameters, it
// responds with all rows.
func (v *View) serveTimeline(w http.ResponseWriter, r *http.Request) {
	from, to, err := interval(r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	text, err := v.spoolTimeline(r.Context(), from, to, writeRows)
	if err != nil {
		v.unavailable(w, "the timeline", err)
		return
	}
	defer text.free()
	w.Header().Set("Content-Type", "application/json")
	stream := v.stream(w, r)
	defer stream.close()
	stream.limit(v.config.transferTimeout)
	_ = stream.send(text) // ignore the error: it means that the client is gone
}

// writeRows writes {"rows":[...]}. It encodes one row at a time, because a timeline can be several megabytes long.
func writeRows(w io.Writer, rows []timeline.Row) error {
	separator := `{"rows":[`
	for i := range rows {
		text, err := json.Marshal(rows[i])
		if err != nil {
			return err
		}
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

// spoolTimeline reads a timeline and encodes it into a spool. It limits how many timelines are read at the same time.
func (v *View) spoolTimeline(ctx context.Context, from, to time.Time, encode func(io.Writer, []timeline.Row) error) (*spool, error) {
	waiting, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	if v.reads.Acquire(waiting, 1) != nil {
		return nil, errors.New("too many concurrent requests")
	}
	defer v.reads.Release(1)
	rows, err := v.rows(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return newSpool(v.spooled, func(w io.Writer) error { return encode(w, rows) })
}

// The method rows returns the rows in an interval. If there are more than maxRows rows, it merges old rows, which are
// those that begin more than keepTime before the end of the last row.
func (v *View) rows(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	var all []timeline.Row
	start, err := v.startFor(ctx, from, to)
	if err != nil {
		return nil, err
	}
	var end time.Time
	for begin := from; begin.Before(to); begin = end {
		end = partEnd(start, begin, to)
		rows, err := v.read(ctx, begin, end)
		if err != nil {
			return nil, err
		}
		if !begin.Equal(from) { // omit rows that begin before this part, because the previous part contains them
			rows = slices.DeleteFunc(rows, func(r timeline.Row) bool { return r.Start().Before(begin) })
		}
		all = limit(append(all, rows...), maxRows)
	}
	return all, nil
}

// read reads rows from the source, with the timeout TimelineTimeout.
func (v *View) read(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, v.config.TimelineTimeout)
	defer cancel()
	return v.source.Timeline(ctx, from, to)
}

// startFor returns the start of the schedules. The result is zero if the schedules have not started, or if the interval
// is short enough to be read in one part.
func (v *View) startFor(ctx context.Context, from, to time.Time) (time.Time, error) {
	if to.Sub(from) <= partLength {
		return time.Time{}, nil
	}
	state, err := v.state.get(ctx)
	return state.StartedAt, err
}

// partEnd returns the end of the part of the timeline that starts at begin. start is the result of startFor. There is
// only one part if start is zero.
//
// The part before the start of the schedules may be long, because it has few rows. All parts except the last end at a
// whole hour, because no row extends across a whole hour.
func partEnd(start, begin, to time.Time) time.Time {
	if start.IsZero() {
		return to
	}
	first := start.Add(-time.Hour).Truncate(time.Hour)
	if begin.Before(first) {
		return earlier(first, to)
	}
	return earlier(begin.Truncate(time.Hour).Add(partLength), to)
}

// limit merges old rows until at most the given number of rows remains. It does not merge the rows of the latest hour.
func limit(rows []timeline.Row, most int) []timeline.Row {
	for width := int64(10); len(rows) > most && width <= maxWidth; width *= 6 {
		horizon := rows[len(rows)-1].End().Add(-keepTime).Unix()
		// Round down to a multiple of the width, so that the last merged row does not overlap later rows.
		horizon -= horizon % width
		n, _ := slices.BinarySearchFunc(rows, horizon, func(r timeline.Row, second int64) int { return cmp.Compare(r.Second, second) })
		rows = append(timeline.Merge(width, rows[:n]...), rows[n:]...)
	}
	return rows
}

// maxWidth is the maximum width of merged rows, in seconds. It is large enough for a run of many years.
const maxWidth = 10 * 6 * 6 * 6 * 6 * 6 * 6

// interval parses the query parameters "from" and "to", in RFC 3339 format.
func interval(query string) (from, to time.Time, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return from, to, errors.New("the query string of the URL is invalid")
	}
	latest := time.Now().Add(clockDifference)
	from, to = time.Unix(0, 0), latest
	for name, texts := range values {
		at, err := time.Parse(time.RFC3339, texts[0])
		switch {
		case name != "from" && name != "to":
			return from, to, fmt.Errorf("the query has the unknown parameter %q; the known parameters are \"from\" and \"to\"", excerpt.Of(name, 100))
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
		return from, to, errors.New(`the parameter "from" must be earlier than the parameter "to"`)
	}
	// No rows are later than the time latest, so do not call the source for a later time.
	return from, earlier(to, latest), nil
}

// unavailable responds with status 503. The error is only logged, because it may contain names of servers that clients
// need not know.
func (v *View) unavailable(w http.ResponseWriter, what string, err error) {
	v.log.Debug("The live page cannot read "+what, "error", err)
	// Reading the source may have taken longer than the write timeout. The error is ignored, because it occurs only in
	// tests without a connection.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(v.config.writeTimeout))
	refuse(w, http.StatusServiceUnavailable, what+" cannot be read now; retry later")
}
