package rabbitmq

import (
	"errors"
	"fmt"
	"net"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/polltest"
)

func TestLostOr_ClosedConnection_ReturnsTheReasonForTheClose(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	_ = far.Close()
	closed, err := amqp.Open(near, amqp.Config{})
	if err == nil {
		t.Fatal("a connection to a closed pipe was opened")
	}
	polltest.Until(t, "the connection is closed", closed.IsClosed)
	internal := &amqp.Error{Code: amqp.InternalError, Reason: "INTERNAL_ERROR"}
	shutdown := &amqp.Error{Code: amqp.ConnectionForced, Reason: "CONNECTION_FORCED"}
	const remedy = ": see the log of RabbitMQ; a quorum queue needs a majority of the nodes"
	for name, tt := range map[string]struct {
		err    error
		reason *amqp.Error
		want   string
	}{
		"the request that was rejected":         {fmt.Errorf("declare queue q: %w", internal), internal, "declare queue q: " + internal.Error() + remedy},
		"an error that has the remedy":          {declareError("queue q", internal), internal, "declare queue q: " + internal.Error() + remedy},
		"a request on the closed connection":    {fmt.Errorf("open a channel: %w", amqp.ErrClosed), internal, errConnectionLost.Error() + ": " + internal.Error() + remedy},
		"a reason without a remedy":             {amqp.ErrClosed, shutdown, errConnectionLost.Error() + ": " + shutdown.Error()},
		"a connection that this program closed": {amqp.ErrClosed, nil, errConnectionLost.Error()},
	} {
		conn := &connection{Connection: closed, reason: func() *amqp.Error { return tt.reason }}
		got := lostOr(conn, tt.err)
		if got.Error() != tt.want || !errors.Is(got, errConnectionLost) || tt.reason != nil && !errors.Is(got, tt.reason) {
			t.Errorf("%s: error is %q, want %q", name, got, tt.want)
		}
	}
}
