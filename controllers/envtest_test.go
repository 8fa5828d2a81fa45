package controllers_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/store"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

func TestMain(m *testing.M) { os.Exit(apiserver.NewTests(m).Run()) }

// cluster is an API server on which a test can run an operator.
type cluster struct {
	*apiserver.Cluster

	watched    []string // the namespaces that the operator watches, or empty for all namespaces
	writes     *writeCounter
	reconciles reconcileCounter
	servers    *fakeServers
}

// newCluster returns a cluster with a running operator. The operator stops when the test ends.
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

// newDedicatedCluster starts an API server for a single test. The test may create and delete CRDs, which other tests
// must not see.
func newDedicatedCluster(t *testing.T) *cluster {
	t.Helper()
	return newClusterOn(t, apiserver.NewPrivate(t))
}

func newClusterOn(t *testing.T, server *apiserver.Cluster) *cluster {
	t.Helper()
	log := slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn})
	return &cluster{
		Cluster: server, writes: &writeCounter{}, servers: &fakeServers{}, reconciles: reconcileCounter{log, &reconcileCounts{}},
	}
}

// startOperator starts an operator. The operator stops when the test calls the returned function or, if the test
// does not call that function, when the test ends.
func (c *cluster) startOperator() (stop func()) {
	c.T.Helper()
	counted := rest.CopyConfig(c.Config)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper { return c.writes.wrap(next) })
	return c.RunOperator(counted, controllers.ManagerOptions{
		Namespaces: c.watched, Servers: c.servers, Summaries: c.servers, Logger: slog.New(c.reconciles),
	})
}

// testLog writes the operator's log to the test's log until the test ends.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// writeCounter records the operator's write requests, except the creation and update of events.
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

func (w *writeCounter) drain() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

// reconcileCounter is a log handler that counts reconciles. The handlers that WithAttrs and WithGroup return share the
// counts. Warnings and errors also go to the embedded handler.
type reconcileCounter struct {
	slog.Handler
	*reconcileCounts
}

type reconcileCounts struct {
	calls atomic.Int64
	// repeat is the delay until the next scheduled reconcile, in nanoseconds. It is 0 after an error, and the constant
	// never if no reconcile is scheduled.
	repeat atomic.Int64
}

const never = math.MaxInt64

func (r reconcileCounter) Enabled(context.Context, slog.Level) bool { return true }

func (r reconcileCounter) Handle(ctx context.Context, record slog.Record) error {
	switch after, requeues := strings.CutPrefix(record.Message, "Reconcile done, requeueing"); {
	case record.Message == "Reconciling":
		r.calls.Add(1)
	case record.Message == "Reconcile successful":
		r.repeat.Store(never)
	case record.Message == "Reconciler error":
		r.repeat.Store(0)
	case requeues:
		delay, _ := time.ParseDuration(strings.TrimPrefix(after, " after ")) // 0 if the message contains no delay
		r.repeat.Store(int64(delay))
	}
	if !r.Handler.Enabled(ctx, record.Level) {
		return nil
	}
	return r.Handler.Handle(ctx, record)
}

func (r reconcileCounter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return reconcileCounter{r.Handler.WithAttrs(attrs), r.reconcileCounts}
}

func (r reconcileCounter) WithGroup(name string) slog.Handler {
	return reconcileCounter{r.Handler.WithGroup(name), r.reconcileCounts}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// fakeServers simulates the servers and pods of simulations in memory.
type fakeServers struct {
	mu      sync.Mutex
	fault   error
	refusal error
	removed []string
	dead    []broker.ReasonCount
	queued  int64
	rows    []timeline.Row
	// appended contains the timeline rows that the operator has stored.
	appended []timeline.Row
	opened   []string
}

// open records the binding with which the operator opens a connection.
func (f *fakeServers) open(at binding.Binding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened = append(f.opened, at.Redacted())
}

// bindings returns the bindings of the servers to which the operator has connected.
func (f *fakeServers) bindings() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.opened)
}

// setTimeline sets the timeline that the fake store returns for every simulation.
func (f *fakeServers) setTimeline(rows []timeline.Row) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows = rows
}

// fail makes every request fail with err. If err is nil, requests succeed again.
func (f *fakeServers) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = err
}

// refuse makes all writes to the servers fail with err, while reads still succeed. If err is nil, writes succeed again.
func (f *fakeServers) refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusal = err
}

