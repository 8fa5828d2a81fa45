package processor

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	brokermemory "github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/store"
	storememory "github.com/parking-operator/parking-operator/internal/store/memory"
)

const memoryPartitions = 2

// inMemory is a complete system whose broker, store and summary API run in memory.
type inMemory struct {
	broker *brokermemory.Broker
	store  *storememory.Store
	api    keeper
	load   *published
}

// keeper is a fake summary API that stores summaries in memory.
type keeper struct {
	mu   sync.Mutex
	kept map[string]event.Summary
}

func (k *keeper) Post(_ context.Context, s event.Summary) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept[s.ID] = s
	return nil
}

// newInMemory returns a system with three queued events per visit: an entry, its exit and an unmatched exit. Half of
// the matched exits precede their entries.
func newInMemory(t testing.TB, visits int) *inMemory {
	t.Helper()
	b, err := brokermemory.New(brokermemory.Config{Partitions: memoryPartitions, RetryDelay: time.Millisecond, Window: 1 << 20, Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	m := &inMemory{
		broker: b, store: storememory.New(storememory.Config{Partitions: memoryPartitions}),
		api: keeper{kept: make(map[string]event.Summary)}, load: newPublished(memoryPartitions),
	}
	for i := range visits {
		plate := fmt.Sprintf("IN-%d", i)
		if i%2 == 0 {
			m.load.exit(plate, event.IntentMatched)
		}
		m.load.entry(plate)
		if i%2 != 0 {
			m.load.exit(plate, event.IntentMatched)
		}
		m.load.exit(fmt.Sprintf("OUT-%d", i), event.IntentUnmatched)
	}
	for _, d := range m.load.messages {
		if err := b.Publish(t.Context(), d.queue, d.msg, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// start runs a processor in the background. The returned function stop ends the processor and returns the error of Run.
func (m *inMemory) start(t testing.TB, concurrency int) (p *Processor, stop func() error) {
	t.Helper()
	p, err := New(Config{Partitions: memoryPartitions, Concurrency: concurrency}, Dependencies{
		Consumer:    m.broker,
		Entries:     NewEntryEventProcessor(m.store, memoryPartitions, maxStay, discard()),
		Exits:       NewExitEventProcessor(m.store, &m.api, memoryPartitions, discard()),
		DeadLetters: m.store, Durability: m.store,
		Registerer: prometheus.NewRegistry(), Logger: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return p, func() error { cancel(); return <-ended }
}

// left returns the number of messages in the main queues and the retry queues.
func (m *inMemory) left(t testing.TB) int64 {
	t.Helper()
	d, err := m.broker.Depths(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d.Ready + d.Retry
}

// expectBalance checks that the ledger balances. If duplicates is false, expectBalance also checks that the ledger
// counts no duplicates. Call expectBalance when all messages are settled.
func (m *inMemory) expectBalance(t *testing.T, duplicates bool) {
	t.Helper()
	want := ledger.Report{AtRest: true}
	for partition := range memoryPartitions {
		for eventType, events := range map[event.Type][]store.Published{
			event.TypeEntry: m.load.entries[partition], event.TypeExit: m.load.exits[partition],
		} {
			run := entryRun
			if eventType == event.TypeExit {
				run = exitRun
			}
			c := store.Confirmation{Run: run, Type: eventType, Partition: partition, Events: events, MaxStay: maxStay}
			if _, err := m.store.Confirm(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		want.EntriesConfirmed += int64(len(m.load.entries[partition]))
		want.ExitsUnmatchedConfirmed += int64(len(m.load.exits[partition]))
	}
	want.ExitsMatchedConfirmed = m.load.matched
	want.ExitsUnmatchedConfirmed -= m.load.matched
	want.EntriesRecorded, want.Matched, want.UnmatchedExpected = want.EntriesConfirmed, want.ExitsMatchedConfirmed, want.ExitsUnmatchedConfirmed
	want.SummariesStored = want.Matched

	got, err := ledger.Audit(t.Context(), m.store, ledger.Options{AtRest: true})
	if err != nil {
		t.Fatal(err)
	}
	if duplicates {
		want.DuplicatesSuppressed = got.DuplicatesSuppressed
	}
	want.Runs, want.Partitions = got.Runs, got.Partitions
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the ledger (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(m.load.summaries, m.api.kept); diff != "" {
		t.Errorf("the summaries (-want +got):\n%s", diff)
	}
}

func TestProcessorRun_ContextEnds_LeavesNoDeliveryUnsettled(t *testing.T) {
	t.Parallel()
	m := newInMemory(t, 2000)
	for n := 0; m.left(t) > 0; n++ {
		p, stop := m.start(t, 16)
		polltest.Until(t, "some messages to be processed", func() bool { return p.Stats().Processed() > 700 || m.left(t) == 0 })
		if err := stop(); err != nil {
			t.Fatalf("processor %d: %v", n, err)
		}
		if left := p.InFlight(); left != 0 {
			t.Fatalf("processor %d left %d deliveries unsettled", n, left)
		}
	}
	// Each processor settled its deliveries before it ended, so the ledger must count no duplicates.
	m.expectBalance(t, false)
}

func TestProcessorRun_LostSessions_LoseNoEvent(t *testing.T) {
	t.Parallel()
	m := newInMemory(t, 2000)
	p, stop := m.start(t, 16)
	for next := uint64(200); m.left(t) > 0; next += 200 {
		polltest.Until(t, "some messages to be processed", func() bool { return p.Stats().Processed() > next || m.left(t) == 0 })
		m.broker.Interrupt()
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	m.expectBalance(t, true)
}

// BenchmarkProcessorRun_BrokerAndStoreInMemory measures the time and memory that the processor takes per event. Half of
// the events are exits, and a fifth of the exits are matched.
func BenchmarkProcessorRun_BrokerAndStoreInMemory(b *testing.B) {
	m := newInMemory(b, 0)
	for i := range b.N / 2 {
		plate := fmt.Sprintf("IN-%d", i)
		m.load.entry(plate)
		if i%5 == 0 {
			m.load.exit(plate, event.IntentMatched)
		} else {
			m.load.exit(fmt.Sprintf("OUT-%d", i), event.IntentUnmatched)
		}
	}
	go func() {
		for _, d := range m.load.messages {
			_ = m.broker.Publish(b.Context(), d.queue, d.msg, func() {})
		}
	}()
	b.ReportAllocs()
	b.ResetTimer()
	_, stop := m.start(b, 256)
	polltest.Until(b, "every event to take effect", func() bool {
		got, err := m.store.Counts(b.Context())
		return err != nil || got.EntriesRecorded+got.SummariesStored+got.UnmatchedExpected == int64(b.N/2*2)
	})
	b.StopTimer()
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
