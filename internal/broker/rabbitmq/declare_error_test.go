package rabbitmq

import (
	"errors"
	"io"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
)

func TestDeclareError_DeclarationFails_NamesTheRemedy(t *testing.T) {
	t.Parallel()
	refusal := func(code int, reason string) error { return &amqp.Error{Code: code, Reason: reason, Server: true} }
	tests := []struct {
		name     string
		err      error
		remedy   string
		isConfig bool
	}{
		{"other settings", refusal(amqp.PreconditionFailed, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q'"), "delete it, or give the simulation another name", true},
		{"a limit of queues", refusal(amqp.PreconditionFailed, "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost '/' (10) is reached"), "set_vhost_limits", true},
		{"a missing permission", refusal(amqp.AccessRefused, "ACCESS_REFUSED - configure access to queue 'q' in vhost '/' refused for user 'u'"), "set_permissions", true},
		{"a limit of queues in the cluster", refusal(amqp.PreconditionFailed, "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in cluster (10) is reached"), "cluster_queue_limit", true},
		{"an old version", refusal(amqp.PreconditionFailed, "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue"), "upgrade RabbitMQ", true},
		{"a queue that has crashed", refusal(amqp.NotFound, "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor"), "log of RabbitMQ", false},
		{"a queue whose restart has failed", refusal(amqp.NotFound, "NOT_FOUND - queue 'q' in vhost '/' has crashed and failed to restart"), "the queue has crashed", false},
		{"a queue that does not respond", refusal(amqp.NotFound, "NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout"), "does not respond", false},
		{"an exclusive queue", refusal(amqp.ResourceLocked, "RESOURCE_LOCKED - cannot obtain exclusive access"), "another name", true},
		{"a node that is down", refusal(amqp.NotFound, "NOT_FOUND - home node 'a@b' of durable queue 'q' is down"), "cluster_status", false},
		{"an internal error", refusal(amqp.InternalError, "INTERNAL_ERROR"), "log of RabbitMQ", false},
		{"too few resources", refusal(amqp.ResourceError, "RESOURCE_ERROR"), "RESOURCE_ERROR", false},
		{"a lost connection", io.EOF, "EOF", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := declareError("queue q", tt.err)
			if !strings.HasPrefix(err.Error(), "declare queue q: ") || !strings.Contains(err.Error(), tt.remedy) || !errors.Is(err, tt.err) {
				t.Errorf("the error is %q, want the remedy %q", err, tt.remedy)
			}
			if got := errors.Is(err, broker.ErrConfig); got != tt.isConfig {
				t.Errorf("the error matches broker.ErrConfig: %t, want %t", got, tt.isConfig)
			}
		})
	}
}
