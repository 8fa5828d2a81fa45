package simulate

import (
	"context"
	"errors"
	"log/slog"
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
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/store"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// The tests run whole simulations with the fake clock of synctest.Test. A test fails if its simulation leaves a
// goroutine running.

// counter is a summary API that counts the different summaries that it has received.
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

// interceptor is a broker that passes every published message to the function in the field publish.
type interceptor struct {
	broker.Broker

	publish func(ctx context.Context, b broker.Broker, q broker.Queue, msg broker.Message, confirmed func()) error
}

func (b *interceptor) Publish(ctx context.Context, q broker.Queue, msg broker.Message, confirmed func()) error {
	return b.publish(ctx, b.Broker, q, msg, confirmed)
}

// setup contains the arguments for New. A test can change them.
type setup struct {
	Config
	Dependencies
}

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

// inMemory returns the setup of a simulation with a broker and a store in memory.
func inMemory(t *testing.T) *setup {
	t.Helper()
	p := testPlan()
	b, err := memorybroker.New(memorybroker.Config{Partitions: p.Partitions})
	if err != nil {
		t.Fatal(err)
	}
	s := memorystore.New(memorystore.Config{Partitions: p.Partitions})
	t.Cleanup(func() {
		if err := errors.Join(b.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	api := &counter{seen: map[string]bool{}}
	return &setup{
		Config{Plan: p, Processors: 1},
		Dependencies{
			Broker: b, Store: s, Poster: api, SummariesHeld: api.held,
			Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		},
	}
}

func run(t *testing.T, o *setup) report.Run {
	t.Helper()
	s, err := New(o.Config, o.Dependencies)
	if err != nil {
		t.Fatal(err)
	}
	r := s.Run(t.Context())
	for _, reason := range r.Reasons {
		if strings.Contains(reason, "\n") || strings.Contains(reason, context.Canceled.Error()) {
			t.Errorf("the reason is not a sentence on one line: %q", reason)
		}
	}
	return r
}

// inBubble runs a test with an in-memory simulation and the fake clock of package synctest.
func inBubble(t *testing.T, test func(t *testing.T, o *setup)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, inMemory(t)) })
}

func TestSimulationRun_WithoutFaults_VerdictIsPass(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		r := run(t, o)
		l := r.Ledger
		if r.Outcome != ledger.Pass {
			t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
		}
		if l.EntriesRecorded != l.EntriesConfirmed || l.Matched != l.ExitsMatchedConfirmed || l.UnmatchedExpected != l.ExitsUnmatchedConfirmed ||
			l.SummariesStored != l.Matched || l.Matched == 0 || l.UnmatchedExpected == 0 {
			t.Errorf("the ledger is %+v", l)
		}
		if want := (report.Rate{Target: 500, Achieved: 500}); r.Rates.Entry != want || l.EntriesConfirmed != 1000 {
			t.Errorf("the rate of all replicas is %+v with %d entries, want %+v and 1000", r.Rates.Entry, l.EntriesConfirmed, want)
		}
		if r.ElapsedSeconds != 2 {
			t.Errorf("the schedule took %v s, want 2", r.ElapsedSeconds)
		}
	})
}

func TestSimulationRun_WithoutFaults_TimelineAgreesWithTheLedger(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		r := run(t, o)
		rows, err := o.Store.ReadTimeline(t.Context(), time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) < 2 {
			t.Errorf("a simulation of 2 s has %d rows", len(rows))
		}
		total, l := timeline.Sum(rows...), r.Ledger
		if e := total.Entry; e.Published != l.EntriesConfirmed || e.Confirmed != l.EntriesConfirmed ||
			e.Effects != l.EntriesRecorded || e.Outcomes["recorded"] != l.EntriesRecorded || int64(e.EndToEnd.Count()) != l.EntriesRecorded {
			t.Errorf("the entries of the timeline are %+v, the ledger is %+v", e, l)
		}
		if e := total.Exit; e.Confirmed != l.ExitsMatchedConfirmed+l.ExitsUnmatchedConfirmed || e.Matched != l.ExitsMatchedConfirmed ||
			e.Outcomes["matched"] != l.Matched || int64(e.EndToEnd.Count()) != l.Matched+l.UnmatchedExpected || e.Starved != l.Starved {
			t.Errorf("the exits of the timeline are %+v, the ledger is %+v", e, l)
		}
		if total.Ready == nil || total.Pool == nil {
			t.Errorf("the gauges of the timeline are %+v", total.Gauges)
		}
	})
}

