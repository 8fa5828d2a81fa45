package rabbitmq

import (
	"errors"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// After an outage of the server, a client must connect within about a second. But it must not repeat a rejected login
// that often.
func TestMinDelayAfter_EachFailure_DelaysOnlyAttemptsThatMustWait(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		failure error
		want    time.Duration
	}{
		"a refused connection":  {errors.New("connection refused"), 0},
		"a server that is busy": {&amqp.Error{Code: amqp.InternalError}, 0},
		"a deleted queue":       {fmt.Errorf("consume: %w", errQueueGone), deletedDelay},
		"a rejected password":   {fmt.Errorf("connect: %w", amqp.ErrCredentials), rejectedDelay},
		"a missing permission":  {&amqp.Error{Code: amqp.AccessRefused}, rejectedDelay},
	} {
		if got := minDelayAfter(tt.failure); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
