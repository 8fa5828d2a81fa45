package rabbitmq_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestBrokerProbe_UsableServer_ChangesNoQueue(t *testing.T) {
	t.Parallel()
	b := newBroker(t, optionsFor(t, servers.AMQPURI(t)))
	for range 3 {
		if err := b.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	awaitDepths(t, b, broker.Depths{})
}

// Probe must declare the queues only until it succeeds, because a declaration of many partitions takes hundreds of
// requests.
func TestBrokerProbe_Repeated_DeclaresTheQueuesOnce(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	channel := dialServer(t, uri)
	queue := options.Exchange + ".entry.0"
	exists := func() bool {
		found, err := dialServer(t, uri).QueueDeclarePassive(queue, true, false, false, false, nil)
		return err == nil && found.Name == queue
	}
	b := newBroker(t, options)
	if err := b.Probe(t.Context()); err != nil || !exists() {
		t.Fatalf("the first probe declares no queue: %v", err)
	}
	if err := deletionOf(queue)(channel); err != nil {
		t.Fatal(err)
	}
	if err := b.Probe(t.Context()); err != nil || exists() {
		t.Errorf("the second probe declares the queues again: %v", err)
	}
	if err := channel.ExchangeDelete(options.Exchange, false, false); err != nil {
		t.Fatal(err)
	}
	if err := b.Probe(t.Context()); err == nil {
		t.Error("the probe succeeds without an exchange")
	}
	if err := b.Probe(t.Context()); err != nil || !exists() {
		t.Errorf("the probe after a failure declares no queue: %v", err)
	}
}

func TestBrokerProbe_QueueWithOtherSettings_IsReported(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	channel := dialServer(t, uri)
	queue := options.Exchange + ".entry.0"
	if _, err := channel.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	b := newBroker(t, options)
	if err := b.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), queue) {
		t.Errorf("error is %v, want one that names queue %s", err, queue)
	}
	if err := deletionOf(queue)(channel); err != nil {
		t.Fatal(err)
	}
	if err := b.Probe(t.Context()); err != nil {
		t.Errorf("after the deletion of the queue: %v", err)
	}
}

func TestBrokerProbe_ServerAcceptsNoMessages_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	server := servers.NewRabbitMQ(t, servers.RabbitMQOptions{})
	control := func(args ...string) {
		t.Helper()
		if _, err := server.Ctl(args...); err != nil {
			t.Fatal(err)
		}
	}
	control("add_user", "reader", "s3cr3t")
	uri, err := url.Parse(server.URI())
	if err != nil {
		t.Fatal("the URI of a test's server cannot be parsed")
	}
	options := optionsFor(t, uri.String())
	uri.User = url.UserPassword("reader", "s3cr3t")
	narrow := options
	narrow.Binding = source(t, uri.String())
	admin, reader := open(t, options), open(t, narrow)
	for permissions, allowed := range map[[3]string]bool{
		{"^$", "^$", ".*"}: false, {"^foo", "^foo", "^foo"}: false, {`^parking\.`, `^parking\.`, `^parking\.`}: true,
	} {
		control("set_permissions", "reader", permissions[0], permissions[1], permissions[2])
		err := reader.Probe(t.Context())
		if (err == nil) != allowed || err != nil && !strings.Contains(err.Error(), "grant the user the permissions to configure, write and read") {
			t.Errorf("with the permissions %q: %v", permissions, err)
		}
	}
	if err := admin.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	control("set_vm_memory_high_watermark", "0")
	// The first broker was connected before the memory alarm. The second broker connects during the alarm.
	for _, b := range []*rabbitmq.Broker{admin, open(t, options)} {
		polltest.Until(t, "the alarm is reported", func() bool {
			err := b.Probe(t.Context())
			return err != nil && strings.Contains(err.Error(), "free memory or disk space") && b.Blocked() != nil
		})
	}
	control("set_vm_memory_high_watermark", "0.6")
	polltest.Until(t, "the end of the alarm is noticed", func() bool { return admin.Probe(t.Context()) == nil && admin.Blocked() == nil })
}
