package controllers_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/resources"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
)

// patience is how long anything may take on a busy machine.
const patience = 60 * time.Second

// apiServer is the one of this package's tests; nil when none is installed.
var apiServer *rest.Config //nolint:gochecknoglobals // it takes long to start, so that tests share it

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard()) // the controllers' own goes to their tests
	os.Exit(func() int {
		if os.Getenv("KUBEBUILDER_ASSETS") == "" {
			return m.Run()
		}
		env := &envtest.Environment{
			CRDDirectoryPaths: []string{"../config/crd/bases"}, ErrorIfCRDPathMissing: true,
			ControlPlaneStartTimeout: 5 * time.Minute, ControlPlaneStopTimeout: time.Minute,
		}
		server, err := env.Start()
		if err != nil {
			fmt.Fprintln(os.Stderr, "start the API server:", err)
			return 1
		}
		apiServer = server
		code := m.Run()
		if err := env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the API server:", err)
		}
		return code
	}())
}

// cluster is an API server with the operator at work in a namespace of the test's own.
type cluster struct {
	t          *testing.T
	server     *rest.Config
	client     client.Client
	namespace  string
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
	needAPIServer(t)
	c := newClusterOn(t, apiServer)
	c.watched = []string{c.namespace}
	return c
}

// newClusterOfItsOwn has an API server for this test alone, so that definitions may come and go.
func newClusterOfItsOwn(t *testing.T) *cluster {
	t.Helper()
	needAPIServer(t)
	env := &envtest.Environment{CRDDirectoryPaths: []string{"../config/crd/bases"}, ControlPlaneStartTimeout: 5 * time.Minute}
	server, err := env.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	return newClusterOn(t, server)
}

func needAPIServer(t *testing.T) {
	t.Helper()
	if apiServer == nil {
		const missing = "there is no API server: set KUBEBUILDER_ASSETS to what hack/envtest.sh prints"
		if os.Getenv("PARKING_TEST_REQUIRE") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
}

func newClusterOn(t *testing.T, server *rest.Config) *cluster {
	t.Helper()
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, server: server, writes: &writeCounter{}, backends: &fakeBackends{}}
	c.reconciles = reconcileCounter{slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}), &atomic.Int64{}}
	if c.client, err = client.New(server, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := c.client.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	c.namespace = namespace.Name
	return c
}

// startOperator runs an operator until the test ends, or until the returned function is called.
func (c *cluster) startOperator() (stop func()) {
	c.t.Helper()
	counted := rest.CopyConfig(c.server)
	counted.QPS = -1
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper { return c.writes.wrap(next) })
	ctx, cancel := context.WithCancel(context.Background())
	skip := true
	mgr, err := controllers.NewManager(ctx, counted, controllers.ManagerOptions{
		Options: controllers.Options{
			Images:  resources.Images{Parking: "parking:test", RabbitMQ: "rabbitmq:4", Redis: "redis:8"},
			Workers: 4,
		},
		Namespaces: c.watched,
		Backends:   c.backends,
		Logger:     slog.New(c.reconciles),
		Manager: manager.Options{
			Metrics:    metricsserver.Options{BindAddress: "0"},
			Controller: config.Controller{SkipNameValidation: &skip},
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				c.t.Errorf("the operator ended with %v", err)
			}
		})
	}
	c.t.Cleanup(stop)
	return stop
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
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
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
}

func (f *fakeBackends) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = err
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

func (q fakeQueues) Depths(context.Context) (broker.Depths, error) { return broker.Depths{}, q.f.err() }
func (fakeQueues) Close() error                                    { return nil }
func (q fakeQueues) Delete(context.Context) error {
	return q.f.note("queues of " + q.t.Plan.Simulation)
}

type fakeKeys struct {
	*memorystore.Store
	f *fakeBackends
	t controllers.Target
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

var _ io.Closer = fakeQueues{}

// simulate creates a simulation.
func (c *cluster) simulate(name string, edit func(*v1alpha1.ParkingSimulationSpec)) *v1alpha1.ParkingSimulation {
	c.t.Helper()
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name}}
	if edit != nil {
		edit(&sim.Spec)
	}
	c.create(sim)
	return sim
}

func (c *cluster) create(o client.Object) {
	c.t.Helper()
	if err := c.client.Create(c.t.Context(), o); err != nil {
		c.t.Fatal(err)
	}
}

// edit changes an object as it is on the server.
func (c *cluster) edit(o client.Object, change func()) {
	c.t.Helper()
	c.eventually("edit "+o.GetName(), func() error {
		if err := c.client.Get(c.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		change()
		return c.client.Update(c.t.Context(), o)
	})
}

// eventually polls until check passes.
func (c *cluster) eventually(what string, check func() error) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			c.t.Fatalf("%s: %v", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// expect waits for a condition of the simulation's present generation.
func (c *cluster) expect(sim *v1alpha1.ParkingSimulation, kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	c.t.Helper()
	var got metav1.Condition
	c.eventually(fmt.Sprintf("%s of %s to be %s/%s", kind, sim.Name, status, reason), func() error {
		if err := c.client.Get(c.t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
			return err
		}
		condition := meta.FindStatusCondition(sim.Status.Conditions, kind)
		if condition == nil || condition.Status != status || condition.Reason != reason || condition.ObservedGeneration != sim.Generation {
			return fmt.Errorf("conditions are %+v", sim.Status.Conditions)
		}
		got = *condition
		return nil
	})
	return got
}

// exists waits until an object does.
func (c *cluster) exists(o client.Object, name string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%T %s to exist", o, name), func() error {
		return c.client.Get(c.t.Context(), client.ObjectKey{Namespace: c.namespace, Name: name}, o)
	})
}

// settle plays the controllers of Deployments and StatefulSets, of which there are none here: it has every
// workload, but for those that are named, say that it has the pods it is to have.
func (c *cluster) settle(but ...string) {
	c.t.Helper()
	c.eventually("settle workloads", func() error {
		deployments, sets := &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}
		for _, list := range []client.ObjectList{deployments, sets} {
			if err := c.client.List(c.t.Context(), list, client.InNamespace(c.namespace)); err != nil {
				return err
			}
		}
		for i := range deployments.Items {
			d := &deployments.Items[i]
			if slices.Contains(but, d.Name) {
				continue
			}
			n := *d.Spec.Replicas
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
			if err := c.client.Status().Update(c.t.Context(), d); err != nil {
				return err
			}
		}
		for i := range sets.Items {
			s := &sets.Items[i]
			if slices.Contains(but, s.Name) {
				continue
			}
			n := *s.Spec.Replicas
			s.Status = appsv1.StatefulSetStatus{ObservedGeneration: s.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
			if err := c.client.Status().Update(c.t.Context(), s); err != nil {
				return err
			}
		}
		return nil
	})
}

func zero() *resource.Quantity { return resource.NewQuantity(0, resource.DecimalSI) }

func rawExtension(text string) *runtime.RawExtension { return &runtime.RawExtension{Raw: []byte(text)} }
