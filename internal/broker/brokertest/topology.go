package brokertest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
)

func countsDepths(t *testing.T, s *subject) {
	if err := s.Broker.Declare(t.Context()); err != nil {
		t.Fatalf("declare the queues again: %v", err)
	}
	exits := broker.Queue{Type: event.TypeExit, Partition: 1}
	s.publish(t, entries(), message(1), message(2))
	s.publish(t, exits, message(3))
	s.awaitDepths(t, broker.Depths{Ready: 3})
	if version, err := s.Broker.Version(t.Context()); err != nil || version == "" {
		t.Errorf("Version returned %q, %v", version, err)
	}

	deliveries, stop := s.consume(t, entries(), 1)
	if err := receive(t, deliveries).Settler.DeadLetter(t.Context(), broker.Reason{}); err != nil {
		t.Fatal(err)
	}
	d := receive(t, deliveries)
	stop()
	want := broker.Depths{Ready: 1, Dead: 1}
	if s.CountsUnsettled {
		want.Ready++
	}
	s.awaitDepths(t, want)

	if err := d.Settler.Retry(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaitDepths(t, broker.Depths{Ready: 1, Retry: 1, Dead: 1})
}

func countsReasons(t *testing.T, s *subject) {
	reasons := func(limit int, want ...broker.ReasonCount) {
		t.Helper()
		got, err := s.Broker.DeadLetterReasons(t.Context(), limit)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Errorf("DeadLetterReasons returned error %v and these reasons (-want +got):\n%s", err, diff)
		}
	}
	reasons(10)
	parse, post := broker.Reason{Stage: "parse", Detail: "it is «not» JSON"}, broker.Reason{Stage: "post", Detail: "refused"}
	deliveries, _ := s.consume(t, entries(), 10)
	for i, reason := range []broker.Reason{post, parse, parse} {
		s.publish(t, entries(), message(i))
		if err := receive(t, deliveries).Settler.DeadLetter(t.Context(), reason); err != nil {
			t.Fatal(err)
		}
	}
	s.awaitDepths(t, broker.Depths{Dead: 3})
	for range 2 { // count twice, because counting must leave the messages in the queue
		reasons(10, broker.ReasonCount{Reason: parse, Count: 2}, broker.ReasonCount{Reason: post, Count: 1})
		s.awaitDepths(t, broker.Depths{Dead: 3})
	}
	reasons(1, broker.ReasonCount{Reason: parse, Count: 2})
}

func deletes(t *testing.T, s *subject) {
	s.publish(t, entries(), message(1), message(2), message(3), message(4))
	deliveries, stop := s.consume(t, entries(), 1)
	if err := receive(t, deliveries).Settler.DeadLetter(t.Context(), broker.Reason{}); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, deliveries).Settler.Retry(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := s.Broker.Delete(t.Context()); err != nil {
		t.Fatalf("delete the queues: %v", err)
	}
	s.awaitDepths(t, broker.Depths{})
	if err := s.Broker.Delete(t.Context()); err != nil {
		t.Fatalf("delete the queues again: %v", err)
	}
	if err := s.Broker.Declare(t.Context()); err != nil {
		t.Fatalf("declare the queues after their deletion: %v", err)
	}
	s.publish(t, entries(), message(5))
	again, _ := s.consume(t, entries(), 1)
	d := receive(t, again)
	assertMessage(t, d.Message, message(5))
	ack(t, d)
	s.awaitDepths(t, broker.Depths{})
}

func excludesOtherOwners(t *testing.T, s *subject) {
	if s.Rival == nil {
		t.Skip("no other process can use these queues")
	}
	s.publish(t, entries(), message(1))
	rival := s.Rival()
	for name, call := range map[string]func() error{
		"declare": func() error { return rival.Declare(t.Context()) },
		"depths":  func() error { _, err := rival.Depths(t.Context()); return err },
		"delete":  func() error { return rival.Delete(t.Context()) },
	} {
		err := call()
		assertError(t, name+" by another owner", err, broker.ErrOtherOwner)
		assertError(t, name+" by another owner", err, broker.ErrConfig)
	}
	if err := rival.Publish(t.Context(), entries(), message(2), func() {}); err != nil {
		t.Fatal(err)
	}
	rivals, err := rival.Consume(t.Context(), entries(), 1)
	if err != nil {
		t.Fatal(err)
	}
	deliveries, stop := s.consume(t, entries(), 1)
	d := receive(t, deliveries)
	assertMessage(t, d.Message, message(1))
	ack(t, d)
	stop()
	s.awaitDepths(t, broker.Depths{}) // message 2 must not arrive, because the broker of another owner published it

	if err := s.Broker.Delete(t.Context()); err != nil {
		t.Fatalf("delete the queues: %v", err)
	}
	assertMessage(t, receive(t, rivals).Message, message(2))
	assertError(t, "declare queues that another simulation has taken over", s.Broker.Declare(t.Context()), broker.ErrOtherOwner)
	if err := errors.Join(rival.Delete(t.Context()), rival.Close()); err != nil {
		t.Fatalf("delete the queues of the other simulation and close its broker: %v", err)
	}
}

func pingReportsLostConnections(t *testing.T, s *subject) {
	s.publish(t, entries(), message(1))
	deliveries, _ := s.consume(t, entries(), 1)
	receive(t, deliveries) // a received message shows that the broker is connected
	if err := s.Broker.Ping(t.Context()); err != nil {
		t.Fatalf("ping: %v", err)
	}
	s.Interrupt()
	polltest.Until(t, "a ping fails", func() bool { return s.Broker.Ping(t.Context()) != nil })
	if err := s.Broker.Ping(t.Context()); err != nil {
		t.Errorf("the next ping after the failed ping: %v", err)
	}
}

func refusesAfterClose(t *testing.T, s *subject) {
	s.publish(t, entries(), message(1))
	deliveries, _ := s.consume(t, entries(), 1)
	d := receive(t, deliveries)
	if err := s.Broker.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	awaitClosed(t, deliveries)
	for name, settle := range settlements(t.Context()) {
		assertError(t, name, settle(d.Settler), broker.ErrClosed)
	}
	assertError(t, "publish", s.Broker.Publish(t.Context(), entries(), message(2), func() {}), broker.ErrClosed)
	assertError(t, "flush", s.Broker.Flush(t.Context()), broker.ErrClosed)
	_, err := s.Broker.Consume(t.Context(), entries(), 1)
	assertError(t, "consume", err, broker.ErrClosed)
	_, err = s.Broker.Depths(t.Context())
	assertError(t, "depths", err, broker.ErrClosed)
	_, err = s.Broker.DeadLetterReasons(t.Context(), 1)
	assertError(t, "count the reasons of dead letters", err, broker.ErrClosed)
	assertError(t, "ping", s.Broker.Ping(t.Context()), broker.ErrClosed)
	assertError(t, "declare", s.Broker.Declare(t.Context()), broker.ErrClosed)
	assertError(t, "delete", s.Broker.Delete(t.Context()), broker.ErrClosed)
	assertError(t, "close", s.Broker.Close(), broker.ErrClosed)
}
