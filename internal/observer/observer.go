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
	"github.com/parking-operator/parking-operator/internal/fair"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// pollInterval is the time between two observations of a simulation.
	pollInterval = 5 * time.Second
	// drainInterval is the time between two observations of a simulation after its generators have stopped.
	drainInterval = 2 * time.Second
	// updateInterval is the minimum time between two updates if only numbers have changed. It limits how often the
	// status is written.
	updateInterval = 15 * time.Second
	// probeInterval is the maximum time between two checks of whether the simulation can write to a server (see
	// probe.interval).
	probeInterval = 30 * time.Second
	// readTimeout is the timeout of a request to a server.
	readTimeout = 8 * time.Second
	// failureDelay is added to the time between observations for each consecutive failure except the first. It keeps
	// workers free for simulations whose servers respond.
	failureDelay = 5 * time.Second
	// maxInterval is the maximum time between two observations.
	maxInterval = 30 * time.Second
)

// limits are the maximum numbers of concurrent observations, in total and per namespace. Total is large, because
// observations mostly wait for servers.
var limits = fair.Limits{Total: 128, PerTenant: 16}

// Servers opens clients of a simulation's servers. A client connects when it is used for the first time.
type Servers interface {
	OpenBroker(p *plan.Plan, at binding.Binding) (broker.Broker, error)
	OpenStore(p *plan.Plan, at binding.Binding) (store.Store, error)
}

// Dependencies connect an Observer to the servers and the summary APIs of the simulations.
type Dependencies struct {
	Servers   Servers
	Summaries SummaryCounter
}

// Target says how to reach the servers of a simulation, and what to observe.
type Target struct {
	// Plan identifies the RabbitMQ queues and the Redis keys of the simulation. The schedules in the plan are not used.
	Plan *plan.Plan
	// Broker and Store are the bindings (address and credentials) of RabbitMQ and Redis.
	Broker, Store binding.Binding
	// Timeline requests that each observation contains the timeline.
	Timeline bool
	// ProbeBroker and ProbeStore make the observer check whether the simulation can write to the servers.
	ProbeBroker, ProbeStore bool
}

// Draining describes a simulation whose generators have stopped, and whose remaining events are being processed.
type Draining struct {
	// SummariesPod is the pod of the summary API. The IP address is "" if the operator does not run the summary API.
	SummariesPod podhttp.Server
	// SummariesDown means that the operator runs the summary API, but no pod of it is running. The number of stored
	// summaries is then unknown.
	SummariesDown bool
	// Deadline is when the observer makes the final audit even if some events are not processed. If zero, the observer
	// waits without a limit.
	Deadline time.Time
}

// Observer observes the tracked simulations. A slow server delays only observations in the same namespace. An Observer
// is a manager.Runnable and safe for concurrent use.
type Observer struct {
	servers   Servers
	summaries SummaryCounter
	// queue contains the keys of the simulations to handle. It never returns a key that is being handled.
	queue   workqueue.TypedDelayingInterface[types.NamespacedName]
	pool    *fair.Pool
	updates chan event.TypedGenericEvent[types.NamespacedName]

	mu      sync.Mutex
	tracked map[types.NamespacedName]*simulation
	// toClose contains simulations that are no longer tracked or have a new target. Their connections must be closed.
	toClose map[types.NamespacedName][]*simulation
	// The field handled contains the keys of the simulations that a worker is handling.
	handled map[types.NamespacedName]bool
}

// New returns an Observer. To observe a simulation, call Start once, and Track for the simulation.
func New(d Dependencies) *Observer {
	return &Observer{
		servers:   d.Servers,
		summaries: d.Summaries,
		queue:     workqueue.NewTypedDelayingQueue[types.NamespacedName](),
		pool:      fair.New(limits),
		updates:   make(chan event.TypedGenericEvent[types.NamespacedName]),
		tracked:   map[types.NamespacedName]*simulation{},
		toClose:   map[types.NamespacedName][]*simulation{},
		handled:   map[types.NamespacedName]bool{},
	}
}

// Track starts the observation of a simulation, or changes its target. draining is nil until the generators have
// stopped. The final audit takes place only after draining is set.
func (o *Observer) Track(key types.NamespacedName, target Target, draining *Draining) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.tracked[key]
	switch {
	case !ok:
		o.tracked[key] = &simulation{target: target, draining: draining, marks: newPendingMarks()}
	case !reflect.DeepEqual(s.target, target):
		o.toClose[key] = append(o.toClose[key], s)
		o.tracked[key] = &simulation{target: target, draining: draining, latest: s.latest, timeline: s.timeline, marks: s.marks}
	case !reflect.DeepEqual(s.draining, draining):
		s.draining = draining
	default:
		return
	}
	o.queue.Add(key)
}

