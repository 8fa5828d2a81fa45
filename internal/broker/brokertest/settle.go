package brokertest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/broker"
)

func redeliversAfterLoss(t *testing.T, s *subject) {
	s.publish(t, entries(), message(1))
	deliveries, _ := s.consume(t, entries(), 10)
	receive(t, deliveries)

	s.Interrupt()
	d := receive(t, deliveries)
	assertMessage(t, d.Message, message(1))
	if !d.Redelivered {
		t.Error("the second delivery is not marked as redelivered")
	}
	ack(t, d)
	s.awaitDepths(t, broker.Depths{})
}

func keepsAcksAfterLoss(t *testing.T, s *subject) {
	const prefetch = 20
	acknowledged := make(map[string]bool)
	for n := range prefetch {
		s.publish(t, entries(), message(n))
	}
	deliveries, _ := s.consume(t, entries(), prefetch)
	for n := range prefetch {
		if d := receive(t, deliveries); n%2 == 1 {
			ack(t, d)
			acknowledged[d.Message.ID] = true
		}
	}
	// The consumer has reached its prefetch limit. So the server delivers another message only after it has received an
	// acknowledgement.
	for n := range len(acknowledged) {
		s.publish(t, entries(), message(prefetch+n))
		receive(t, deliveries)
	}
	s.Interrupt()
	for range prefetch {
		d := receive(t, deliveries)
		if acknowledged[d.Message.ID] {
			t.Errorf("%s is delivered again although it was acknowledged", d.Message.ID)
		}
		ack(t, d)
	}
	s.awaitDepths(t, broker.Depths{})
}

func refusesToSettleAfterLoss(t *testing.T, s *subject) {
	for name, settle := range settlements(t.Context()) {
		s.publish(t, entries(), message(1))
		deliveries, stop := s.consume(t, entries(), 1)
		lost := receive(t, deliveries)
		s.Interrupt()
		again := receive(t, deliveries)
		assertError(t, name, settle(lost.Settler), broker.ErrSessionLost)
		ack(t, again)
		stop()
		s.awaitDepths(t, broker.Depths{})
	}
}

// Delivery tags repeat, because each session numbers its deliveries from 1.
func keepsAcksInTheirSession(t *testing.T, s *subject) {
	s.publish(t, entries(), message(1))
	deliveries, _ := s.consume(t, entries(), 1)
	first := receive(t, deliveries)
	s.Interrupt()
	receive(t, deliveries)
	assertError(t, "ack", first.Settler.Ack(), broker.ErrSessionLost)
	s.Interrupt()
	assertMessage(t, receive(t, deliveries).Message, message(1))
}

func settlesOnce(t *testing.T, s *subject) {
	deliveries, _ := s.consume(t, entries(), 1)
	for first, settle := range settlements(t.Context()) {
		s.publish(t, entries(), message(1))
		d := receive(t, deliveries)
		if err := settle(d.Settler); err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		for second, settleAgain := range settlements(t.Context()) {
			assertError(t, second+" after "+first, settleAgain(d.Settler), broker.ErrSettled)
		}
		if first == "requeue" || first == "retry" {
			ack(t, receive(t, deliveries))
		}
	}
	s.awaitDepths(t, broker.Depths{Dead: 1})
}

func requeues(t *testing.T, s *subject) {
	s.publish(t, entries(), message(1))
	deliveries, _ := s.consume(t, entries(), 1)
	if err := receive(t, deliveries).Settler.Requeue(); err != nil {
		t.Fatal(err)
	}
	d := receive(t, deliveries)
	assertMessage(t, d.Message, message(1))
	if !d.Redelivered {
		t.Error("the second delivery is not marked as redelivered")
	}
	ack(t, d)
	s.awaitDepths(t, broker.Depths{})
}

func retries(t *testing.T, s *subject) {
	want := message(1)
	s.publish(t, entries(), want)
	deliveries, _ := s.consume(t, entries(), 1)
	for attempt := range 3 {
		d := receive(t, deliveries)
		want.Attempt = attempt
		assertMessage(t, d.Message, want)
		retried := time.Now()
		if err := d.Settler.Retry(t.Context()); err != nil {
			t.Fatal(err)
		}
		again := receive(t, deliveries)
		// Servers measure the retry delay in whole milliseconds, so the comparison rounds to milliseconds.
		if waited := time.Since(retried).Round(time.Millisecond); waited < shortDelay {
			t.Errorf("a retried message returned after %s, before the retry delay of %s", waited, shortDelay)
		}
		if err := again.Settler.Requeue(); err != nil {
			t.Fatal(err)
		}
	}
	d := receive(t, deliveries)
	want.Attempt = 3
	assertMessage(t, d.Message, want)
	ack(t, d)
	s.awaitDepths(t, broker.Depths{})
}

func deadLetters(t *testing.T, s *subject) {
	want := DeadLetter{Message: message(1), Reason: broker.Reason{Stage: "parse", Detail: "the body is not JSON: «}»"}}
	s.publish(t, entries(), want.Message)
	deliveries, _ := s.consume(t, entries(), 1)
	if err := receive(t, deliveries).Settler.DeadLetter(t.Context(), want.Reason); err != nil {
		t.Fatal(err)
	}
	s.awaitDepths(t, broker.Depths{Dead: 1})
	if diff := cmp.Diff([]DeadLetter{want}, s.DeadLetters()); diff != "" {
		t.Errorf("the dead letters differ (-want +got):\n%s", diff)
	}
}

func cutsReasons(t *testing.T, s *subject) {
	s.publish(t, entries(), message(1))
	deliveries, _ := s.consume(t, entries(), 1)
	long := broker.Reason{Stage: strings.Repeat("s", 1000), Detail: "1" + strings.Repeat("é", broker.MaxDetail)}
	if err := receive(t, deliveries).Settler.DeadLetter(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	want := broker.Reason{Stage: strings.Repeat("s", 255), Detail: "1" + strings.Repeat("é", (broker.MaxDetail-1)/2)}
	letters := s.DeadLetters()
	if len(letters) != 1 {
		t.Fatalf("there are %d dead letters", len(letters))
	}
	if diff := cmp.Diff(want, letters[0].Reason); diff != "" {
		t.Errorf("the reason of the dead letter differs (-want +got):\n%s", diff)
	}
}

func movesNothingWithEndedContext(t *testing.T, s *subject) {
	s.publish(t, entries(), message(1))
	deliveries, _ := s.consume(t, entries(), 1)
	d := receive(t, deliveries)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	assertError(t, "retry", d.Settler.Retry(ended), context.Canceled)
	assertError(t, "dead-letter", d.Settler.DeadLetter(ended, broker.Reason{}), context.Canceled)
	ack(t, d)
	s.awaitDepths(t, broker.Depths{})
}
