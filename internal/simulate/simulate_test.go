package simulate

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/broker"
	memorybroker "github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
)

// counter is a summary API that counts identifiers.
type counter struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (c *counter) Post(_ context.Context, s event.Summary) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[s.ID] = true
	return nil
}

func (c *counter) held(context.Context) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.seen)), nil
}

// tamper is a broker that does something to what is published.
type tamper struct {
	broker.Broker

	publish func(ctx context.Context, b broker.Broker, q broker.Queue, msg broker.Message, confirmed func()) error
}

func (b *tamper) Publish(ctx context.Context, q broker.Queue, msg broker.Message, confirmed func()) error {
	return b.publish(ctx, b.Broker, q, msg, confirmed)
}

// testPlan is that of a simulation that takes two seconds.
func testPlan() plan.Plan {
	return plan.Plan{
		Simulation: "test.simulation",
		Seed:       7,
		Duration:   plan.Duration(2 * time.Second),
		Partitions: 2,
		Entry:      plan.Entry{Schedule: plan.Schedule{Rate: 500, Arrivals: plan.ArrivalsUniform, Replicas: 3}},
		Exit: plan.Exit{
			Schedule:     plan.Schedule{Rate: 400, Arrivals: plan.ArrivalsUniform, Replicas: 2},
			MatchPercent: 50,
			MinStay:      plan.Duration(50 * time.Millisecond),
		},
		MaxStay:   plan.Duration(time.Hour),
		Processor: plan.Processor{Concurrency: 16},
	}
}

// inMemory returns the options of a simulation in memory.
func inMemory(t *testing.T) Options {
	t.Helper()
	p := testPlan()
	b, err := memorybroker.New(memorybroker.Options{Partitions: p.Partitions})
	if err != nil {
		t.Fatal(err)
	}
	s := memorystore.New(p.Partitions)
	t.Cleanup(func() {
		if err := errors.Join(b.Close(), s.Close()); err != nil && !errors.Is(err, broker.ErrClosed) {
			t.Error(err)
		}
	})
	api := &counter{seen: map[string]bool{}}
	return Options{
		Plan: p, Broker: b, Store: s, Poster: api, SummariesHeld: api.held,
		Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	}
}

func run(t *testing.T, o Options) Result {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := s.Run(t.Context())
	for _, reason := range r.Reasons {
		if strings.Contains(reason, "\n") || strings.Contains(reason, context.Canceled.Error()) {
			t.Errorf("this is not a reason on one line: %q", reason)
		}
	}
	return r
}

func TestASoundSimulationPasses(t *testing.T) {
	t.Parallel()
	r := run(t, inMemory(t))
	l := r.Ledger
	if r.Outcome != ledger.Pass {
		t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
	}
	if l.EntriesRecorded != l.EntriesConfirmed || l.Matched != l.ExitsMatchedConfirmed || l.UnmatchedExpected != l.ExitsUnmatchedConfirmed ||
		l.SummariesStored != l.Matched || l.Matched == 0 || l.UnmatchedExpected == 0 {
		t.Errorf("the ledger is %+v", l)
	}
	if r.Rates.Entry.Target < 490 || r.Rates.Entry.Target > 510 {
		t.Errorf("the target of all replicas is %v entries/s, want 500", r.Rates.Entry.Target)
	}
}

func TestTheSameSeedPublishesTheSamePlates(t *testing.T) {
	t.Parallel()
	plates := func() (entries, unmatched []string) {
		var mu sync.Mutex
		o := inMemory(t)
		o.Broker = &tamper{o.Broker, func(ctx context.Context, b broker.Broker, q broker.Queue, msg broker.Message, confirmed func()) error {
			mu.Lock()
			defer mu.Unlock()
			if q.Type == event.TypeEntry {
				e, err := event.ParseEntry(msg.Body)
				entries = append(entries, e.Plate)
				return errors.Join(err, b.Publish(ctx, q, msg, confirmed))
			}
			e, err := event.ParseExit(msg.Body)
			if msg.Intent == event.IntentUnmatched {
				unmatched = append(unmatched, e.Plate)
			}
			return errors.Join(err, b.Publish(ctx, q, msg, confirmed))
		}}
		run(t, o)
		return entries, unmatched
	}
	entries1, unmatched1 := plates()
	entries2, unmatched2 := plates()
	for _, pair := range [][2][]string{{entries1, entries2}, {unmatched1, unmatched2}} {
		n := min(len(pair[0]), len(pair[1])) // the moment of the end is not the seed's
		if n < 100 {
			t.Fatalf("only %d plates to compare", n)
		}
		if diff := cmp.Diff(pair[0][:n], pair[1][:n]); diff != "" {
			t.Errorf("plates differ (-first +second):\n%s", diff)
		}
	}
}

