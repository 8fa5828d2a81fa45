package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// request is one that the operator sent to change something, as the API server's audit log has it.
type request struct {
	Verb      string `json:"verb"`
	ObjectRef struct {
		Namespace   string `json:"namespace"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	Done time.Time `json:"stageTimestamp"`
}

// kind names the sort of the request.
func (r *request) kind() string {
	name := r.Verb + " " + r.ObjectRef.Resource
	if r.ObjectRef.Subresource != "" {
		name += "/" + r.ObjectRef.Subresource
	}
	return name
}

// isWrite reports whether it counts. What is in the operator's own namespace does not: the Lease by which it is
// elected, and the event that says so.
func (r *request) isWrite() bool { return r.ObjectRef.Namespace != system }

// isRefused reports whether the role does not allow it.
func (r *request) isRefused() bool { return r.ResponseStatus.Code == http.StatusForbidden }

// makesChild reports whether it created an object of a simulation, and of which one.
func (r *request) makesChild() (simulation string, ok bool) {
	if r.ResponseStatus.Code != http.StatusCreated || r.ObjectRef.Resource == "events" || !r.isWrite() {
		return "", false
	}
	simulation, _, ok = strings.Cut(r.ObjectRef.Name, "-")
	return simulation, ok
}

// auditLog reads what an API server appends.
type auditLog struct {
	file *os.File
	in   *bufio.Reader
	rest string // the beginning of a line that is not whole yet
}

func openAuditLog(path string) (*auditLog, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	const buffer = 1 << 20
	return &auditLog{file: file, in: bufio.NewReaderSize(file, buffer)}, nil
}

func (l *auditLog) Close() error { return l.file.Close() }

// next returns the requests that came since the last call.
func (l *auditLog) next() ([]request, error) {
	var requests []request
	for {
		line, err := l.in.ReadString('\n')
		l.rest += line
		if errors.Is(err, io.EOF) {
			return requests, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		var r request
		if err := json.Unmarshal([]byte(l.rest), &r); err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		l.rest = ""
		requests = append(requests, r)
	}
}
