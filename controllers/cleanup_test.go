package controllers

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/cleanup"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/rehearsal"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/store"
)

// removals lists the queues and keys that the operator removes from external servers.
type removals struct {
	mu   sync.Mutex
	list []string
	// If otherOwner is true, the queues belong to another simulation, so the removal fails.
	otherOwner bool
}

func (r *removals) add(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, what)
}

func (r *removals) sorted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.list))
}

func (r *removals) OpenBroker(p *plan.Plan, at binding.Binding) (broker.Broker, error) {
	return removedBroker{removed: r, what: "queues of " + p.Simulation + " of owner " + p.Owner + " on " + at.Redacted()}, nil
}

func (r *removals) OpenStore(p *plan.Plan, at binding.Binding) (store.Store, error) {
	return removedStore{removed: r, what: "keys of " + p.Simulation + " on " + at.Redacted()}, nil
}

type removedBroker struct {
	broker.Broker // nil, because the cleaner calls only the methods that removedBroker overrides

	removed *removals
	what    string
}

func (b removedBroker) Delete(context.Context) error {
	b.removed.add(b.what)
	if b.removed.otherOwner {
		return broker.ErrOtherOwner
	}
	return nil
}

func (b removedBroker) Close() error { return nil }

type removedStore struct {
	store.Store // nil, because the cleaner calls only the methods that removedStore overrides

	removed *removals
	what    string
}

func (s removedStore) Purge(ctx context.Context) error {
	if ctx.Err() == nil {
		s.removed.add(s.what)
	}
	return ctx.Err()
}

func (s removedStore) Close() error { return nil }

// cleaning returns a reconciler that can clean up, and its fake client, which contains the Secrets to which the
// simulation refers.
func cleaning(t *testing.T, removed *removals) (*Reconciler, client.Client) {
	t.Helper()
	secret := func(name, uri string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: name, Annotations: map[string]string{v1alpha1.AllowedSimulationsAnnotation: "*"},
			},
			Data: map[string][]byte{"uri": []byte(uri)},
		}
	}
	c := fake.NewClientBuilder().WithObjects(secret("broker", "amqp://u:p@broker.example"), secret("store", "redis://u:p@store.example")).Build()
	r := &Reconciler{
		direct: c, client: c, secrets: newSecretReaders(), cleaner: cleanup.New(removed), observer: observer.New(observer.Dependencies{Servers: removed}),
	}
	go func() { _ = r.cleaner.Start(t.Context()) }()
	go func() {
		for {
			select {
			case <-r.cleaner.Updates():
			case <-t.Context().Done():
				return
			}
		}
	}()
	return r, c
}

func externalSimulation() *v1alpha1.ParkingSimulation {
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim", UID: "owner-1"}}
	sim.Spec.RabbitMQ.SecretRef = &v1alpha1.SecretReference{Name: "broker"}
	sim.Spec.Redis.SecretRef = &v1alpha1.SecretReference{Name: "store"}
	return sim
}

// awaitCleanup calls cleanUp until the cleanup is done, or a retry would change nothing.
func awaitCleanup(t *testing.T, r *Reconciler, s *scope) cleanupResult {
	t.Helper()
	for ctx := t.Context(); ; {
		result := r.cleanUp(ctx, s)
		if result.Done() || result.final || ctx.Err() != nil {
			return result
		}
		time.Sleep(time.Millisecond)
	}
}

