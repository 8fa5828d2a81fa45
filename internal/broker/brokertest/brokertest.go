// Package brokertest is the conformance suite of package broker. Every implementation must pass it.
package brokertest

import (
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// Partitions is the number of partitions of the simulation under test.
const Partitions = 2

// Subject is a broker under test, with functions that the tests need but the interface broker.Broker does not
// have.
type Subject struct {
	// Broker is a broker for a simulation that no other test uses. The simulation has as many partitions as the
	// constant Partitions says. Its queues are declared and empty. The tests may close the broker. If they do
	// not, the factory closes it.
	Broker broker.Broker
	// Interrupt ends every session of the broker, as if its connections were lost.
	Interrupt func()
	// DeadLetters returns the dead letters, the oldest first. It may be called only once, because it may remove them
	// from their queue.
	DeadLetters func() []DeadLetter
	// Rival returns a broker that uses the same queues but belongs to another simulation of the same name. The factory
	// closes it. Rival is nil if the queues exist only inside Broker, so that no other broker can use them.
	Rival func() broker.Broker
	// CountsUnsettled is true if Depths counts unsettled deliveries as ready.
	CountsUnsettled bool
}

// DeadLetter is a message in the dead-letter queue.
type DeadLetter struct {
	Message broker.Message
	Reason  broker.Reason
}

// Factory returns a Subject for one test. Its queues have the given retry delay. The factory cleans up when the
// test ends.
type Factory func(t *testing.T, retryDelay time.Duration) Subject

const (
	shortDelay = 300 * time.Millisecond
	longDelay  = time.Hour
)

// Run runs the conformance tests against the brokers that the factory returns.
func Run(t *testing.T, factory Factory) {
	tests := []struct {
		name string
		test func(*testing.T, *subject)
	}{
		{"a published message is confirmed, delivered as it was, and gone once it is acknowledged", deliversWhatIsPublished},
		{"queues do not share messages", separatesQueues},
		{"a flush waits for the confirm of everything published before it", flushesConfirms},
		{"a message published with an ended context is not accepted", refusesWithEndedContext},
		{"an invalid queue or prefetch is an error", refusesWhatCannotBe},
		{"a message that is not settled is delivered again when its session is lost", redeliversAfterLoss},
		{"a message that is acknowledged is not delivered again when its session is lost", keepsAcksAfterLoss},
		{"a delivery of a lost session cannot be settled", refusesToSettleAfterLoss},
		{"an acknowledgement affects only deliveries of its own session", keepsAcksInTheirSession},
		{"a delivery is settled once", settlesOnce},
		{"a message that is requeued is delivered again", requeues},
		{"a retried message returns after the delay with one more attempt", retries},
		{"a dead-lettered message is kept unchanged, together with the reason", deadLetters},
		{"a reason that is too long is cut", cutsReasons},
		{"counting the reasons of dead letters leaves the dead letters in their queue", countsReasons},
		{"moving a message with a context that has ended leaves it unsettled", movesNothingWithEndedContext},
		{"no more than the prefetch is unsettled at a time", honoursPrefetch},
		{"a message that takes long does not stall the others", doesNotStall},
		{"consumers of a queue share its messages", sharesMessages},
		{"when consuming ends, the channel is closed, and received deliveries can still be settled", endsConsuming},
		{"when consuming ends, deliveries that were not received are delivered to other consumers", requeuesUnreceivedDeliveries},
		{"a ping reports a connection that was lost since the last ping", pingReportsLostConnections},
		{"deletion removes every message, and the queues work again", deletes},
		{"the queues of one owner are closed to another until they are deleted", excludesOtherOwners},
		{"every operation on a closed broker fails", refusesAfterClose},
		{"no message is lost or duplicated, however its deliveries are settled", accountsForEveryMessage},
		{"lost sessions lose no message", losesNothingWhenSessionsEnd},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(t, &subject{Subject: factory(t, shortDelay)})
		})
	}
	t.Run("depths count what is ready, retried and dead", func(t *testing.T) {
		t.Parallel()
		countsDepths(t, &subject{Subject: factory(t, longDelay)})
	})
}
