package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

func TestProcessorRun_SettlesEachDeliveryAccordingToItsOutcome(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		handler Handler
		want    string
	}{
		{name: "an effect is acknowledged", handler: answer(OutcomeMatched, nil), want: "ack"},
		{name: "an early exit is moved to the retry queue", handler: answer(OutcomeEarly, nil), want: "retry"},
		{
			name:    "a permanent failure is dead-lettered with stage and reason",
			handler: answer(outcomeNone, Permanent(StageParse, "", errors.New("not JSON"))),
			want:    "dead-letter parse: not JSON",
		},
		{
			name:    "a panic is dead-lettered",
			handler: handlerFunc(func(context.Context, broker.Message) (Completion, error) { panic("oops") }),
			want:    "dead-letter panic: the handler panicked: oops",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 4, answer(OutcomeRecorded, nil), tt.handler)
			r.start(t)
			settler := r.queues.deliver(exitQueue, "x")
			if err := r.finish(); err != nil {
				t.Fatal(err)
			}
			settler.expect(t, tt.want)
		})
	}
}

func TestProcessorRun_AcknowledgesOnlyDurableEffects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		r := newRig(t, 1, handlerFunc(func(context.Context, broker.Message) (Completion, error) {
			calls.Add(1)
			return Completion{Outcome: OutcomeRecorded}, nil
		}), nil)
		durable := make(chan struct{})
		r.store.wait = func(context.Context, store.Mark) error { <-durable; return nil }
		r.start(t)

		var settlers []*fakeSettler
		for i := range 10 {
			settlers = append(settlers, r.queues.deliver(entryQueue, fmt.Sprint(i)))
		}
		synctest.Wait()
		if got := calls.Load(); got != 10 {
			t.Errorf("one worker processed %d messages while the first message waits for durability, want all 10", got)
		}
		for _, s := range settlers {
			s.expect(t)
		}

		close(durable)
		synctest.Wait()
		for _, s := range settlers {
			s.expect(t, "ack")
		}
		if r.store.waits > 2 {
			t.Errorf("10 deliveries took %d waits, want one for the first delivery and one for the deliveries collected during that wait", r.store.waits)
		}
		if err := r.finish(); err != nil {
			t.Error(err)
		}
	})
}

func TestProcessorRun_StoreIsRolledBack_ProcessesTheMessagesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r *rig
		calls := make(map[string]int)
		var mu sync.Mutex
		r = newRig(t, 4, handlerFunc(func(ctx context.Context, msg broker.Message) (Completion, error) {
			mu.Lock()
			calls[msg.ID]++
			outcome := OutcomeRecorded
			if msg.ID == "b" && calls["b"] == 2 {
				outcome = OutcomeDuplicate // the first call for message b took effect, and the store kept this effect
			}
			mu.Unlock()
			mark, err := r.store.Mark(ctx, 0)
			return Completion{Outcome: outcome, Mark: mark}, err
		}), nil)
		release := make(chan struct{})
		r.store.wait = func(_ context.Context, mark store.Mark) error {
			<-release
			if mark.Epoch != "2" {
				return store.ErrRolledBack
			}
			return nil
		}
		r.start(t)
		before := []*fakeSettler{r.queues.deliver(entryQueue, "a"), r.queues.deliver(entryQueue, "b")}
		synctest.Wait()
		r.store.mu.Lock()
		r.store.epoch = "2"
		r.store.mu.Unlock()
		after := r.queues.deliver(entryQueue, "c")
		synctest.Wait()
		close(release)
		if err := r.finish(); err != nil {
			t.Error(err)
		}

		for _, s := range append(before, after) {
			s.expect(t, "ack")
		}
		if calls["a"] != 2 || calls["b"] != 2 || calls["c"] != 1 {
			t.Errorf("the numbers of calls are %v, want 2 for a and b, which were delivered before the restart of the store, and 1 for c", calls)
		}
		if got := r.Totals().Entry.Effects; got != 3 {
			t.Errorf("%d effects were measured, want 3: one for each event", got)
		}
	})
}

