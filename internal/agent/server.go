package agent

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// Path is the URL path of all faults. Path + "/" + ID is the URL path of one fault.
const Path = "/v1/faults"

// maxBody limits the size of a command and of a response, in bytes.
const maxBody = 4 << 10

// Handler serves the HTTP API of an agent, which requires the bearer token, and /healthz, which does not:
//
//	PUT    /v1/faults/{id}  injects a fault; the request is a Command, the response a Fault
//	GET    /v1/faults/{id}  returns a Fault
//	DELETE /v1/faults/{id}  ends a fault; if it was not injected yet, it never will be
func Handler(a *Agent, token func() (string, error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+Path+"/{id...}", func(w http.ResponseWriter, r *http.Request) { serveInject(a, w, r) })
	mux.HandleFunc("GET "+Path+"/{id...}", func(w http.ResponseWriter, r *http.Request) {
		if f, ok := a.Fault(r.PathValue("id")); ok {
			answer(w, f)
			return
		}
		http.Error(w, "this agent has not injected that fault", http.StatusNotFound)
	})
	mux.HandleFunc("DELETE "+Path+"/{id...}", func(w http.ResponseWriter, r *http.Request) {
		a.Heal(r.PathValue("id"))
		w.WriteHeader(http.StatusNoContent)
	})
	handler := http.NewServeMux()
	handler.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	handler.Handle("/", authenticated(mux, token))
	return handler
}

func serveInject(a *Agent, w http.ResponseWriter, r *http.Request) {
	var c Command
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		http.Error(w, "the command is not valid JSON: "+err.Error(), http.StatusBadRequest)
		return
	}
	c.ID = r.PathValue("id")
	f, err := a.Inject(c)
	if err == nil {
		answer(w, f)
		return
	}
	http.Error(w, err.Error(), codeOf(err))
}

// codeOf returns the status for an error of Inject: 422 means that the command is rejected, 409 that another fault must
// end first, and 503 that the injection failed.
func codeOf(err error) int {
	_, isRejected := errors.AsType[*RejectedError](err)
	switch {
	case isRejected:
		return http.StatusUnprocessableEntity
	case errors.Is(err, ErrBusy):
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable
}

func answer(w http.ResponseWriter, f Fault) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(f) // Encode fails if the client has disconnected
}

// authenticated passes a request on if it contains the token. It compares hashes, because the time that a plain
// comparison takes would reveal the length of the token.
func authenticated(next http.Handler, token func() (string, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want, err := token()
		if err != nil {
			http.Error(w, "the agent cannot read its token", http.StatusInternalServerError)
			return
		}
		got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		gotSum, wantSum := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
		if !ok || want == "" || subtle.ConstantTimeCompare(gotSum[:], wantSum[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the token is missing or wrong", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
