package rabbitmq_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// TestBroker_NodeOfClusterIsKilled_UsesOtherNodes publishes and consumes messages on a cluster of three nodes. It kills
// the node to which the consumer is connected. The broker's binding contains the addresses of all nodes.
func TestBroker_NodeOfClusterIsKilled_UsesOtherNodes(t *testing.T) {
	t.Parallel()
	cluster := servers.NewRabbitMQCluster(t, 3, servers.RabbitMQOptions{})
	var uris []string
	for _, node := range cluster {
		uris = append(uris, node.URI())
	}
	source, err := binding.URI(binding.RabbitMQ(), strings.Join(uris, ","), "")
	if err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	defer func() {
		if t.Failed() {
			t.Log(log)
		}
	}()
	stream := startStream(t, source, plan.QueueTypeQuorum, log)
	stream.awaitProgress(t, "on three nodes")
	killed := cluster[slices.IndexFunc(uris, func(uri string) bool { return strings.Contains(uri, stream.broker.ConsumesFrom()) })]
	if err := killed.SyncQueues(); err != nil {
		t.Fatal(err)
	}
	before := stream.dials()
	if err := killed.Kill(); err != nil {
		t.Fatal(err)
	}
	stream.awaitProgress(t, "after a node was killed")
	polltest.Until(t, "the broker connects again", func() bool { return stream.dials() > before })
	t.Logf("after a node was killed, there were %d attempts to connect", stream.dials()-before)
	if err := killed.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stream.awaitProgress(t, "after the node started again")
	polltest.UntilNoError(t, "the queues are rebalanced", func() error { return rebalance(killed) })
	stream.awaitProgress(t, "after the queues were rebalanced")
	stream.finish(t)
}

// The test consumes the queues of 12 partitions on three nodes, as a processor does. The leaders of the queues must be
// spread evenly over the nodes in two cases: after the queues are declared, and after a node has restarted and the
// queues are rebalanced. Managed nodes rebalance the queues whenever they start. On a busy machine, a queue can elect
// another leader at any time. Therefore the test tolerates that a few new queues elect another leader, and repeats a
// step if the leaders are uneven after it.
func TestBroker_QueuesOnCluster_LeadersAreSpreadEvenly(t *testing.T) {
	t.Parallel()
	const partitions = 12
	cluster := servers.NewRabbitMQCluster(t, 3, servers.RabbitMQOptions{})
	const queues = 4*partitions + 1 // entry, exit and two retry queues per partition, and the dead-letter queue
	const evenly = (queues + 2) / 3
	polltest.Until(t, "new queues have even leaders", func() bool {
		options := optionsFor(t, cluster[0].URI())
		options.Partitions = partitions
		b := open(t, options)
		for partition := range partitions {
			for _, eventType := range event.Types() {
				if _, err := b.Consume(t.Context(), broker.Queue{Type: eventType, Partition: partition}, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		polltest.Until(t, "all queues", func() bool { return total(leaders(t, cluster[0], "")) == queues })
		even := isAtMost(t, evenly+3, "new queues", leaders(t, cluster[0], ""))
		for _, eventType := range event.Types() {
			count := leaders(t, cluster[0], fmt.Sprintf("%s.%s.", options.Exchange, eventType))
			even = isAtMost(t, partitions/3+3, "new "+string(eventType)+" queues", count) && even
		}
		if !even {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			deleteQueues(t, options)
		}
		return even
	})

	away := cluster[2]
	if err := away.SyncQueues(); err != nil {
		t.Fatal(err)
	}
	if err := away.Kill(); err != nil {
		t.Fatal(err)
	}
	polltest.UntilState(t, "new leaders", func() bool {
		now := leaders(t, cluster[0], "")
		return now[away.Node()] == 0 && total(now) == queues
	}, func() any { return leaders(t, cluster[0], "") })
	if err := away.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("leaders before the queues are rebalanced: %v", leaders(t, cluster[0], ""))
	// RabbitMQ promises only that no node leads more queues than the mean, rounded up. Two nodes may lead 17 queues each,
	// and the third node 15.
	polltest.UntilState(t, "even leaders after the queues were rebalanced", func() bool {
		if err := rebalance(away); err != nil {
			t.Log(err)
			return false
		}
		now := leaders(t, cluster[0], "")
		return total(now) == queues && slices.Max(slices.Collect(maps.Values(now))) <= evenly
	}, func() any { return leaders(t, cluster[0], "") })
}

// leaders returns how many queues each node leads. It counts only queues whose names begin with the prefix.
func leaders(t *testing.T, node *servers.RabbitMQ, prefix string) map[string]int {
	t.Helper()
	output, err := node.Ctl("list_queues", "--quiet", "--no-table-headers", "name", "leader")
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for line := range strings.Lines(output) {
		if name, leader, found := strings.Cut(strings.TrimSpace(line), "\t"); found && strings.HasPrefix(name, prefix) && leader != "" {
			count[leader]++
		}
	}
	return count
}

func total(count map[string]int) int {
	sum := 0
	for n := range maps.Values(count) {
		sum += n
	}
	return sum
}

// isAtMost reports whether no node leads more queues than limit.
func isAtMost(t *testing.T, limit int, what string, count map[string]int) bool {
	t.Helper()
	t.Logf("leaders of %s: %v, want at most %d on each node", what, count, limit)
	return slices.Max(slices.Collect(maps.Values(count))) <= limit
}

// rebalance distributes the leaders of the quorum queues evenly over the nodes. It fails while a queue has no leader.
func rebalance(node *servers.RabbitMQ) error {
	if output, err := node.Queues("rebalance", "quorum"); err != nil {
		return fmt.Errorf("rebalance the queues: %w: %s", err, output)
	}
	return nil
}
