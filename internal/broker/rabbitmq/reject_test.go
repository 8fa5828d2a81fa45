package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

var operations = map[string]func(context.Context, *rabbitmq.Broker) error{
	"Declare": func(ctx context.Context, b *rabbitmq.Broker) error { return b.Declare(ctx) },
	"Probe":   func(ctx context.Context, b *rabbitmq.Broker) error { return b.Probe(ctx) },
	"Depths": func(ctx context.Context, b *rabbitmq.Broker) error {
		_, err := b.Depths(ctx)
		return err
	},
	"CheckQueue": func(ctx context.Context, b *rabbitmq.Broker) error { return b.CheckQueue(ctx) },
	"Exists": func(ctx context.Context, b *rabbitmq.Broker) error {
		_, err := b.Exists(ctx)
		return err
	},
	"Delete": func(ctx context.Context, b *rabbitmq.Broker) error { return b.Delete(ctx) },
	"DeadLetterReasons": func(ctx context.Context, b *rabbitmq.Broker) error {
		_, err := b.DeadLetterReasons(ctx, 1)
		return err
	},
	"Ping": func(ctx context.Context, b *rabbitmq.Broker) error { return b.Ping(ctx) },
}

// rejecting returns a function that answers requests with the method m with r, and passive exchange declarations with
// NOT_FOUND.
func rejecting(m method, r rejection) func(request) *rejection {
	return func(q request) *rejection {
		switch {
		case q.method == m:
			return &r
		case q.method == exchangeDeclare && q.passive:
			return &rejection{channelClose, amqp.NotFound, "NOT_FOUND - no exchange '" + q.name + "' in vhost '/'"}
		}
		return nil
	}
}

func TestBroker_ServerClosesTheConnection_ErrorContainsTheReasonAndTheRemedy(t *testing.T) {
	t.Parallel()
	const majority = "a quorum queue needs a majority of the nodes"
	for _, tt := range []struct {
		name       string
		method     method
		code       uint16
		reason     string
		operations []string
		want       []string
		isConfig   bool
	}{
		{"an internal error", queueDeclare, amqp.InternalError, "INTERNAL_ERROR", []string{"Declare", "Probe", "Depths", "CheckQueue", "Exists", "Delete"},
			[]string{"INTERNAL_ERROR", majority, "queue parking."}, false},
		{"a disabled feature flag", queueDeclare, amqp.InternalError, "INTERNAL_ERROR - the 'quorum_queue' feature flag is disabled", []string{"Declare", "Probe"},
			[]string{"feature flag is disabled", "enable_feature_flag all", "declare queue parking."}, true},
		{"too many channels on the node", channelOpen, amqp.NotAllowed, "NOT_ALLOWED - number of channels opened on node 'a@b' has reached the maximum allowed limit of (2)",
			[]string{"Declare", "Probe", "Depths", "CheckQueue", "Exists", "Delete", "DeadLetterReasons", "Ping"},
			[]string{"open a channel", "number of channels opened on node", "raise channel_max_per_node"}, false},
		{"too many channels of the user", channelOpen, amqp.NotAllowed, "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of (2)",
			[]string{"Declare", "Probe", "Depths", "CheckQueue", "Exists", "Delete", "DeadLetterReasons", "Ping"},
			[]string{"open a channel", "number of channels opened for user", "raise max-channels"}, false},
		{"an internal error at a publish", basicPublish, amqp.InternalError, "INTERNAL_ERROR", []string{"Probe"},
			[]string{"publish to exchange parking.", "INTERNAL_ERROR", majority}, false},
		{"an internal error at a get", basicGet, amqp.InternalError, "INTERNAL_ERROR", []string{"DeadLetterReasons"},
			[]string{"examine queue parking.", "INTERNAL_ERROR", majority}, false},
	} {
		for _, queueType := range []plan.QueueType{plan.QueueTypeQuorum, plan.QueueTypeClassic} {
			t.Run(tt.name+", "+string(queueType), func(t *testing.T) {
				t.Parallel()
				options := optionsFor(t, startFakeServer(t, rejecting(tt.method, rejection{connectionClose, tt.code, tt.reason})))
				options.QueueType = queueType
				b := open(t, options)
				for _, operation := range tt.operations {
					err := operations[operation](t.Context(), b)
					if errors.Is(err, broker.ErrConfig) != tt.isConfig {
						t.Errorf("%s: the error matches ErrConfig: %t, want %t", operation, !tt.isConfig, tt.isConfig)
					}
					checkText(t, operation, err, tt.want)
				}
			})
		}
	}
}

// checkText checks that an error contains each of the texts exactly once.
func checkText(t *testing.T, operation string, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s succeeded, want an error with %q", operation, want)
		return
	}
	for _, text := range want {
		if strings.Count(err.Error(), text) != 1 {
			t.Errorf("%s: error is %v, want %q once", operation, err, text)
		}
	}
}

func TestBrokerProbe_ServerClosesTheChannel_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	options := optionsFor(t, startFakeServer(t, rejecting(basicPublish, rejection{channelClose, amqp.AccessRefused,
		"ACCESS_REFUSED - write access to exchange 'parking.x' in vhost '/' refused for user 'u'"})))
	checkText(t, "Probe", open(t, options).Probe(t.Context()), []string{"write access to exchange", "grant the user the permissions"})
}