func TestProcessorTotals_CountRedeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, answer(OutcomeRecorded, nil), answer(OutcomeMatched, nil))
		r.start(t)
		for _, redelivered := range []bool{true, false, true} {
			r.queues.queue(exitQueue) <- broker.Delivery{Queue: exitQueue, Settler: &fakeSettler{}, Redelivered: redelivered}
		}
		synctest.Wait()
		if err := r.finish(); err != nil {
			t.Error(err)
		}
		if total := r.Totals(); total.Entry.Redeliveries != 0 || total.Exit.Redeliveries != 2 {
			t.Errorf("%d and %d redeliveries, want 0 and 2", total.Entry.Redeliveries, total.Exit.Redeliveries)
		}
	})
}

func TestProcessorRun_StoreFails_AcknowledgesOnlyAfterTheEffectIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, answer(OutcomeRecorded, nil), nil)
		var waits atomic.Int64
		r.store.wait = func(context.Context, store.Mark) error {
			if waits.Add(1) <= 3 {
				return store.ErrUnavailable
			}
			return nil
		}
		r.start(t)
		s := r.queues.deliver(entryQueue, "a")
		time.Sleep(time.Minute)
		s.expect(t, "ack")
		if got := r.Stats().Entry.Failures[StageStore]; got != 3 {
			t.Errorf("%d failures of the store are counted, want 3", got)
		}
		if err := r.finish(); err != nil {
			t.Error(err)
		}
	})
}

func TestProcessorRun_TransientFailure_IsRetriedWithoutRequeuing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const outage = 5 * time.Minute
		start := time.Now()
		r := newRig(t, 2, nil, handlerFunc(func(_ context.Context, msg broker.Message) (Completion, error) {
			if msg.ID == "unlucky" && time.Since(start) < outage {
				return Completion{}, Transient(StagePost, msg.ID, errDown)
			}
			return Completion{Outcome: OutcomeMatched}, nil
		}))
		r.start(t)
		unlucky := r.queues.deliver(exitQueue, "unlucky")
		var others []*fakeSettler
		for i := range 100 {
			others = append(others, r.queues.deliver(exitQueue, fmt.Sprint(i)))
		}
		synctest.Wait()
		for _, s := range others {
			s.expect(t, "ack")
		}
		unlucky.expect(t)

		time.Sleep(outage + maxBackoff)
		unlucky.expect(t, "ack")
		stats := r.Stats().Exit
		failed := stats.Outcomes[OutcomeFailed]
		if failed != stats.Failures[StagePost] {
			t.Errorf("%d calls failed, %d failures are counted", failed, stats.Failures[StagePost])
		}
		if least, most := uint64(outage/maxBackoff), uint64(2*outage/maxBackoff+16); failed < least || failed > most {
			t.Errorf("%d attempts in %v, want between %d and %d", failed, outage, least, most)
		}
		if err := r.finish(); err != nil {
			t.Error(err)
		}
	})
}

func TestProcessorRun_StuckMessage_DelaysNoOtherMessage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		// stuck handles the messages that block a worker. If unsettleable is true, they cannot be moved to another queue.
		stuck        func(ctx context.Context) (Completion, error)
		unsettleable bool
	}{
		{name: "a call that hangs", stuck: func(ctx context.Context) (Completion, error) { <-ctx.Done(); return Completion{}, ctx.Err() }},
		{name: "a call that keeps failing", stuck: func(context.Context) (Completion, error) { return Completion{}, errDown }},
		{
			name:         "a poison message that cannot be moved to the dead-letter queue",
			stuck:        func(context.Context) (Completion, error) { return Completion{}, Permanent(StageParse, "", errDown) },
			unsettleable: true,
		},
		{
			name:         "an early exit that cannot be moved to the retry queue",
			stuck:        func(context.Context) (Completion, error) { return Completion{Outcome: OutcomeEarly}, nil },
			unsettleable: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const stuck = 7
				r := newRig(t, stuck+1, nil, handlerFunc(func(ctx context.Context, msg broker.Message) (Completion, error) {
					if msg.ID == "stuck" {
						return tt.stuck(ctx)
					}
					return Completion{Outcome: OutcomeMatched}, nil
				}))
				for range stuck {
					s := &fakeSettler{}
					if tt.unsettleable {
						s.failures = slices.Repeat([]error{errDown}, 1000)
					}
					r.queues.queue(exitQueue) <- broker.Delivery{Message: broker.Message{ID: "stuck"}, Queue: exitQueue, Settler: s}
				}
				var others []*fakeSettler
				for i := range 100 {
					others = append(others, r.queues.deliver(exitQueue, fmt.Sprint(i)))
				}
				took := elapsed(func() {
					r.start(t)
					synctest.Wait()
				})
				for _, s := range others {
					s.expect(t, "ack")
				}
				if took != 0 {
					t.Errorf("the other messages took %v, want 0", took)
				}
				if err := r.finish(); !errors.Is(err, ErrUnfinished) {
					t.Errorf("error %v, want %v", err, ErrUnfinished)
				}
			})
		})
	}
}

