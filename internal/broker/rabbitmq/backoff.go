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

const (
	// minDelay is the delay before the first retry.
	minDelay = 20 * time.Millisecond
	// maxDelay is the maximum delay, unless the server rejects the client.
	maxDelay = time.Second
	// rejectedDelay replaces maxDelay while the server rejects the client, for example because of a wrong password. It
	// is long, because the server logs every rejected attempt.
	rejectedDelay = 5 * time.Second
	// deletedDelay is the minimum delay before a deleted queue is declared again. With a shorter delay, the server
	// may send new messages to consumers of the deleted queue, which never receive them.
	deletedDelay = time.Second
)

// errQueueGone is the error with which a session ends when its queue is deleted.
var errQueueGone = errors.New("the queue was deleted")

// retries is a backoff whose maximum delay depends on the latest failure.
type retries struct{ backoff.Backoff }

func newRetries() *retries { return &retries{backoff.Backoff{First: minDelay, Last: maxDelay}} }

// wait sleeps before the next attempt. The delay depends on failure, the error of the previous attempt.
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

// isRejected reports whether every address rejected the connection for a reason that lasts until somebody corrects it.
func isRejected(err error) bool {
	if connect, ok := errors.AsType[*connectError](err); ok {
		return !slices.ContainsFunc(connect.failures, func(f failure) bool { return !isRejected(f.err) })
	}
	if errors.Is(err, broker.ErrConfig) {
		return true
	}
	// A connection lost during the login counts as rejected, because the client library reports it as a rejected login.
	server, ok := errors.AsType[*amqp.Error](err)
	return ok && find(server).isConfig
}
