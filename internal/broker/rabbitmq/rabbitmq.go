package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/internal/tally"
	"github.com/parking-operator/parking-operator/internal/outage"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Defaults for unset fields of Config.
const (
	DefaultRetryDelay = 500 * time.Millisecond
	// DefaultDeliveryLimit is the default of Config.DeliveryLimit. It is high, because every lost session counts as a
	// delivery of all its unsettled messages.
	DefaultDeliveryLimit = 1000
	DefaultWindow        = 1024
)

const (
	// maxName is the maximum length of a name in AMQP, in bytes.
	maxName = 255
	// maxOwner is the maximum length of Config.Owner, in bytes. The owner is usually a UUID, which has 36 bytes.
	maxOwner = 64
	// maxPartitions keeps the channels of a connection below 2047, RabbitMQ's default limit. Each partition has two
	// queues, and each of them needs a channel.
	maxPartitions = 1000
	// maxWindow is the maximum of Config.Window.
	maxWindow = 1 << 16
	// closeTimeout is how long Close waits for a server that does not answer.
	closeTimeout = 5 * time.Second
	// linkTimeout is the part of closeTimeout that is reserved for closing the connections.
	linkTimeout = time.Second
)

// Config is the configuration of a broker.
type Config struct {
	// Exchange is the name of the simulation's exchange. The names of the simulation's queues begin with this name.
	Exchange string
	// Owner marks the queues. A broker with another owner does not use them. If Owner is empty, the broker neither
	// marks queues nor checks marks.
	Owner string
	// Partitions is the number of entry queues. There are as many exit queues.
	Partitions int
	// QueueType is the type of the queues: quorum or classic. The default is quorum.
	QueueType plan.QueueType
	// RetryDelay is how long a retried message stays in the retry queue, in whole milliseconds.
	RetryDelay time.Duration
	// DeliveryLimit is the number of times that a quorum queue delivers a message again before it dead-letters the
	// message.
	DeliveryLimit int
	// Window is the maximum number of unconfirmed messages per queue.
	Window int
	// Component is the name of this process in the server's list of connections.
	Component string
}

// Dependencies contains what a Broker uses in addition to its Config. Only Binding is required.
type Dependencies struct {
	// Binding returns the current binding: the addresses and the credentials of the server. It is called before each
	// attempt to connect.
	Binding binding.Source
	// Logger receives log messages. nil discards them.
	Logger *slog.Logger
	// Registerer registers the metrics whose names begin with parking_broker_. If Registerer is nil, no metrics are
	// registered.
	Registerer prometheus.Registerer
}

// withDefaults returns a copy of the configuration in which each unset field has its default value.
func (c Config) withDefaults() Config {
	c.QueueType = cmp.Or(c.QueueType, plan.QueueTypeQuorum)
	c.RetryDelay = cmp.Or(c.RetryDelay, DefaultRetryDelay)
	c.DeliveryLimit = cmp.Or(c.DeliveryLimit, DefaultDeliveryLimit)
	c.Window = cmp.Or(c.Window, DefaultWindow)
	c.Component = cmp.Or(c.Component, "parking")
	return c
}

func (c Config) validate() error {
	switch {
	case c.Exchange == "":
		return errors.New("exchange: its name is required")
	case c.Partitions < 1 || c.Partitions > maxPartitions:
		return fmt.Errorf("partitions: %d is not between 1 and %d", c.Partitions, maxPartitions)
	case c.QueueType != plan.QueueTypeQuorum && c.QueueType != plan.QueueTypeClassic:
		return fmt.Errorf("queue type: %q is neither quorum nor classic", c.QueueType)
	case c.RetryDelay < time.Millisecond || c.RetryDelay > 24*time.Hour:
		return fmt.Errorf("retry delay: %s is not between 1ms and 24h", c.RetryDelay)
	case c.DeliveryLimit < 1 || c.DeliveryLimit > deadDeliveryLimit:
		return fmt.Errorf("delivery limit: %d is not between 1 and %d", c.DeliveryLimit, deadDeliveryLimit)
	case c.Window < 1 || c.Window > maxWindow:
		return fmt.Errorf("window: %d is not between 1 and %d", c.Window, maxWindow)
	}
	return c.checkNames()
}

func (c Config) checkNames() error {
	if len(c.Owner) > maxOwner {
		return fmt.Errorf("owner: the identifier of the queue owner is longer than %d bytes", maxOwner)
	}
	if len(c.Component) > maxName {
		return fmt.Errorf("component: its name has more than %d bytes", maxName)
	}
	if longest := c.topology().retry(broker.Queue{Type: "entry", Partition: c.Partitions - 1}); len(longest.queue) > maxName {
		return fmt.Errorf("exchange: the name %s is too long: the name of queue %s would have more than %d bytes", c.Exchange, longest.queue, maxName)
	}
	return nil
}

func (c Config) topology() topology {
	return topology{
		exchange: c.Exchange, owner: c.Owner, partitions: c.Partitions, queueType: c.QueueType,
		retryDelay: c.RetryDelay, deliveryLimit: c.DeliveryLimit,
	}
}

