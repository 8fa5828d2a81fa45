package rest

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// bulk is the parsed body of a request with many summaries, one per line.
type bulk struct {
	// summaries contains the valid summaries, in the order of their lines.
	summaries []event.Summary
	// refused contains the invalid lines with the reasons, in order.
	refused []refusal
	lines   int
}

// refusal describes an invalid line of a request, and why it is invalid.
type refusal struct {
	line    int
	id      string
	problem *problem
}

// decodeBulk parses a body line by line. It ignores blank lines. It returns errors of type *problem.
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

// decode parses and validates one summary. If it returns an error, the summary contains the fields that it could
// parse.
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

// appendAnswer appends the response body, which has one line for each line of the request. outcomes contains the
// outcome of each summary in b.summaries.
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

// appendResult appends one line of the response body. It omits an empty id or detail.
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