func TestSimulationRun_SameSeed_PublishesTheSamePlates(t *testing.T) {
	t.Parallel()
	plates := func() (entries, unmatched []string) {
		inBubble(t, func(t *testing.T, o *setup) {
			var mu sync.Mutex
			o.Broker = &interceptor{o.Broker, func(ctx context.Context, b broker.Broker, q broker.Queue, msg broker.Message, confirmed func()) error {
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
		})
		return entries, unmatched
	}
	entries1, unmatched1 := plates()
	entries2, unmatched2 := plates()
	for _, pair := range [][2][]string{{entries1, entries2}, {unmatched1, unmatched2}} {
		if len(pair[0]) < 100 {
			t.Fatalf("only %d plates to compare", len(pair[0]))
		}
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Errorf("plates differ (-first +second):\n%s", diff)
		}
	}
}

func TestSimulationRun_BrokerLosesAnEvent_VerdictNamesTheEvent(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		var lost string
		o.Broker = &interceptor{o.Broker, func(ctx context.Context, b broker.Broker, q broker.Queue, msg broker.Message, confirmed func()) error {
			if id, ok := event.ParseID(msg.ID); ok && q.Type == event.TypeEntry && q.Partition == 1 && id.Seq == 20 {
				lost = msg.ID
				confirmed()
				return nil
			}
			return b.Publish(ctx, q, msg, confirmed)
		}}
		o.Plan.Exit.Rate = 0 // without exits, because the exit of the lost entry would be retried for minutes
		r := run(t, o)
		if r.Outcome != ledger.Fail || r.Ledger.Lost != 1 || !slices.Equal(r.Ledger.LostEvents, []string{lost}) {
			t.Errorf("verdict is %s %q, lost %q, want %q", r.Outcome, r.Reasons, r.Ledger.LostEvents, lost)
		}
	})
}

// objectiveMarks returns the timeline marks of missed objectives and failed checks, by subject.
func objectiveMarks(t *testing.T, o *setup) map[string][]timeline.Mark {
	t.Helper()
	rows, err := ledger.ReadTimeline(t.Context(), o.Store)
	if err != nil {
		t.Fatal(err)
	}
	marks := map[string][]timeline.Mark{}
	for _, row := range rows {
		for _, m := range row.Marks {
			if m.Kind == timeline.MarkObjective {
				marks[m.Subject] = append(marks[m.Subject], m)
			}
		}
	}
	return marks
}

// The timeline must contain marks of failed checks even if no live page reads the state of the simulation.
func TestSimulationRun_OneCheckFails_TimelineHasOneMarkForTheCheck(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fail func(*testing.T, *setup)
		// The time of the mark must lie between these values, in seconds since the start of the simulation.
		after, before float64
	}{
		ledger.CheckLost: {func(_ *testing.T, o *setup) {
			o.Plan.Exit.Rate = 0 // without exits, because the exit of the lost entry would be retried for minutes
			o.Broker = &interceptor{o.Broker, func(ctx context.Context, b broker.Broker, q broker.Queue, msg broker.Message, confirmed func()) error {
				if id, ok := event.ParseID(msg.ID); ok && q.Partition == 1 && id.Seq == 20 {
					confirmed()
					return nil
				}
				return b.Publish(ctx, q, msg, confirmed)
			}}
		}, 2, 60},
		ledger.CheckAchieved: {func(_ *testing.T, o *setup) {
			o.Plan.Exit.Rate, o.Plan.Exit.MatchPercent = 1000, 100 // the exits need 1000 vehicles per second, but only 500 enter
			o.Plan.Objectives.MinAchievedPercent = 99
		}, 0, 3},
		ledger.CheckDeadLetters: {func(t *testing.T, o *setup) {
			o.Plan.Duration = plan.Duration(10 * time.Second)
			invalid := broker.Message{ID: "invalid", Type: event.TypeEntry, Body: []byte(`{"id":""}`)}
			if err := o.Broker.Publish(t.Context(), broker.Queue{Type: event.TypeEntry}, invalid, func() {}); err != nil {
				t.Fatal(err)
			}
		}, 0, 5},
	} {
		inBubble(t, func(t *testing.T, o *setup) {
			tt.fail(t, o)
			start := time.Now()
			r := run(t, o)
			marks := objectiveMarks(t, o)
			if len(marks) != 1 || len(marks[name]) != 1 {
				t.Errorf("the verdict is %q, the marks are %+v, want one mark of %s", r.Reasons, marks, name)
			} else if at := marks[name][0].At.Sub(start).Seconds(); at < tt.after || at > tt.before {
				t.Errorf("the mark of %s is at second %g, want it between %g and %g", name, at, tt.after, tt.before)
			}
		})
	}
}

