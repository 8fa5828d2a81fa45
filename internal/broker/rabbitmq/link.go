package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/outage"
)

// link has at most one open connection to the server. If the connection is lost, the next use of the link opens another
// connection.
type link struct {
	// connect makes one attempt to open a connection.
	connect func(ctx context.Context) (*connection, error)
	outages *outage.Log            // shared by all links of a broker, because they fail together
	part    string                 // the name of the connection in the log of outages
	lost    *atomic.Pointer[error] // points to Broker.lost, which all links of the broker share
	blocks  *outage.Log            // logs the periods in which the server blocks the connection
	gauges  linkGauges
	closed  <-chan struct{} // closed when the broker is closed

	// The field blocked is the reason why the server blocks the connection. It is nil while the connection is not
	// blocked.
	blocked atomic.Pointer[string]

	turn    chan struct{} // a semaphore that guards current; unlike a mutex, it lets a caller stop waiting when ctx ends
	current *connection
	watches sync.WaitGroup
}

// try returns the open connection. If no connection is open, try makes one attempt to connect.
func (l *link) try(ctx context.Context) (*connection, error) {
	if err := l.acquire(ctx); err != nil {
		return nil, err
	}
	defer l.release()
	return l.attempt(ctx)
}

// get returns the open connection, or tries to connect until an attempt succeeds. It fails only if ctx ends or the
// broker is closed.
func (l *link) get(ctx context.Context) (*connection, error) {
	if err := l.acquire(ctx); err != nil {
		return nil, err
	}
	defer l.release()
	delay := newRetries()
	for {
		conn, err := l.attempt(ctx)
		if err == nil {
			return conn, nil
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case l.isClosed():
			return nil, broker.ErrClosed
		}
		l.outages.Fault(l.part, err)
		_ = delay.wait(ctx, err) // the next iteration checks whether ctx has ended
	}
}

func (l *link) acquire(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.closed:
		return broker.ErrClosed
	}
}

func (l *link) release() { <-l.turn }

func (l *link) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// attempt does the work of the method try. The caller must hold the semaphore l.turn.
func (l *link) attempt(ctx context.Context) (*connection, error) {
	if l.isClosed() {
		return nil, broker.ErrClosed
	}
	if l.current != nil && !l.current.IsClosed() {
		return l.current, nil
	}
	l.watches.Wait() // wait until the loss of the previous connection is logged
	conn, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	l.current = conn
	l.outages.Fine(l.part)
	l.blocks.Fine(l.part) // a new connection is not blocked: the server blocks a connection only when the client publishes
	l.gauges.connections.Inc()
	l.gauges.connected.Set(1)
	closes := conn.NotifyClose(make(chan *amqp.Error, 1))
	blocks := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	l.watches.Go(func() { l.watch(closes, blocks) })
	return conn, nil
}

// blockReminder is the interval at which a blocked connection is reported again. An outage.Log ends an outage that is
// not reported for a minute.
const blockReminder = 30 * time.Second

// watch reports when the server blocks the connection, and when the connection is lost. It returns when the connection
// is closed.
func (l *link) watch(closes <-chan *amqp.Error, blocks <-chan amqp.Blocking) {
	defer l.gauges.connected.Set(0)
	defer l.gauges.blocked.Set(0)
	defer l.blocked.Store(nil)
	reminders := time.NewTicker(blockReminder)
	defer reminders.Stop()
	for {
		select {
		case reason, lost := <-closes:
			// Ignore the error if this program has closed the connection.
			if lost && !l.isClosed() {
				err := withRemedy(fmt.Errorf("connection lost: %w", reason))
				l.lost.Store(&err)
				l.outages.Fault(l.part, err)
			}
			return
		case blocking, open := <-blocks:
			if !open {
				blocks = nil // the connection is closed, and closes will deliver the reason
				continue
			}
			l.reportBlocked(blocking)
		case <-reminders.C:
			if reason := l.blocked.Load(); reason != nil {
				l.blocks.Fault(l.part, errors.New(*reason))
			}
		}
	}
}

func (l *link) reportBlocked(blocking amqp.Blocking) {
	if blocking.Active {
		l.gauges.blocked.Set(1)
		l.blocked.Store(&blocking.Reason)
		l.blocks.Fault(l.part, errors.New(blocking.Reason))
		return
	}
	l.gauges.blocked.Set(0)
	l.blocked.Store(nil)
	l.blocks.Fine(l.part)
}

// close closes the connection, forcibly after the timeout. The caller must close l.closed first, so that no other
// connection is opened.
func (l *link) close(timeout time.Duration) {
	l.turn <- struct{}{}
	defer l.release()
	if l.current != nil {
		l.current.close(timeout)
	}
	l.watches.Wait()
}
