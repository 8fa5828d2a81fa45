package rest

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// bulk is a request with many summaries, one a line.
type bulk struct {
	// summaries are those of the lines that have a valid one.
	summaries []event.Summary
	// refused are the other lines, in their order.
	refused []refusal
	lines   int
}

// refusal says why a line is refused.
type refusal struct {
	line    int
	id      string
	problem *problem
}

// decodeBulk reads the lines of a body. Blank lines do not count. The error is a *problem.
func decodeBulk(body []byte, maxLines int) (*bulk, error) {
	b := &bulk{summaries: make([]event.Summary, 0, min(bytes.Count(body, []byte("\n"))+1, maxLines))}
	for len(body) > 0 {
		line := body
		if end := bytes.IndexByte(body, '\n'); end >= 0 {
			line, body = body[:end], body[end+1:]
		} else {
			body = nil
		}
		if len(bytes.Trim(line, " \t\r")) == 0 {
			continue
		}
		if b.lines == maxLines {
			return nil, problemf(http.StatusRequestEntityTooLarge,
				"more than %d summaries in one request; nothing was stored: send fewer at a time", maxLines)
		}
		s, err := decode(line)
		if err != nil {
			b.refused = append(b.refused, refusal{line: b.lines, id: s.ID, problem: asProblem(err)})
		} else {
			b.summaries = append(b.summaries, s)
		}
		b.lines++
	}
	if b.lines == 0 {
		return nil, problemf(http.StatusBadRequest, "the body has no summary")
	}
	return b, nil
}

// decode reads one summary. With the error that says why it cannot be stored comes as much of it as could
// be read.
func decode(body []byte) (event.Summary, error) {
	if len(body) > event.MaxBodyBytes {
		return event.Summary{}, problemf(http.StatusRequestEntityTooLarge,
			"%d bytes are more than the %d that a summary may have", len(body), event.MaxBodyBytes)
	}
	s, err := event.ParseSummary(body)
	if err != nil {
		return s, err
	}
	return s, summary.Validate(s)
}

// appendAnswer appends one line per line of the request. Outcomes are those of b.summaries.
func (b *bulk) appendAnswer(answer []byte, outcomes []summary.Outcome) []byte {
	refused, stored := 0, 0
	for line := range b.lines {
		if refused < len(b.refused) && b.refused[refused].line == line {
			r := &b.refused[refused]
			answer = appendResult(answer, r.id, r.problem.Status, r.problem.Detail)
			refused++
			continue
		}
		answer = appendResult(answer, b.summaries[stored].ID, statusOf(outcomes[stored]), detailOf(outcomes[stored]))
		stored++
	}
	return answer
}

// statusOf is the status that says of a summary what storing it came to.
func statusOf(o summary.Outcome) int {
	switch o {
	case summary.Created:
		return http.StatusCreated
	case summary.Known:
		return http.StatusOK
	default:
		return http.StatusConflict
	}
}

func detailOf(o summary.Outcome) string {
	if o == summary.Conflicting {
		return summary.Conflict().Detail
	}
	return ""
}

// appendResult appends the answer to one line. Id and detail are left out when they are empty.
func appendResult(b []byte, id string, status int, detail string) []byte {
	b = append(b, '{')
	if id != "" {
		b = append(b, `"id":`...)
		b = append(event.AppendString(b, id), ',')
	}
	b = append(b, `"status":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	if detail != "" {
		b = append(b, `,"detail":`...)
		b = event.AppendString(b, detail)
	}
	return append(b, '}', '\n')
}
