package brokertest

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
)

func deliversWhatIsPublished(t *testing.T, s *subject) {
	plain := broker.Message{Body: []byte("neither JSON nor with any property")}
	plainAsDelivered := plain
	plainAsDelivered.ContentType = event.ContentType
	tests := []struct{ published, delivered broker.Message }{
		{message(1), message(1)},
		{plain, plainAsDelivered},
	}
	deliveries, _ := s.consume(t, entries(), 10)
	for _, tt := range tests {
		s.publish(t, entries(), tt.published)
		d := receive(t, deliveries)
		assertMessage(t, d.Message, tt.delivered)
		if d.Queue != entries() || d.Redelivered {
			t.Errorf("the delivery has queue %s and redelivered=%t, want queue %s and redelivered=false", d.Queue, d.Redelivered, entries())
		}
		ack(t, d)
	}
	s.awaitDepths(t, broker.Depths{})
}

func separatesQueues(t *testing.T, s *subject) {
	var queues []broker.Queue
	for partition := range Partitions {
		for _, eventType := range event.Types() {
			queues = append(queues, broker.Queue{Type: eventType, Partition: partition})
		}
	}
	for n, q := range queues {
		s.publish(t, q, message(n))
	}
	for n, q := range queues {
		deliveries, _ := s.consume(t, q, 10)
		d := receive(t, deliveries)
		if d.Queue != q || d.Message.ID != message(n).ID {
			t.Errorf("the consumer of queue %s got message %s of queue %s", q, d.Message.ID, d.Queue)
		}
		ack(t, d)
	}
	s.awaitDepths(t, broker.Depths{})
}

func flushesConfirms(t *testing.T, s *subject) {
	if err := s.Broker.Flush(t.Context()); err != nil {
		t.Fatalf("Flush failed before the first message: %v", err)
	}
	const count = 3000 // exceeds the maximum number of unconfirmed messages
	var confirmed atomic.Int64
	for n := range count {
		q := broker.Queue{Type: event.TypeExit, Partition: n % Partitions}
		if err := s.Broker.Publish(t.Context(), q, message(n), func() { confirmed.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Broker.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := confirmed.Load(); got != count {
		t.Errorf("Flush returned when %d of %d messages were confirmed", got, count)
	}
	s.awaitDepths(t, broker.Depths{Ready: count})
}

func refusesWithEndedContext(t *testing.T, s *subject) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	confirmed := func() { t.Error("a message that Publish did not accept was confirmed") }
	assertError(t, "publish", s.Broker.Publish(ended, entries(), message(1), confirmed), context.Canceled)

	s.publish(t, entries(), message(2))
	deliveries, _ := s.consume(t, entries(), 10)
	if d := receive(t, deliveries); d.Message.ID != message(2).ID {
		t.Errorf("message %s was delivered, although Publish did not accept it", d.Message.ID)
	}
}

func refusesWhatCannotBe(t *testing.T, s *subject) {
	for _, q := range []broker.Queue{
		{Type: event.TypeEntry, Partition: Partitions},
		{Type: event.TypeExit, Partition: -1},
		{Type: "arrival", Partition: 0},
		{},
	} {
		if err := s.Broker.Publish(t.Context(), q, message(1), func() {}); err == nil {
			t.Errorf("publishing to queue %s succeeded, want an error", q)
		}
		if _, err := s.Broker.Consume(t.Context(), q, 1); err == nil {
			t.Errorf("consuming from queue %s succeeded, want an error", q)
		}
	}
	for _, prefetch := range []int{0, -1} {
		if _, err := s.Broker.Consume(t.Context(), entries(), prefetch); err == nil {
			t.Errorf("consuming with a prefetch of %d succeeded, want an error", prefetch)
		}
	}
	if err := s.Broker.Publish(t.Context(), entries(), message(1), nil); err == nil {
		t.Error("publishing without a confirm callback succeeded, want an error")
	}
}
