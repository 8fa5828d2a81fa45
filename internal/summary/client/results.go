package client

import (
	"bytes"
	"encoding/json"
	"errors"
)

// results are the unread lines of an answer.
type results struct {
	rest []byte
}

// result is one line of an answer.
type result struct {
	ID     string `json:"id"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

var (
	errEndsEarly = errors.New("ends before the last result")
	errUnlike    = errors.New("has results of other summaries than those posted")
)

// next parses the next line, which must be the result of the summary with this identifier.
func (r *results) next(id string) (result, error) {
	end := bytes.IndexByte(r.rest, '\n')
	if end < 0 {
		return result{}, errEndsEarly
	}
	line := r.rest[:end]
	r.rest = r.rest[end+1:]
	if status := usual(line, id); status != 0 {
		return result{ID: id, Status: status}, nil
	}
	var res result
	if json.Unmarshal(line, &res) != nil || res.Status == 0 {
		return result{}, errUnlike
	}
	// A line that was rejected before its identifier was parsed has no identifier.
	accepted := res.Status/100 == 2
	if res.ID != id && (accepted || res.ID != "") {
		return result{}, errUnlike
	}
	return res, nil
}

// usual returns the status of a line {"id":"<id>","status":201}, or 200, without decoding JSON. Nearly all lines are of
// that form. For any other line it returns 0.
func usual(line []byte, id string) int {
	const before, after = `{"id":"`, `","status":`
	if len(line) != len(before)+len(id)+len(after)+len(`201}`) ||
		string(line[:len(before)]) != before || string(line[len(before):len(before)+len(id)]) != id {
		return 0
	}
	switch string(line[len(before)+len(id):]) {
	case after + `201}`:
		return 201
	case after + `200}`:
		return 200
	}
	return 0
}