// Broker is a client of one simulation's queues. It connects when it is first used. All methods are safe for
// concurrent use.
type Broker struct {
	config   Config
	dialer   *dialer
	topology topology
	declarer *declarer
	metrics  *metrics
	log      *slog.Logger
	outages  *outage.Log
	lost     atomic.Pointer[error] // why a connection was lost since the last call of Ping; nil if no connection was lost

	publish *link // only for publishing: during an alarm, the server stops reading from each connection that publishes
	consume *link
	admin   *link

	adminSlots chan struct{} // a semaphore: contains one element per administrative request in progress

	unconfirmed tally.Tally

	probed atomic.Bool // whether the last call of Probe succeeded

	running context.Context // canceled by Close
	stop    context.CancelFunc
	work    sync.WaitGroup // counts the goroutines that Close waits for

	mu       sync.RWMutex
	isClosed bool
	lanes    map[laneID]*lane
	sessions map[*session]struct{}
}

var _ broker.Broker = (*Broker)(nil)

// New returns a broker for the queues of a simulation. It does not connect.
func New(c Config, d Dependencies) (*Broker, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure the broker: %w", err)
	}
	if d.Binding == nil {
		return nil, errors.New("configure the broker: it has no binding: set Dependencies.Binding")
	}
	metrics, err := newMetrics(d.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of the broker: %w", err)
	}
	log := cmp.Or(d.Logger, slog.New(slog.DiscardHandler))
	running, stop := context.WithCancel(context.Background())
	topology := c.topology()
	b := &Broker{
		config: c, dialer: newDialer(d.Binding, c.Component, log), topology: topology, declarer: newDeclarer(topology), metrics: metrics, log: log,
		outages:    outage.New(log, "The broker is unavailable; operations on it are retried", "The broker is available again"),
		adminSlots: make(chan struct{}, maxAdminRequests),
		running:    running, stop: stop,
		lanes: make(map[laneID]*lane), sessions: make(map[*session]struct{}),
	}
	b.publish = b.newLink("publish")
	b.consume = b.newLink("consume")
	b.admin = b.newLink("admin")
	return b, nil
}

func (b *Broker) newLink(role string) *link {
	connect := func(ctx context.Context) (*connection, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(b.running, cancel)()
		return b.dialer.dial(ctx, role)
	}
	return &link{
		connect: connect, outages: b.outages, part: "connection " + role, gauges: b.metrics.of(role),
		lost:   &b.lost,
		blocks: outage.New(b.log.With("role", role), "The broker blocks publishers until its resource alarm ends", "The broker accepts messages again"),
		closed: b.running.Done(), turn: make(chan struct{}, 1),
	}
}

// Check makes one attempt to connect, and closes the connection again. The error is one line with the address and the
// remedy, but without the password.
func (b *Broker) Check(ctx context.Context) error {
	conn, err := b.dialer.dial(ctx, "check")
	if err != nil {
		return err
	}
	conn.close(closeTimeout)
	return nil
}

// Ping fails if no channel can be opened, or if a connection was lost since the previous call. A lost connection counts
// even after a reconnect.
func (b *Broker) Ping(ctx context.Context) error {
	err := b.administer(ctx, func(*administration) error { return nil })
	if lost := b.lost.Swap(nil); err == nil && lost != nil {
		return *lost
	}
	return err
}

// Version opens a connection and returns the product name and the version that the server reports.
func (b *Broker) Version(ctx context.Context) (string, error) {
	conn, err := b.dialer.dial(ctx, "version")
	if err != nil {
		return "", err
	}
	defer conn.close(closeTimeout)
	product, _ := conn.Properties["product"].(string)
	version, _ := conn.Properties["version"].(string)
	return strings.TrimSpace(product + " " + version), nil
}

// Close sends the pending acknowledgements and closes every connection. Unsettled deliveries return to their queues.
// Unconfirmed messages may be lost, unless the caller calls Flush first.
func (b *Broker) Close() error {
	sessions, first := b.markClosed()
	if !first {
		return broker.ErrClosed
	}
	b.stop()
	deadline := time.Now().Add(closeTimeout)
	b.finish(sessions, closeTimeout-linkTimeout)
	var closing sync.WaitGroup
	for _, l := range []*link{b.publish, b.consume, b.admin} {
		closing.Go(func() { l.close(time.Until(deadline)) })
	}
	closing.Wait()
	b.work.Wait()
	return nil
}

func (b *Broker) markClosed() (sessions []*session, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosed {
		return nil, false
	}
	b.isClosed = true
	for s := range b.sessions {
		sessions = append(sessions, s)
	}
	return sessions, true
}

// finish ends the sessions. It waits until the sessions have sent their pending settlements, or until the timeout.
func (b *Broker) finish(sessions []*session, timeout time.Duration) {
	timedOut := time.After(timeout)
	for _, s := range sessions {
		s.finish(broker.ErrClosed)
	}
	for _, s := range sessions {
		select {
		case <-s.done:
		case <-timedOut:
			return // do not wait for the remaining sessions: they end when Close closes the connections
		}
	}
}

// start runs f in a goroutine, for which Close waits. It returns false, and does not run f, if the broker is closed.
func (b *Broker) start(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosed {
		return false
	}
	b.work.Go(f)
	return true
}
