package brokertest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
)

// account counts how often each message of a test was confirmed, delivered, acknowledged and dead-lettered.
type account struct {
	mu           sync.Mutex
	confirmed    map[string]int
	delivered    map[string]int
	acknowledged map[string]int
	dead         map[string]int
}

func newAccount() *account {
	return &account{
		confirmed: map[string]int{}, delivered: map[string]int{},
		acknowledged: map[string]int{}, dead: map[string]int{},
	}
}

func (a *account) count(what map[string]int, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	what[id]++
}

// settled returns the number of messages that were acknowledged or dead-lettered.
func (a *account) settled() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := map[string]struct{}{}
	for _, left := range []map[string]int{a.acknowledged, a.dead} {
		for id := range left {
			ids[id] = struct{}{}
		}
	}
	return len(ids)
}

const (
	publishers         = 4
	consumersEach      = 2
	messagesPublishers = 300
)

func accountQueues() []broker.Queue {
	return []broker.Queue{{Type: event.TypeEntry, Partition: 0}, {Type: event.TypeExit, Partition: 1}}
}

// accountsForEveryMessage publishes and settles messages concurrently. No session is lost, so each message must be
// acknowledged once or dead-lettered once.
func accountsForEveryMessage(t *testing.T, s *subject) {
	a := s.publishAndSettle(t, func() {})
	for n := range publishers * messagesPublishers {
		id := message(n).ID
		if a.confirmed[id] != 1 || a.acknowledged[id]+a.dead[id] != 1 {
			t.Errorf("%s was confirmed %d, delivered %d, acknowledged %d and dead-lettered %d times",
				id, a.confirmed[id], a.delivered[id], a.acknowledged[id], a.dead[id])
		}
	}
	s.awaitDepths(t, broker.Depths{Dead: int64(len(a.dead))})
}

// losesNothingWhenSessionsEnd publishes and settles messages concurrently while sessions end. A
// message may be settled several times, but must not be lost.
func losesNothingWhenSessionsEnd(t *testing.T, s *subject) {
	a := s.publishAndSettle(t, s.Interrupt)
	for n := range publishers * messagesPublishers {
		id := message(n).ID
		if a.confirmed[id] != 1 || a.acknowledged[id]+a.dead[id] == 0 {
			t.Errorf("%s was confirmed %d, delivered %d, acknowledged %d and dead-lettered %d times",
				id, a.confirmed[id], a.delivered[id], a.acknowledged[id], a.dead[id])
		}
	}
	// The broker delivers a message again if its acknowledgement was lost with a session. Acknowledge these messages.
	for _, q := range accountQueues() {
		deliveries, _ := s.consume(t, q, 100)
		go func() {
			for d := range deliveries {
				_ = d.Settler.Ack() // cannot fail, because the test interrupts no session from here on
			}
		}()
	}
	polltest.UntilState(t, "the queues are empty", func() bool {
		depths := s.depths(t)
		return depths.Ready == 0 && depths.Retry == 0
	}, func() any { return s.depths(t) })
}

// publishAndSettle publishes and randomly settles messages concurrently, until every message is acknowledged or
// dead-lettered. Meanwhile, it calls interrupt several times.
func (s *subject) publishAndSettle(t *testing.T, interrupt func()) *account {
	t.Helper()
	a := newAccount()
	ctx, stop := context.WithCancel(t.Context())
	var consumers, others sync.WaitGroup
	defer consumers.Wait()
	defer stop()
	for n := range consumersEach * len(accountQueues()) {
		q := accountQueues()[n%len(accountQueues())]
		deliveries, err := s.Broker.Consume(ctx, q, 1+n*20)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(1, uint64(n)))
		consumers.Go(func() { settleAtRandom(t, a, deliveries, random) })
	}
	for p := range publishers {
		others.Go(func() { s.publishRange(t, a, p*messagesPublishers) })
	}
	for n := range 5 {
		polltest.UntilState(t, "the next fifth of the messages is settled", func() bool {
			return a.settled() >= publishers*messagesPublishers*n/5
		}, func() any { return a.settled() })
		interrupt()
	}
	others.Wait()
	if err := s.Broker.Flush(t.Context()); err != nil {
		t.Errorf("flush: %v", err)
	}
	polltest.UntilState(t, "every message is settled", func() bool {
		return a.settled() == publishers*messagesPublishers
	}, func() any { return a.settled() })
	return a
}

func (s *subject) publishRange(t *testing.T, a *account, first int) {
	for n := first; n < first+messagesPublishers; n++ {
		msg := message(n)
		q := accountQueues()[n%len(accountQueues())]
		if err := s.Broker.Publish(t.Context(), q, msg, func() { a.count(a.confirmed, msg.ID) }); err != nil {
			t.Errorf("publish: %v", err)
		}
	}
}

// settleAtRandom settles the deliveries in random order, each in a random way.
func settleAtRandom(t *testing.T, a *account, deliveries <-chan broker.Delivery, random *rand.Rand) {
	var held []broker.Delivery
	for d := range deliveries {
		a.count(a.delivered, d.Message.ID)
		held = append(held, d)
		for len(held) > 0 && (len(deliveries) == 0 || random.IntN(3) > 0) {
			n := random.IntN(len(held))
			settleOne(t, a, held[n], random.IntN(100))
			held[n] = held[len(held)-1]
			held = held[:len(held)-1]
		}
	}
}

func settleOne(t *testing.T, a *account, d broker.Delivery, draw int) {
	var err error
	var outcome map[string]int
	switch {
	case draw < 5:
		err = d.Settler.Requeue()
	case draw < 10 && d.Message.Attempt < 3:
		err = d.Settler.Retry(t.Context())
	case draw < 15:
		outcome = a.dead
		err = d.Settler.DeadLetter(t.Context(), broker.Reason{Stage: "parse"})
	default:
		outcome = a.acknowledged
		err = d.Settler.Ack()
	}
	switch {
	case err != nil && !errors.Is(err, broker.ErrSessionLost):
		t.Errorf("settle %s: %v", d.Message.ID, err)
	case err == nil && outcome != nil:
		a.count(outcome, d.Message.ID)
	}
}
