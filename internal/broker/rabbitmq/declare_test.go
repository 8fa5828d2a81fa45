package rabbitmq_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/logtest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// deadArguments returns the arguments of a simulation's dead-letter queue with the given leader locator.
func deadArguments(locator string) amqp.Table {
	args := amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
	if locator != "" {
		args["x-queue-leader-locator"] = locator
	}
	return args
}

func TestDeclare_QuorumQueues_RequestsBalancedLeaders(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	if err := newBroker(t, options).Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A server accepts the declaration of an existing queue only if the arguments are the same.
	if _, err := dialServer(t, uri).QueueDeclare(options.Exchange+".dead", true, false, false, false, deadArguments("balanced")); err != nil {
		t.Error(err)
	}
	if _, err := dialServer(t, uri).QueueDeclare(options.Exchange+".dead", true, false, false, false, deadArguments("")); err == nil {
		t.Skip("this server does not compare leader locators")
	}
}

func TestBroker_QueuesWithoutLeaderLocator_AreUsed(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	options.Partitions = 1
	channel := dialServer(t, uri)
	declareAsEarlierVersion(t, channel, options)

	b := newBroker(t, options)
	if err := b.Declare(t.Context()); err != nil {
		t.Fatalf("declare queues of an earlier version: %v", err)
	}
	other := open(t, options) // other has not declared the queues yet
	publish(t, other, entries(), broker.Message{ID: "1"})
	d := receive(t, consume(t, other, entries(), 1))
	if err := errors.Join(d.Settler.DeadLetter(t.Context(), broker.Reason{}), other.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := channel.QueueDelete(options.Exchange+".dead", false, false, false); err != nil {
		t.Fatal(err)
	}
	if err := b.Declare(t.Context()); err != nil {
		t.Fatalf("declare a queue again that was deleted: %v", err)
	}
	if err := open(t, options).Declare(t.Context()); err != nil {
		t.Errorf("declare queues of which only some have a locator: %v", err)
	}
}

func declareAsEarlierVersion(t *testing.T, channel *amqp.Channel, o testOptions) {
	t.Helper()
	if err := channel.ExchangeDeclare(o.Exchange, "direct", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	args := func(key string, more amqp.Table) amqp.Table {
		table := amqp.Table{
			"x-queue-type": "quorum", "x-delivery-limit": rabbitmq.DefaultDeliveryLimit,
			"x-dead-letter-exchange": o.Exchange, "x-dead-letter-routing-key": key,
			"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
		}
		maps.Copy(table, more)
		return table
	}
	queues := map[string]amqp.Table{"dead": deadArguments("")}
	for _, key := range []string{"entry.0", "exit.0"} {
		queues[key] = args("dead", nil)
		queues["retry."+key] = args(key, amqp.Table{"x-message-ttl": rabbitmq.DefaultRetryDelay.Milliseconds()})
	}
	for key, table := range queues {
		queue := o.Exchange + "." + key
		if _, err := channel.QueueDeclare(queue, true, false, false, false, table); err != nil {
			t.Fatal(err)
		}
		if err := channel.QueueBind(queue, key, o.Exchange, false, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBroker_QueuesWithoutOwnerMark_AreMarkedAndUsed(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	// Create queues without an owner mark, as earlier versions of the program did.
	publish(t, open(t, options), entries(), broker.Message{ID: "1"})
	options.Owner = "first"
	first := newBroker(t, options)
	if depths, err := first.Depths(t.Context()); err != nil || depths.Ready != 1 {
		t.Errorf("the depths of queues without a mark are %+v (%v)", depths, err)
	}
	receive(t, consume(t, first, entries(), 1))
	if err := first.CheckQueue(t.Context()); err != nil {
		t.Errorf("check a queue of the same simulation: %v", err)
	}
	options.Owner = "second"
	if err := open(t, options).CheckQueue(t.Context()); !errors.Is(err, broker.ErrOtherOwner) {
		t.Errorf("check a queue of another simulation: %v, want %v", err, broker.ErrOtherOwner)
	}
	if err := open(t, options).Declare(t.Context()); !errors.Is(err, broker.ErrOtherOwner) {
		t.Errorf("declare queues that are marked by now: %v, want %v", err, broker.ErrOtherOwner)
	}
}

func TestBrokerDelete_NoOwnerInOptions_RemovesTheOwnerExchange(t *testing.T) {
	t.Parallel()
	options := optionsFor(t, servers.AMQPURI(t))
	options.Owner = "first"
	first := open(t, options)
	if err := first.Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	options.Owner = "" // like 'parking purge', which does not know the owner
	purge := open(t, options)
	if err := purge.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exists, err := purge.Exists(t.Context()); exists || err != nil {
		t.Errorf("after the deletion the simulation exists: %t (%v)", exists, err)
	}
	options.Owner = "second"
	if err := newBroker(t, options).Declare(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBrokerExists_OnlyTheOwnerExchangeIsLeft_ReturnsTrue(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	mark := options.Exchange + ".owner"
	if err := dialServer(t, uri).ExchangeDeclare(mark, "direct", true, false, true, false, amqp.Table{"alternate-exchange": mark + ".x"}); err != nil {
		t.Fatal(err)
	}
	if exists, err := newBroker(t, options).Exists(t.Context()); !exists || err != nil {
		t.Errorf("the simulation exists: %t (%v)", exists, err)
	}
}

// stallingProxy forwards data between a client and a server. While the proxy is stalled, the client receives
// nothing.
type stallingProxy struct {
	listener net.Listener
	to       string
	sent     atomic.Int64 // the number of bytes that clients have sent

	mu      sync.Mutex
	stalled bool
	changed sync.Cond
}

func newStallingProxy(t *testing.T, to string) *stallingProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &stallingProxy{listener: listener, to: to}
	p.changed.L = &p.mu
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { p.passOn(near) })
		}
	})
	t.Cleanup(func() {
		p.stall(false)
		_ = listener.Close()
		connections.Wait()
	})
	return p
}

func (p *stallingProxy) stall(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = on
	p.changed.Broadcast()
}

func (p *stallingProxy) passOn(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	go func() {
		_, _ = io.Copy(p.gate(near), far)
		_ = near.Close()
	}()
	_, _ = io.Copy(writerFunc(func(b []byte) (int, error) {
		p.sent.Add(int64(len(b)))
		return far.Write(b)
	}), near)
}

// gate returns a writer that writes to w, and blocks while the proxy is stalled.
func (p *stallingProxy) gate(w io.Writer) io.Writer {
	return writerFunc(func(b []byte) (int, error) {
		p.mu.Lock()
		for p.stalled {
			p.changed.Wait()
		}
		p.mu.Unlock()
		return w.Write(b)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestDepths_ContextEnds_KeepsTheConnection(t *testing.T) {
	t.Parallel()
	uri, _ := url.Parse(servers.AMQPURI(t))
	proxy := newStallingProxy(t, uri.Host)
	slow := *uri
	slow.Host = proxy.listener.Addr().String()
	log, registry := &logtest.Buffer{}, prometheus.NewRegistry()
	options := optionsFor(t, slow.String())
	options.Logger, options.Registerer = log.Logger(), registry
	b := newBroker(t, options)
	if _, err := b.Depths(t.Context()); err != nil {
		t.Fatal(err)
	}
	proxy.stall(true)
	for range 20 { // more than maxAdminRequests, the maximum number of pending requests
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_, err := b.Depths(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "RabbitMQ") {
			t.Errorf("the depths of a server that does not answer: %v", err)
		}
	}
	proxy.stall(false)
	if _, err := b.Depths(t.Context()); err != nil {
		t.Errorf("the depths once the server answers: %v", err)
	}
	if got := gathered(t, registry, "parking_broker_connections_total"); got != 1 {
		t.Errorf("%g connections were made, want the first only", got)
	}
	if strings.Contains(log.String(), "unavailable") {
		t.Errorf("a timeout of this program is logged as an outage:\n%s", log)
	}
}

func TestConsume_ContextEndsBeforeTheServerAnswers_ClosesTheGoChannel(t *testing.T) {
	t.Parallel()
	uri, _ := url.Parse(servers.AMQPURI(t))
	proxy := newStallingProxy(t, uri.Host)
	slow := *uri
	slow.Host = proxy.listener.Addr().String()
	registry := prometheus.NewRegistry()
	options := optionsFor(t, slow.String())
	options.Registerer = registry
	b := newBroker(t, options)
	publish(t, b, entries(), broker.Message{ID: "first"})
	receive(t, consume(t, b, entries(), 1)) // opens the connection that the proxy then stalls
	proxy.stall(true)
	ctx, cancel := context.WithCancel(t.Context())
	sent := proxy.sent.Load()
	deliveries, err := b.Consume(ctx, broker.Queue{Type: event.TypeExit}, 1)
	if err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the consumer opens a channel", func() bool { return proxy.sent.Load() > sent })
	cancel()
	for range deliveries { // the loop ends when the consumer closes the Go channel, even if the server does not answer
	}
	proxy.stall(false)
	publish(t, b, broker.Queue{Type: event.TypeExit}, broker.Message{ID: "second"})
	if d := receive(t, consume(t, b, broker.Queue{Type: event.TypeExit}, 1)); d.Message.ID != "second" {
		t.Errorf("%q is delivered, want the message that was published", d.Message.ID)
	}
	if got := gathered(t, registry, "parking_broker_connections_total"); got != 2 {
		t.Errorf("%g connections were made, want one for publishing and one for consuming", got)
	}
}

// gathered returns the sum of all time series of a metric.
func gathered(t *testing.T, registry *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}

func TestDeclare_WithoutPermission_ReturnsErrConfig(t *testing.T) {
	t.Parallel()
	server := servers.NewRabbitMQ(t, servers.RabbitMQOptions{})
	own := &ownServer{RabbitMQ: server}
	own.ctl(t, "add_user", "limited", "password")
	uri, _ := url.Parse(server.URI())
	uri.User = url.UserPassword("limited", "password")
	options := optionsFor(t, uri.String())
	options.QueueType = plan.QueueTypeClassic
	exchange := regexp.QuoteMeta(options.Exchange)
	// To declare a queue with a dead-letter exchange, a user needs read permission for the queue and write permission
	// for the exchange.
	for _, tt := range []struct{ name, configure, write, read, want string }{
		{"no right to declare", "^$", "^$", ".*", "declare exchange"},
		{"no right to publish", ".*", "^" + exchange + `\.`, ".*", "declare queue " + options.Exchange + ".entry.0"},
		{"no right to consume", ".*", ".*", "^(" + exchange + "|" + exchange + `\.(dead|retry.*|.*exit.*))$`, "declare queue " + options.Exchange + ".entry.0"},
		{"the documented rights", `^parking\.`, `^parking\.`, `^parking\.`, ""},
	} {
		own.ctl(t, "set_permissions", "limited", tt.configure, tt.write, tt.read)
		b := open(t, options)
		err := b.Declare(t.Context())
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if !errors.Is(err, broker.ErrConfig) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "set_permissions") {
			t.Errorf("%s: error is %v, want %q", tt.name, err, tt.want)
		}
	}
	// A user with the documented permissions can do everything that a simulation needs.
	b := open(t, options)
	publish(t, b, entries(), broker.Message{ID: "1"})
	d := receive(t, consume(t, b, entries(), 1))
	if err := d.Settler.DeadLetter(t.Context(), broker.Reason{}); err != nil {
		t.Error(err)
	}
	if err := b.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	// Check derives the remedy from the error text of RabbitMQ, so the text must come from a real server.
	own.ctl(t, "set_vhost_limits", "-p", "/", `{"max-connections": 0}`)
	if err := open(t, options).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "set_vhost_limits") || !errors.Is(err, broker.ErrNotReady) {
		t.Errorf("check with a limit of the virtual host: %v", err)
	}
	own.ctl(t, "clear_vhost_limits", "-p", "/")
	own.ctl(t, "set_user_limits", "limited", `{"max-connections": 0}`)
	if err := open(t, options).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "set_user_limits") {
		t.Errorf("check with a limit of the user: %v", err)
	}
}
