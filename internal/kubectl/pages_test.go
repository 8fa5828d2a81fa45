package kubectl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

func newPod(name string, port int32, ready corev1.ConditionStatus) corev1.Pod {
	pod := corev1.Pod{}
	pod.Namespace, pod.Name = "parking", name
	pod.Labels = map[string]string{resources.SimulationLabel: "rush-hour", resources.ComponentLabel: string(resources.ComponentProcessor)}
	pod.Spec.Containers = []corev1.Container{{Name: "parking", Ports: []corev1.ContainerPort{{Name: resources.PortPage, ContainerPort: port}}}}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	return pod
}

// fakePods is a podAccess whose pods are HTTP servers in this process.
type fakePods struct {
	pods []corev1.Pod

	mu      sync.Mutex
	servers map[string]*httptest.Server
	opened  []string
}

// serve starts an HTTP server for each handler. Each server takes the place of a ready pod.
func serve(t *testing.T, handlers map[string]http.Handler) *fakePods {
	t.Helper()
	f := &fakePods{servers: map[string]*httptest.Server{}}
	for name, handler := range handlers {
		f.servers[name] = httptest.NewServer(handler)
		t.Cleanup(f.servers[name].Close)
		f.pods = append(f.pods, newPod(name, portOf(t, f.servers[name]), corev1.ConditionTrue))
	}
	slices.SortFunc(f.pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return f
}

func portOf(t *testing.T, s *httptest.Server) int32 {
	t.Helper()
	_, text, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return int32(port)
}

func (f *fakePods) pages() *pages {
	return newPages(podAccess{
		list: func(context.Context) ([]corev1.Pod, error) { return f.pods, nil },
		open: func(_ context.Context, pod *corev1.Pod) (tunnel, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.opened = append(f.opened, pod.Name)
			return localTunnel{}, nil
		},
	})
}

// tunnels returns the names of the pods to which tunnels were opened. The HTTP transport may open more tunnels than the
// requests need.
func (f *fakePods) tunnels() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.opened)
}

type localTunnel struct{}

func (localTunnel) Dial(port int32) (net.Conn, error) {
	return net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
}

func (localTunnel) Close() error { return nil }

// answers returns a handler that answers each request with the same JSON text.
func answers(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

func TestPagesGet_PodFails_UsesAnotherPod(t *testing.T) {
	t.Parallel()
	f := serve(t, map[string]http.Handler{"a": answers(`"a"`), "b": answers(`"b"`)})
	p := f.pages()
	defer p.Close()
	var got string
	for range 2 {
		if err := p.get(t.Context(), "/v1/state", &got); err != nil || got != "a" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	f.servers["a"].CloseClientConnections()
	f.servers["a"].Close()
	if err := p.get(t.Context(), "/v1/state", &got); err != nil || got != "b" {
		t.Fatalf("after the end of pod a: got %q, %v", got, err)
	}
	if opened := f.tunnels(); !slices.Equal(opened, []string{"a", "a", "b"}) && !slices.Equal(opened, []string{"a", "b"}) {
		t.Errorf("tunnels were opened to %q", opened)
	}
}

func TestPagesCandidates_PreferReadyPods(t *testing.T) {
	t.Parallel()
	pending, other := newPod("a-pending", 1, corev1.ConditionFalse), newPod("a-redis", 1, corev1.ConditionTrue)
	pending.Status.Phase = corev1.PodPending
	other.Spec.Containers[0].Ports = nil
	p := newPages(podAccess{})
	var got []string
	for _, c := range p.candidates([]corev1.Pod{pending, other, newPod("b-not-ready", 1, corev1.ConditionFalse), newPod("c-ready", 1, corev1.ConditionTrue)}) {
		got = append(got, c.pod.Name)
	}
	if !slices.Equal(got, []string{"c-ready", "b-not-ready"}) {
		t.Errorf("the candidates are %q", got)
	}
}

func TestPagesGet_NoLiveData_ErrorSaysWhy(t *testing.T) {
	t.Parallel()
	old, pending := newPod("old", 1, corev1.ConditionTrue), newPod("pending", 1, corev1.ConditionFalse)
	old.Spec.Containers[0].Ports = nil
	pending.Status.Phase = corev1.PodPending
	deleted := newPod("deleted", 1, corev1.ConditionTrue)
	deleted.DeletionTimestamp = new(metav1.Now())
	for name, test := range map[string]struct {
		pods *fakePods
		want string
	}{
		"deleted":              {&fakePods{pods: []corev1.Pod{deleted}}, "pod deleted is being deleted"},
		"no pods":              {&fakePods{}, "spec.processor.replicas is 0"},
		"old operator":         {&fakePods{pods: []corev1.Pod{old}}, "update the operator"},
		"pending":              {&fakePods{pods: []corev1.Pod{pending}}, "pod pending is not running: its phase is Pending"},
		"a pod is unavailable": {serve(t, map[string]http.Handler{"a": http.HandlerFunc(unavailable)}), "pod a: the state cannot be read now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := test.pods.pages()
			defer p.Close()
			var got any
			if err := p.get(t.Context(), "/v1/state", &got); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, not %q", err, test.want)
			}
		})
	}
}

