package controllers_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/store"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

func TestMain(m *testing.M) { os.Exit(apiserver.Sharing(m).Run()) }

// cluster is an API server with the operator at work in a namespace of the test's own.
type cluster struct {
	*apiserver.Cluster

	watched    []string // namespaces that the operator watches; none means all
	writes     *writeCounter
	reconciles reconcileCounter
	backends   *fakeBackends
}

// newCluster starts an operator that ends with the test.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := newClusterWithoutOperator(t)
	c.startOperator()
	return c
}

func newClusterWithoutOperator(t *testing.T) *cluster {
	t.Helper()
	c := newClusterOn(t, apiserver.New(t))
	c.watched = []string{c.Namespace}
	return c
}

// newClusterOfItsOwn has an API server for this test alone, so that definitions may come and go.
func newClusterOfItsOwn(t *testing.T) *cluster {
	t.Helper()
	return newClusterOn(t, apiserver.Alone(t))
}

func newClusterOn(t *testing.T, server *apiserver.Cluster) *cluster {
	t.Helper()
	log := slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn})
	return &cluster{
		Cluster: server, writes: &writeCounter{}, backends: &fakeBackends{}, reconciles: reconcileCounter{log, &atomic.Int64{}},
	}
}

// startOperator runs an operator until the test ends, or until the returned function is called.
func (c *cluster) startOperator() (stop func()) {
	c.T.Helper()
	counted := rest.CopyConfig(c.Config)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper { return c.writes.wrap(next) })
	return c.Operate(counted, controllers.ManagerOptions{
		Namespaces: c.watched, Backends: c.backends, Logger: slog.New(c.reconciles),
	})
}

// testLog shows the operator's log with the test's, as long as that lasts.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// writeCounter counts the requests that change something, but for events, of which it is known that they
// are sent on transitions.
type writeCounter struct {
	mu    sync.Mutex
	calls []string
}

func (w *writeCounter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && !strings.Contains(r.URL.Path, "/events") {
			w.mu.Lock()
			w.calls = append(w.calls, r.Method+" "+r.URL.Path)
			w.mu.Unlock()
		}
		return next.RoundTrip(r)
	})
}

func (w *writeCounter) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

// reconcileCounter counts the reconciles that the log tells of, and passes on what is important.
type reconcileCounter struct {
	slog.Handler

	// calls is shared with the handlers that are derived from this one.
	calls *atomic.Int64
}

func (r reconcileCounter) Enabled(context.Context, slog.Level) bool { return true }

func (r reconcileCounter) Handle(ctx context.Context, record slog.Record) error {
	if record.Message == "Reconciling" {
		r.calls.Add(1)
	}
	if !r.Handler.Enabled(ctx, record.Level) {
		return nil
	}
	return r.Handler.Handle(ctx, record)
}

func (r reconcileCounter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return reconcileCounter{r.Handler.WithAttrs(attrs), r.calls}
}

func (r reconcileCounter) WithGroup(name string) slog.Handler {
	return reconcileCounter{r.Handler.WithGroup(name), r.calls}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// fakeBackends are servers in memory.
type fakeBackends struct {
	mu      sync.Mutex
	fault   error
	deleted []string
	dead    []broker.ReasonCount
	queued  int64
}

func (f *fakeBackends) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = err
}

// queue has so many messages wait.
func (f *fakeBackends) queue(messages int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queued = messages
}

// kill has messages dead-lettered.
func (f *fakeBackends) kill(letters ...broker.ReasonCount) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = append(f.dead, letters...)
}

func (f *fakeBackends) deadLetters() []broker.ReasonCount {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.dead)
}

func (f *fakeBackends) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fault
}

func (f *fakeBackends) OpenQueues(t controllers.Target) (controllers.Queues, error) {
	return fakeQueues{f, t}, nil
}

func (f *fakeBackends) OpenKeys(t controllers.Target) (controllers.Keys, error) {
	return fakeKeys{memorystore.New(t.Plan.Partitions), f, t}, nil
}

func (f *fakeBackends) Measure(context.Context, controllers.Endpoints) (controllers.Measurement, error) {
	return controllers.Measurement{}, f.err()
}

type fakeQueues struct {
	f *fakeBackends
	t controllers.Target
}

func (q fakeQueues) Depths(context.Context) (depths broker.Depths, err error) {
	q.f.mu.Lock()
	depths.Ready = q.f.queued
	q.f.mu.Unlock()
	for _, letters := range q.f.deadLetters() {
		depths.Dead += letters.Count
	}
	return depths, q.f.err()
}

func (q fakeQueues) DeadLetterReasons(context.Context, int) ([]broker.ReasonCount, error) {
	return q.f.deadLetters(), q.f.err()
}

func (fakeQueues) Close() error { return nil }

func (q fakeQueues) Delete(context.Context) error {
	return q.f.note("queues of " + q.t.Plan.Simulation)
}

type fakeKeys struct {
	*memorystore.Store
	f *fakeBackends
	t controllers.Target
}

// Counts fails with the queues, as when a network is down.
func (k fakeKeys) Counts(ctx context.Context) (store.Counts, error) {
	if err := k.f.err(); err != nil {
		return store.Counts{}, fmt.Errorf("count: %w", err)
	}
	return k.Store.Counts(ctx)
}

func (k fakeKeys) Purge(context.Context) error { return k.f.note("keys of " + k.t.Plan.Simulation) }
func (fakeKeys) Close() error                  { return nil }

func (f *fakeBackends) note(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == nil {
		f.deleted = append(f.deleted, what)
	}
	return f.fault
}

func (f *fakeBackends) gone() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.deleted...)
}

func zero() *resource.Quantity { return resource.NewQuantity(0, resource.DecimalSI) }

func rawExtension(text string) *runtime.RawExtension { return &runtime.RawExtension{Raw: []byte(text)} }
