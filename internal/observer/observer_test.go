package observer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/store"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// fakeServers opens fake brokers and stores, which a test can make fail.
type fakeServers struct {
	mu                  sync.Mutex
	brokerErr, storeErr error
	unusable            error
	probes              int
	depths              broker.Depths
	opened, closed      int // how many clients were opened, and how many were closed
	asked               []string
	countErr            error
}

func (f *fakeServers) set(change func(*fakeServers)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeServers) OpenBroker(*plan.Plan, binding.Binding) (broker.Broker, error) {
	f.set(func(f *fakeServers) { f.opened++ })
	return fakeBroker{servers: f}, nil
}

func (f *fakeServers) OpenStore(p *plan.Plan, _ binding.Binding) (store.Store, error) {
	f.set(func(f *fakeServers) { f.opened++ })
	return fakeStore{Store: memorystore.New(memorystore.Config{Partitions: p.Partitions}), servers: f}, nil
}

func (f *fakeServers) CountSummaries(_ context.Context, pod podhttp.Server) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, pod.IP)
	return 0, f.countErr
}

type fakeBroker struct {
	broker.Broker // nil, because the observer calls only the methods that fakeBroker overrides

	servers *fakeServers
}

func (b fakeBroker) Depths(context.Context) (broker.Depths, error) {
	b.servers.mu.Lock()
	defer b.servers.mu.Unlock()
	return b.servers.depths, b.servers.brokerErr
}

func (b fakeBroker) Probe(context.Context) error { return b.servers.probe() }

func (f *fakeServers) probe() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probes++
	return f.unusable
}

func (b fakeBroker) DeadLetterReasons(context.Context, int) ([]broker.ReasonCount, error) {
	return []broker.ReasonCount{{Reason: broker.Reason{Stage: "parse"}, Count: 1}}, nil
}

func (b fakeBroker) Version(context.Context) (string, error) { return "RabbitMQ 4.1.2", nil }

func (b fakeBroker) Close() error {
	b.servers.set(func(f *fakeServers) { f.closed++ })
	return nil
}

type fakeStore struct {
	*memorystore.Store

	servers *fakeServers
}

func (s fakeStore) Check(context.Context) error { return s.servers.probe() }

func (s fakeStore) Counts(ctx context.Context) (store.Counts, error) {
	s.servers.mu.Lock()
	err := s.servers.storeErr
	s.servers.mu.Unlock()
	if err != nil {
		return store.Counts{}, err
	}
	return s.Store.Counts(ctx)
}

func (s fakeStore) Close() error {
	s.servers.set(func(f *fakeServers) { f.closed++ })
	return nil
}

var key = types.NamespacedName{Namespace: "default", Name: "sim"}

func target() Target {
	return Target{Plan: &plan.Plan{Simulation: "default.sim", Partitions: 1}}
}

// observed runs a test with a running Observer, in the fake time of package synctest.
func observed(t *testing.T, test func(t *testing.T, o *Observer, f *fakeServers)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeServers{}
		o := New(Dependencies{Servers: f, Summaries: f})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Start(ctx) }()
		test(t, o, f)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Start returned %v", err)
		}
		if f.opened != f.closed {
			t.Errorf("%d clients were opened, %d closed", f.opened, f.closed)
		}
	})
}

// next waits for the next update of the Observer. It returns the latest observation, and the duration of the wait.
func next(t *testing.T, o *Observer) (*Observation, time.Duration) {
	t.Helper()
	began := time.Now()
	select {
	case update := <-o.Updates():
		if update.Object != key {
			t.Errorf("the update is about %s", update.Object)
		}
	case <-time.After(time.Hour):
		t.Fatal("there is no update")
	}
	return o.Latest(key), time.Since(began)
}

