package brokertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
)

const (
	// patience is the timeout for every condition that a test waits for. It is long enough for a busy machine.
	patience = 3 * time.Minute
)

// subject is a Subject with test helpers as methods.
type subject struct {
	Subject
}

// entries is the queue that most tests use.
func entries() broker.Queue { return broker.Queue{Type: event.TypeEntry, Partition: 0} }

// message returns test message number n, with every property set.
func message(n int) broker.Message {
	at := time.Date(2030, time.May, 17, 9, 30, n%60, 0, time.UTC)
	return broker.Message{
		ID:          fmt.Sprintf("0123456789abc-0-%d", n),
		Type:        event.TypeEntry,
		AppID:       event.AppID,
		ContentType: event.ContentType,
		Timestamp:   at,
		Intent:      event.IntentMatched,
		Scheduled:   at.Add(-1234567 * time.Nanosecond),
		Attempt:     0,
		Body:        fmt.Appendf(nil, `{"id":"0123456789abc-0-%d"}`, n),
	}
}

// publish publishes messages and waits until all of them are confirmed.
func (s *subject) publish(t *testing.T, q broker.Queue, messages ...broker.Message) {
	t.Helper()
	confirmed := make(chan struct{}, len(messages))
	for _, msg := range messages {
		if err := s.Broker.Publish(t.Context(), q, msg, func() { confirmed <- struct{}{} }); err != nil {
			t.Fatalf("publish: %v", err)
		}
	}
	for range messages {
		select {
		case <-confirmed:
		case <-time.After(patience):
			t.Fatal("a message was not confirmed")
		}
	}
}

// consume starts a consumer. The consumer runs until the test ends or the returned function is called.
func (s *subject) consume(t *testing.T, q broker.Queue, prefetch int) (<-chan broker.Delivery, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	deliveries, err := s.Broker.Consume(ctx, q, prefetch)
	if err != nil {
		t.Fatalf("consume: %v", err)
	}
	return deliveries, cancel
}

func receive(t *testing.T, deliveries <-chan broker.Delivery) broker.Delivery {
	t.Helper()
	select {
	case d, open := <-deliveries:
		if !open {
			t.Fatal("the channel of deliveries is closed")
		}
		return d
	case <-time.After(patience):
		t.Fatal("no delivery")
	}
	panic("unreachable")
}

func ack(t *testing.T, d broker.Delivery) {
	t.Helper()
	if err := d.Settler.Ack(); err != nil {
		t.Fatalf("acknowledge %s: %v", d.Message.ID, err)
	}
}

func assertMessage(t *testing.T, got, want broker.Message) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the message differs (-want +got):\n%s", diff)
	}
}

func assertError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s returned %v, want %v", what, got, want)
	}
}

func (s *subject) depths(t *testing.T) broker.Depths {
	t.Helper()
	depths, err := s.Broker.Depths(t.Context())
	if err != nil {
		t.Fatalf("depths: %v", err)
	}
	return depths
}

func (s *subject) awaitDepths(t *testing.T, want broker.Depths) {
	t.Helper()
	var got broker.Depths
	polltest.UntilState(t, fmt.Sprintf("the depths are %+v", want), func() bool {
		got = s.depths(t)
		return got == want
	}, func() any { return got })
}

// settlements returns the methods that settle a delivery, by name.
func settlements(ctx context.Context) map[string]func(broker.Settler) error {
	return map[string]func(broker.Settler) error{
		"ack":     broker.Settler.Ack,
		"requeue": broker.Settler.Requeue,
		"retry":   func(s broker.Settler) error { return s.Retry(ctx) },
		"dead-letter": func(s broker.Settler) error {
			return s.DeadLetter(ctx, broker.Reason{Stage: "parse", Detail: "on purpose"})
		},
	}
}