func unavailable(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, `{"detail": "the state cannot be read now"}`)
}

func TestPagesGet_SlowConnection_ReadsTheWholeAnswer(t *testing.T) {
	t.Parallel()
	const timeout, pieces = 5 * time.Second, 6
	slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range pieces {
			_, _ = io.WriteString(w, " ")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(timeout / (pieces - 2))
		}
		_, _ = io.WriteString(w, `"all"`)
	})
	p := serve(t, map[string]http.Handler{"a": slow}).pages()
	defer p.Close()
	p.timelineTimeout = timeout
	var got string
	if err := p.get(t.Context(), "/v1/timeline", &got); err != nil || got != "all" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPagesGet_Timeline_HasALongerTimeoutThanOtherRequests(t *testing.T) {
	t.Parallel()
	if podTimelineTimeout <= view.MaxSilence {
		t.Errorf("the timeout is %s, but a pod may send nothing for %s", podTimelineTimeout, view.MaxSilence)
	}
	const timeout = 20 * time.Millisecond
	late := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(10 * timeout)
		_, _ = io.WriteString(w, `"all"`)
	})
	p := serve(t, map[string]http.Handler{"a": late}).pages()
	defer p.Close()
	p.timeout = timeout
	var got string
	if err := p.get(t.Context(), "/v1/timeline?from=2026-01-01T00:00:00Z", &got); err != nil || got != "all" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPagesGet_SilentPod_UsesAnotherPod(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"no answer": "", "part of an answer": `"half`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if answer != "" {
					_, _ = io.WriteString(w, answer)
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			})
			f := serve(t, map[string]http.Handler{"a": silent, "b": silent})
			p := f.pages()
			defer p.Close()
			p.timeout = 50 * time.Millisecond
			var got string
			err := p.get(t.Context(), "/v1/state", &got)
			if err == nil || !strings.HasSuffix(err.Error(), "does not answer: the pod sent nothing for 50ms") {
				t.Errorf("the error is %v", err)
			}
			if opened := f.tunnels(); !slices.Contains(opened, "a") || !slices.Contains(opened, "b") {
				t.Errorf("tunnels were opened to %q", opened)
			}
		})
	}
}

func TestPagesGet_EndlessResponse_IsRejected(t *testing.T) {
	t.Parallel()
	endless := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat(" ", 1000)); err != nil {
				return
			}
		}
	})
	p := serve(t, map[string]http.Handler{"a": endless}).pages()
	defer p.Close()
	p.maxAnswer = 10_000
	var got string
	if err := p.get(t.Context(), "/v1/state", &got); err == nil || err.Error() != "pod a: the answer exceeds 10000 bytes" {
		t.Errorf("the error is %v", err)
	}
}

