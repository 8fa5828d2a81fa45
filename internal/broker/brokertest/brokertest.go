// Package brokertest is the conformance suite that every implementation of broker.Broker must pass.
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
	// Broker serves a simulation that no other test uses, with Partitions partitions and empty queues. The Factory
	// closes Broker unless the test does.
	Broker broker.Broker
	// Interrupt ends every session of the broker, as if its connections were lost.
	Interrupt func()
	// DeadLetters returns the dead letters, the oldest first. It may be called only once, because it may remove the
	// dead letters from their queue.
	DeadLetters func() []DeadLetter
	// Rival returns a broker of another simulation with the same queues. The Factory closes this broker. A nil Rival
	// means that no other broker can use the queues.
	Rival func() broker.Broker
	// CountsUnsettled is true if Depths counts unsettled deliveries as ready.
	CountsUnsettled bool
}

// DeadLetter is a message in the dead-letter queue.
type DeadLetter struct {
	Message broker.Message
	Reason  broker.Reason
}

// Factory returns a Subject for one test. The queues of the Subject have the given retry delay. A Factory cleans up
// when the test ends.
type Factory func(t *testing.T, retryDelay time.Duration) Subject

const (
	shortDelay = 300 * time.Millisecond
	longDelay  = time.Hour
)

// Run runs the conformance tests. It calls factory for the broker of each test.
func Run(t *testing.T, factory Factory) {
	tests := []struct {
		name string
		test func(*testing.T, *subject)
	}{
		{"a published message is confirmed, delivered unchanged, and removed once it is acknowledged", deliversWhatIsPublished},
		{"queues do not share messages", separatesQueues},
		{"a flush waits until every message published before the flush is confirmed", flushesConfirms},
		{"Publish does not accept a message if the context has ended", refusesWithEndedContext},
		{"an invalid queue, prefetch or confirm callback causes an error", refusesWhatCannotBe},
		{"a message that is not settled is delivered again when its session is lost", redeliversAfterLoss},
		{"a message that is acknowledged is not delivered again when its session is lost", keepsAcksAfterLoss},
		{"a delivery of a lost session cannot be settled", refusesToSettleAfterLoss},
		{"an acknowledgement affects only deliveries of its own session", keepsAcksInTheirSession},
		{"a second attempt to settle a delivery fails", settlesOnce},
		{"a message that is requeued is delivered again", requeues},
		{"after the delay, a retried message returns with its attempt count increased by one", retries},
		{"a dead-lettered message is kept unchanged, together with the reason", deadLetters},
		{"a dead-letter reason that is too long is truncated", cutsReasons},
		{"counting the reasons of dead letters leaves the dead letters in their queue", countsReasons},
		{"Retry and DeadLetter fail if the context has ended, and leave the delivery unsettled", movesNothingWithEndedContext},
		{"the number of unsettled deliveries does not exceed the prefetch", honoursPrefetch},
		{"a delivery that stays unsettled does not stall other deliveries", doesNotStall},
		{"consumers of a queue share its messages", sharesMessages},
		{"when consuming ends, the channel is closed, and received deliveries can still be settled", endsConsuming},
		{"when consuming ends, deliveries that were not received are delivered to other consumers", requeuesUnreceivedDeliveries},
		{"a ping reports a connection that was lost since the last ping", pingReportsLostConnections},
		{"deletion removes every message, and the queues can then be declared again", deletes},
		{"another simulation of the same name cannot use the queues until these queues are deleted", excludesOtherOwners},
		{"every operation on a closed broker fails", refusesAfterClose},
		{"no message is lost or duplicated, however its deliveries are settled", accountsForEveryMessage},
		{"no message is lost when sessions end", losesNothingWhenSessionsEnd},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(t, &subject{Subject: factory(t, shortDelay)})
		})
	}
	t.Run("depths count ready messages, messages that wait for a retry, and dead letters", func(t *testing.T) {
		t.Parallel()
		countsDepths(t, &subject{Subject: factory(t, longDelay)})
	})
}