type busy time.Duration

func (b busy) Error() string             { return "busy" }
func (b busy) RetryAfter() time.Duration { return time.Duration(b) }

func TestProcessorRetryAfter_LimitsTheDelayThatAnErrorRequests(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		hint        time.Duration
		least, most time.Duration
	}{
		{name: "RetryAfter is 0, so the first backoff applies", least: firstBackoff / 2, most: firstBackoff},
		{name: "RetryAfter is below the maximum", hint: 7 * time.Second, least: 7 * time.Second, most: 7 * time.Second},
		{name: "RetryAfter is above the maximum", hint: time.Hour, least: maxRetryAfter, most: maxRetryAfter},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				pause := newBackoff()
				took := elapsed(func() { _ = pause.Wait(t.Context(), retryAfter(Transient(StagePost, "", busy(tt.hint)))) })
				if took < tt.least || took > tt.most {
					t.Errorf("waited %v, want between %v and %v", took, tt.least, tt.most)
				}
			})
		})
	}
}

func TestProcessorRun_PermanentFailure_DeadLettersOnlyAfterTheDeadLetterCountIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, answer(outcomeNone, Permanent(StageParse, "", errors.New("bad"))), nil)
		r.store.markErrs = []error{errDown}
		r.store.deadLetterErrs = []error{errDown}
		waits := 0
		r.store.wait = func(context.Context, store.Mark) error {
			if waits++; waits == 1 {
				return store.ErrRolledBack
			}
			return nil
		}
		r.start(t)
		s := r.queues.deliver(entryQueue, "{")
		time.Sleep(time.Minute)
		s.expect(t, "dead-letter parse: bad")
		key := "0/" + deadLetterKey(Permanent(StageParse, "", errDown), []byte("{"))
		if want := []string{key, key, key}; !slices.Equal(r.store.deadLetters, want) {
			t.Errorf("RecordDeadLetter was called for %q, want the same key three times: for a failed, a rolled-back and a durable count", r.store.deadLetters)
		}
		if got := r.Stats().Entry.Failures[StageStore]; got != 2 {
			t.Errorf("%d failures of the store are counted, want 2", got)
		}
		if got := r.Stats().Entry.Failures[StageParse]; got != 2 {
			t.Errorf("the message was processed %d times, want 2: again after the store was rolled back", got)
		}
		if err := r.finish(); err != nil {
			t.Error(err)
		}
	})
}

func TestProcessorRun_PermanentFailureAfterAStoreWrite_DeadLettersOnlyAfterTheWriteIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var marks []store.Mark
		calls := 0
		r := newRig(t, 1, nil, handlerFunc(func(context.Context, broker.Message) (Completion, error) {
			calls++
			return Completion{Mark: store.Mark{Epoch: fmt.Sprint("before effect ", calls)}}, Permanent(StagePost, "id", errDown)
		}))
		r.store.wait = func(_ context.Context, mark store.Mark) error {
			marks = append(marks, mark)
			if len(marks) == 1 {
				return store.ErrRolledBack
			}
			return nil
		}
		r.start(t)
		s := r.queues.deliver(exitQueue, "x")
		if err := r.finish(); err != nil {
			t.Error(err)
		}
		s.expect(t, "dead-letter post: connection refused")
		if want := []store.Mark{{Epoch: "before effect 1"}, {Epoch: "before effect 2"}}; !slices.Equal(marks, want) {
			t.Errorf("WaitDurable was called with the marks %v, want the marks that were read before the effects: %v", marks, want)
		}
	})
}