func TestSimulationRun_ObjectivesMet_TimelineHasNoMarkOfAnObjective(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Plan.Objectives.MinAchievedPercent = 90
		if r, marks := run(t, o), objectiveMarks(t, o); r.Outcome != ledger.Pass || len(marks) != 0 {
			t.Errorf("the verdict is %s %q, the marks are %+v", r.Outcome, r.Reasons, marks)
		}
	})
}

func TestSimulationRun_EventsPublishedTwice_CountOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Broker = &interceptor{o.Broker, func(ctx context.Context, b broker.Broker, q broker.Queue, msg broker.Message, confirmed func()) error {
			return errors.Join(b.Publish(ctx, q, msg, func() {}), b.Publish(ctx, q, msg, confirmed))
		}}
		r := run(t, o)
		if r.Outcome != ledger.Pass {
			t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
		}
		if r.Ledger.DuplicatesSuppressed < r.Ledger.EntriesConfirmed {
			t.Errorf("%d duplicates suppressed, want one for each of the %d entries at least", r.Ledger.DuplicatesSuppressed, r.Ledger.EntriesConfirmed)
		}
	})
}

func TestSimulationRun_DeadLetter_VerdictContainsItsReason(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		invalid := broker.Message{ID: "invalid", Type: event.TypeEntry, Body: []byte(`{"id":""}`)}
		if err := o.Broker.Publish(t.Context(), broker.Queue{Type: event.TypeEntry}, invalid, func() {}); err != nil {
			t.Fatal(err)
		}
		r := run(t, o)
		if want := "1 event was dead-lettered: 1 × parse: entry event: field id: "; !slices.ContainsFunc(r.Reasons, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("the reasons are %q, want one that begins with %q", r.Reasons, want)
		}
	})
}

func TestSimulationRun_DrainTimeoutExpires_VerdictCountsRemainingMessages(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Poster, o.SummariesHeld = failingAPI{}, nil
		o.DrainTimeout = 300 * time.Millisecond
		r := run(t, o)
		reasons := strings.Join(r.Reasons, "\n")
		if r.Outcome != ledger.Fail || !strings.Contains(reasons, "did not come to rest within the drain timeout of 300ms") || !strings.Contains(reasons, "in processors") {
			t.Errorf("verdict is %s:\n%s", r.Outcome, reasons)
		}
		if r.Ledger.Lost != 0 {
			t.Errorf("%d waiting events are reported as lost", r.Ledger.Lost)
		}
	})
}

type failingAPI struct{}

func (failingAPI) Post(context.Context, event.Summary) error { return errors.New("down") }

type noConsumer struct{ broker.Broker }

func (noConsumer) Consume(context.Context, broker.Queue, int) (<-chan broker.Delivery, error) {
	return nil, errors.New("access refused")
}

func TestSimulationRun_ProcessorFails_EndsTheSimulation(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Broker = noConsumer{o.Broker}
		o.Plan.Duration = 0 // the schedule has no end
		r := run(t, o)
		if r.Outcome != ledger.Fail || !strings.Contains(strings.Join(r.Reasons, "\n"), "access refused") {
			t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
		}
		rows, err := o.Store.ReadTimeline(t.Context(), time.Unix(0, 0), time.Now().Add(time.Hour))
		isDown := func(m timeline.Mark) bool { return m.Kind == timeline.MarkDown && m.Subject == "processor" }
		if marks := timeline.MarksOf(rows); err != nil || !slices.ContainsFunc(marks, isDown) {
			t.Errorf("the marks are %+v, %v", marks, err)
		}
	})
}

// unreadable is a store from which the ledger cannot be read.
type unreadable struct{ store.Store }

func (unreadable) Counts(context.Context) (store.Counts, error) {
	return store.Counts{}, errors.Join(errors.New("no answer"), errors.New("no route"))
}