func TestAnEventThatTheBrokerLosesIsNamed(t *testing.T) {
	t.Parallel()
	var lost string
	o := inMemory(t)
	o.Broker = &tamper{o.Broker, func(ctx context.Context, b broker.Broker, q broker.Queue, msg broker.Message, confirmed func()) error {
		if id, ok := event.ParseID(msg.ID); ok && q.Type == event.TypeEntry && q.Partition == 1 && id.Seq == 20 {
			lost = msg.ID
			confirmed()
			return nil
		}
		return b.Publish(ctx, q, msg, confirmed)
	}}
	o.Plan.Exit.Rate = 0 // else the exit of the lost entry would look for it for minutes
	r := run(t, o)
	if r.Outcome != ledger.Fail || r.Ledger.Lost != 1 || !slices.Equal(r.Ledger.LostEvents, []string{lost}) {
		t.Errorf("verdict is %s %q, lost %q, want %q", r.Outcome, r.Reasons, r.Ledger.LostEvents, lost)
	}
}

func TestEventsThatArePublishedTwiceCountOnce(t *testing.T) {
	t.Parallel()
	o := inMemory(t)
	o.Broker = &tamper{o.Broker, func(ctx context.Context, b broker.Broker, q broker.Queue, msg broker.Message, confirmed func()) error {
		return errors.Join(b.Publish(ctx, q, msg, func() {}), b.Publish(ctx, q, msg, confirmed))
	}}
	r := run(t, o)
	if r.Outcome != ledger.Pass {
		t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
	}
	if r.Ledger.DuplicatesSuppressed < r.Ledger.EntriesConfirmed {
		t.Errorf("%d duplicates suppressed of %d entries that came twice", r.Ledger.DuplicatesSuppressed, r.Ledger.EntriesConfirmed)
	}
}

func TestTheReasonsOfDeadLettersAreInTheVerdict(t *testing.T) {
	t.Parallel()
	o := inMemory(t)
	spoilt := broker.Message{ID: "spoilt", Type: event.TypeEntry, Body: []byte(`{"id":""}`)}
	if err := o.Broker.Publish(t.Context(), broker.Queue{Type: event.TypeEntry}, spoilt, func() {}); err != nil {
		t.Fatal(err)
	}
	r := run(t, o)
	if want := "1 event was dead-lettered: 1 × parse: entry event: field id: empty"; !slices.Contains(r.Reasons, want) {
		t.Errorf("the reasons are %q, want %q among them", r.Reasons, want)
	}
}

func TestASimulationThatDoesNotComeToRestSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	o := inMemory(t)
	o.Poster, o.SummariesHeld = refusing{}, nil
	o.DrainTimeout = 300 * time.Millisecond
	r := run(t, o)
	reasons := strings.Join(r.Reasons, "\n")
	if r.Outcome != ledger.Fail || !strings.Contains(reasons, "did not come to rest within the drain timeout of 300ms") || !strings.Contains(reasons, "in processors") {
		t.Errorf("verdict is %s:\n%s", r.Outcome, reasons)
	}
	if r.Ledger.Lost != 0 {
		t.Errorf("%d events that wait are called lost", r.Ledger.Lost)
	}
}

// refusing is a summary API that is down.
type refusing struct{}

func (refusing) Post(context.Context, event.Summary) error { return errors.New("down") }

// deaf is a broker that cannot be consumed from.
type deaf struct{ broker.Broker }

func (deaf) Consume(context.Context, broker.Queue, int) (<-chan broker.Delivery, error) {
	return nil, errors.New("nobody may listen")
}