func TestProcessorRun_SettlingFails_RetriesUnlessTheSessionHasEnded(t *testing.T) {
	t.Parallel()
	refused := Permanent(StageParse, "", errors.New("bad"))
	tests := []struct {
		name     string
		handler  Handler
		failures []error
		want     []string
		counted  uint64
	}{
		{
			name:    "an acknowledgement is not repeated if the session is lost",
			handler: answer(OutcomeMatched, nil), failures: []error{broker.ErrSessionLost},
			want: []string{"ack"}, counted: 1,
		},
		{
			name:    "a move to the retry queue is not repeated if the session is lost",
			handler: answer(OutcomeEarly, nil), failures: []error{broker.ErrSessionLost},
			want: []string{"retry"}, counted: 1,
		},
		{
			name:    "a move to the retry queue that fails for another reason is repeated until it succeeds",
			handler: answer(OutcomeEarly, nil), failures: []error{errDown, errDown},
			want: []string{"retry", "retry", "retry"}, counted: 2,
		},
		{
			name:    "a move to the dead-letter queue that fails for another reason is repeated until it succeeds",
			handler: answer(outcomeNone, refused), failures: []error{errDown},
			want: []string{"dead-letter parse: bad", "dead-letter parse: bad"}, counted: 1,
		},
		{
			name:    "nothing is repeated if the broker is closed",
			handler: answer(OutcomeEarly, nil), failures: []error{broker.ErrClosed},
			want: []string{"retry"}, counted: 1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 1, nil, tt.handler)
				s := &fakeSettler{failures: tt.failures}
				r.queues.queue(exitQueue) <- broker.Delivery{Queue: exitQueue, Settler: s}
				r.start(t)
				time.Sleep(time.Minute)
				s.expect(t, tt.want...)
				if got := r.Stats().Exit.Failures[StageSettle]; got != tt.counted {
					t.Errorf("%d failures to settle are counted, want %d", got, tt.counted)
				}
				if err := r.finish(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestProcessorRun_Panic_IsLoggedOnceWithItsStack(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4, answer(OutcomeRecorded, nil), handlerFunc(func(context.Context, broker.Message) (Completion, error) {
		panic("oops")
	}))
	r.start(t)
	for i := range 20 {
		r.queues.deliver(exitQueue, fmt.Sprint(i))
	}
	entry := r.queues.deliver(entryQueue, "entry")
	if err := r.finish(); err != nil {
		t.Fatal(err)
	}
	entry.expect(t, "ack")
	if got := strings.Count(r.log.String(), "stack="); got != 1 {
		t.Errorf("%d stacks are logged, want 1:\n%s", got, r.log)
	}
	if got := r.Stats().Exit.Failures[StagePanic]; got != 20 {
		t.Errorf("%d panics are counted, want 20", got)
	}
}

func TestProcessorRun_HandlerReturnsAnInvalidCompletion_CountsAsATransientFailure(t *testing.T) {
	t.Parallel()
	for name, done := range map[string]Completion{
		"no outcome":                       {},
		"an outcome of another event type": {Outcome: OutcomeMatched},
		"an outcome that does not exist":   {Outcome: outcomes + 7},
		"OutcomeFailed without an error":   {Outcome: OutcomeFailed},
		"a partition that does not exist":  {Outcome: OutcomeRecorded, Partition: 1},
		"a negative partition":             {Outcome: OutcomeRecorded, Partition: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, handlerFunc(func(context.Context, broker.Message) (Completion, error) { return done, nil }), nil)
			_, failure := r.pipelines[event.TypeEntry].call(t.Context(), &broker.Message{})
			if failure == nil || failure.permanent {
				t.Errorf("failure %v, want a transient failure", failure)
			}
		})
	}
}

