package observer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/podhttp"
)

// SummaryCounter asks the summary API in a pod how many summaries it has stored.
type SummaryCounter interface {
	CountSummaries(ctx context.Context, pod podhttp.Server) (int64, error)
}

const countTimeout = 4 * time.Second

// HTTPClient sends requests to the summary APIs in pods. It implements SummaryCounter.
type HTTPClient struct {
	client *podhttp.Client
	port   int
}

// NewHTTPClient returns an HTTPClient for pods that listen on the given port.
func NewHTTPClient(port int) *HTTPClient {
	return &HTTPClient{client: podhttp.New(), port: port}
}

// CountSummaries implements SummaryCounter. It returns within 4 s.
func (c *HTTPClient) CountSummaries(ctx context.Context, pod podhttp.Server) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	held, err := c.count(ctx, pod)
	if err != nil {
		return 0, fmt.Errorf("count the summaries in pod %s: %w", pod.IP, err)
	}
	return held, nil
}

// DatabaseFailure returns why the summary API in a pod cannot use its database, in at most 500 bytes. It returns "" if
// the pod reports no failure or does not answer.
func (c *HTTPClient) DatabaseFailure(ctx context.Context, pod podhttp.Server) string {
	status, text, err := c.client.GetFrom(ctx, pod, c.port, "/readyz")
	if err != nil || status != http.StatusServiceUnavailable {
		return ""
	}
	const maxFailure = 500
	for line := range strings.Lines(string(text)) {
		// Only lines with this prefix concern the database. Another line says, for example, that the process is
		// stopping.
		if failure, ok := strings.CutPrefix(line, "database: "); ok {
			return excerpt.Of(strings.TrimSpace(printable(failure)), maxFailure)
		}
	}
	return ""
}

// printable replaces control characters, which a terminal would interpret. The text may be malicious, because the
// author of a simulation can replace the summary API.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

func (c *HTTPClient) count(ctx context.Context, pod podhttp.Server) (int64, error) {
	const path = "/v1/stats"
	status, text, err := c.client.GetFrom(ctx, pod, c.port, path)
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("GET %s returned %d %s", path, status, http.StatusText(status))
	}
	var stats struct {
		Count *int64 `json:"count"`
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&stats); err != nil {
		return 0, fmt.Errorf("decode the response: %w", err)
	}
	if stats.Count == nil {
		return 0, errors.New("the response lacks the field \"count\"")
	}
	return *stats.Count, nil
}