func TestObserver_SendsAnUpdateOnlyIfTheObservationHasChanged(t *testing.T) {
	t.Parallel()
	observed(t, func(t *testing.T, o *Observer, f *fakeServers) {
		o.Track(key, target(), nil)
		if first, _ := next(t, o); first.Err() != nil {
			t.Fatalf("the first observation failed: %v", first.Err())
		}
		select {
		case <-o.Updates():
			t.Error("an update was sent, although nothing has changed")
		case <-time.After(time.Minute):
		}
		f.set(func(f *fakeServers) { f.depths.Ready = 7 })
		if now, _ := next(t, o); now.Depths.Ready != 7 {
			t.Errorf("the depths are %+v", now.Depths)
		}
		f.set(func(f *fakeServers) { f.depths.Ready = 8 })
		if _, after := next(t, o); after < updateInterval-pollInterval {
			t.Errorf("changed counters were reported after %v, want at most one update per %v", after, updateInterval)
		}
		f.set(func(f *fakeServers) { f.depths.Dead = 1 })
		if now, _ := next(t, o); len(now.DeadReasons) != 1 {
			t.Errorf("the reasons of dead letters are %v", now.DeadReasons)
		}
	})
}

func TestObserverMarkFailed_SameCheckFailsTwice_StoresOneMark(t *testing.T) {
	t.Parallel()
	observed(t, func(t *testing.T, o *Observer, f *fakeServers) {
		watched := target()
		watched.Timeline = true
		failed := func(names ...string) (checks []ledger.Check) {
			for _, name := range names {
				checks = append(checks, ledger.Check{Name: name, Message: "it failed"})
			}
			return checks
		}
		start := time.Now()
		f.set(func(f *fakeServers) { f.storeErr = errors.New("down") }) // makes storing marks fail
		o.Track(key, watched, nil)
		next(t, o)
		o.MarkFailed(key, start, failed(ledger.CheckDeadLetters))
		f.set(func(f *fakeServers) { f.storeErr = nil })
		next(t, o)
		o.MarkFailed(key, start.Add(time.Minute), failed(ledger.CheckDeadLetters, ledger.CheckUnexpected))
		time.Sleep(time.Minute)
		want := []timeline.Mark{
			{At: start, Kind: timeline.MarkObjective, Subject: ledger.CheckDeadLetters, Message: "it failed"},
			{At: start.Add(time.Minute), Kind: timeline.MarkObjective, Subject: ledger.CheckUnexpected, Message: "it failed"},
		}
		var marks []timeline.Mark
		for _, row := range o.Timeline(key) {
			marks = append(marks, row.Marks...)
		}
		if diff := cmp.Diff(want, marks); diff != "" {
			t.Errorf("the marks differ (-want +got):\n%s", diff)
		}
	})
}

func TestObserver_ServerFails_SendsAnUpdateWithinTwoPollIntervals(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	observed(t, func(t *testing.T, o *Observer, f *fakeServers) {
		o.Track(key, target(), nil)
		next(t, o)
		f.set(func(f *fakeServers) { f.brokerErr = refused })
		now, after := next(t, o)
		if !errors.Is(now.BrokerErr, refused) || now.StoreErr != nil || after > 2*pollInterval {
			t.Errorf("after %v, the errors of the broker and the store are %v and %v, want only the broker's", after, now.BrokerErr, now.StoreErr)
		}
		f.set(func(f *fakeServers) { f.brokerErr, f.storeErr = nil, refused })
		if now, _ = next(t, o); !errors.Is(now.StoreErr, refused) || now.BrokerErr != nil {
			t.Errorf("the errors of the broker and the store are %v and %v, want only the store's", now.BrokerErr, now.StoreErr)
		}
	})
}

func TestObserver_ServersRejectWrites_ObservationIsCompleteButServersAreUnusable(t *testing.T) {
	t.Parallel()
	refused := errors.New("out of memory")
	observed(t, func(t *testing.T, o *Observer, f *fakeServers) {
		f.set(func(f *fakeServers) { f.unusable, f.depths.Ready = refused, 7 })
		external := target()
		external.ProbeBroker, external.ProbeStore = true, true
		o.Track(key, external, nil)
		now, _ := next(t, o)
		if now.Err() != nil || now.Depths.Ready != 7 || !errors.Is(now.BrokerUnusable, refused) || !errors.Is(now.StoreUnusable, refused) {
			t.Errorf("the observation is %+v", now)
		}
		f.set(func(f *fakeServers) { f.unusable = nil })
		if now, after := next(t, o); now.BrokerUnusable != nil || now.StoreUnusable != nil || after > 2*pollInterval {
			t.Errorf("after %v, BrokerUnusable and StoreUnusable are %v and %v, want nil", after, now.BrokerUnusable, now.StoreUnusable)
		}
		f.set(func(f *fakeServers) { f.probes = 0 })
		time.Sleep(10 * probeInterval)
		f.set(func(f *fakeServers) {
			if f.probes > 20 {
				t.Errorf("usable servers were checked %d times in %v, want at most 20", f.probes, 10*probeInterval)
			}
			f.unusable = refused
		})
		if now, after := next(t, o); !errors.Is(now.StoreUnusable, refused) || after > probeInterval+pollInterval {
			t.Errorf("after %v, StoreUnusable is %v, want the error of the check", after, now.StoreUnusable)
		}
		f.set(func(f *fakeServers) { f.probes = 0 })
		time.Sleep(10 * probeInterval)
		f.set(func(f *fakeServers) {
			if f.probes > 30 {
				t.Errorf("unusable servers were checked %d times in %v, want at most 30", f.probes, 10*probeInterval)
			}
		})
		// Once the generators have stopped, the observer no longer checks whether the servers accept writes.
		o.Track(key, external, &Draining{})
		if now, _ := next(t, o); now.StoreUnusable != nil {
			t.Errorf("StoreUnusable is %v after the generators have stopped, want nil", now.StoreUnusable)
		}
	})
}