func TestAProcessorThatFailsEndsTheSimulation(t *testing.T) {
	t.Parallel()
	o := inMemory(t)
	o.Broker = deaf{o.Broker}
	o.Plan.Duration = 0 // it would go on for ever
	r := run(t, o)
	if r.Outcome != ledger.Fail || !strings.Contains(strings.Join(r.Reasons, "\n"), "nobody may listen") {
		t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
	}
}

// illegible is a store whose ledger cannot be read.
type illegible struct{ store.Store }

func (illegible) Counts(context.Context) (store.Counts, error) {
	return store.Counts{}, errors.Join(errors.New("no answer"), errors.New("none at all"))
}

func TestALedgerThatCannotBeReadFailsTheSimulation(t *testing.T) {
	t.Parallel()
	o := inMemory(t)
	o.Store = illegible{o.Store}
	r := run(t, o)
	if r.Outcome != ledger.Fail || r.Ledger != nil || len(r.Reasons) != 1 ||
		!strings.Contains(r.Reasons[0], "the ledger cannot be read") || !strings.Contains(r.Reasons[0], "no answer; none at all") {
		t.Errorf("verdict is %s %q, ledger %+v", r.Outcome, r.Reasons, r.Ledger)
	}
	if r.Rates.Entry.Achieved == 0 {
		t.Error("what is known is not in the result")
	}
}

// dead is a store that no event comes to any more.
type dead struct {
	store.Store

	after time.Time
}

func (d dead) RecordEntry(ctx context.Context, s store.EntryStep) (store.Result, error) {
	if time.Now().After(d.after) {
		return "", store.ErrUnavailable
	}
	return d.Store.RecordEntry(ctx, s)
}

func (d dead) Confirm(ctx context.Context, c store.Confirmation) (int64, error) {
	if time.Now().After(d.after) {
		return 0, store.ErrUnavailable
	}
	return d.Store.Confirm(ctx, c)
}

func (d dead) Counts(ctx context.Context) (store.Counts, error) {
	<-ctx.Done() // it hangs
	return store.Counts{}, ctx.Err()
}

func TestTheDrainTimeoutBoundsAllThatComesAfterTheSchedule(t *testing.T) {
	t.Parallel()
	o := inMemory(t)
	o.Store = dead{o.Store, time.Now().Add(time.Second)}
	o.DrainTimeout = 2 * time.Second
	begin := time.Now()
	r := run(t, o)
	if r.Outcome != ledger.Fail || r.Ledger != nil {
		t.Errorf("verdict is %s %q, ledger %+v", r.Outcome, r.Reasons, r.Ledger)
	}
	if r.ElapsedSeconds != 2 || r.DrainSeconds == 0 {
		t.Errorf("the generators ran for %v s, and %v s passed to rest, of a schedule of 2 s", r.ElapsedSeconds, r.DrainSeconds)
	}
	// Without the bound it would take the shutdown of the generators, the rest, the end of the processor, and
	// the audit, each of them as long as the drain timeout or half a minute.
	const generous = 20 * time.Second
	if took := time.Since(begin); took > generous {
		t.Errorf("it took %s", took)
	}
}

// mute is a broker that does not count, or says that there are ten messages.
type mute struct {
	broker.Broker

	err error
}

func (m mute) Depths(context.Context) (broker.Depths, error) { return broker.Depths{Ready: 10}, m.err }

func TestWhatABrokerDoesNotSayIsUnknown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		err      error
		want     *broker.Depths
		holdsAll bool
	}{
		{"it does not answer", errors.New("unreachable"), nil, false},
		{"it counts what is not delivered", nil, &broker.Depths{Ready: 10}, false},
		{"it counts what processors hold as well", nil, &broker.Depths{Ready: 10}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := inMemory(t)
			o.Broker, o.DepthsHoldInFlight = mute{o.Broker, tt.err}, tt.holdsAll
			s, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			s.observeServers(t.Context())
			if diff := cmp.Diff(tt.want, s.Progress().Depths); diff != "" {
				t.Errorf("depths differ (-want +got):\n%s", diff)
			}
			if depths, err := s.depths(t.Context(), 4); err == nil && tt.holdsAll && depths.Ready != 6 {
				t.Errorf("%d messages wait beside the 4 that processors hold of 10", depths.Ready)
			}
		})
	}
}

