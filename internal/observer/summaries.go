package observer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// SummaryCounter asks the summary API in a pod how many summaries it has stored.
type SummaryCounter interface {
	CountSummaries(ctx context.Context, ip string) (int64, error)
}

const (
	// countTimeout is the timeout of CountSummaries.
	countTimeout = 4 * time.Second
	// maxAnswer is the maximum number of bytes that are read from a response.
	maxAnswer = 1 << 20
)

// HTTPCounter implements SummaryCounter over HTTP.
type HTTPCounter struct {
	client *http.Client
	port   int
}

// NewHTTPCounter returns an HTTPCounter for pods that listen on the given port. It uses no proxy and follows no
// redirects.
func NewHTTPCounter(port int) *HTTPCounter {
	return &HTTPCounter{port: port, client: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// CountSummaries implements SummaryCounter. It returns within 4 s.
func (c *HTTPCounter) CountSummaries(ctx context.Context, ip string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	held, err := c.count(ctx, "http://"+net.JoinHostPort(ip, strconv.Itoa(c.port))+"/v1/stats")
	if err != nil {
		return 0, fmt.Errorf("count the summaries in pod %s: %w", ip, err)
	}
	return held, nil
}

func (c *HTTPCounter) count(ctx context.Context, url string) (held int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s returned %s", url, response.Status)
	}
	var stats struct {
		Count *int64 `json:"count"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&stats); err != nil {
		return 0, fmt.Errorf("decode the answer: %w", err)
	}
	if stats.Count == nil {
		return 0, errors.New("the response lacks the field \"count\"")
	}
	return *stats.Count, nil
}
