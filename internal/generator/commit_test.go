package generator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

const testRun = "0123456789abc"

func newCommitter(s Store) *committer {
	return &committer{
		steps:     &steps{store: s, log: slog.New(slog.DiscardHandler)},
		run:       testRun,
		eventType: event.TypeEntry,
		maxStay:   func() time.Duration { return time.Hour },
		tracker:   newTracker(),
	}
}

// The store fails at random, and the broker confirms in a random order. The committer must record each event once, in
// sequence.
func TestCommitter_StoreFailsAtRandom_RecordsEachConfirmedEventOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		events := rapid.IntRange(0, 3*commitBatch).Draw(rt, "events")
		order := rapid.Permutation(sequenceOf(events)).Draw(rt, "order")
		faults := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "", "fail", "lose the answer", "crash"}), 0, 60).Draw(rt, "faults")
		crashes := rapid.SliceOfN(rapid.IntRange(0, events), 0, 5).Draw(rt, "crashes")

		var faulty string
		s := newFakeStore()
		s.volatile = true
		calls := 0
		fault := func() string {
			calls++
			if calls <= len(faults) {
				return faults[calls-1]
			}
			return ""
		}
		s.before = func(string) error {
			if fault() == "fail" {
				return fmt.Errorf("failed: %w", store.ErrUnavailable)
			}
			return nil
		}
		s.after = func(string) error {
			switch fault() {
			case "lose the answer":
				return fmt.Errorf("no answer: %w", store.ErrUnavailable)
			case "crash":
				s.crash()
			}
			return nil
		}

		synctest.Test(t, func(t *testing.T) {
			if err := commitAll(t.Context(), s, order, crashes); err != nil {
				faulty = err.Error()
			}
		})
		if faulty != "" {
			rt.Fatal(faulty)
		}
	})
}

// commitAll adds events to a tracker and confirms them in the given order. For each index i in crashes, the store
// crashes before event order[i] is confirmed.
func commitAll(ctx context.Context, s *fakeStore, order, crashes []int) error {
	c := newCommitter(s)
	if err := c.register(ctx); err != nil {
		return err
	}
	stopping, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- c.commit(ctx, stopping) }()
	var want []store.Published
	for seq := range order {
		r := record{plate: fmt.Sprintf("AAA-%04d", seq), at: int64(seq)}
		want = append(want, store.Published{Plate: r.plate, At: time.Unix(0, r.at).UTC()})
		c.tracker.add(r)
	}
	for i, seq := range order {
		if slices.Contains(crashes, i) {
			synctest.Wait()
			s.crash()
		}
		c.tracker.confirm(int64(seq))
	}
	close(stopping)
	if err := <-done; err != nil {
		return err
	}
	s.crash()
	if diff := cmp.Diff(want, s.events(testRun, 0)); diff != "" {
		return fmt.Errorf("events in the store after a final crash (-want +got):\n%s", diff)
	}
	if got := len(s.pool(0)); got != len(order) {
		return fmt.Errorf("%d plates are in the pool, want %d", got, len(order))
	}
	if durable, _, next := c.tracker.marks(); durable != next {
		return fmt.Errorf("the records of events from %d to %d are not dropped", durable, next)
	}
	return nil
}

func sequenceOf(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func TestCommitter_RecordsOnlyEventsBeforeTheFirstUnconfirmedOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		c := newCommitter(s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.commit(ctx, nil) }()
		for range 3 {
			c.tracker.add(record{})
		}
		for _, step := range []struct {
			confirm int64
			want    int
		}{{2, 0}, {0, 1}, {1, 3}} {
			c.tracker.confirm(step.confirm)
			pass(commitInterval)
			if got := len(s.events(testRun, 0)); got != step.want {
				t.Errorf("after the confirm of %d the store has %d events, want %d", step.confirm, got, step.want)
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("commit returned %v, want context.Canceled", err)
		}
	})
}

func TestCommitter_SteadyEvents_AreConfirmedInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		var operations atomic.Int64
		s.before = func(call string) error {
			if call == "confirm" {
				operations.Add(1)
			}
			return nil
		}
		c := newCommitter(s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.commit(ctx, nil) }()
		pass(time.Second)
		const events, perSecond = 2_500, 250
		for i := range events {
			c.tracker.confirm(c.tracker.add(record{}))
			synctest.Wait()
			if i == 0 {
				within(t, "operations after the first event", int(operations.Load()), 1, 1)
			}
			pass(time.Second / perSecond)
		}
		// The first event is recorded at once. Then one operation per commitInterval is expected for 10 s, or slightly
		// fewer.
		within(t, "operations", int(operations.Load()), 90, 101)
		pass(time.Second)
		within(t, "events in the store", len(s.events(testRun, 0)), events, events)
		cancel()
		<-done
	})
}

func TestCommitter_StoreLostData_ReturnsAFinalError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		c := newCommitter(s)
		done := make(chan error, 1)
		go func() { done <- c.commit(t.Context(), nil) }()
		c.tracker.confirm(c.tracker.add(record{}))
		synctest.Wait()
		s.lose()
		c.tracker.confirm(c.tracker.add(record{}))
		err := <-done
		if !errors.As(err, new(finalError)) || !strings.Contains(err.Error(), "run "+testRun) || !strings.Contains(err.Error(), "watermark in the store is 0") {
			t.Errorf("commit returned %v, want a final error that names the run and the watermark", err)
		}
	})
}

func TestStepsRun_StoreIsUnavailable_RetriesWithBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		attempts := 0
		s.before = func(string) error { attempts++; return store.ErrUnavailable }
		c := newCommitter(s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.register(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("register returned %v, want context.DeadlineExceeded", err)
		}
		if attempts < 60 || attempts > 140 {
			t.Errorf("the store was called %d times within a minute, want one to two times per second", attempts)
		}
	})
}
