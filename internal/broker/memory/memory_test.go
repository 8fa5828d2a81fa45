package memory_test

import (
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker/brokertest"
	"github.com/parking-operator/parking-operator/internal/broker/memory"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, func(t *testing.T, retryDelay time.Duration) brokertest.Subject {
		b := newBroker(t, memory.Options{Partitions: brokertest.Partitions, RetryDelay: retryDelay})
		return brokertest.Subject{
			Broker:          b,
			Interrupt:       b.Interrupt,
			DeadLetters:     func() []brokertest.DeadLetter { return deadLetters(b) },
			CountsUnsettled: true,
		}
	})
}

func newBroker(t testing.TB, options memory.Options) *memory.Broker {
	t.Helper()
	b, err := memory.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // the test may have closed it
	return b
}

func deadLetters(b *memory.Broker) []brokertest.DeadLetter {
	var letters []brokertest.DeadLetter
	for _, letter := range b.DeadLetters() {
		letters = append(letters, brokertest.DeadLetter{Message: letter.Message, Reason: letter.Reason})
	}
	return letters
}