func TestTheVerdictSaysThatABrokerThatIsGoneCannotBeAsked(t *testing.T) {
	t.Parallel()
	o := inMemory(t)
	o.Broker, o.DrainTimeout = mute{o.Broker, errors.New("unreachable")}, time.Second
	r := run(t, o)
	reasons := strings.Join(r.Reasons, "\n")
	if r.Outcome != ledger.Fail || !strings.Contains(reasons, "nobody knows what waits in the queues: unreachable") || strings.Contains(reasons, "0 messages wait") {
		t.Errorf("verdict is %s:\n%s", r.Outcome, reasons)
	}
}

// forgetful is a store that has lost data.
type forgetful struct{ store.Store }

func (forgetful) Dataset(context.Context) (store.Dataset, error) {
	return store.Dataset{LostAt: time.Unix(1, 0)}, nil
}

func TestALossOfDataEndsTheWayToRestAndIsTheOnlyReason(t *testing.T) {
	t.Parallel()
	o := inMemory(t)
	o.Store, o.Poster, o.SummariesHeld = forgetful{o.Store}, refusing{}, nil
	o.DrainTimeout = time.Hour // which a poster that refuses would use
	r := run(t, o)
	if r.Outcome != ledger.Fail || len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], "the store has lost data") {
		t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
	}
}

func TestTheEndOfTheContextEndsWithAVerdict(t *testing.T) {
	t.Parallel()
	o := inMemory(t)
	o.Plan.Duration = 0
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		deadline := time.After(time.Minute)
		for s.Progress().Done.Processed() < 500 {
			select {
			case <-deadline:
				return
			default:
				runtime.Gosched()
			}
		}
	}()
	r := s.Run(ctx)
	if r.Outcome != ledger.Pass || r.Ledger.EntriesRecorded == 0 {
		t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
	}
	if p := s.Progress(); p.Phase != Auditing || p.Entries.Published == 0 || p.Elapsed == 0 {
		t.Errorf("progress at the end is %+v", p)
	}
}

func TestRun_ObjectiveThatWasNotMeasured_Fails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := inMemory(t)
		o.Plan.Entry.Rate, o.Plan.Exit.Rate = 0, 0
		o.Plan.Objectives.EndToEndP99 = plan.Duration(time.Millisecond)
		r := run(t, o)
		want := []string{"end-to-end p99 is unknown, so the objective of 1ms is not met: no event was measured"}
		if diff := cmp.Diff(want, r.Reasons); r.Outcome != ledger.Fail || diff != "" {
			t.Errorf("verdict is %s, reasons (-want +got):\n%s", r.Outcome, diff)
		}
		if r.LatencySeconds != (Latencies{}) {
			t.Errorf("latencies are %+v, want none", r.LatencySeconds)
		}
	})
}

func TestRun_ScheduleThatWasNotKept_Fails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := inMemory(t)
		o.Broker = &tamper{o.Broker, func(ctx context.Context, _ broker.Broker, _ broker.Queue, _ broker.Message, _ func()) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		o.Plan.Exit.Rate = 0
		r := run(t, o)
		want := []string{"the schedule of the entries was not kept: 1000 of 1000 due events were missed (100 %)"}
		if diff := cmp.Diff(want, r.Reasons); r.Outcome != ledger.Fail || diff != "" {
			t.Errorf("verdict is %s, reasons (-want +got):\n%s", r.Outcome, diff)
		}
		if r.Rates.Entry != (Rate{Target: 500, Missed: 1000, MaxLagSeconds: r.Rates.Entry.MaxLagSeconds}) {
			t.Errorf("the rate of the entries is %+v, want nothing achieved", r.Rates.Entry)
		}
	})
}

// It runs alone, because it counts goroutines.
func TestASimulationLeavesNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	o := inMemory(t)
	o.Plan.Duration = plan.Duration(200 * time.Millisecond)
	run(t, o)
	if err := errors.Join(o.Broker.Close(), o.Store.Close()); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines before, %d after:\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
	}
}
