package client

import (
	"bytes"
	"encoding/json"
	"errors"
)

// results contains the lines of a response that are not parsed yet.
type results struct {
	rest []byte
}

// result is one line of a response. It contains the result of one summary.
type result struct {
	ID     string `json:"id"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

var (
	errEndsEarly = errors.New("the response ends before the last result")
	errUnlike    = errors.New("the response contains results of summaries that were not posted")
)

// next parses the next line. It returns an error unless the line is the result of the summary with the given
// identifier.
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
	// Only the rejection of a summary that the API cannot parse may lack the identifier.
	accepted := res.Status/100 == 2
	if res.ID != id && (accepted || res.ID != "") {
		return result{}, errUnlike
	}
	return res, nil
}

// usual parses a line of the form {"id":"<id>","status":201} or {"id":"<id>","status":200} and returns its status. It
// returns 0 for any other line. It is faster than the JSON decoder.
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
