package httpserver

import (
	"encoding/json"
	"net/http"
)

// Problem responds with a problem document (RFC 9457), a JSON object. The parameter detail is a sentence for people.
// The caller must set additional headers before it calls Problem.
func Problem(w http.ResponseWriter, status int, detail string) {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(status), status, detail})
	if err != nil {
		body = nil // never happens: json.Marshal does not fail for strings and a number
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs no answer
}