func TestSimulationRun_LedgerCannotBeRead_VerdictIsFail(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Store = unreadable{o.Store}
		r := run(t, o)
		if r.Outcome != ledger.Fail || r.Ledger != nil || len(r.Reasons) != 1 ||
			!strings.Contains(r.Reasons[0], "the ledger cannot be read") || !strings.Contains(r.Reasons[0], "no answer; no route") {
			t.Errorf("verdict is %s %q, ledger %+v", r.Outcome, r.Reasons, r.Ledger)
		}
		if r.Rates.Entry.Achieved == 0 {
			t.Error("the result lacks the rates, which are known")
		}
	})
}

// failing is a store that is unavailable for entries and confirmations after a given time. Its method Counts blocks
// until the context ends.
type failing struct {
	store.Store

	after time.Time
}

func (f failing) RecordEntry(ctx context.Context, s store.EntryStep) (store.Result, error) {
	if time.Now().After(f.after) {
		return "", store.ErrUnavailable
	}
	return f.Store.RecordEntry(ctx, s)
}

func (f failing) Confirm(ctx context.Context, c store.Confirmation) (int64, error) {
	if time.Now().After(f.after) {
		return 0, store.ErrUnavailable
	}
	return f.Store.Confirm(ctx, c)
}

func (f failing) Counts(ctx context.Context) (store.Counts, error) {
	<-ctx.Done()
	return store.Counts{}, ctx.Err()
}

func TestSimulationRun_DrainTimeout_BoundsTheTimeAfterTheSchedule(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Store = failing{o.Store, time.Now().Add(time.Second)}
		o.DrainTimeout = 2 * time.Second
		begin := time.Now()
		r := run(t, o)
		if r.Outcome != ledger.Fail || r.Ledger != nil {
			t.Errorf("verdict is %s %q, ledger %+v", r.Outcome, r.Reasons, r.Ledger)
		}
		if r.ElapsedSeconds != 2 || r.DrainSeconds == 0 {
			t.Errorf("the schedule took %v s and the drain %v s, want 2 s and more than 0", r.ElapsedSeconds, r.DrainSeconds)
		}
		if took, most := time.Since(begin), 2*time.Second+overrun+o.DrainTimeout+minAudit; took > most {
			t.Errorf("the simulation took %s, want %s at most", took, most)
		}
	})
}

// fixedDepths is a broker whose method Depths always returns the same values.
type fixedDepths struct {
	broker.Broker

	err error
}

func (f fixedDepths) Depths(context.Context) (broker.Depths, error) {
	return broker.Depths{Ready: 10}, f.err
}

func TestProgress_QueueDepths_ExcludeUnacknowledgedMessages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		err      error
		want     *broker.Depths
		holdsAll bool
	}{
		{"the broker does not respond", errors.New("unreachable"), nil, false},
		{"the broker does not count unacknowledged messages", nil, &broker.Depths{Ready: 10}, false},
		{"the broker counts unacknowledged messages", nil, &broker.Depths{Ready: 10}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := inMemory(t)
			o.Broker, o.DepthsHoldInFlight = fixedDepths{o.Broker, tt.err}, tt.holdsAll
			s, err := New(o.Config, o.Dependencies)
			if err != nil {
				t.Fatal(err)
			}
			s.observeServers(t.Context())
			if diff := cmp.Diff(tt.want, s.Progress().Depths); diff != "" {
				t.Errorf("depths differ (-want +got):\n%s", diff)
			}
			if depths, err := s.depths(t.Context(), 4); err == nil && tt.holdsAll && depths.Ready != 6 {
				t.Errorf("%d messages are ready, want 6: the 10 of the broker without the 4 that the processors hold", depths.Ready)
			}
		})
	}
}

func TestSimulationRun_BrokerDown_VerdictSaysThatDepthsAreUnknown(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Broker, o.DrainTimeout = fixedDepths{o.Broker, errors.New("unreachable")}, time.Second
		r := run(t, o)
		reasons := strings.Join(r.Reasons, "\n")
		if r.Outcome != ledger.Fail || !strings.Contains(reasons, "it is unknown how many messages wait in the queues: unreachable") || strings.Contains(reasons, "0 messages wait") {
			t.Errorf("verdict is %s:\n%s", r.Outcome, reasons)
		}
	})
}

// lostData is a store that reports that it has lost data.
type lostData struct{ store.Store }

