package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/logtest"
	"github.com/parking-operator/parking-operator/internal/store"
)

var errDown = errors.New("connection refused")

type handlerFunc func(ctx context.Context, msg broker.Message) (Completion, error)

func (f handlerFunc) ProcessMessage(ctx context.Context, msg broker.Message) (Completion, error) {
	return f(ctx, msg)
}

func answer(o Outcome, err error) handlerFunc {
	return func(context.Context, broker.Message) (Completion, error) { return Completion{Outcome: o}, err }
}

// fakeQueues is a fake consumer whose messages come from the test.
type fakeQueues struct {
	mu     sync.Mutex
	queues map[broker.Queue]chan broker.Delivery
	err    error // returned by Consume
}

func newFakeQueues() *fakeQueues {
	return &fakeQueues{queues: make(map[broker.Queue]chan broker.Delivery)}
}

func (f *fakeQueues) queue(q broker.Queue) chan broker.Delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.queues[q] == nil {
		f.queues[q] = make(chan broker.Delivery, 1024)
	}
	return f.queues[q]
}

func (f *fakeQueues) Consume(ctx context.Context, q broker.Queue, _ int) (<-chan broker.Delivery, error) {
	if f.err != nil {
		return nil, f.err
	}
	deliveries := f.queue(q)
	context.AfterFunc(ctx, func() { close(deliveries) })
	return deliveries, nil
}

// deliver delivers a message with the given identifier, which is also its body. The returned settler records how the
// processor settles the delivery.
func (f *fakeQueues) deliver(q broker.Queue, id string) *fakeSettler {
	s := &fakeSettler{}
	f.queue(q) <- broker.Delivery{Message: broker.Message{ID: id, Body: []byte(id)}, Queue: q, Settler: s}
	return s
}

// fakeSettler records how the processor settles a delivery.
type fakeSettler struct {
	mu    sync.Mutex
	calls []string
	// failures are the errors that the first calls of any methods return, in order. Later calls succeed.
	failures []error
}

func (s *fakeSettler) call(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, what)
	if len(s.failures) == 0 {
		return nil
	}
	err := s.failures[0]
	s.failures = s.failures[1:]
	return err
}

func (s *fakeSettler) Ack() error                  { return s.call("ack") }
func (s *fakeSettler) Requeue() error              { return s.call("requeue") }
func (s *fakeSettler) Retry(context.Context) error { return s.call("retry") }
func (s *fakeSettler) DeadLetter(_ context.Context, r broker.Reason) error {
	return s.call(fmt.Sprintf("dead-letter %s: %s", r.Stage, r.Detail))
}

func (s *fakeSettler) expect(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.calls, want) {
		t.Errorf("the delivery was settled by %q, want %q", s.calls, want)
	}
}

// fakeStore implements only Durability and DeadLetters. Effects are durable at once, unless the test sets wait.
type fakeStore struct {
	mu          sync.Mutex
	epoch       string
	waits       int
	deadLetters []string
	// markErrs and deadLetterErrs contain the errors that the first calls of Mark and of RecordDeadLetter return, in
	// order. Later calls succeed.
	markErrs, deadLetterErrs []error
	wait                     func(ctx context.Context, mark store.Mark) error
}

func (s *fakeStore) Mark(context.Context, int) (store.Mark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Mark{Epoch: s.epoch}, pop(&s.markErrs)
}

func (s *fakeStore) WaitDurable(ctx context.Context, _ int, mark store.Mark) error {
	s.mu.Lock()
	s.waits++
	wait := s.wait
	s.mu.Unlock()
	if wait == nil {
		return nil
	}
	return wait(ctx, mark)
}

func (s *fakeStore) RecordDeadLetter(_ context.Context, partition int, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadLetters = append(s.deadLetters, fmt.Sprintf("%d/%s", partition, key))
	return pop(&s.deadLetterErrs)
}

func pop(errs *[]error) error {
	if len(*errs) == 0 {
		return nil
	}
	err := (*errs)[0]
	*errs = (*errs)[1:]
	return err
}

// rig is a processor with a fake broker and a fake store.
type rig struct {
	*Processor
	queues   *fakeQueues
	store    *fakeStore
	registry *prometheus.Registry
	log      *logtest.Buffer

	stop  context.CancelFunc
	ended chan error
}

var (
	entryQueue = broker.Queue{Type: event.TypeEntry}
	exitQueue  = broker.Queue{Type: event.TypeExit}
)

// newRig returns a processor with fake servers. It handles the entries and exits of one partition with the given
// handlers.
func newRig(t *testing.T, concurrency int, entries, exits Handler) *rig {
	t.Helper()
	r := &rig{
		queues:   newFakeQueues(),
		store:    &fakeStore{epoch: "1"},
		registry: prometheus.NewPedanticRegistry(),
		log:      new(logtest.Buffer),
		ended:    make(chan error, 1),
	}
	p, err := New(Config{Partitions: 1, Concurrency: concurrency}, Dependencies{
		Consumer: r.queues, Entries: entries, Exits: exits, DeadLetters: r.store, Durability: r.store,
		Registerer: r.registry,
		Logger:     slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Processor = p
	return r
}

// start runs the processor in the background. The method finish stops the processor.
func (r *rig) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.ended <- r.Run(ctx) }()
}

// finish stops the processor and returns the error of Run.
func (r *rig) finish() error {
	r.stop()
	return <-r.ended
}

func elapsed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
