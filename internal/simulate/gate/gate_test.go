package gate_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/brokertest"
	memorybroker "github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/simulate/gate"
	"github.com/parking-operator/parking-operator/internal/store"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
)

func newBroker(t *testing.T, partitions int, retryDelay time.Duration) *memorybroker.Broker {
	t.Helper()
	b, err := memorybroker.New(memorybroker.Config{Partitions: partitions, RetryDelay: retryDelay})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func isolate(s *gate.Server, length time.Duration) error {
	release, err := s.Isolate(context.Background())
	time.Sleep(length)
	return errors.Join(err, release())
}

func TestGatedBroker_OpenGate_PassesTheConformanceSuite(t *testing.T) {
	t.Parallel()
	for name, window := range map[string]int{"gate of a component": 0, "gate of a server": memorybroker.DefaultWindow} {
		t.Run(name, func(t *testing.T) { conforms(t, window) })
	}
}

func conforms(t *testing.T, window int) {
	brokertest.Run(t, func(t *testing.T, retryDelay time.Duration) brokertest.Subject {
		inner, g := newBroker(t, brokertest.Partitions, retryDelay), gate.New()
		t.Cleanup(func() { _ = inner.Close() }) // the test may have closed the broker already
		server := gate.NewServer("rabbitmq", g, nil)
		return brokertest.Subject{
			Broker:    gate.Broker(inner, g, window),
			Interrupt: func() { _ = isolate(server, 10*time.Millisecond) },
			DeadLetters: func() (letters []brokertest.DeadLetter) {
				for _, letter := range inner.DeadLetters() {
					letters = append(letters, brokertest.DeadLetter{Message: letter.Message, Reason: letter.Reason})
				}
				return letters
			},
			CountsUnsettled: true,
		}
	})
}

func TestGatedServer_Isolated_RejectsCalls(t *testing.T) {
	t.Parallel()
	g := gate.New()
	s, server := gate.Store(memorystore.New(memorystore.Config{Partitions: 1}), g), gate.NewServer("redis", g, nil)
	release, err := server.Isolate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PoolSize(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("while the store is isolated, PoolSize returns %v, want ErrUnavailable", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PoolSize(t.Context()); err != nil {
		t.Errorf("after the isolation, PoolSize returns %v", err)
	}
}

func TestGatedServer_Paused_BlocksCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := gate.New()
		s, server := gate.Store(memorystore.New(memorystore.Config{Partitions: 1}), g), gate.NewServer("redis", g, nil)
		release, err := server.Pause(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(5*time.Second, func() { _ = release() })
		start := time.Now()
		if _, err := s.PoolSize(t.Context()); err != nil || time.Since(start) != 5*time.Second {
			t.Errorf("PoolSize returns %v after %s, want nil after 5s", err, time.Since(start))
		}
	})
}

// poster is a summary API that counts the summaries.
type poster struct{ stored atomic.Int64 }

func (p *poster) Post(context.Context, event.Summary) error {
	p.stored.Add(1)
	return nil
}

var _ processor.Poster = (*poster)(nil)

func TestGatedServer_CallJustBeforeCrash_TakesEffectButFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, inner := gate.New(), &poster{}
		api, server := gate.Poster(inner, g), gate.NewServer("summary-api", g, nil)
		go func() {
			if _, err := server.Stop(t.Context(), true, 0); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait() // Stop has made the gate mute: calls take effect, but their results are blocked
		err := api.Post(t.Context(), event.Summary{})
		if err == nil || inner.stored.Load() != 1 {
			t.Errorf("Post returns %v, and %d summaries are stored; want an error and 1", err, inner.stored.Load())
		}
		time.Sleep(time.Second)
		if err := api.Post(t.Context(), event.Summary{}); err != nil {
			t.Errorf("once the server runs again, Post returns %v", err)
		}
	})
}

// Whatever faults are injected, every message must be confirmed exactly once and settled at least once.
func TestGatedBroker_WithFaults_LosesNothing(t *testing.T) {
	t.Parallel()
	for name, window := range map[string]int{"gate of a component": 0, "gate of a server": 30} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { losesNothing(t, window) }) })
	}
}

