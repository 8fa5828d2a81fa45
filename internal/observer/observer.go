package observer

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// pollInterval is the time between two observations of a simulation. It bounds how late the loss and the
	// return of a server are noticed.
	pollInterval = 5 * time.Second
	// drainInterval is the time between two observations of a simulation that is coming to rest.
	drainInterval = 2 * time.Second
	// updateInterval is the shortest time between two updates that only report moved counters. It bounds how
	// often a status is written.
	updateInterval = 15 * time.Second
	// readTimeout bounds one request to a server.
	readTimeout = 8 * time.Second
	// failureDelay is added to the interval for each consecutive failure after the first, up to maxInterval:
	// servers that do not answer leave the workers to others.
	failureDelay = 5 * time.Second
	maxInterval  = 30 * time.Second
	// workers is the number of simulations that are observed at the same time.
	workers = 16
)

// Servers opens clients of a simulation's servers. A client does not connect before it is used.
type Servers interface {
	OpenBroker(p *plan.Plan, at binding.Binding) (broker.Broker, error)
	OpenStore(p *plan.Plan, at binding.Binding) (store.Store, error)
}

// Dependencies are what an Observer works with.
type Dependencies struct {
	Servers   Servers
	Summaries SummaryCounter
}

// Target is a simulation on its servers.
type Target struct {
	// Plan identifies the simulation's queues and keys. Its schedule does not matter.
	Plan *plan.Plan
	// Broker and Store are the bindings of RabbitMQ and Redis.
	Broker, Store binding.Binding
	// Timeline says that the timeline is read with each observation.
	Timeline bool
}

// Draining describes a simulation that is coming to rest.
type Draining struct {
	// SummariesPod is the IP address of the pod of a managed summary API, "" if the summary API is not managed.
	SummariesPod string
	// Deadline is when the observer stops waiting for rest, and concludes with what it has found.
	Deadline time.Time
}

// Observer observes the tracked simulations. It is a manager.Runnable and safe for concurrent use.
type Observer struct {
	servers   Servers
	summaries SummaryCounter
	queue     workqueue.TypedDelayingInterface[types.NamespacedName]
	updates   chan event.TypedGenericEvent[types.NamespacedName]

	mu      sync.Mutex
	tracked map[types.NamespacedName]*simulation
	// replaced are former entries of tracked that may hold connections. The worker that handles the key next
	// closes them.
	replaced map[types.NamespacedName][]*simulation
}

// New returns an Observer. It observes nothing before Start and Track are called.
func New(d Dependencies) *Observer {
	return &Observer{
		servers:   d.Servers,
		summaries: d.Summaries,
		queue:     workqueue.NewTypedDelayingQueue[types.NamespacedName](),
		updates:   make(chan event.TypedGenericEvent[types.NamespacedName]),
		tracked:   map[types.NamespacedName]*simulation{},
		replaced:  map[types.NamespacedName][]*simulation{},
	}
}

// Track observes a simulation from now on. Draining is not nil once the simulation is to come to rest: the observer
// then watches for rest, and concludes when it is reached. A changed target opens new connections.
func (o *Observer) Track(key types.NamespacedName, target Target, draining *Draining) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.tracked[key]
	switch {
	case !ok:
		o.tracked[key] = &simulation{target: target, draining: draining}
	case !reflect.DeepEqual(s.target, target):
		o.replaced[key] = append(o.replaced[key], s)
		o.tracked[key] = &simulation{target: target, draining: draining, latest: s.latest, timeline: s.timeline}
	case !reflect.DeepEqual(s.draining, draining):
		s.draining = draining
	default:
		return
	}
	o.queue.Add(key)
}

// Untrack ends the observation of a simulation and discards its observations.
func (o *Observer) Untrack(key types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := o.tracked[key]; ok {
		delete(o.tracked, key)
		o.replaced[key] = append(o.replaced[key], s)
		o.queue.Add(key)
	}
}

// Latest returns the latest observation that was sent as an update; nil before the first one.
func (o *Observer) Latest(key types.NamespacedName) *Observation {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := o.tracked[key]; ok {
		return s.latest
	}
	return nil
}

// Timeline returns the timeline so far, as it was last read. It is newer than the latest observation, and brings no update.
// It is nil if the target does not ask for it.
func (o *Observer) Timeline(key types.NamespacedName) []timeline.Row {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := o.tracked[key]; ok {
		return s.timeline
	}
	return nil
}

// Updates delivers the key of a simulation each time an observation brings news. It has to be received from
// while Start runs.
func (o *Observer) Updates() <-chan event.TypedGenericEvent[types.NamespacedName] { return o.updates }

// NeedLeaderElection is true: observations are for the status, which only the leader writes.
func (o *Observer) NeedLeaderElection() bool { return true }

// Start observes until ctx ends.
func (o *Observer) Start(ctx context.Context) error {
	defer context.AfterFunc(ctx, o.queue.ShutDown)()
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			for o.next(ctx) {
			}
		})
	}
	work.Wait()
	return o.closeAll()
}

// next handles one key of the queue. It returns false once the queue is shut down.
func (o *Observer) next(ctx context.Context) bool {
	key, shutdown := o.queue.Get()
	if shutdown {
		return false
	}
	defer o.queue.Done(key)
	s, draining, replaced := o.current(key)
	for _, old := range replaced {
		_ = old.close() // its server may no longer exist
	}
	if s == nil {
		return true
	}
	observed := o.observe(ctx, s, draining)
	if o.isNews(s, observed) {
		o.send(ctx, key)
	}
	o.queue.AddAfter(key, interval(draining != nil && observed.Rest == nil, s.failures))
	return true
}

// current returns the simulation to observe, nil if it is no longer tracked, and those to close.
func (o *Observer) current(key types.NamespacedName) (s *simulation, draining *Draining, replaced []*simulation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	replaced = o.replaced[key]
	delete(o.replaced, key)
	if s = o.tracked[key]; s != nil {
		draining = s.draining
	}
	return s, draining, replaced
}

// interval is the time until the next observation. Jitter spreads the simulations over time.
func interval(draining bool, failures int) time.Duration {
	next := pollInterval
	if draining {
		next = drainInterval
	}
	if failures > 1 { // a single failure is often over at once
		next = min(next+time.Duration(failures-1)*failureDelay, maxInterval)
	}
	return next + rand.N(next/10)
}

// isNews reports whether an observation is worth an update, and keeps it if so.
func (o *Observer) isNews(s *simulation, now *Observation) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Timeline != nil {
		s.timeline = now.Timeline
	}
	if before := s.latest; before != nil {
		sameState := sameErrors(before, now) && (before.Rest == nil) == (now.Rest == nil)
		if sameState && (sameCounters(before, now) || now.At.Sub(before.At) < updateInterval) {
			return false
		}
	}
	s.latest = now
	return true
}

func (o *Observer) send(ctx context.Context, key types.NamespacedName) {
	select {
	case o.updates <- event.TypedGenericEvent[types.NamespacedName]{Object: key}:
	case <-ctx.Done():
	}
}

// closeAll closes every connection. The workers have ended.
func (o *Observer) closeAll() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, s := range o.tracked {
		errs = append(errs, s.close())
	}
	for _, replaced := range o.replaced {
		for _, s := range replaced {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}
