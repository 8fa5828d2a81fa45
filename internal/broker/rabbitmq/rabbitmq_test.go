package rabbitmq_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/brokertest"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

func TestConformance_QuorumQueues(t *testing.T)  { testConformance(t, plan.QueueTypeQuorum) }
func TestConformance_ClassicQueues(t *testing.T) { testConformance(t, plan.QueueTypeClassic) }

func testConformance(t *testing.T, queueType plan.QueueType) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	brokertest.Run(t, func(t *testing.T, retryDelay time.Duration) brokertest.Subject {
		options := optionsFor(t, uri)
		options.QueueType, options.RetryDelay, options.Owner = queueType, retryDelay, "the first"
		b := newBroker(t, options)
		if err := b.Declare(t.Context()); err != nil {
			t.Fatal(err)
		}
		return brokertest.Subject{
			Broker:      b,
			Interrupt:   b.Interrupt,
			DeadLetters: func() []brokertest.DeadLetter { return deadLetters(t, uri, options.Exchange) },
			Rival: func() broker.Broker {
				rival := options
				rival.Owner = "the second"
				return open(t, rival)
			},
		}
	})
}

// testOptions are the arguments of rabbitmq.New.
type testOptions struct {
	rabbitmq.Config
	rabbitmq.Dependencies
}

// optionsFor returns options for a simulation that no other test uses.
func optionsFor(t testing.TB, uri string) testOptions {
	t.Helper()
	return testOptions{
		Config: rabbitmq.Config{
			Exchange:   "parking." + servers.Name(t),
			Partitions: brokertest.Partitions,
			Component:  t.Name()[:min(len(t.Name()), 200)],
		},
		Dependencies: rabbitmq.Dependencies{Binding: source(t, uri)},
	}
}

func source(t testing.TB, uri string) binding.Source {
	t.Helper()
	parsed, err := url.Parse(uri)
	if err != nil {
		t.Fatal("the server's URI cannot be parsed")
	}
	return func() (binding.Binding, error) { return binding.Binding{URI: parsed}, nil }
}

// newBroker returns a broker. When the test ends, the queues of the broker are deleted and the broker is closed.
func newBroker(t testing.TB, o testOptions) *rabbitmq.Broker {
	t.Helper()
	b := open(t, o)
	t.Cleanup(func() { deleteQueues(t, o) })
	return b
}

func open(t testing.TB, o testOptions) *rabbitmq.Broker {
	t.Helper()
	b, err := rabbitmq.New(o.Config, o.Dependencies)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // the test may have closed the broker already
	return b
}

func deleteQueues(t testing.TB, o testOptions) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o.Registerer = nil
	b, err := rabbitmq.New(o.Config, o.Dependencies)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(ctx); err != nil {
		t.Errorf("delete the test's queues: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func deadLetters(t *testing.T, uri, exchange string) []brokertest.DeadLetter {
	t.Helper()
	var letters []brokertest.DeadLetter
	for _, d := range drain(t, dialServer(t, uri), exchange+".dead") {
		stage, _ := d.Headers[event.HeaderStage].(string)
		detail, _ := d.Headers[event.HeaderReason].(string)
		letters = append(letters, brokertest.DeadLetter{
			Message: rabbitmq.Decode(&d),
			Reason:  broker.Reason{Stage: stage, Detail: detail},
		})
	}
	return letters
}

// dialServer opens a plain AMQP connection, and returns a channel of it.
func dialServer(t *testing.T, uri string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // Close fails if the test has stopped the server
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return channel
}

// drain gets all ready messages of a queue.
func drain(t *testing.T, channel *amqp.Channel, queue string) []amqp.Delivery {
	t.Helper()
	var all []amqp.Delivery
	for {
		d, ok, err := channel.Get(queue, true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, d)
	}
}
