package processor

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// nullStore is a store that returns success at once, so that a benchmark measures the processor alone.
type nullStore struct{}

func (nullStore) Mark(context.Context, int) (store.Mark, error) { return mark, nil }
func (nullStore) WaitDurable(context.Context, int, store.Mark) error {
	return nil
}
func (nullStore) RecordDeadLetter(context.Context, int, string) error { return nil }
func (nullStore) SettleSummary(context.Context, int, string) (store.Result, error) {
	return store.ResultSettled, nil
}
func (nullStore) RecordEntry(context.Context, store.EntryStep) (store.Result, error) {
	return store.ResultRecorded, nil
}

func (nullStore) RecordExit(_ context.Context, s store.ExitStep) (store.ExitResult, error) {
	return store.ExitResult{
		Result:  store.ResultMatched,
		Summary: event.Summary{ID: s.Origin.ID, Plate: s.Plate, EntryAt: entryAt, ExitAt: s.At},
	}, nil
}

type nullPoster struct{}

func (nullPoster) Post(context.Context, event.Summary) error { return nil }

type nullSettler struct{}

func (nullSettler) Ack() error                                      { return nil }
func (nullSettler) Requeue() error                                  { return nil }
func (nullSettler) Retry(context.Context) error                     { return nil }
func (nullSettler) DeadLetter(context.Context, broker.Reason) error { return nil }

func BenchmarkEntryEventProcessor_ProcessMessage(b *testing.B) {
	p := NewEntryEventProcessor(nullStore{}, 4, maxStay, discard())
	benchmarkHandler(b, p, entryMessage(generated().String()))
}

func BenchmarkExitEventProcessor_ProcessMessage(b *testing.B) {
	p := NewExitEventProcessor(nullStore{}, nullPoster{}, 4, discard())
	benchmarkHandler(b, p, exitMessage(generated().String(), event.IntentMatched))
}

func benchmarkHandler(b *testing.B, h Handler, msg broker.Message) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.ProcessMessage(b.Context(), msg); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPipeline measures one event in the processor, from delivery to acknowledgement. The broker and the store
// are fakes that do nothing.
func BenchmarkPipeline(b *testing.B) {
	_, process := startPipeline(b)
	b.ReportAllocs()
	for b.Loop() {
		process(1)
	}
}

// startPipeline starts a processor that runs until the benchmark ends. The returned function delivers the given
// number of entries to the processor.
func startPipeline(b *testing.B) (p *Processor, process func(events int)) {
	b.Helper()
	entries := NewEntryEventProcessor(nullStore{}, 1, maxStay, discard())
	exits := NewExitEventProcessor(nullStore{}, nullPoster{}, 1, discard())
	msg := entryMessage(event.ID{Run: run, Seq: 42}.String())
	msg.Scheduled = time.Now()
	deliveries := make(chan broker.Delivery, Config{Partitions: 1, Concurrency: 256}.prefetch())
	p, err := New(Config{Partitions: 1, Concurrency: 256}, Dependencies{
		Consumer: consumerFunc(func(ctx context.Context, q broker.Queue, _ int) (<-chan broker.Delivery, error) {
			if q == entryQueue {
				return deliveries, nil
			}
			none := make(chan broker.Delivery)
			context.AfterFunc(ctx, func() { close(none) })
			return none, nil
		}),
		Entries: entries, Exits: exits, DeadLetters: nullStore{}, Durability: nullStore{},
		Registerer: prometheus.NewRegistry(), Logger: discard(),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		close(deliveries)
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	return p, func(events int) {
		for range events {
			deliveries <- broker.Delivery{Message: msg, Queue: entryQueue, Settler: nullSettler{}}
		}
	}
}
