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

// partConnection is the part of the broker without which no other works. The others are lanes and consumers.
const partConnection = "connection"

// link keeps at most one connection to the server, and replaces it when it is lost and wanted again.
type link struct {
	// connect connects once.
	connect func(ctx context.Context) (*connection, error)
	outages *outage.Log // the broker's, as what one link meets the others do
	log     *slog.Logger
	gauges  linkGauges
	closed  <-chan struct{} // the broker's

	turn    chan struct{} // held by who looks at or replaces current
	current *connection
	watches sync.WaitGroup
}

// try returns the connection, and makes one attempt to connect when there is none.
func (l *link) try(ctx context.Context) (*connection, error) {
	if err := l.acquire(ctx); err != nil {
		return nil, err
	}
	defer l.release()
	return l.attempt(ctx)
}

// get returns the connection, and connects for as long as it takes when there is none. Its only errors
// are that of ctx, and broker.ErrClosed.
func (l *link) get(ctx context.Context) (*connection, error) {
	if err := l.acquire(ctx); err != nil {
		return nil, err
	}
	defer l.release()
	pause := newBackoff()
	for {
		conn, err := l.attempt(ctx)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		l.outages.Fault(partConnection, err)
		_ = pause.Wait(ctx, leastPause(err)) // the loop sees for itself whether ctx has ended
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

// attempt is called by who holds the turn.
func (l *link) attempt(ctx context.Context) (*connection, error) {
	if l.isClosed() {
		return nil, broker.ErrClosed
	}
	if l.current != nil && !l.current.IsClosed() {
		return l.current, nil
	}
	l.watches.Wait() // the loss of the last connection is reported before a new one
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

// watch reports the states of a connection until it is closed. That the broker closes it is no fault, however
// the end shows on the socket.
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
				blocks = nil // closes follows
				continue
			}
			l.reportBlocked(blocking)
		}
	}
}

func (l *link) reportBlocked(blocking amqp.Blocking) {
	if blocking.Active {
		l.gauges.blocked.Set(1)
		l.log.Warn("broker accepts no messages until its resource alarm ends", "reason", blocking.Reason)
		return
	}
	l.gauges.blocked.Set(0)
	l.log.Info("broker accepts messages again")
}

// close closes the connection, forcibly after the timeout. The broker's closed channel is closed before,
// so that no other connection follows.
func (l *link) close(timeout time.Duration) {
	l.turn <- struct{}{}
	defer l.release()
	if l.current != nil {
		l.current.close(timeout)
	}
	l.watches.Wait()
}
