// Package brokertest is the conformance suite of package broker: what every implementation has to do, the
// one in memory and the one on a real server alike.
package brokertest

import (
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// Partitions is the number of partitions of the simulation that a factory makes.
const Partitions = 2

// Subject is a broker under test, with what the suite needs beside the port.
type Subject struct {
	// Broker has a simulation of its own, declared and empty, with Partitions partitions. The suite may
	// close it; the factory closes it otherwise.
	Broker broker.Broker
	// Interrupt ends every session of the broker as the loss of its connections would.
	Interrupt func()
	// DeadLetters returns the dead letters, the oldest first. It may be called once.
	DeadLetters func() []DeadLetter
	// Rival returns a broker for the same queues with another owner. It is nil where no other process can use
	// the queues. The factory closes the rival.
	Rival func() broker.Broker
	// CountsUnsettled says that Depths counts deliveries that are not settled yet as ready.
	CountsUnsettled bool
}

// DeadLetter is a message in the dead-letter queue.
type DeadLetter struct {
	Message broker.Message
	Reason  broker.Reason
}

// Factory makes a subject for one test, with the retry delay given, and cleans up after it.
type Factory func(t *testing.T, retryDelay time.Duration) Subject

const (
	shortDelay = 300 * time.Millisecond
	longDelay  = time.Hour
)

// Run tests the brokers that the factory makes.
func Run(t *testing.T, factory Factory) {
	tests := []struct {
		name string
		test func(*testing.T, *subject)
	}{
		{"a published message is confirmed, delivered as it was, and gone once it is acknowledged", deliversWhatIsPublished},
		{"queues are apart from each other", keepsQueuesApart},
		{"a flush waits for the confirm of everything published before it", flushesConfirms},
		{"a message is not taken when the context has ended", refusesWithEndedContext},
		{"a queue or a prefetch that cannot be is an error", refusesWhatCannotBe},
		{"a message that is not settled is delivered again when its session is lost", redeliversAfterLoss},
		{"a message that is acknowledged is not delivered again when its session is lost", keepsAcksAfterLoss},
		{"a delivery of a lost session cannot be settled", refusesToSettleAfterLoss},
		{"an acknowledgement never crosses to another session", keepsAcksInTheirSession},
		{"a delivery is settled once", settlesOnce},
		{"a message that is requeued is delivered again", requeues},
		{"a message that is retried comes back after the delay with one more attempt", retries},
		{"a message that is dead-lettered is kept as it was with the reason", deadLetters},
		{"a reason that is too long is cut", cutsReasons},
		{"the reasons of dead letters are counted and the letters left", countsReasons},
		{"moving a message with a context that has ended leaves it unsettled", movesNothingWithEndedContext},
		{"no more than the prefetch is unsettled at a time", honoursPrefetch},
		{"a message that takes long does not stall the others", doesNotStall},
		{"consumers of a queue share its messages", sharesMessages},
		{"the end of consuming closes the channel and leaves what was received to be settled", endsConsuming},
		{"what was not received when consuming ended is delivered to others", givesBackWhatWasNotReceived},
		{"deletion removes every message, and the queues work again", deletes},
		{"the queues of one owner are closed to another until they are deleted", excludesOtherOwners},
		{"a closed broker refuses everything", refusesAfterClose},
		{"every message is accounted for whatever is done with its deliveries", accountsForEveryMessage},
		{"no message is lost when sessions are", losesNothingWithSessions},
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