func TestObserver_AllEventsProcessed_MakesTheFinalAudit(t *testing.T) {
	t.Parallel()
	observed(t, func(t *testing.T, o *Observer, f *fakeServers) {
		f.set(func(f *fakeServers) { f.depths.Ready = 3 })
		o.Track(key, target(), &Draining{SummariesPod: podhttp.Server{IP: "10.0.0.1"}})
		if now, _ := next(t, o); now.Rest != nil {
			t.Error("the final audit was made while messages were queued")
		}
		f.set(func(f *fakeServers) { f.depths.Ready, f.countErr = 0, errors.New("pod 10.0.0.1 does not answer") })
		for o.Latest(key).Rest == nil {
			next(t, o)
		}
		rest := o.Latest(key).Rest
		if !rest.Report.AtRest || rest.Summaries.Err == nil || len(f.asked) != concludeAttempts {
			t.Errorf("after %d attempts, Rest is %+v, want Rest after %d attempts, with the error of the pod", len(f.asked), rest, concludeAttempts)
		}
	})
}

func TestObserver_NoPodOfTheSummaryAPIRuns_NumberOfSummariesIsUnknown(t *testing.T) {
	t.Parallel()
	observed(t, func(t *testing.T, o *Observer, _ *fakeServers) {
		o.Track(key, target(), &Draining{SummariesDown: true})
		for o.Latest(key) == nil || o.Latest(key).Rest == nil {
			next(t, o)
		}
		if rest := o.Latest(key).Rest; rest.Summaries == nil || rest.Summaries.Err == nil {
			t.Errorf("Rest.Summaries is %+v, want an error", rest.Summaries)
		}
	})
}

func TestObserver_DeadlinePasses_MakesTheFinalAudit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fail    func(*fakeServers)
		ledgers bool // whether the audit can read the ledger
	}{
		"a message that stays in its queue": {func(f *fakeServers) { f.depths.Ready = 1 }, true},
		"a broker that does not answer":     {func(f *fakeServers) { f.brokerErr = errors.New("refused") }, true},
		"a store that does not answer":      {func(f *fakeServers) { f.storeErr = errors.New("refused") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			observed(t, func(t *testing.T, o *Observer, f *fakeServers) {
				f.set(tt.fail)
				deadline := time.Now().Add(10 * time.Minute)
				o.Track(key, target(), &Draining{SummariesPod: podhttp.Server{IP: "10.0.0.1"}, Deadline: deadline})
				for o.Latest(key) == nil || o.Latest(key).Rest == nil {
					next(t, o)
				}
				now := o.Latest(key)
				if late := now.At.Sub(deadline); late < 0 || late > 2*maxInterval {
					t.Errorf("the observer gave up %v after the deadline", late)
				}
				if rest := now.Rest; !rest.TimedOut || rest.Report.AtRest || (rest.Err == nil) != tt.ledgers {
					t.Errorf("Rest is %+v", rest)
				}
			})
		})
	}
}

