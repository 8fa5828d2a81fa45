// Package memory implements package broker within one process. Messages are lost when the process ends.
//
// A queue with Config.Limit messages is full, and Publish blocks. Unsettled deliveries and delayed retries count too.
package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/internal/tally"
	"github.com/parking-operator/parking-operator/internal/event"
)

// These are the defaults for unset fields of Config.
const (
	DefaultRetryDelay = 500 * time.Millisecond
	DefaultWindow     = 1024
	// DefaultLimit is reached within seconds at the highest supported rate without a consumer. A full queue takes about
	// 100 MB of memory.
	DefaultLimit = 1 << 18
)

// keptLetters is the maximum number of dead letters that a broker keeps. If there are more, the broker drops the oldest
// dead letters, but still counts them.
const keptLetters = 1000

// Config configures a Broker. If RetryDelay, Window or Limit is 0, its default applies.
type Config struct {
	// Partitions is the number of entry queues, and also the number of exit queues.
	Partitions int
	// RetryDelay is how long a retried message stays in the retry queue.
	RetryDelay time.Duration
	// Window is the maximum number of unconfirmed messages per queue.
	Window int
	// Limit is the maximum number of messages per queue.
	Limit int
}

func (c Config) withDefaults() Config {
	c.RetryDelay = cmp.Or(c.RetryDelay, DefaultRetryDelay)
	c.Window = cmp.Or(c.Window, DefaultWindow)
	c.Limit = cmp.Or(c.Limit, DefaultLimit)
	return c
}

func (c Config) validate() error {
	switch {
	case c.Partitions < 1:
		return fmt.Errorf("partitions: %d is less than 1", c.Partitions)
	case c.RetryDelay < 0:
		return fmt.Errorf("retry delay: %s is negative", c.RetryDelay)
	case c.Window < 1:
		return fmt.Errorf("window: the maximum number of unconfirmed messages per queue must be at least 1, but is %d", c.Window)
	case c.Limit < 1:
		return fmt.Errorf("limit: the maximum number of messages per queue must be at least 1, but is %d", c.Limit)
	}
	return nil
}

// Broker contains the queues of one simulation. All methods are safe for concurrent use.
type Broker struct {
	config Config
	queues map[broker.Queue]*queue
	dead   *deadLetters
	tally  *tally.Tally

	interrupted atomic.Bool // true if Interrupt was called after the latest call of Ping

	closing sync.Mutex
	closed  chan struct{}
	work    sync.WaitGroup // counts the goroutines that Close waits for
}

var _ broker.Broker = (*Broker)(nil)

// New returns a broker with empty queues.
func New(c Config) (*Broker, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure the broker: %w", err)
	}
	b := &Broker{
		config: c,
		queues: make(map[broker.Queue]*queue),
		dead:   &deadLetters{},
		tally:  &tally.Tally{},
		closed: make(chan struct{}),
	}
	for partition := range c.Partitions {
		for _, eventType := range event.Types() {
			name := broker.Queue{Type: eventType, Partition: partition}
			b.queues[name] = newQueue(name, c, b.dead, b.tally)
		}
	}
	return b, nil
}

// Publish adds msg to q, as described for broker.Publisher.
func (b *Broker) Publish(ctx context.Context, q broker.Queue, msg broker.Message, confirmed func()) error {
	if confirmed == nil {
		return errors.New(`publish: the callback "confirmed" is nil`)
	}
	queue, err := b.queue(q)
	if err != nil {
		return err
	}
	if msg.ContentType == "" {
		msg.ContentType = event.ContentType
	}
	return queue.publish(ctx, b.closed, &message{content: msg}, confirmed)
}

// Flush waits until the broker has confirmed all messages that it accepted before the call of Flush.
func (b *Broker) Flush(ctx context.Context) error {
	if b.isClosed() {
		return broker.ErrClosed
	}
	return b.tally.Wait(ctx, b.closed)
}

// Consume implements broker.Consumer. When ctx ends, messages that the caller has not received from the channel return
// to the queue at once.
func (b *Broker) Consume(ctx context.Context, q broker.Queue, prefetch int) (<-chan broker.Delivery, error) {
	queue, err := b.queue(q)
	if err != nil {
		return nil, err
	}
	if prefetch < 1 {
		return nil, fmt.Errorf("consume %s: the prefetch %d is less than 1", q, prefetch)
	}
	b.closing.Lock()
	defer b.closing.Unlock()
	if b.isClosed() {
		return nil, broker.ErrClosed
	}
	c := queue.newConsumer(prefetch)
	b.work.Go(func() { c.run(ctx, b.closed) })
	return c.out, nil
}

func (b *Broker) queue(q broker.Queue) (*queue, error) {
	if queue := b.queues[q]; queue != nil {
		return queue, nil
	}
	return nil, q.Check(b.config.Partitions)
}

// Declare does nothing, because the queues always exist.
func (b *Broker) Declare(context.Context) error {
	if b.isClosed() {
		return broker.ErrClosed
	}
	return nil
}

// Ping always fails after Close. After a call of Interrupt, only the first call of Ping fails.
func (b *Broker) Ping(context.Context) error {
	switch {
	case b.isClosed():
		return broker.ErrClosed
	case b.interrupted.Swap(false):
		return errors.New("the connection was lost")
	}
	return nil
}

// Version returns the text that reports show as the version of the broker.
func (b *Broker) Version(context.Context) (string, error) { return "in memory", nil }

// Depths returns the numbers of messages in the queues. Unsettled deliveries count as ready messages.
func (b *Broker) Depths(context.Context) (broker.Depths, error) {
	if b.isClosed() {
		return broker.Depths{}, broker.ErrClosed
	}
	depths := broker.Depths{Dead: b.dead.count()}
	for _, queue := range b.queues {
		ready, retrying := queue.depths()
		depths.Ready += int64(ready)
		depths.Retry += int64(retrying)
	}
	return depths, nil
}

// DeadLetterReasons counts the reasons of the dead letters that the method DeadLetters returns.
func (b *Broker) DeadLetterReasons(_ context.Context, limit int) ([]broker.ReasonCount, error) {
	if b.isClosed() {
		return nil, broker.ErrClosed
	}
	return broker.CountReasons(b.dead.reasons, limit), nil
}

// Delete removes every message. Unsettled deliveries can no longer be settled.
func (b *Broker) Delete(context.Context) error {
	if b.isClosed() {
		return broker.ErrClosed
	}
	for _, queue := range b.queues {
		queue.clear()
	}
	b.dead.clear()
	return nil
}

// Interrupt ends every session, as if the connection to a server were lost. The broker then delivers the unsettled
// messages again.
func (b *Broker) Interrupt() {
	b.interrupted.Store(true)
	for _, queue := range b.queues {
		queue.interrupt()
	}
}

// DeadLetters returns the latest dead letters, at most 1000, the oldest first.
func (b *Broker) DeadLetters() []DeadLetter { return b.dead.all() }

// Close ends every consumer and drops all messages.
func (b *Broker) Close() error {
	b.closing.Lock()
	defer b.closing.Unlock()
	if b.isClosed() {
		return broker.ErrClosed
	}
	close(b.closed)
	for _, queue := range b.queues {
		queue.close()
	}
	b.work.Wait()
	return nil
}

func (b *Broker) isClosed() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}
