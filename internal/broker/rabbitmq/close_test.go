package rabbitmq_test

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// The test does not run in parallel with others, because it would count their goroutines.
func TestBrokerClose_LeavesNoGoroutine(t *testing.T) { //nolint:paralleltest // see above
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	b := open(t, options)
	defer deleteQueues(t, options)
	if err := b.Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, b, entries(), broker.Message{ID: "1"}, broker.Message{ID: "2"}, broker.Message{ID: "3"})
	deliveries := consume(t, b, entries(), 2)
	if err := receive(t, deliveries).Settler.Retry(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Interrupt()
	receive(t, deliveries)
	unreachable := open(t, optionsFor(t, "amqp://"+servers.FreeAddress(t)))
	unanswered := consume(t, unreachable, entries(), 1)
	for _, b := range []broker.Broker{b, unreachable} {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	for range deliveries { // the loop ends, because Close closes the Go channel
	}
	for range unanswered {
	}
	var left string
	polltest.Until(t, "no goroutine of the broker is left", func() bool {
		left = goroutines("amqp091-go", "broker/rabbitmq.(")
		return left == ""
	})
	if t.Failed() {
		t.Log(left)
	}
}

// goroutines returns the stack traces of all running goroutines whose stack trace contains at least one of the
// texts.
func goroutines(texts ...string) string {
	buffer := make([]byte, 1<<20)
	buffer = buffer[:runtime.Stack(buffer, true)]
	var found strings.Builder
	for stack := range strings.SplitSeq(string(buffer), "\n\n") {
		for _, text := range texts {
			if strings.Contains(stack, text) {
				found.WriteString(stack + "\n\n")
				break
			}
		}
	}
	return found.String()
}

// numbered returns messages with the IDs 0 to count-1.
func numbered(count int) []broker.Message {
	messages := make([]broker.Message, count)
	for n := range messages {
		messages[n].ID = strconv.Itoa(n)
	}
	return messages
}

func TestBrokerClose_SendsAcknowledgementsAndRequeuesUnsettledDeliveries(t *testing.T) {
	t.Parallel()
	const count = 300
	options := optionsFor(t, servers.AMQPURI(t))
	b := newBroker(t, options)
	publish(t, b, entries(), numbered(count)...)
	deliveries := consume(t, b, entries(), count)
	acknowledged := map[string]bool{}
	for n := range count / 2 {
		d := receive(t, deliveries)
		if n%3 == 0 { // leave every third delivery unacknowledged
			continue
		}
		if err := d.Settler.Ack(); err != nil {
			t.Fatal(err)
		}
		acknowledged[d.Message.ID] = true
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	next := open(t, options)
	deliveries = consume(t, next, entries(), count)
	for range count - len(acknowledged) {
		d := receive(t, deliveries)
		if acknowledged[d.Message.ID] {
			t.Errorf("%s is delivered again although it was acknowledged", d.Message.ID)
		}
		if err := d.Settler.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	awaitDepths(t, next, broker.Depths{})
}

func TestConsume_ContextEnds_LaterAcknowledgementsTakeEffect(t *testing.T) {
	t.Parallel()
	const count = 2000
	options := optionsFor(t, servers.AMQPURI(t))
	b := newBroker(t, options)
	publish(t, b, entries(), numbered(count)...)
	ctx, stop := context.WithCancel(t.Context())
	deliveries, err := b.Consume(ctx, entries(), count)
	if err != nil {
		t.Fatal(err)
	}
	var received []broker.Delivery
	for range count {
		received = append(received, receive(t, deliveries))
	}
	stop()
	for range deliveries { // the loop ends when the consumer has stopped and has closed the Go channel
	}
	// Send many single acknowledgements, because the server forwards only a limited number to the queue at a time.
	for _, d := range received {
		if err := d.Settler.Ack(); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	// A message whose acknowledgement was lost is back in the queue, and is delivered before a new message.
	next := open(t, options)
	publish(t, next, entries(), broker.Message{ID: "later"})
	d := receive(t, consume(t, next, entries(), count))
	if d.Message.ID != "later" {
		t.Errorf("%s is delivered again although it was acknowledged", d.Message.ID)
	}
}
