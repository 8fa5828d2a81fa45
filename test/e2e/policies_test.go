//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// operatorPorts are the ports of the operator for probes and metrics. The NetworkPolicy of the operator allows
// connections to these ports.
var operatorPorts = []int{8081, 8443}

const (
	// outsider is a pod in the namespace of the simulation. The pod does not belong to the simulation.
	outsider resources.Component = "outsider"
	operator resources.Component = "operator"
)

func TestNetworkPolicies_AllowOnlyTheConnectionsThatAreNeeded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		faults []v1alpha1.Fault
		// The container ports at which clients reach RabbitMQ, Redis and the summary API.
		amqp, redis, summaries int
	}{
		{"without faults", nil, 5672, 6379, 8080},
		{"with agents and relays", []v1alpha1.Fault{
			{Name: "isolation", Target: "Redis", Action: "Isolate", At: v1alpha1.NewDuration(time.Hour), For: v1alpha1.NewDuration(time.Second)},
			{Name: "crash", Target: "Processor", Action: "Kill", At: v1alpha1.NewDuration(time.Hour)},
		}, 8091, 8091, 8091},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			skipWithoutNode(t, "connect from the pods")
			ns := newNamespace(t)
			sim := ns.applySample("minimal.yaml", func(sim *v1alpha1.ParkingSimulation) {
				sim.Spec.Faults = test.faults
				shareNode(sim)
			})
			ns.awaitCondition(sim, v1alpha1.ConditionReady, 2*readyTimeout)
			pods := ns.connectedPods(sim)
			ns.awaitProgress(sim, len(ns.allPods()))

			generators := []resources.Component{resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor}
			servers := map[resources.Component]int{
				resources.ComponentRabbitMQ: test.amqp, resources.ComponentRedis: test.redis, resources.ComponentSummaries: test.summaries,
			}
			metrics := map[resources.Component]int{resources.ComponentRabbitMQ: 15692, resources.ComponentRedis: 9121}
			needed := func(from, to resources.Component, port int) bool {
				switch {
				case to == operator:
					// Pods of a simulation must not connect to the operator. The pod outsider may connect to the
					// operator's ports for probes and metrics.
					return from == outsider && slices.Contains(operatorPorts, port)
				case slices.Contains(generators, from):
					return servers[to] == port
				case from != outsider && from != operator:
					return false // the servers of a simulation connect to no other component
				case port == 8090:
					return from == operator // 8090 is the port of an agent, to which only the operator may connect
				case servers[to] == port && to != resources.ComponentSummaries:
					return from == operator // the operator may connect to RabbitMQ and Redis, the pod outsider may not
				case metrics[to] != 0:
					return port == metrics[to]
				}
				return true // all pods may connect to the summary API and to the metrics of generators and processors
			}
			ns.eventually("only the needed connections succeed", 3*time.Minute, func() error {
				var wrong []string
				for from, pod := range pods {
					for to, open := range pod.connections(t, pods) {
						if want := needed(from, to.component, to.port); open != want {
							wrong = append(wrong, fmt.Sprintf("%s connects to port %d of %s: %t, want %t", from, to.port, to.component, open, want))
						}
					}
				}
				slices.Sort(wrong)
				if len(wrong) > 0 {
					<-time.After(2 * time.Second) // each attempt starts many processes, so limit the load
					return fmt.Errorf("%s\nIs there a network plugin that enforces NetworkPolicies?", strings.Join(wrong, "\n"))
				}
				return nil
			})
			if err := ns.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns.name, Name: string(outsider)}}); err != nil {
				t.Fatal(err)
			}
			ns.remove(sim)
		})
	}
}

// connectedPod is a pod from which the test tries to connect to other pods.
type connectedPod struct {
	address string
	pid     string // the process ID, on the node, of the pod's first container
	ports   []int  // the open ports of the pod, without ports that are open only on loopback
}

// endpoint is a port of a component's pods.
type endpoint struct {
	component resources.Component
	port      int
}

// connectedPods returns one pod for each component of the simulation, the pod of the operator, and a pod that does not
// belong to the simulation.
func (ns *namespace) connectedPods(sim *v1alpha1.ParkingSimulation) map[resources.Component]connectedPod {
	ns.t.Helper()
	pods := map[resources.Component]corev1.Pod{outsider: ns.outsider(sim)}
	for _, component := range []resources.Component{
		resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor,
		resources.ComponentRabbitMQ, resources.ComponentRedis, resources.ComponentSummaries,
	} {
		pods[component] = ns.pods(sim, component)[0]
	}
	var operators corev1.PodList
	if err := ns.List(ns.t.Context(), &operators, client.InNamespace(operatorNamespace)); err != nil {
		ns.t.Fatal(err)
	}
	pods[operator] = operators.Items[0]

	connected := map[resources.Component]connectedPod{}
	for component, pod := range pods {
		p := connectedPod{address: pod.Status.PodIP, pid: pidOf(ns.t, pod)}
		// Open another port of the operator, because it listens only on ports to which connections are allowed.
		if component == operator {
			listen(ns.t, p.pid)
		}
		if component != outsider {
			p.ports = listening(ns.t, p.pid)
		}
		connected[component] = p
	}
	return connected
}

