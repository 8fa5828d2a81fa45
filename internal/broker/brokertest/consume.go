package brokertest

import (
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
)

func honoursPrefetch(t *testing.T, s *subject) {
	const count, prefetch = 50, 3
	for n := range count {
		s.publish(t, entries(), message(n))
	}
	deliveries, _ := s.consume(t, entries(), prefetch)
	var held []broker.Delivery
	for received := range count {
		held = append(held, receive(t, deliveries))
		if len(held) < prefetch && received < count-1 {
			continue
		}
		s.depths(t) // give a faulty broker time to deliver too many messages
		select {
		case <-deliveries:
			t.Fatalf("%d deliveries are unsettled, more than the prefetch of %d", len(held)+1, prefetch)
		default:
		}
		ack(t, held[0])
		held = held[1:]
	}
}

func doesNotStall(t *testing.T, s *subject) {
	const count, prefetch = 100, 8
	for n := range count {
		s.publish(t, entries(), message(n))
	}
	deliveries, _ := s.consume(t, entries(), prefetch)
	slow := receive(t, deliveries)
	for range count - 1 {
		ack(t, receive(t, deliveries))
	}
	s.Interrupt()
	again := receive(t, deliveries)
	for again.Message.ID != slow.Message.ID { // skip messages whose acknowledgements were lost with the session
		ack(t, again)
		again = receive(t, deliveries)
	}
	ack(t, again)
	s.awaitDepths(t, broker.Depths{})
}

func sharesMessages(t *testing.T, s *subject) {
	first, _ := s.consume(t, entries(), 1)
	second, _ := s.consume(t, entries(), 1)
	s.publish(t, entries(), message(1), message(2))
	a, b := receive(t, first), receive(t, second)
	if a.Message.ID == b.Message.ID {
		t.Errorf("both consumers got %s", a.Message.ID)
	}
	ack(t, a)
	ack(t, b)
	s.awaitDepths(t, broker.Depths{})
}

func endsConsuming(t *testing.T, s *subject) {
	for name, settle := range settlements(t.Context()) {
		s.publish(t, entries(), message(1))
		deliveries, stop := s.consume(t, entries(), 1)
		d := receive(t, deliveries)
		stop()
		awaitClosed(t, deliveries)
		if err := settle(d.Settler); err != nil {
			t.Errorf("settle a delivery with %s after its consumer ended: %v", name, err)
		}
		if name == "requeue" || name == "retry" {
			again, stop := s.consume(t, entries(), 1)
			ack(t, receive(t, again))
			stop()
			awaitClosed(t, again)
		}
	}
	s.awaitDepths(t, broker.Depths{Dead: 1})
}

// awaitClosed waits until the channel of deliveries is closed. It fails the test if another delivery arrives.
func awaitClosed(t *testing.T, deliveries <-chan broker.Delivery) {
	t.Helper()
	select {
	case d, open := <-deliveries:
		if open {
			t.Fatalf("a stopped consumer got message %s", d.Message.ID)
		}
	case <-time.After(patience):
		t.Fatal("the channel of a stopped consumer is not closed")
	}
}

func requeuesUnreceivedDeliveries(t *testing.T, s *subject) {
	const count = 50
	for n := range count {
		s.publish(t, entries(), message(n))
	}
	deliveries, stop := s.consume(t, entries(), count)
	// Receive only one delivery before the consumer stops. The broker must then requeue the other messages, because it
	// has already sent them to this consumer.
	held := receive(t, deliveries)
	stop()
	others, _ := s.consume(t, entries(), count)
	for range count - 1 {
		ack(t, receive(t, others))
	}
	ack(t, held)
	s.awaitDepths(t, broker.Depths{})
	for range deliveries {
		t.Error("a stopped consumer got a message that had been requeued")
	}
}