// RabbitMQ uses the same error code for a missing queue and for an unavailable queue. An unavailable queue may contain
// messages, so it must not count as missing.
func TestBroker_QueueIsUnavailable_IsNotRegardedAsMissing(t *testing.T) {
	t.Parallel()
	inspections := []string{"Depths", "CheckQueue", "Exists", "Delete", "DeadLetterReasons"}
	for _, tt := range []struct {
		reason, want string
		isMissing    bool
	}{
		{"NOT_FOUND - no queue 'q' in vhost '/'", "", true},
		{"NOT_FOUND - home node 'a@b' of durable queue 'q' in vhost '/' is down or inaccessible", "a node of the cluster may be down", false},
		{"NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor", "the queue has stopped", false},
		{"NOT_FOUND - queue 'q' in vhost '/' has crashed and failed to restart", "the queue has crashed", false},
		{"NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout", "the queue does not respond", false},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			t.Parallel()
			missing := rejection{channelClose, amqp.NotFound, tt.reason}
			onDeclare, onGet := rejecting(queueDeclare, missing), rejecting(basicGet, missing)
			options := optionsFor(t, startFakeServer(t, func(q request) *rejection {
				if r := onDeclare(q); r != nil {
					return r
				}
				return onGet(q)
			}))
			b := open(t, options)
			for _, inspection := range inspections {
				err := operations[inspection](t.Context(), b)
				if !tt.isMissing {
					checkText(t, inspection, err, []string{tt.reason, tt.want, "rabbitmqctl cluster_status"})
				} else if err != nil {
					t.Errorf("%s: %v", inspection, err)
				}
			}
		})
	}
}

// This test needs a real server, because the text of the server's error determines whether a queue counts as missing.
func TestDepths_ClassicQueueOnDeadNode_ReturnsErrorUntilTheNodeStarts(t *testing.T) {
	t.Parallel()
	cluster := servers.NewRabbitMQCluster(t, 2, servers.RabbitMQOptions{})
	alive, dead := cluster[0], cluster[1]
	options := optionsFor(t, dead.URI())
	options.QueueType = plan.QueueTypeClassic // a classic queue is unavailable while its node is down
	if err := open(t, options).Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	channel := dialServer(t, dead.URI())
	letter := amqp.Publishing{DeliveryMode: amqp.Persistent}
	if err := channel.PublishWithContext(t.Context(), options.Exchange, "dead", true, false, letter); err != nil {
		t.Fatal(err)
	}
	options.Binding = source(t, alive.URI())
	b := open(t, options)
	awaitDepths(t, b, broker.Depths{Dead: 1})
	if err := dead.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitUnavailable(t, b)
	for _, inspection := range []string{"Depths", "CheckQueue", "DeadLetterReasons"} {
		checkText(t, inspection, operations[inspection](t.Context(), b), []string{"NOT_FOUND", "rabbitmqctl cluster_status"})
	}
	if exists, err := b.Exists(t.Context()); !exists || err != nil {
		t.Errorf("the simulation exists: %t (%v), want true, because its exchange exists", exists, err)
	}
	if err := dead.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the depths are the same as before the node stopped", func() bool {
		depths, err := b.Depths(t.Context())
		return err == nil && depths == broker.Depths{Dead: 1}
	})
}

// Delete cannot delete queues on a dead node. A later call of Delete must find these queues, although Delete usually
// stops its search after maxGap partitions without queues.
func TestBrokerDelete_QueuesOnDeadNode_DeletesOtherQueuesAndLaterTheRest(t *testing.T) {
	t.Parallel()
	cluster := servers.NewRabbitMQCluster(t, 2, servers.RabbitMQOptions{})
	alive, dead := cluster[0], cluster[1]
	const far = 6 // the partition whose queues are on the dead node
	options := optionsFor(t, alive.URI())
	options.Owner = "the owner"
	options.QueueType = plan.QueueTypeClassic // a classic queue is unavailable while its node is down
	options.Partitions = far
	if err := open(t, options).Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	options.Binding, options.Partitions = source(t, dead.URI()), far+1
	if err := open(t, options).Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	options.Binding = source(t, alive.URI())
	b := open(t, options)
	if err := dead.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitUnavailable(t, b)
	checkText(t, "Delete", b.Delete(t.Context()), []string{"NOT_FOUND", "unavailable queues in total: 4", "rabbitmqctl cluster_status"})
	isSkipped := func(queue string) bool { return strings.HasSuffix(queue, fmt.Sprintf(".%d", far)) }
	if left := slices.DeleteFunc(queuesOn(t, alive), isSkipped); len(left) > 0 {
		t.Errorf("Delete has left the queues %q on the running node", left)
	}
	if exists, err := b.Exists(t.Context()); !exists || err != nil {
		t.Errorf("the simulation exists: %t (%v), want true, because the owner exchange exists", exists, err)
	}

	if err := dead.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	polltest.UntilNoError(t, "the remaining queues are deleted", func() error { return b.Delete(t.Context()) })
	if left := queuesOn(t, alive); len(left) > 0 {
		t.Errorf("Delete has left the queues %q", left)
	}
	if exists, err := b.Exists(t.Context()); exists || err != nil {
		t.Errorf("the simulation exists: %t (%v), want false", exists, err)
	}
}

func awaitUnavailable(t *testing.T, b *rabbitmq.Broker) {
	t.Helper()
	polltest.Until(t, "a node reports that queues of another node are unavailable", func() bool {
		_, err := b.Depths(t.Context())
		return err != nil && strings.Contains(err.Error(), "NOT_FOUND")
	})
}

// queuesOn returns the names of all queues that a node of a cluster knows.
func queuesOn(t *testing.T, node *servers.RabbitMQ) []string {
	t.Helper()
	output, err := node.Ctl("list_queues", "--quiet", "--no-table-headers", "name")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(output)
}