func (f *fakeServers) refused() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refusal
}

// queue sets the number of messages that the fake broker reports for its queues.
func (f *fakeServers) queue(messages int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queued = messages
}

// deadLetter increases the number of dead-lettered messages.
func (f *fakeServers) deadLetter(letters ...broker.ReasonCount) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = append(f.dead, letters...)
}

func (f *fakeServers) deadLetters() []broker.ReasonCount {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.dead)
}

func (f *fakeServers) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fault
}

func (f *fakeServers) OpenBroker(p *plan.Plan, at binding.Binding) (broker.Broker, error) {
	f.open(at)
	return fakeBroker{servers: f, plan: p, at: at}, nil
}

func (f *fakeServers) OpenStore(p *plan.Plan, at binding.Binding) (store.Store, error) {
	f.open(at)
	return fakeStore{Store: memorystore.New(memorystore.Config{Partitions: p.Partitions}), servers: f, plan: p, at: at}, nil
}

func (f *fakeServers) DatabaseFailure(context.Context, podhttp.Server) string {
	if err := f.err(); err != nil {
		return err.Error()
	}
	return ""
}

func (f *fakeServers) CountSummaries(context.Context, podhttp.Server) (int64, error) {
	return 0, f.err()
}

type fakeBroker struct {
	broker.Broker // nil, because the operator calls only the methods below

	servers *fakeServers
	plan    *plan.Plan
	at      binding.Binding
}

func (b fakeBroker) Depths(context.Context) (depths broker.Depths, err error) {
	b.servers.mu.Lock()
	depths.Ready = b.servers.queued
	b.servers.mu.Unlock()
	for _, letters := range b.servers.deadLetters() {
		depths.Dead += letters.Count
	}
	return depths, b.servers.err()
}

func (b fakeBroker) DeadLetterReasons(context.Context, int) ([]broker.ReasonCount, error) {
	return b.servers.deadLetters(), b.servers.err()
}

func (b fakeBroker) Probe(context.Context) error { return b.servers.refused() }

func (fakeBroker) Version(context.Context) (string, error) { return "RabbitMQ 4.1.2", nil }

func (fakeBroker) Close() error { return nil }

func (b fakeBroker) Delete(context.Context) error {
	return b.servers.remove("queues of " + b.plan.Simulation + " on " + b.at.Redacted())
}

type fakeStore struct {
	*memorystore.Store

	servers *fakeServers
	plan    *plan.Plan
	at      binding.Binding
}

func (s fakeStore) Check(context.Context) error { return s.servers.refused() }

// Counts returns the counters of the ledger, or the error that fakeServers.fail has set.
func (s fakeStore) Counts(ctx context.Context) (store.Counts, error) {
	if err := s.servers.err(); err != nil {
		return store.Counts{}, fmt.Errorf("count: %w", err)
	}
	return s.Store.Counts(ctx)
}

func (s fakeStore) Purge(context.Context) error {
	return s.servers.remove("keys of " + s.plan.Simulation + " on " + s.at.Redacted())
}

func (s fakeStore) ReadTimeline(_ context.Context, from, to time.Time) ([]timeline.Row, error) {
	s.servers.mu.Lock()
	defer s.servers.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.servers.rows), func(r timeline.Row) bool { return !r.End().After(from) || !r.Start().Before(to) }), nil
}

func (s fakeStore) AppendTimeline(_ context.Context, _ string, rows []timeline.Row) error {
	s.servers.mu.Lock()
	defer s.servers.mu.Unlock()
	s.servers.appended = append(s.servers.appended, rows...)
	return nil
}

// marks returns the marks, such as pod failures, that the operator has added to the timelines of simulations.
func (f *fakeServers) marks() []timeline.Mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []timeline.Mark
	for i := range f.appended {
		all = append(all, f.appended[i].Marks...)
	}
	return all
}

func (fakeStore) Close() error { return nil }

func (f *fakeServers) remove(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == nil {
		f.removed = append(f.removed, what)
	}
	return f.fault
}

// gone returns the queues and keys that the operator has removed from external servers.
func (f *fakeServers) gone() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.removed)
}

func zero() *resource.Quantity { return resource.NewQuantity(0, resource.DecimalSI) }

func rawExtension(text string) *runtime.RawExtension { return &runtime.RawExtension{Raw: []byte(text)} }
