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

// The delays between attempts start at minDelay and double up to maxDelay. The first delays are short, because
// most failures happen while a connection is being replaced. maxDelay is short as well: after the start or an outage of
// the server, a simulation waits for up to maxDelay longer than necessary.
const (
	minDelay = 20 * time.Millisecond
	maxDelay = time.Second
	// rejectedDelay replaces maxDelay while the server rejects the attempts, for example because of a wrong password. The
	// server logs every rejected attempt, and no attempt can succeed until somebody has corrected the cause.
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

// isRejected reports whether the server has rejected an attempt for a reason that lasts until somebody corrects it. If
// the attempt used several addresses, all of them must have rejected it. isRejected also returns true if the connection
// was lost during the login, because the client library reports this as a rejected login.
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