// pidOf returns the process ID, on the node, of the first container of a pod.
func pidOf(t *testing.T, pod corev1.Pod) string {
	t.Helper()
	tasks := strings.Fields(onNode(t, "ctr", "--namespace", "k8s.io", "tasks", "ls"))
	_, id, _ := strings.Cut(firstContainer(pod).ContainerID, "://")
	i := slices.Index(tasks, id)
	if i < 0 {
		t.Fatalf("the node has no container %s of pod %s", id, pod.Name)
	}
	return tasks[i+1]
}

// outsider creates a pod that does nothing and does not belong to the simulation. The pod uses the image of the
// simulation's Redis.
func (ns *namespace) outsider(sim *v1alpha1.ParkingSimulation) corev1.Pod {
	ns.t.Helper()
	redis := ns.pods(sim, resources.ComponentRedis)[0].Spec
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: string(outsider)},
		Spec: corev1.PodSpec{
			SecurityContext: redis.SecurityContext, TerminationGracePeriodSeconds: new(int64(0)),
			Containers: []corev1.Container{{
				Name: "sleep", Image: redis.Containers[0].Image, ImagePullPolicy: redis.Containers[0].ImagePullPolicy,
				Command: []string{"sleep", "infinity"}, SecurityContext: redis.Containers[0].SecurityContext,
			}},
		},
	}
	ns.create(&pod)
	ns.eventually("the outsider is ready", time.Minute, func() error {
		if err := ns.Get(ns.t.Context(), client.ObjectKeyFromObject(&pod), &pod); err != nil {
			return err
		}
		return allReady([]corev1.Pod{pod}, 1)
	})
	return pod
}

// listen starts a process that accepts connections for five minutes in the network namespace of process pid. Without
// a listener, even allowed connections would fail.
func listen(t *testing.T, pid string) {
	t.Helper()
	const script = `my $listener = IO::Socket::INET->new(Listen => 8) or die "listen: $@";
exit if fork;
open STDIN, "<", "/dev/null"; open STDOUT, ">", "/dev/null"; open STDERR, ">", "/dev/null";
alarm 300;
1 while $listener->accept;`
	onNode(t, "nsenter", "--net", "--target", pid, "perl", "-MIO::Socket::INET", "-e", script)
}

// listening returns the TCP ports that accept connections in the network namespace of a process, except on loopback.
func listening(t *testing.T, pid string) (ports []int) {
	t.Helper()
	const listen, loopback4, loopback6 = "0A", "0100007F", "00000000000000000000000001000000"
	for line := range strings.Lines(onNode(t, "cat", "/proc/"+pid+"/net/tcp", "/proc/"+pid+"/net/tcp6")) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != listen {
			continue
		}
		address, hexPort, _ := strings.Cut(fields[1], ":")
		port, err := strconv.ParseInt(hexPort, 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		if address != loopback4 && address != loopback6 {
			ports = append(ports, int(port))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// connections tries to connect from the pod to each port of the other pods. It returns true for a port if the
// connection succeeded, and false otherwise.
func (p connectedPod) connections(t *testing.T, pods map[resources.Component]connectedPod) map[endpoint]bool {
	t.Helper()
	open := map[endpoint]bool{}
	var script strings.Builder
	for component, pod := range pods {
		for _, port := range pod.ports {
			if pod.address == p.address {
				continue
			}
			open[endpoint{component, port}] = false
			fmt.Fprintf(&script, "(exec 3<>/dev/tcp/%s/%d && echo %s %[2]d) 2>/dev/null &\n", pod.address, port, component)
		}
	}
	// If a network plugin drops packets, connection attempts hang. The script ends such attempts after 10 s.
	script.WriteString("for i in {1..50}; do [[ -z $(jobs -r) ]] && exit; sleep 0.2; done; kill $(jobs -p); true\n")
	for line := range strings.Lines(onNode(t, "nsenter", "--net", "--target", p.pid, "bash", "-c", script.String())) {
		component, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		port, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("unexpected output %q", line)
		}
		open[endpoint{resources.Component(component), port}] = true
	}
	return open
}
