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
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/logtest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// The binding contains the addresses of all nodes. The test kills the node to which the consumer is connected.
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

// The leaders must be spread evenly after the declaration, and again after the postStart hook of a restarted node has
// rebalanced the queues.
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
	polltest.UntilState(t, "the other nodes lead all queues", func() bool {
		now := leaders(t, cluster[0])
		return now.isComplete() && now.count("")[away.Node()] == 0
	}, func() any { return leaders(t, cluster[0]) })
	if err := away.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	moveLeaders(t, cluster[0])
	awaitReplicas(t, cluster)
	hook := postStartHook(t)
	attempt(t, "rebalance the queues", cluster[0], func() {
		output, err := away.Run(hook[0], hook[1:]...)
		t.Logf("output of the hook: %s, %v", output, err)
	}, func(now leadership) bool {
		// RabbitMQ promises only that no node leads more queues than the mean, rounded up. So three nodes may lead 17,
		// 17 and 15 of 49 queues.
		return areEven(t, "all queues", now.count(""), cluster, 1)
	})
}

// Each partition has an entry queue, an exit queue and two retry queues. There is one dead-letter queue.
const (
	clusterPartitions = 12
	clusterQueues     = 4*clusterPartitions + 1
)

// maxAttempts limits the attempts to spread the leaders evenly. With random leaders, five attempts succeed with a
// probability of 0.4 %.
const maxAttempts = 5

// maxUnstable is the maximum number of attempts after which a leader is missing or has changed. On a busy machine, a
// queue can elect another leader at any time.
const maxUnstable = 20

// attempt calls place until isEven accepts the leaders. maxAttempts and maxUnstable limit the calls.
func attempt(t *testing.T, what string, node *servers.RabbitMQ, place func(), isEven func(leadership) bool) {
	t.Helper()
	for failed, unstable := 0, 0; failed < maxAttempts && unstable < maxUnstable; {
		place()
		now := leaders(t, node)
		if after := leaders(t, node); !now.isComplete() || !maps.Equal(now, after) {
			unstable++
			t.Logf("%s: this attempt does not count, because leaders are missing or have changed: at first %v, then %v", what, now.count(""), after.count(""))
			continue
		}
		if isEven(now) {
			return
		}
		failed++
		t.Logf("%s: attempt %d of %d has failed", what, failed, maxAttempts)
	}
	t.Fatalf("%s: the leaders are not spread evenly", what)
}

// declareWithEvenLeaders declares queues until all nodes lead equally many entry queues and equally many exit queues.
// With the other queues, the total of a node may differ from the mean by 1.
func declareWithEvenLeaders(t *testing.T, cluster []*servers.RabbitMQ) {
	t.Helper()
	var options testOptions
	var b *rabbitmq.Broker
	attempt(t, "declare the queues", cluster[0], func() {
		if b != nil { // remove the broker and the queues of the previous attempt
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			deleteQueues(t, options)
		}
		options = optionsFor(t, cluster[0].URI())
		options.Partitions = clusterPartitions
		b = open(t, options)
		for partition := range clusterPartitions {
			for _, eventType := range event.Types() {
				if _, err := b.Consume(t.Context(), broker.Queue{Type: eventType, Partition: partition}, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		polltest.Until(t, "all queues have a leader", func() bool { return leaders(t, cluster[0]).isComplete() })
	}, func(now leadership) bool {
		even := areEven(t, "new queues", now.count(""), cluster, 1)
		for _, eventType := range event.Types() {
			count := now.count(fmt.Sprintf("%s.%s.", options.Exchange, eventType))
			even = areEven(t, "new "+string(eventType)+" queues", count, cluster, 0) && even
		}
		return even
	})
}

// awaitReplicas waits until every node has an up-to-date replica of every queue. A replica that lags behind cannot
// become the leader.
func awaitReplicas(t *testing.T, cluster []*servers.RabbitMQ) {
	t.Helper()
	lagging := fmt.Sprintf(`[N || Q <- rabbit_amqqueue:list(), {resource, V, _, N} <- [amqqueue:get_name(Q)],
		I <- [[C || R <- rabbit_quorum_queue:status(V, N), C <- [proplists:get_value(<<"Commit Index">>, R)], is_integer(C)]],
		length(I) < %d orelse length(lists:usort(I)) > 1].`, len(cluster))
	var output string
	polltest.UntilState(t, "all replicas of the queues are in sync", func() bool {
		var err error
		if output, err = cluster[0].Ctl("eval", lagging); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(output) == "[]"
	}, func() any { return output })
}

// moveLeaders makes one node the leader of all queues. This ensures that the elections after a restart do not spread
// the leaders evenly by chance.
func moveLeaders(t *testing.T, node *servers.RabbitMQ) {
	t.Helper()
	move := fmt.Sprintf("[rabbit_quorum_queue:transfer_leadership(Q, '%s') || Q <- rabbit_amqqueue:list()].", node.Node())
	var output string
	polltest.UntilState(t, "one node leads all queues", func() bool {
		var err error
		if output, err = node.Ctl("eval", move); err != nil {
			t.Fatal(err)
		}
		return leaders(t, node).count("")[node.Node()] == clusterQueues
	}, func() any { return output })
}

// postStartHook reads the postStart command of a managed node from the golden file of the StatefulSet.
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
			// Rebalance without delay. Write to the output of the command, so that servers.RabbitMQ.Run waits for the
			// background process of the hook.
			*script = strings.NewReplacer("sleep 30", "", "/proc/1/fd/1", "/proc/self/fd/1").Replace(*script)
			return command
		}
	}
	t.Fatal("the managed node has no postStart hook")
	return nil
}

// leadership maps the name of each queue to the node that leads it, or to "" if the queue has no leader.
type leadership map[string]string

func leaders(t *testing.T, node *servers.RabbitMQ) leadership {
	t.Helper()
	output, err := node.Ctl("list_queues", "--quiet", "--no-table-headers", "name", "leader")
	if err != nil {
		t.Fatal(err)
	}
	now := leadership{}
	for line := range strings.Lines(output) {
		if name, leader, found := strings.Cut(strings.TrimRight(line, "\r\n"), "\t"); found {
			now[name] = leader
		}
	}
	return now
}

// isComplete reports whether all queues exist and have a leader.
func (l leadership) isComplete() bool { return total(l.count("")) == clusterQueues }

// count returns how many queues each node leads. It counts only queues whose names begin with the prefix.
func (l leadership) count(prefix string) map[string]int {
	count := map[string]int{}
	for name, leader := range l {
		if strings.HasPrefix(name, prefix) && leader != "" {
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

// areEven reports whether every node leads the mean number of queues, rounded down, plus or minus the tolerance.
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