// The cleanup needs only the simulation's name and bindings, so an invalid spec must not prevent it. After the Secrets
// are deleted, it must use the last known bindings.
func TestCleanUp_BindingsKnown_RemovesQueuesAndKeys(t *testing.T) {
	t.Parallel()
	invalid := map[string]func(*v1alpha1.ParkingSimulationSpec){
		"a valid spec": func(*v1alpha1.ParkingSimulationSpec) {},
		"an invalid template": func(s *v1alpha1.ParkingSimulationSpec) {
			s.Processor.Template = &v1alpha1.PodTemplate{}
			s.Processor.Template.Metadata.Annotations = map[string]v1alpha1.AnnotationValue{"a b": "c"}
		},
		"an invalid duration":     func(s *v1alpha1.ParkingSimulationSpec) { s.Duration = new(v1alpha1.Duration("soon")) },
		"a stage without a rate":  func(s *v1alpha1.ParkingSimulationSpec) { s.Entry.Stages = []v1alpha1.Stage{{}} },
		"invalid partitions":      func(s *v1alpha1.ParkingSimulationSpec) { s.RabbitMQ.Partitions = new(int32(-3)) },
		"an unknown queue type":   func(s *v1alpha1.ParkingSimulationSpec) { s.RabbitMQ.QueueType = "Fast" },
		"a text in another field": func(s *v1alpha1.ParkingSimulationSpec) { s.Undecodable = []byte(`{"entry": {"rate": "abc"}}`) },
	}
	for name, edit := range invalid {
		for _, deleted := range []bool{false, true} {
			removed := &removals{}
			r, c := cleaning(t, removed)
			sim := externalSimulation()
			if deleted { // the bindings must be known before the Secrets are deleted
				if err := r.resolveBindings(t.Context(), newScope(sim, time.Now())); err != nil {
					t.Fatal(err)
				}
				if err := c.DeleteAllOf(t.Context(), &corev1.Secret{}, client.InNamespace("default")); err != nil {
					t.Fatal(err)
				}
			}
			edit(&sim.Spec)
			s := newScope(sim, time.Now())
			if (s.invalid == nil) != (name == "a valid spec") {
				t.Fatalf("%s: the spec is invalid: %v", name, s.invalid)
			}
			result := awaitCleanup(t, r, s)
			want := []string{"keys of default.sim on redis://store.example", "queues of default.sim of owner owner-1 on amqp://broker.example"}
			if got := removed.sorted(); !result.Done() || !slices.Equal(got, want) {
				t.Errorf("%s, Secrets deleted: %t: the result is %+v, removed are %q, want %q", name, deleted, result, got, want)
			}
		}
	}
}

// A namespace that is being deleted accepts no new Kubernetes events. Then only the log says which queues and keys
// remain.
func TestAbandonCleanup_EventsAreDiscarded_LogNamesRemainingQueuesAndKeys(t *testing.T) {
	t.Parallel()
	var lines []string
	ctx := log.IntoContext(t.Context(), funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{}))
	r := &Reconciler{events: &events.FakeRecorder{}} // without a channel, a FakeRecorder discards all events
	s := newScope(externalSimulation(), time.Now())
	s.broker, s.store = server{name: "RabbitMQ", origin: "Secret default/broker"}, server{name: "Redis", origin: "Secret default/store"}
	r.abandonCleanup(ctx, s, cleanupResult{Result: cleanup.Result{Queues: context.DeadlineExceeded, Keys: context.DeadlineExceeded}, final: true})
	logged := strings.Join(lines, "\n")
	for _, want := range []string{"Cleanup abandoned", "parking purge --simulation default.sim", "queues parking.default.sim*", "keys parking:{default.sim:*"} {
		if !strings.Contains(logged, want) {
			t.Errorf("the log is %q, want it to contain %q", logged, want)
		}
	}
}

// finalizing returns a reconciler for a deleted simulation with external servers, and the recorder of its events.
func finalizing(t *testing.T, removed *removals, deletedAt time.Time, pods ...client.Object) (*Reconciler, *events.FakeRecorder) {
	t.Helper()
	r, before := cleaning(t, removed)
	secrets := &corev1.SecretList{}
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	if err := before.List(t.Context(), secrets); err != nil {
		t.Fatal(err)
	}
	sim := externalSimulation()
	sim.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete
	sim.Finalizers, sim.DeletionTimestamp = []string{Finalizer}, new(metav1.NewTime(deletedAt))
	recorder := events.NewFakeRecorder(10)
	r.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(sim).WithObjects(pods...).WithLists(secrets).
		WithIndex(&corev1.Pod{}, indexSimulation, labelOf).Build()
	r.kinds, r.databases, r.events = newServedKinds(), newDatabaseFailures(nil), recorder
	r.rehearsals, r.options.CleanupTimeout = rehearsal.New(rehearsal.Dependencies{}), time.Minute
	return r, recorder
}