// Untrack stops the observation of a simulation and discards its observations. An observation may still be in progress
// until IsClosed returns true.
func (o *Observer) Untrack(key types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := o.tracked[key]; ok {
		delete(o.tracked, key)
		o.toClose[key] = append(o.toClose[key], s)
		o.queue.Add(key)
	}
}

// IsClosed reports whether a simulation is not tracked and all of its clients are closed. Until then, an observation
// may still declare queues.
func (o *Observer) IsClosed(key types.NamespacedName) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tracked[key] == nil && len(o.toClose[key]) == 0 && !o.handled[key]
}

// Latest returns the observation that the latest update announced, or nil if there has been no update yet.
func (o *Observer) Latest(key types.NamespacedName) *Observation {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := o.tracked[key]; ok {
		return s.latest
	}
	return nil
}

// Timeline returns the timeline that was last read, which may be newer than Latest. It is nil without Target.Timeline.
func (o *Observer) Timeline(key types.NamespacedName) []timeline.Row {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := o.tracked[key]; ok {
		return s.timeline
	}
	return nil
}

// MarkFailed records in the timeline that checks have failed and cannot pass any more. Each check gets at most one
// mark.
func (o *Observer) MarkFailed(key types.NamespacedName, at time.Time, failed []ledger.Check) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := o.tracked[key]; ok {
		s.marks.marker.Failed(at, failed)
	}
}

// Updates returns a channel with the keys of simulations whose observation has changed. The caller must receive from
// the channel while Start is running.
func (o *Observer) Updates() <-chan event.TypedGenericEvent[types.NamespacedName] { return o.updates }

// NeedLeaderElection returns true, because observations are needed only to write the status, and only the leader writes
// the status.
func (o *Observer) NeedLeaderElection() bool { return true }

// Start observes the tracked simulations until ctx ends.
func (o *Observer) Start(ctx context.Context) error {
	defer context.AfterFunc(ctx, o.queue.ShutDown)()
	for {
		key, shutdown := o.queue.Get()
		if shutdown {
			break
		}
		o.pool.Go(key.Namespace, func() { o.handle(ctx, key) })
	}
	o.pool.Wait()
	return o.closeAll()
}

// handle observes a simulation, and closes the connections that are no longer needed.
func (o *Observer) handle(ctx context.Context, key types.NamespacedName) {
	defer o.done(key)
	s, draining, replaced := o.current(key)
	for _, old := range replaced {
		_ = old.close() // ignore the error: the server may no longer exist
	}
	if s == nil {
		return
	}
	observed := o.observe(ctx, s, draining)
	if o.isNews(s, observed) {
		o.send(ctx, key)
	}
	o.queue.AddAfter(key, interval(draining != nil && observed.Rest == nil, s.failures))
}

// current returns the simulation to observe, or nil if it is no longer tracked. The caller must close the connections
// of the replaced simulations.
func (o *Observer) current(key types.NamespacedName) (s *simulation, draining *Draining, replaced []*simulation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handled[key] = true
	replaced = o.toClose[key]
	delete(o.toClose, key)
	if s = o.tracked[key]; s != nil {
		draining = s.draining
	}
	return s, draining, replaced
}

// done records that a worker no longer handles the simulation with this key.
func (o *Observer) done(key types.NamespacedName) {
	o.mu.Lock()
	delete(o.handled, key)
	o.mu.Unlock()
	o.queue.Done(key)
}

// interval returns the time until the next observation. Jitter spreads the observations of many simulations.
func interval(draining bool, failures int) time.Duration {
	next := pollInterval
	if draining {
		next = drainInterval
	}
	if failures > 1 { // a single failure is often transient, so only successive failures delay the next observation
		next = min(next+time.Duration(failures-1)*failureDelay, maxInterval)
	}
	return next + rand.N(next/10)
}

// isNews reports whether an update must be sent. If so, it stores the observation as the latest one.
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

// closeAll closes all connections. It must be called only when no simulation is being handled.
func (o *Observer) closeAll() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, s := range o.tracked {
		errs = append(errs, s.close())
	}
	for _, replaced := range o.toClose {
		for _, s := range replaced {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}