func losesNothing(t *testing.T, window int) {
	const messages = 500
	inner, g := newBroker(t, 1, 0), gate.New()
	b, server := gate.Broker(inner, g, window), gate.NewServer("rabbitmq", g, nil)
	ctx, cancel := context.WithCancel(t.Context())
	q := broker.Queue{Type: event.TypeEntry}
	deliveries, err := b.Consume(ctx, q, 64)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	settled, confirmed, redelivered := map[string]int{}, map[string]int{}, 0
	var consuming sync.WaitGroup
	for range 8 {
		consuming.Go(func() {
			for d := range deliveries {
				time.Sleep(50 * time.Millisecond)
				err := d.Settler.Ack()
				mu.Lock()
				if err == nil {
					settled[d.Message.ID]++
				} else {
					redelivered++
				}
				mu.Unlock()
			}
		})
	}
	for i, fault := range []func() error{
		func() error { return isolate(server, time.Second) },
		func() error { _, err := server.Stop(ctx, true, 1); return err },
		func() error { _, err := server.Stop(ctx, false, 1); return err },
		func() error {
			release, err := server.Pause(ctx)
			time.Sleep(time.Second)
			return errors.Join(err, release())
		},
	} {
		time.AfterFunc(time.Duration(i)*2*time.Second+200*time.Millisecond, func() {
			if err := fault(); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range messages {
		id := fmt.Sprint(i)
		err := b.Publish(ctx, q, broker.Message{ID: id}, func() {
			mu.Lock()
			defer mu.Unlock()
			confirmed[id]++
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := b.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
	cancel()
	consuming.Wait()
	for i := range messages {
		id := fmt.Sprint(i)
		if confirmed[id] != 1 || settled[id] == 0 {
			t.Errorf("message %s was confirmed %d times and settled %d times, want 1 and at least 1", id, confirmed[id], settled[id])
		}
	}
	if redelivered == 0 {
		t.Error("no message was delivered again")
	}
	if err := inner.Close(); err != nil {
		t.Error(err)
	}
}

// While RabbitMQ does not respond, a real client accepts messages for a queue until its window of unconfirmed messages
// is full. The gated broker must do the same.
func TestGatedBroker_ServerIsDown_AcceptsMessagesUntilTheWindowIsFull(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]func(*gate.Server, context.Context) (func() error, error){
		"paused": (*gate.Server).Pause, "isolated": (*gate.Server).Isolate,
	} {
		synctest.Test(t, func(t *testing.T) {
			const window = 3
			inner, g := newBroker(t, 1, 0), gate.New()
			b := gate.Broker(inner, g, window)
			release, err := hold(gate.NewServer("rabbitmq", g, nil), t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var confirmed atomic.Int64
			publish := func(ctx context.Context, eventType event.Type) error {
				return b.Publish(ctx, broker.Queue{Type: eventType}, broker.Message{}, func() { confirmed.Add(1) })
			}
			for range window {
				if err := publish(t.Context(), event.TypeEntry); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			full, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := publish(full, event.TypeEntry); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: with a full window, Publish returns %v", name, err)
			}
			if err := publish(t.Context(), event.TypeExit); err != nil {
				t.Errorf("%s: Publish to another queue returns %v", name, err)
			}
			if n := confirmed.Load(); n != 0 {
				t.Errorf("%s: %d messages are confirmed", name, n)
			}
			if err := errors.Join(release(), b.Flush(t.Context())); err != nil || confirmed.Load() != window+1 {
				t.Errorf("%s: after the release, Flush returns %v, and %d messages are confirmed, want %d", name, err, confirmed.Load(), window+1)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGatedStore_CutSinceLastPing_NextPingFailsAlthoughGateIsOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := gate.New()
		s, server := gate.Store(memorystore.New(memorystore.Config{Partitions: 1}), g), gate.NewServer("redis", g, nil)
		if err := s.Ping(t.Context()); err != nil {
			t.Fatalf("before the cut: %v", err)
		}
		if err := isolate(server, time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if err := s.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the first ping after the cut returned %v", err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("the second ping after the cut returned %v", err)
		}
	})
}