func (lostData) Dataset(context.Context) (store.Dataset, error) {
	return store.Dataset{LostAt: time.Unix(1, 0)}, nil
}

func TestSimulationRun_StoreHasLostData_DrainEndsAndVerdictHasOneReason(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Store, o.Poster, o.SummariesHeld = lostData{o.Store}, failingAPI{}, nil
		o.DrainTimeout = time.Hour
		begin := time.Now()
		r := run(t, o)
		if r.Outcome != ledger.Fail || len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], "the store has lost data") {
			t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
		}
		if r.DrainSeconds != 0 {
			t.Errorf("the drain took %v s, and the whole run %s; want a drain of 0 s", r.DrainSeconds, time.Since(begin))
		}
	})
}

func TestSimulationRun_ContextEnds_ReturnsAVerdict(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Plan.Duration = 0
		s, err := New(o.Config, o.Dependencies)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		r := s.Run(ctx)
		if r.Outcome != ledger.Pass || r.Ledger.EntriesRecorded == 0 {
			t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
		}
		if p := s.Progress(); p.Phase != Auditing || p.Entries.Published == 0 || p.Elapsed == 0 {
			t.Errorf("progress at the end is %+v", p)
		}
	})
}

func TestSimulationRun_ContextEndsBeforeScheduleEnds_ResultSaysThatRunWasCutShort(t *testing.T) {
	t.Parallel()
	for stop, want := range map[time.Duration]string{
		3 * time.Second:  "the run was cut short after 0:03 of 0:10 (stopped)",
		30 * time.Second: "",
	} {
		inBubble(t, func(t *testing.T, o *setup) {
			o.Plan.Duration = plan.Duration(10 * time.Second)
			o.Plan.Faults = []plan.Fault{{Name: "crash", Target: plan.TargetProcessor, Action: plan.ActionKill, Instances: 1, At: plan.Duration(6 * time.Second)}}
			s, err := New(o.Config, o.Dependencies)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), stop, errors.New("stopped"))
			defer cancel()
			if r := s.Run(ctx); r.Outcome != ledger.Pass || r.CutShort != want {
				t.Errorf("stopped after %s: the verdict is %s %q, and CutShort is %q, want PASS and %q", stop, r.Outcome, r.Reasons, r.CutShort, want)
			}
		})
	}
}

func TestSimulationRun_ObjectiveWithoutMeasurement_VerdictIsFail(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Plan.Entry.Rate, o.Plan.Exit.Rate = 0, 0
		o.Plan.Objectives.EndToEndP99 = plan.Duration(time.Millisecond)
		r := run(t, o)
		want := []string{"end-to-end p99 is unknown, so the objective of 1 ms counts as not met: no event was measured"}
		if diff := cmp.Diff(want, r.Reasons); r.Outcome != ledger.Fail || diff != "" {
			t.Errorf("verdict is %s, reasons (-want +got):\n%s", r.Outcome, diff)
		}
		if r.LatencySeconds != (report.Latencies{}) {
			t.Errorf("latencies are %+v, want none", r.LatencySeconds)
		}
	})
}

func TestSimulationRun_AllEventsMissed_VerdictIsFail(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *setup) {
		o.Broker = &interceptor{o.Broker, func(ctx context.Context, _ broker.Broker, _ broker.Queue, _ broker.Message, _ func()) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		o.Plan.Exit.Rate = 0
		r := run(t, o)
		want := []string{"the schedule of the entries was not kept: 1,000 of 1,000 due events were missed (100 %)"}
		if diff := cmp.Diff(want, r.Reasons); r.Outcome != ledger.Fail || diff != "" {
			t.Errorf("verdict is %s, reasons (-want +got):\n%s", r.Outcome, diff)
		}
		if r.Rates.Entry != (report.Rate{Target: 500, Missed: 1000, MaxLagSeconds: r.Rates.Entry.MaxLagSeconds}) {
			t.Errorf("the rate of the entries is %+v, want 0 achieved", r.Rates.Entry)
		}
	})
}

func TestPhase_String_ReturnsDisplayNames(t *testing.T) {
	t.Parallel()
	for phase, want := range map[Phase]string{Generating: "running", Draining: "draining", Auditing: "auditing", 9: "unknown"} {
		if got := phase.String(); got != want {
			t.Errorf("phase %d is called %q, want %q", phase, got, want)
		}
	}
}