// The cleanup must wait until the observer's checks have ended, because these checks declare queues.
func TestFinalize_ObserverHasOpenClients_CleanupWaits(t *testing.T) {
	t.Parallel()
	now := time.Now()
	removed := &removals{}
	r, _ := finalizing(t, removed, now)
	sim := &v1alpha1.ParkingSimulation{}
	key := client.ObjectKey{Namespace: "default", Name: "sim"}
	if err := r.client.Get(t.Context(), key, sim); err != nil {
		t.Fatal(err)
	}
	r.observer.Track(key, observer.Target{Plan: &plan.Plan{}}, nil) // no observer runs, so no client is ever closed
	for _, tt := range []struct {
		after time.Duration
		waits bool
	}{{time.Second, true}, {2 * time.Minute, false}} {
		result, err := r.finalize(t.Context(), newScope(sim.DeepCopy(), now.Add(tt.after)))
		if err != nil {
			t.Fatal(err)
		}
		if got := result.RequeueAfter == closeInterval; got != tt.waits {
			t.Errorf("%s after the deletion, the next check is in %s, want the cleanup to wait: %t", tt.after, result.RequeueAfter, tt.waits)
		}
	}
	polltest.Until(t, "the queues and keys are removed", func() bool { return len(removed.sorted()) == 2 })
}

func generatorPod(phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "sim-entry-x", Labels: map[string]string{resources.SimulationLabel: "sim", resources.ComponentLabel: "entry"},
		},
		Status: corev1.PodStatus{Phase: phase},
	}
}

// A generator that is still running may create the queues and keys again. The event must then not say that everything
// was removed.
func TestFinalize_DataIsRemoved_EventSaysWhatWasRemovedAndWhatMayRemain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pods       []client.Object
		otherOwner bool
		reason     string
		want       []string
	}{
		"all pods have ended": {nil, false, "CleanedUp", []string{"Removed the queues and keys of default.sim from its external servers"}},
		"an evicted pod remains": {
			[]client.Object{generatorPod(corev1.PodFailed)}, false, "CleanedUp", []string{"Removed the queues and keys of default.sim"},
		},
		"the queues belong to another simulation": {nil, true, "CleanedUp", []string{"servers, except queues that belong to another simulation of the same name"}},
		"a pod has not ended": {
			[]client.Object{generatorPod(corev1.PodRunning)}, false,
			"CleanupAbandoned", []string{"sim-entry-x", "parking purge --simulation default.sim --rabbitmq-uri URI --redis-uri URI"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			removed := &removals{otherOwner: tt.otherOwner}
			r, recorder := finalizing(t, removed, time.Now().Add(-time.Hour), tt.pods...)
			polltest.Until(t, "the simulation is deleted", func() bool {
				sim := &v1alpha1.ParkingSimulation{}
				err := r.client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "sim"}, sim)
				if apierrors.IsNotFound(err) {
					return true
				}
				if err == nil {
					_, err = r.finalize(t.Context(), newScope(sim, time.Now()))
				}
				if err != nil {
					t.Fatal(err)
				}
				return false
			})
			note := <-recorder.Events
			for _, want := range append(tt.want, tt.reason) {
				if !strings.Contains(note, want) {
					t.Errorf("the event is %q, want it to contain %q", note, want)
				}
			}
			if got := removed.sorted(); len(got) != 2 {
				t.Errorf("removed are %q, want the queues and the keys", got)
			}
		})
	}
}
