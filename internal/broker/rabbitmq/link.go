package rabbitmq

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/outage"
)

// partConnection is the connection's name in the log of outages. In that log, each lane and each consumer has a
// name of its own.
const partConnection = "connection"

// link holds at most one open connection to the server. If the connection is lost, the link opens a new one as
// soon as one is needed.
type link struct {
	// connect makes one attempt to open a connection.
	connect func(ctx context.Context) (*connection, error)
	outages *outage.Log // shared by the links of a broker, which fail together
	log     *slog.Logger
	gauges  linkGauges
	closed  <-chan struct{} // the broker's

	turn    chan struct{} // a lock that guards current
	current *connection
	watches sync.WaitGroup
}

// try returns the open connection. Without one, it makes one attempt to connect.
func (l *link) try(ctx context.Context) (*connection, error) {
	if err := l.acquire(ctx); err != nil {
		return nil, err
	}
	defer l.release()
	return l.attempt(ctx)
}

// get returns the open connection. Without one, it tries to connect until it succeeds. It returns an error
// only if ctx ends or the broker is closed.
func (l *link) get(ctx context.Context) (*connection, error) {
	if err := l.acquire(ctx); err != nil {
		return nil, err
	}
	defer l.release()
	delay := newBackoff()
	for {
		conn, err := l.attempt(ctx)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		l.outages.Fault(partConnection, err)
		_ = delay.Wait(ctx, minDelayAfter(err)) // the loop checks ctx
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

// attempt returns the open connection. Without one, it makes one attempt to connect. The caller must have
// called acquire.
func (l *link) attempt(ctx context.Context) (*connection, error) {
	if l.isClosed() {
		return nil, broker.ErrClosed
	}
	if l.current != nil && !l.current.IsClosed() {
		return l.current, nil
	}
	l.watches.Wait() // so that the loss of the last connection is logged first
	conn, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	l.current = conn
	l.outages.Fine(partConnection)
	l.gauges.connections.Inc()
	l.gauges.connected.Set(1)
	closes := conn.NotifyClose(make(chan *amqp.Error, 1))
	blocks := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	l.watches.Go(func() { l.watch(closes, blocks) })
	return conn, nil
}

// watch logs and measures the loss of a connection, and the times in which the server blocks it, until the
// connection is closed. It does not report that the program itself closes the connection, whatever error the
// socket then returns.
func (l *link) watch(closes <-chan *amqp.Error, blocks <-chan amqp.Blocking) {
	defer l.gauges.connected.Set(0)
	defer l.gauges.blocked.Set(0)
	for {
		select {
		case reason, lost := <-closes:
			if lost && !l.isClosed() {
				l.outages.Fault(partConnection, fmt.Errorf("connection lost: %w", reason))
			}
			return
		case blocking, open := <-blocks:
			if !open {
				blocks = nil // closes is next
				continue
			}
			l.reportBlocked(blocking)
		}
	}
}

func (l *link) reportBlocked(blocking amqp.Blocking) {
	if blocking.Active {
		l.gauges.blocked.Set(1)
		l.log.Warn("the broker blocks publishers until its resource alarm ends", "reason", blocking.Reason)
		return
	}
	l.gauges.blocked.Set(0)
	l.log.Info("the broker accepts messages again")
}

// close closes the connection. If the server does not respond within the timeout, it closes the connection
// forcibly. The caller must close the channel l.closed first, so that no other connection is opened.
func (l *link) close(timeout time.Duration) {
	l.turn <- struct{}{}
	defer l.release()
	if l.current != nil {
		l.current.close(timeout)
	}
	l.watches.Wait()
}
