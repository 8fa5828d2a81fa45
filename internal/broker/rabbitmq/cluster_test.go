package rabbitmq_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/logtest"
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
	log := &logtest.Buffer{}
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

// The leaders of the queues must be spread evenly over the nodes after the queues are declared. They must be spread
// evenly again after a node has restarted and its postStart hook has rebalanced the queues.
//
// On a busy machine, a queue can elect another leader at any time. So the test makes a few attempts to declare the queues
// and to rebalance them. It must not make many, because leaders at random are even now and then.
func TestBroker_QueuesOnCluster_LeadersAreSpreadEvenly(t *testing.T) {
	t.Parallel()
	cluster := servers.NewRabbitMQCluster(t, 3, servers.RabbitMQOptions{})
	declareWithEvenLeaders(t, cluster)

	away := cluster[2]
	if err := away.SyncQueues(); err != nil {
		t.Fatal(err)
	}
	if err := away.Kill(); err != nil {
		t.Fatal(err)
	}
	polltest.UntilState(t, "new leaders", func() bool {
		now := leaders(t, cluster[0], "")
		return now[away.Node()] == 0 && total(now) == clusterQueues
	}, func() any { return leaders(t, cluster[0], "") })
	if err := away.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	moveLeaders(t, cluster[0])
	hook := postStartHook(t)
	attempt(t, "rebalance the queues", func() bool {
		output, err := away.Run(hook[0], hook[1:]...)
		t.Logf("output of the hook: %s, %v", output, err)
		// RabbitMQ promises only that no node leads more queues than the mean, rounded up. Two nodes may lead 17 queues
		// each, and the third node 15.
		now := leaders(t, cluster[0], "")
		return total(now) == clusterQueues && areEven(t, "all queues", now, cluster, 1)
	})
}

// In these tests, each partition has an entry queue, an exit queue and two retry queues. There is one dead-letter queue.
const (
	clusterPartitions = 12
	clusterQueues     = 4*clusterPartitions + 1
)

// maxAttempts limits how often a test tries to get even leaders. If the leaders were placed at random, an attempt of
// declareWithEvenLeaders would succeed with a probability of 0.07 %, and one of five attempts with 0.4 %. Without a leader
// locator, the node that the client is connected to leads all queues.
const maxAttempts = 5

// attempt calls f until it returns true. It fails the test after maxAttempts calls.
func attempt(t *testing.T, what string, f func() bool) {
	t.Helper()
	for n := 1; !f(); n++ {
		t.Logf("%s: attempt %d of %d has failed", what, n, maxAttempts)
		if n == maxAttempts {
			t.FailNow()
		}
	}
}

// declareWithEvenLeaders declares the queues of a simulation. Each node must lead the same number of entry queues, the
// same number of exit queues, and the same number of all queues, plus or minus one.
func declareWithEvenLeaders(t *testing.T, cluster []*servers.RabbitMQ) {
	t.Helper()
	attempt(t, "declare the queues", func() bool {
		options := optionsFor(t, cluster[0].URI())
		options.Partitions = clusterPartitions
		b := open(t, options)
		for partition := range clusterPartitions {
			for _, eventType := range event.Types() {
				if _, err := b.Consume(t.Context(), broker.Queue{Type: eventType, Partition: partition}, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		polltest.Until(t, "all queues", func() bool { return total(leaders(t, cluster[0], "")) == clusterQueues })
		even := areEven(t, "new queues", leaders(t, cluster[0], ""), cluster, 1)
		for _, eventType := range event.Types() {
			count := leaders(t, cluster[0], fmt.Sprintf("%s.%s.", options.Exchange, eventType))
			even = areEven(t, "new "+string(eventType)+" queues", count, cluster, 0) && even
		}
		if !even {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			deleteQueues(t, options)
		}
		return even
	})
}

// moveLeaders makes one node the leader of all queues. After that, only a rebalance can make the leaders even. Elections
// after a restart may do that by chance.
func moveLeaders(t *testing.T, node *servers.RabbitMQ) {
	t.Helper()
	move := fmt.Sprintf("[rabbit_quorum_queue:transfer_leadership(Q, '%s') || Q <- rabbit_amqqueue:list()].", node.Node())
	var output string
	polltest.UntilState(t, "one node leads all queues", func() bool {
		var err error
		if output, err = node.Ctl("eval", move); err != nil {
			t.Fatal(err)
		}
		return leaders(t, node, "")[node.Node()] == clusterQueues
	}, func() any { return output })
}

// postStartHook returns the command that a managed node runs after it has started. It reads the command from the golden
// file of the node, which contains what the operator applies. It makes two changes: the command does not sleep before
// it rebalances the queues, and it writes to its own output instead of the log of the container. The command does its
// work in a background process. That process inherits the output, so the method Run waits until the process has ended.
func postStartHook(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile("../../resources/testdata/managed/statefulset-rabbitmq.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Lifecycle struct {
							PostStart struct{ Exec struct{ Command []string } } `yaml:"postStart"`
						}
					}
				}
			}
		}
	}
	if err := yamlv3.Unmarshal(content, &set); err != nil {
		t.Fatal(err)
	}
	for _, container := range set.Spec.Template.Spec.Containers {
		if command := container.Lifecycle.PostStart.Exec.Command; len(command) > 0 {
			command[0] = "/bin/" + command[0]
			script := &command[len(command)-1]
			*script = strings.NewReplacer("sleep 30", "", "/proc/1/fd/1", "/proc/self/fd/1").Replace(*script)
			return command
		}
	}
	t.Fatal("the managed node has no postStart hook")
	return nil
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

// areEven reports whether each node leads the same number of queues, plus or minus the tolerance.
func areEven(t *testing.T, what string, count map[string]int, nodes []*servers.RabbitMQ, tolerance int) bool {
	t.Helper()
	even := total(count) / len(nodes)
	t.Logf("leaders of %s: %v, want %d ± %d on each node", what, count, even, tolerance)
	return !slices.ContainsFunc(nodes, func(node *servers.RabbitMQ) bool {
		n := count[node.Node()]
		return n < even-tolerance || n > even+tolerance
	})
}

// rebalance distributes the leaders of the quorum queues evenly over the nodes. It fails while a queue has no leader.
func rebalance(node *servers.RabbitMQ) error {
	if output, err := node.Queues("rebalance", "quorum"); err != nil {
		return fmt.Errorf("rebalance the queues: %w: %s", err, output)
	}
	return nil
}
