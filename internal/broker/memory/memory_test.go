package memory_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/brokertest"
	"github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/event"
)

func TestConformance_MemoryBroker(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, func(t *testing.T, retryDelay time.Duration) brokertest.Subject {
		b := newBroker(t, memory.Config{Partitions: brokertest.Partitions, RetryDelay: retryDelay})
		return brokertest.Subject{
			Broker:          b,
			Interrupt:       b.Interrupt,
			DeadLetters:     func() []brokertest.DeadLetter { return deadLetters(b) },
			CountsUnsettled: true,
		}
	})
}

func newBroker(t testing.TB, config memory.Config) *memory.Broker {
	t.Helper()
	b, err := memory.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // the test may have closed the broker already
	return b
}

func deadLetters(b *memory.Broker) []brokertest.DeadLetter {
	var letters []brokertest.DeadLetter
	for _, letter := range b.DeadLetters() {
		letters = append(letters, brokertest.DeadLetter{Message: letter.Message, Reason: letter.Reason})
	}
	return letters
}

func entries() broker.Queue { return broker.Queue{Type: event.TypeEntry} }

func publish(t *testing.T, b broker.Broker, id string) {
	t.Helper()
	if err := b.Publish(t.Context(), entries(), broker.Message{ID: id}, func() {}); err != nil {
		t.Fatal(err)
	}
}

func consume(t *testing.T, b broker.Broker, prefetch int) <-chan broker.Delivery {
	t.Helper()
	deliveries, err := b.Consume(t.Context(), entries(), prefetch)
	if err != nil {
		t.Fatal(err)
	}
	return deliveries
}

// inBubble runs a test with the fake clock of package synctest. The test fails if one of its goroutines does
// not end.
func inBubble(t *testing.T, config memory.Config, test func(*testing.T, *memory.Broker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b, err := memory.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = b.Close() }() // the test may have closed the broker already
		test(t, b)
	})
}

func TestPublish_QueueIsFull_BlocksUntilAMessageLeavesTheQueue(t *testing.T) {
	t.Parallel()
	ways := map[string]func(broker.Settler) error{
		"acknowledged":  broker.Settler.Ack,
		"dead-lettered": func(s broker.Settler) error { return s.DeadLetter(context.Background(), broker.Reason{}) },
	}
	for name, leave := range ways {
		t.Run("until a message is "+name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, memory.Config{Partitions: 1, Limit: 2}, func(t *testing.T, b *memory.Broker) {
				deliveries := consume(t, b, 1)
				publish(t, b, "1")
				publish(t, b, "2")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				confirmed := func() { t.Error("a message that was not taken is confirmed") }
				if err := b.Publish(ctx, entries(), broker.Message{}, confirmed); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("publish to a full queue returned %v", err)
				}
				published := make(chan struct{})
				go func() {
					publish(t, b, "3")
					close(published)
				}()
				first := <-deliveries
				for name, stay := range map[string]func(broker.Settler) error{
					"requeued": broker.Settler.Requeue,
					"retried":  func(s broker.Settler) error { return s.Retry(t.Context()) },
				} {
					if err := stay(first.Settler); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					select {
					case <-published:
						t.Errorf("a message that is %s made room", name)
					default:
					}
					first = <-deliveries
				}
				if err := leave(first.Settler); err != nil {
					t.Fatal(err)
				}
				<-published
			})
		})
	}
	t.Run("Publish returns an error when the broker is closed", func(t *testing.T) {
		t.Parallel()
		inBubble(t, memory.Config{Partitions: 1, Limit: 1}, func(t *testing.T, b *memory.Broker) {
			publish(t, b, "1")
			ended := make(chan error, 1)
			go func() { ended <- b.Publish(t.Context(), entries(), broker.Message{}, func() {}) }()
			synctest.Wait()
			select {
			case err := <-ended:
				t.Errorf("publish to a full queue returned %v", err)
			default:
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			if err := <-ended; !errors.Is(err, broker.ErrClosed) {
				t.Errorf("publish returned %v", err)
			}
		})
	})
}

