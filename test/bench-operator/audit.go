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

// request is a write request of the operator in the audit log of the API server.
type request struct {
	Verb      string `json:"verb"`
	ObjectRef struct {
		APIGroup    string `json:"apiGroup"`
		APIVersion  string `json:"apiVersion"`
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

// kind returns the verb and resource, such as "patch deployments/status".
func (r *request) kind() string {
	name := r.Verb + " " + r.ObjectRef.Resource
	if r.ObjectRef.Subresource != "" {
		name += "/" + r.ObjectRef.Subresource
	}
	return name
}

// isWrite reports whether the benchmark counts the request. The audit log contains only writes. The operator's requests
// in its own namespace do not count, because they are for leader election.
func (r *request) isWrite() bool { return r.ObjectRef.Namespace != system }

// isForbidden reports whether the API server denied the request because the operator lacks the permission.
func (r *request) isForbidden() bool { return r.ResponseStatus.Code == http.StatusForbidden }

// createdChild returns the simulation for which the request created a child object. ok is false if the request did not
// create a child object.
func (r *request) createdChild() (simulation string, ok bool) {
	if r.ResponseStatus.Code != http.StatusCreated || r.ObjectRef.Resource == "events" || !r.isWrite() {
		return "", false
	}
	simulation, _, ok = strings.Cut(r.ObjectRef.Name, "-")
	return simulation, ok
}

// auditLog reads the audit log of the API server while the API server is writing it.
type auditLog struct {
	file *os.File
	in   *bufio.Reader
	rest string // the beginning of a line whose end has not been read yet
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

// next returns the requests that were logged since the last call.
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