// forwardingServer starts a fake API server and returns a cluster that uses this server. The server supports only port
// forwarding, and only over SPDY.
func forwardingServer(t *testing.T) *cluster {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/api/v1/namespaces/parking/pods/a/portforward" {
			http.Error(w, "unexpected request", http.StatusBadRequest)
			return
		}
		if _, err := httpstream.Handshake(r, w, []string{constants.PortForwardV1Name}); err != nil {
			return
		}
		streams := make(chan httpstream.Stream)
		connection := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
			go func() { streams <- s }()
			return nil
		})
		if connection == nil {
			return
		}
		failures, data := map[string]httpstream.Stream{}, map[string]httpstream.Stream{} // by request ID
		for {
			select {
			case <-connection.CloseChan():
				return
			case s := <-streams:
				// The two streams of a request arrive in any order.
				id := s.Headers().Get(corev1.PortForwardRequestIDHeader)
				if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
					failures[id] = s
				} else {
					data[id] = s
				}
				if failures[id] != nil && data[id] != nil {
					go forward(data[id], failures[id])
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{
		WithWatch: fake.NewClientBuilder().WithScheme(scheme).Build(), namespace: "parking", config: &rest.Config{Host: server.URL},
	}
}

// forward copies data between a stream and the port that the headers of the stream contain.
func forward(s, failure httpstream.Stream) {
	defer func() { _ = s.Close() }()
	target, err := net.Dial("tcp", "127.0.0.1:"+s.Headers().Get(corev1.PortHeader))
	if err != nil {
		_, _ = io.WriteString(failure, "nothing listens at the port")
		_ = failure.Close()
		return
	}
	defer func() { _ = target.Close() }()
	go func() { _, _ = io.Copy(target, s) }()
	_, _ = io.Copy(s, target)
}

func TestOpenTunnel_ForwardsRequestsToThePod(t *testing.T) {
	t.Parallel()
	c := forwardingServer(t)
	page := httptest.NewServer(answers(`"from the pod"`))
	defer page.Close()
	pod := newPod("a", portOf(t, page), corev1.ConditionTrue)
	p := newPages(podAccess{list: func(context.Context) ([]corev1.Pod, error) { return []corev1.Pod{pod}, nil }, open: c.openTunnel})
	defer p.Close()
	var got string
	for range 3 {
		if err := p.get(t.Context(), "/v1/state", &got); err != nil || got != "from the pod" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	page.CloseClientConnections()
	page.Close()
	err := p.get(t.Context(), "/v1/state", &got)
	if err == nil || !strings.Contains(err.Error(), "pod a does not answer: nothing listens at the port") {
		t.Errorf("the error for a port without a listener is %v", err)
	}
}

// Package http wraps an error of the connection once or twice. The message must omit every wrapper.
func TestPagesDescribe_WrappedPortError_MessageOmitsTheWrappers(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		portError("nothing listens"),
		&url.Error{Op: "Get", URL: "http://pod", Err: portError("nothing listens")},
		&url.Error{Op: "Get", URL: "http://pod", Err: fmt.Errorf("readLoopPeekFailLocked: %w", portError("nothing listens"))},
	} {
		p := &pages{}
		if got, want := p.describe(err).Error(), fmt.Sprintf("pod %s does not answer: nothing listens", p.current()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestOpenTunnel_Forbidden_ErrorNamesTheMissingRule(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,
			"message":"pods \"a\" is forbidden: User \"ann\" cannot create resource \"pods/portforward\""}`)
	}))
	defer server.Close()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{WithWatch: fake.NewClientBuilder().WithScheme(scheme).Build(), config: &rest.Config{Host: server.URL}}
	pod := newPod("a", 1, corev1.ConditionTrue)
	p := newPages(podAccess{list: func(context.Context) ([]corev1.Pod, error) { return []corev1.Pod{pod}, nil }, open: c.openTunnel})
	defer p.Close()
	var got any
	err = p.get(t.Context(), "/v1/state", &got)
	var input *InputError
	if !errors.As(err, &input) || !strings.Contains(err.Error(), `{apiGroups: [""], resources: ["pods/portforward"], verbs: ["get", "create"]}`) {
		t.Errorf("the error is %v", err)
	}
}

// runningSource is a view.Source with one row per second. It also has rows for the next ten minutes.
type runningSource struct{ rows []timeline.Row }

func newRunningSource(seconds int) *runningSource {
	s, random := &runningSource{}, rand.New(rand.NewPCG(1, 1))
	begin := time.Now().Unix() - int64(seconds)
	const future = 600
	events := func() timeline.Events {
		var processing, endToEnd histogram.Histogram
		for range 500 {
			processing.Observe(time.Duration(math.Exp(random.NormFloat64()*0.5) * float64(time.Millisecond)))
			endToEnd.Observe(time.Duration(math.Exp(random.NormFloat64()*0.6) * float64(12*time.Millisecond)))
		}
		n := 500 + random.Int64N(50)
		return timeline.Events{
			Due: n, Published: n, Confirmed: n, Effects: n, Lag: time.Duration(random.Int64N(int64(time.Millisecond))),
			Outcomes: map[string]int64{"recorded": n}, Processing: processing.Snapshot(), EndToEnd: endToEnd.Snapshot(),
		}
	}
	for i := range seconds + future {
		row := timeline.Row{Second: begin + int64(i), Entry: events(), Exit: events()}
		row.Ready, row.Pool = new(random.Int64N(100)), new(40_000+random.Int64N(1000))
		s.rows = append(s.rows, row)
	}
	return s
}

func (s *runningSource) State(context.Context) (view.State, error) {
	return view.State{Run: "run", Simulation: "load-tests.rush-hour", Phase: view.Running, At: time.Now(), Ledger: &ledger.Report{}}, nil
}

func (s *runningSource) Timeline(_ context.Context, from, to time.Time) ([]timeline.Row, error) {
	return within(s.rows, from, to), nil
}

type countingTunnel struct {
	localTunnel

	received *atomic.Int64
}

func (c countingTunnel) Dial(port int32) (net.Conn, error) {
	connection, err := c.localTunnel.Dial(port)
	return countingConn{connection, c.received}, err
}

type countingConn struct {
	net.Conn

	received *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err
}

// On a busy machine, a request may arrive long after its interval has ended. The client must still receive the rows of
// this interval.
func TestSourceTimeline_IntervalHasEndedBeforeTheRequest_ReturnsTheRowsOfTheInterval(t *testing.T) {
	t.Parallel()
	pod := view.New(view.Config{}, view.Dependencies{Source: newRunningSource(300), Logger: slog.New(slog.DiscardHandler)})
	pods := serve(t, map[string]http.Handler{"processor": pod})
	p := newPages(podAccess{
		list: func(context.Context) ([]corev1.Pod, error) { return pods.pods, nil },
		open: func(context.Context, *corev1.Pod) (tunnel, error) { return localTunnel{}, nil },
	})
	defer p.Close()
	s := newSource(t, &v1alpha1.ParkingSimulation{}, nil, nil)
	s.pages = p
	now := time.Now()
	for range 3 { // only the first request reads the whole interval, later requests read its end
		rows, err := s.Timeline(t.Context(), now.Add(-2*time.Minute), now.Add(-time.Minute))
		if err != nil || len(rows) == 0 {
			t.Fatalf("%d rows are read (%v)", len(rows), err)
		}
	}
}

// The test requests what an open page requests in a minute, once with and once without compression.
func TestSource_LiveDataOfAMinute_IsTransferredCompressed(t *testing.T) {
	t.Parallel()
	pod := view.New(view.Config{}, view.Dependencies{Source: newRunningSource(3600), Logger: slog.New(slog.DiscardHandler)})
	pods := serve(t, map[string]http.Handler{"processor": pod})
	transfer := func(isCompressed bool) (first, later int64) {
		var received atomic.Int64
		p := newPages(podAccess{
			list: func(context.Context) ([]corev1.Pod, error) { return pods.pods, nil },
			open: func(context.Context, *corev1.Pod) (tunnel, error) { return countingTunnel{received: &received}, nil },
		})
		defer p.Close()
		p.timeout, p.timelineTimeout = time.Minute, time.Minute
		if transport, ok := p.client.Transport.(*http.Transport); ok && !isCompressed {
			transport.DisableCompression = true
		}
		s := newSource(t, &v1alpha1.ParkingSimulation{}, nil, nil)
		s.pages = p
		page := view.New(view.Config{TimelineTimeout: timelineTimeout}, view.Dependencies{Source: s, Logger: slog.New(slog.DiscardHandler)})
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/v1/timeline", http.NoBody))
		if w.Code != http.StatusOK {
			t.Fatalf("the request for the timeline returns status %d", w.Code)
		}
		first = received.Load()
		for second := range 60 {
			now := time.Now()
			if _, err := s.State(t.Context()); err != nil {
				t.Fatal(err)
			}
			intervals := [][2]time.Time{{now.Add(-2 * time.Minute), now}}
			if second%6 == 0 {
				intervals = append(intervals, [2]time.Time{now.Add(-time.Hour), now.Add(-58 * time.Minute)})
			}
			for _, i := range intervals {
				if _, err := s.Timeline(t.Context(), i[0], i[1]); err != nil {
					t.Fatal(err)
				}
			}
		}
		return first, received.Load() - first
	}
	plainFirst, plainLater := transfer(false)
	first, later := transfer(true)
	t.Logf("the first hour has %d bytes, compressed %d; then %d bytes per second, compressed %d", plainFirst, first, plainLater/60, later/60)
	if first*3 > plainFirst || later*3 > plainLater {
		t.Errorf("a page receives %d bytes at first and %d in a minute; with compression %d and %d", plainFirst, plainLater, first, later)
	}
}