func TestPublish_WindowIsFull_BlocksUntilAMessageIsConfirmed(t *testing.T) {
	t.Parallel()
	inBubble(t, memory.Config{Partitions: 1, Window: 2}, func(t *testing.T, b *memory.Broker) {
		slow := make(chan struct{})
		for range 2 {
			if err := b.Publish(t.Context(), entries(), broker.Message{}, func() { <-slow }); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Publish(ctx, entries(), broker.Message{}, func() {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("publish beyond the window returned %v", err)
		}
		close(slow)
		publish(t, b, "after")
	})
}

func TestConsume_OneConsumerEnds_AnotherGetsItsMessages(t *testing.T) {
	t.Parallel()
	inBubble(t, memory.Config{Partitions: 1}, func(t *testing.T, b *memory.Broker) {
		for n := range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			ending, err := b.Consume(ctx, entries(), 1)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // wait until the consumer waits for a message
			other, stopOther := context.WithCancel(t.Context())
			staying, err := b.Consume(other, entries(), 1)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			cancel()
			if n%2 == 0 {
				synctest.Wait() // let the first consumer end before the message is published
			}
			publish(t, b, strconv.Itoa(n))
			if err := (<-staying).Settler.Ack(); err != nil {
				t.Fatal(err)
			}
			stopOther()
			for range ending {
				t.Error("a message is delivered to a consumer that has ended")
			}
			synctest.Wait()
		}
	})
}

func TestRetry_SeveralMessages_EachReturnsAfterItsDelay(t *testing.T) {
	t.Parallel()
	const delay = time.Minute
	inBubble(t, memory.Config{Partitions: 1, RetryDelay: delay}, func(t *testing.T, b *memory.Broker) {
		deliveries := consume(t, b, 10)
		retried := map[string]time.Time{}
		for n := range 5 {
			id := strconv.Itoa(n)
			publish(t, b, id)
			if err := (<-deliveries).Settler.Retry(t.Context()); err != nil {
				t.Fatal(err)
			}
			retried[id] = time.Now()
			<-time.After(time.Duration(n) * time.Second) // fake time: the test does not really wait
		}
		for n := range 5 {
			d := <-deliveries
			if waited := time.Since(retried[d.Message.ID]); d.Message.ID != strconv.Itoa(n) || waited != delay {
				t.Errorf("%s came back after %s", d.Message.ID, waited)
			}
		}
	})
}

func TestDeadLetters_MoreThanTheMaximum_KeepsTheLatestAndCountsAll(t *testing.T) {
	t.Parallel()
	b := newBroker(t, memory.Config{Partitions: 1})
	deliveries := consume(t, b, 1)
	const count = 1003
	for n := range count {
		publish(t, b, strconv.Itoa(n))
		if err := (<-deliveries).Settler.DeadLetter(t.Context(), broker.Reason{}); err != nil {
			t.Fatal(err)
		}
	}
	letters := b.DeadLetters()
	if len(letters) != 1000 || letters[0].Message.ID != "3" || letters[999].Message.ID != "1002" {
		t.Errorf("%d dead letters are kept, the first of which is %s", len(letters), letters[0].Message.ID)
	}
	if depths, err := b.Depths(t.Context()); err != nil || depths.Dead != count {
		t.Errorf("the depths are %+v (%v)", depths, err)
	}
}

func TestNewBroker_InvalidConfig_ReturnsError(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]memory.Config{
		"partitions":  {},
		"retry delay": {Partitions: 1, RetryDelay: -1},
		"window":      {Partitions: 1, Window: -1},
		"limit":       {Partitions: 1, Limit: -1},
	} {
		if _, err := memory.New(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with a wrong %s, New returned %v", want, err)
		}
	}
}