func TestProcessorRun_ContextEnds_FinishesDeliveredMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const took = time.Second
		slow := handlerFunc(func(context.Context, broker.Message) (Completion, error) {
			time.Sleep(took)
			return Completion{Outcome: OutcomeRecorded}, nil
		})
		r := newRig(t, 4, slow, answer(OutcomeEarly, nil))
		r.store.wait = func(context.Context, store.Mark) error { time.Sleep(took); return nil }
		r.start(t)
		var entries, exits []*fakeSettler
		for i := range 16 {
			entries = append(entries, r.queues.deliver(entryQueue, fmt.Sprint(i)))
			exits = append(exits, r.queues.deliver(exitQueue, fmt.Sprint(i)))
		}
		if err := r.finish(); err != nil {
			t.Error(err)
		}
		for i := range entries {
			entries[i].expect(t, "ack")
			exits[i].expect(t, "retry")
		}
		if n := r.flight.count.Load(); n != 0 {
			t.Errorf("%d deliveries are still in flight", n)
		}
	})
}

func TestProcessorRun_DrainTimeoutExpires_RequeuesUnfinishedDeliveries(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	tests := []struct {
		name    string
		handler Handler
		wait    func(context.Context, store.Mark) error
	}{
		{name: "a handler that hangs", handler: handlerFunc(func(ctx context.Context, _ broker.Message) (Completion, error) {
			return Completion{}, hang(ctx)
		})},
		{name: "a handler that keeps failing", handler: answer(outcomeNone, errDown)},
		{
			name: "a wait for durability that hangs", handler: answer(OutcomeMatched, nil),
			wait: func(ctx context.Context, _ store.Mark) error { return hang(ctx) },
		},
		{
			name: "a wait for durability that keeps failing", handler: answer(OutcomeMatched, nil),
			wait: func(context.Context, store.Mark) error { return store.ErrUnavailable },
		},
		{
			name: "a dead letter that cannot be counted", handler: answer(outcomeNone, Permanent(StageParse, "", errDown)),
			wait: func(context.Context, store.Mark) error { return store.ErrUnavailable },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 2, answer(OutcomeRecorded, nil), tt.handler)
				r.store.wait = tt.wait
				r.start(t)
				var settlers []*fakeSettler
				for i := range 5 {
					settlers = append(settlers, r.queues.deliver(exitQueue, fmt.Sprint(i)))
				}
				synctest.Wait()
				var err error
				if took := elapsed(func() { err = r.finish() }); took < DefaultDrainTimeout || took > DefaultDrainTimeout+maxBackoff {
					t.Errorf("the processor took %v to stop, want about %v", took, DefaultDrainTimeout)
				}
				if !errors.Is(err, ErrUnfinished) || !strings.Contains(fmt.Sprint(err), "5 ") {
					t.Errorf("error %v, want \"5 %v\"", err, ErrUnfinished)
				}
				for _, s := range settlers {
					s.expect(t, "requeue")
				}
			})
		})
	}
}

func TestProcessorRun_DrainTimeoutExpires_RequeuesAMessageThatCannotBeMovedToTheRetryQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil, answer(OutcomeEarly, nil))
		s := &brokenSettler{}
		r.queues.queue(exitQueue) <- broker.Delivery{Queue: exitQueue, Settler: s}
		r.start(t)
		synctest.Wait()
		if err := r.finish(); !errors.Is(err, ErrUnfinished) {
			t.Errorf("error %v, want %v", err, ErrUnfinished)
		}
		if s.retries < 2 || s.requeues != 1 {
			t.Errorf("%d retries and %d requeues, want at least 2 and exactly 1", s.retries, s.requeues)
		}
	})
}

// brokenSettler is a settler that fails to move messages to another queue.
type brokenSettler struct {
	fakeSettler
	retries, requeues int
}

func (s *brokenSettler) Retry(context.Context) error { s.retries++; return errDown }
func (s *brokenSettler) Requeue() error              { s.requeues++; return nil }

func TestProcessorRun_ConsumeFails_ReturnsTheError(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil, nil)
	r.queues.err = errDown
	if err := r.Run(t.Context()); !errors.Is(err, errDown) || !strings.Contains(err.Error(), "entry queue of partition 0") {
		t.Errorf("error %v, want an error that names the queue and wraps %v", err, errDown)
	}
}

