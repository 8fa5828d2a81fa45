package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// poster is the interface that the clients of the embedded and the external API implement.
type poster interface {
	Post(ctx context.Context, s event.Summary) error
	Close() error
}

// patient sets a timeout that is long enough for a busy machine, unless the configuration has a timeout.
func patient(config Config) Config {
	config.timeout = cmp.Or(config.timeout, time.Minute)
	return config
}

func newEmbedded(t *testing.T, config Config) *Embedded {
	t.Helper()
	c, err := NewEmbedded(patient(config))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newExternal(t *testing.T, config Config) *External {
	t.Helper()
	c, err := NewExternal(patient(config))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func visit(id string) event.Summary {
	at := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	return event.Summary{ID: id, Plate: "P-1", EntryAt: at, ExitAt: at.Add(time.Hour)}
}

// kind says what an error means to a caller: the summary was accepted, was rejected, or must be posted again.
func kind(err error) string {
	rejected, isRejected := errors.AsType[*summary.RejectedError](err)
	unavailable, isUnavailable := errors.AsType[*summary.UnavailableError](err)
	switch {
	case err == nil:
		return "accepted"
	case isRejected && !isUnavailable:
		return "rejected " + rejected.Detail[:len("400")]
	case isUnavailable && unavailable.After > 0:
		return fmt.Sprintf("again in %v", unavailable.After)
	case isUnavailable:
		return "again"
	}
	return err.Error()
}

// postAll posts a summary for each identifier concurrently and returns the result of each.
func postAll(t *testing.T, c poster, ids ...string) []string {
	t.Helper()
	results := make([]string, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { results[i] = kind(c.Post(t.Context(), visit(id))) })
	}
	wg.Wait()
	return results
}

// writeSecret writes one file per key into an existing directory, like a mounted Secret. It returns the directory.
func writeSecret(t *testing.T, dir string, keys map[string]string) string {
	t.Helper()
	for key, value := range keys {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// hijack takes over the connection of a request from the HTTP server, sends raw as the response, and closes the
// connection.
func hijack(t *testing.T, w http.ResponseWriter, raw string) {
	t.Helper()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = buffered.WriteString(raw)
	_ = buffered.Flush()
	_ = conn.Close()
}

// hang is a handler that sends no response until the client disconnects.
func hang(_ http.ResponseWriter, r *http.Request) { untilGone(r) }

// untilGone waits until the client disconnects. It reads the request body first, because package http detects a
// disconnect only after that.
func untilGone(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// writeForEver is a handler that writes an endless response until the client disconnects.
func writeForEver(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, strings.Repeat("more ", 1000)); err != nil {
			return
		}
	}
}
