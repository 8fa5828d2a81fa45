package rabbitmq

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
)

func TestIsRejected_EachFailure_IsTrueOnlyIfRetriesCannotHelp(t *testing.T) {
	t.Parallel()
	connect := func(errs ...error) error {
		e := &connectError{}
		for _, err := range errs {
			e.failures = append(e.failures, failure{err: err})
		}
		return e
	}
	refused := errors.New("connection refused")
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"a refused connection":                    {refused, false},
		"a server that is busy":                   {&amqp.Error{Code: amqp.InternalError}, false},
		"a deleted queue":                         {fmt.Errorf("consume: %w", errQueueGone), false},
		"a rejected login":                        {connect(amqp.ErrCredentials), true},
		"a missing virtual host":                  {connect(amqp.ErrVhost), true},
		"one node rejects, another one is down":   {connect(amqp.ErrCredentials, refused), false},
		"another owner of the queues":             {fmt.Errorf("declare: %w", &configError{broker.ErrOtherOwner}), true},
		"a missing permission to declare a queue": {&amqp.Error{Code: amqp.AccessRefused, Reason: "ACCESS_REFUSED - configure access to queue 'q' in vhost '/' refused for user 'u'"}, true},
	} {
		if got := isRejected(tt.err); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}

// A connection that is lost during the login looks like a rejected login. So even after a rejected login, the first
// delays must be short.
func TestRetriesWait_RejectedLogin_DelayGrowsToTheMaximumForRejections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRetries()
		waited := func(failure error) time.Duration {
			start := time.Now()
			if err := r.wait(t.Context(), failure); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		if first := waited(amqp.ErrCredentials); first > minDelay {
			t.Errorf("the first delay is %s, want at most %s", first, minDelay)
		}
		for range 10 {
			waited(amqp.ErrCredentials)
		}
		if later := waited(amqp.ErrCredentials); later < rejectedDelay/2 || later > rejectedDelay {
			t.Errorf("a later delay is %s, want %s to %s", later, rejectedDelay/2, rejectedDelay)
		}
		if down := waited(errors.New("connection refused")); down > maxDelay {
			t.Errorf("the delay after a refused connection is %s, want at most %s", down, maxDelay)
		}
		if deleted := waited(errQueueGone); deleted < deletedDelay {
			t.Errorf("the delay after a deleted queue is %s, want at least %s", deleted, deletedDelay)
		}
	})
}
