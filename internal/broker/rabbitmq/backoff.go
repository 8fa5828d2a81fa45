package rabbitmq

import (
	"context"
	"errors"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/backoff"
	"github.com/parking-operator/parking-operator/internal/broker"
)

// The delays between attempts start at minDelay and double up to maxDelay. minDelay is short, because most failures
// happen while a connection is being replaced. maxDelay is short, because it is also how long a client may take to
// notice that the server is available again.
const (
	minDelay = 20 * time.Millisecond
	maxDelay = time.Second
	// rejectedDelay replaces maxDelay while the server rejects the client, for example because of a wrong password. It
	// is long, because the server logs every rejected attempt.
	rejectedDelay = 5 * time.Second
	// deletedDelay is the minimum delay before a deleted queue is declared again. When a queue is deleted, the server
	// notifies its consumers one by one. If the queue is declared again too early, the server regards the consumers
	// that it has not notified yet as consumers of the new queue. It sends them messages that never arrive.
	deletedDelay = time.Second
)

// errQueueGone is the error with which a session ends when its queue is deleted.
var errQueueGone = errors.New("the queue was deleted")

// retries is a backoff whose maximum delay depends on the latest failure.
type retries struct{ backoff.Backoff }

func newRetries() *retries { return &retries{backoff.Backoff{First: minDelay, Last: maxDelay}} }

// wait sleeps before the next attempt. The delay depends on the parameter failure, which is the error of the previous
// attempt. If ctx ends first, wait returns the error of ctx.
func (r *retries) wait(ctx context.Context, failure error) error {
	r.Last = maxDelay
	if isRejected(failure) {
		r.Last = rejectedDelay
	}
	var atLeast time.Duration
	if errors.Is(failure, errQueueGone) {
		atLeast = deletedDelay
	}
	return r.Wait(ctx, atLeast)
}

// isRejected reports whether the server rejected a connection for a reason that lasts until somebody corrects it. If
// several addresses were tried, all of them must have rejected the connection. A connection that was lost during the
// login counts as rejected, because the client library reports it as a rejected login.
func isRejected(err error) bool {
	if connect, ok := errors.AsType[*connectError](err); ok {
		return !slices.ContainsFunc(connect.failures, func(f failure) bool { return !isRejected(f.err) })
	}
	if errors.Is(err, broker.ErrConfig) {
		return true
	}
	server, ok := errors.AsType[*amqp.Error](err)
	return ok && find(server).isConfig
}