func TestObserver_DeadlineAlreadyPassed_FirstChecksWhetherEventsRemain(t *testing.T) {
	t.Parallel()
	observed(t, func(t *testing.T, o *Observer, _ *fakeServers) {
		o.Track(key, target(), &Draining{Deadline: time.Now().Add(-time.Hour)}) // the deadline passed while the operator was not running
		for o.Latest(key) == nil || o.Latest(key).Rest == nil {
			next(t, o)
		}
		if rest := o.Latest(key).Rest; rest.TimedOut || !rest.Report.AtRest {
			t.Errorf("Rest is %+v, want the result for a simulation at rest", rest)
		}
	})
}

func TestObserver_TargetChanges_OpensNewClients(t *testing.T) {
	t.Parallel()
	observed(t, func(t *testing.T, o *Observer, f *fakeServers) {
		o.Track(key, target(), nil)
		next(t, o)
		other := target()
		other.Broker.CA = []byte("other")
		o.Track(key, other, nil)
		if o.Latest(key) == nil {
			t.Error("the latest observation was dropped")
		}
		<-time.After(time.Minute)
		o.Track(key, other, nil)
		f.mu.Lock()
		if f.opened != 4 || f.closed != 2 {
			t.Errorf("%d clients were opened and %d were closed, want 4 and 2", f.opened, f.closed)
		}
		f.mu.Unlock()
		o.Untrack(key)
		synctest.Wait()
		if o.Latest(key) != nil || f.closed != 4 {
			t.Errorf("after Untrack, the latest observation is %+v and %d clients are closed, want nil and 4", o.Latest(key), f.closed)
		}
	})
}

// hangingStore hangs until ctx ends, like a store on a server that does not answer.
type hangingStore struct{ fakeStore }

func (hangingStore) Counts(ctx context.Context) (store.Counts, error) {
	<-ctx.Done()
	return store.Counts{}, ctx.Err()
}

// hangingServers opens a hangingStore for each simulation in the namespace "dead".
type hangingServers struct{ *fakeServers }

func (h hangingServers) OpenStore(p *plan.Plan, at binding.Binding) (store.Store, error) {
	opened, err := h.fakeServers.OpenStore(p, at)
	if fake, ok := opened.(fakeStore); ok && strings.HasPrefix(p.Simulation, "dead.") {
		return hangingStore{fake}, err
	}
	return opened, err
}

// Even if the servers of one tenant do not answer, the status of other tenants' simulations must stay up to date.
func TestObserver_ServersOfANamespaceHang_OtherNamespacesAreObservedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeServers{}
		o := New(Dependencies{Servers: hangingServers{f}, Summaries: f})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- o.Start(ctx) }()
		for n := range 500 {
			name := fmt.Sprint("sim", n)
			o.Track(types.NamespacedName{Namespace: "dead", Name: name}, Target{Plan: &plan.Plan{Simulation: "dead." + name, Partitions: 1}}, nil)
		}
		time.Sleep(time.Minute)
		began, healthy := time.Now(), types.NamespacedName{Namespace: "healthy", Name: "sim"}
		o.Track(healthy, Target{Plan: &plan.Plan{Simulation: "healthy.sim", Partitions: 1}}, nil)
		for update := range o.Updates() {
			if update.Object == healthy {
				break
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the first observation came after %v, want it at once", took)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Start returned %v", err)
		}
	})
}

// A cleanup must not begin during an observation. The observation might declare queues, which the cleanup would then
// miss.
func TestObserver_IsClosedDuringAnObservation_ReturnsFalseUntilTheClientsAreClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeServers{}
		o := New(Dependencies{Servers: hangingServers{f}, Summaries: f})
		dead := types.NamespacedName{Namespace: "dead", Name: "sim"}
		if !o.IsClosed(dead) {
			t.Error("IsClosed returns false for a simulation that was never tracked")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = o.Start(ctx) }()
		go func() {
			for {
				select {
				case <-o.Updates():
				case <-ctx.Done():
					return
				}
			}
		}()
		hanging := target()
		hanging.Plan.Simulation = "dead.sim"
		o.Track(dead, hanging, nil)
		synctest.Wait() // wait until the observation hangs
		o.Untrack(dead)
		synctest.Wait()
		if o.IsClosed(dead) {
			t.Error("IsClosed returns true while an observation is in progress")
		}
		time.Sleep(time.Minute) // long enough for the observation to time out
		if !o.IsClosed(dead) || f.closed != 2 {
			t.Errorf("IsClosed returns %t and %d clients are closed, want true and 2", o.IsClosed(dead), f.closed)
		}
		stop()
		<-ended
	})
}