func TestProcessorRun_BrokerClosesTheDeliveryChannel_ReturnsAnError(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, answer(OutcomeRecorded, nil), nil)
	deliveries := make(chan broker.Delivery, 1)
	s := &fakeSettler{}
	deliveries <- broker.Delivery{Queue: entryQueue, Settler: s}
	close(deliveries)
	r.Processor.consumer = consumerFunc(func(ctx context.Context, q broker.Queue, prefetch int) (<-chan broker.Delivery, error) {
		if q == entryQueue {
			return deliveries, nil
		}
		return r.queues.Consume(ctx, q, prefetch)
	})
	if err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "entry queue of partition 0") {
		t.Errorf("error %v, want an error that names the queue", err)
	}
	s.expect(t, "ack")
}

type consumerFunc func(ctx context.Context, q broker.Queue, prefetch int) (<-chan broker.Delivery, error)

func (f consumerFunc) Consume(ctx context.Context, q broker.Queue, prefetch int) (<-chan broker.Delivery, error) {
	return f(ctx, q, prefetch)
}

func TestProcessorRun_ConsumesEveryQueueOfEveryPartition(t *testing.T) {
	t.Parallel()
	var (
		mu  sync.Mutex
		got []string
	)
	ctx, cancel := context.WithCancel(t.Context())
	p, err := New(Config{Partitions: 3, Concurrency: 5}, Dependencies{
		Consumer: consumerFunc(func(ctx context.Context, q broker.Queue, prefetch int) (<-chan broker.Delivery, error) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprint(q.Type, q.Partition, " ", prefetch))
			if len(got) == 6 {
				cancel()
			}
			deliveries := make(chan broker.Delivery)
			context.AfterFunc(ctx, func() { close(deliveries) })
			return deliveries, nil
		}),
		Registerer: prometheus.NewRegistry(),
		Logger:     discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
	want := []string{"entry0 40", "exit0 40", "entry1 40", "exit1 40", "entry2 40", "exit2 40"}
	if !slices.Equal(got, want) {
		t.Errorf("consumed %q, want %q", got, want)
	}
}

func TestPrefetch_IsLimitedButNeverBelowTheConcurrency(t *testing.T) {
	t.Parallel()
	for concurrency, want := range map[int]int{1: 8, 256: 2048, 5000: maxPrefetch, 10000: 10000} {
		if got := (Config{Partitions: 1, Concurrency: concurrency}).prefetch(); got != want {
			t.Errorf("with the concurrency %d, the prefetch count is %d, want %d", concurrency, got, want)
		}
	}
}

func TestPrefetch_GrowsWithTheLatencyOfTheStore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                          string
		partitions, concurrency, want int
	}{
		{"in proportion to the latency", 1, 16, 10 * 8 * 16},
		{"up to maxGrown in both queues together", 1, 256, maxGrown / 2},
		{"up to maxGrown in all queues together", 4, 64, maxGrown / 8},
		{"not at all if it exceeds maxGrown without growth", 2, 256, 8 * 256},
		{"not beyond the limit of AMQP", 1, 1<<16 - 1, 1<<16 - 1},
	} {
		if got := (Config{Partitions: tt.partitions, Concurrency: tt.concurrency, Latency: 4 * time.Second}).prefetch(); got != tt.want {
			t.Errorf("%s: the prefetch count is %d, want %d", tt.name, got, tt.want)
		}
	}
	if bytes := maxGrown * event.MaxBodyBytes; bytes > 384<<20 {
		t.Errorf("bodies of the maximum size use %d bytes", bytes)
	}
}

func TestNewProcessor_RejectsInvalidConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Partitions: 0, Concurrency: 1}, {Partitions: 1, Concurrency: 0}} {
		if _, err := New(c, Dependencies{Registerer: prometheus.NewRegistry(), Logger: discard()}); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	reg := prometheus.NewRegistry()
	for _, wantErr := range []bool{false, true} {
		_, err := New(Config{Partitions: 1, Concurrency: 1}, Dependencies{Registerer: reg, Logger: discard()})
		if (err != nil) != wantErr {
			t.Errorf("New returned the error %v, want an error: %t, because a registry accepts each metric only once", err, wantErr)
		}
	}
}
