package rehearsal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/agent/agenttest"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/relay"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// mortal is the client of an operator that is killed while it writes to the journal. After the kill, Get, List, Patch
// and Delete fail without an effect.
type mortal struct {
	client.Client

	// The operator is killed when it writes a record with the state killState. If keepsWrite is true, the write succeeds.
	killState  fault.State
	keepsWrite bool
	kill       context.CancelFunc

	dead atomic.Bool
}

var errDead = errors.New("the operator was killed")

func (m *mortal) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.PatchOption) error {
	if m.dead.Load() {
		return errDead
	}
	dies := stateIn(object) == m.killState
	if dies && !m.keepsWrite {
		m.die()
		return errDead
	}
	err := m.Client.Patch(ctx, object, patch, options...)
	if dies && err == nil {
		m.die()
	}
	return err
}

func (m *mortal) die() {
	m.dead.Store(true)
	m.kill()
}

// stateIn returns the state of the only record in a journal. It returns "" if the object is not a journal, or if the
// journal contains no record.
func stateIn(object client.Object) fault.State {
	config, ok := object.(*corev1.ConfigMap)
	if !ok {
		return ""
	}
	var content struct{ Records []fault.Record }
	if err := json.Unmarshal([]byte(config.Data["journal.json"]), &content); err != nil || len(content.Records) == 0 {
		return ""
	}
	if r := &content.Records[0]; r.State != fault.Injecting || len(r.Chosen) == 0 {
		return r.State
	}
	return chosenState
}

// chosenState represents the state Injecting of a record whose instances have been chosen.
const chosenState fault.State = "Chosen"

func (m *mortal) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Client.Get(ctx, key, object, options...)
}

func (m *mortal) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Client.List(ctx, list, options...)
}

func (m *mortal) Delete(ctx context.Context, object client.Object, options ...client.DeleteOption) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Client.Delete(ctx, object, options...)
}

// The operator is killed in each phase of a fault. The fault must still hit each chosen pod exactly once, end, and be
// recorded.
func TestRehearsals_OperatorIsKilled_NewOperatorFinishesTheFault(t *testing.T) {
	t.Parallel()
	phases := []struct {
		name  string
		at    fault.State
		after bool
	}{
		{"before the fault is recorded", fault.Injecting, false},
		{"after the fault is recorded, before pods are chosen", fault.Injecting, true},
		{"before the chosen pods are recorded", chosenState, false},
		{"after the chosen pods are recorded, before the injection", chosenState, true},
		{"after the injection, before it is recorded", fault.Active, false},
		{"while the fault is in effect", fault.Active, true},
		{"after the end, before it is recorded", fault.Healed, false},
		{"after the end is recorded", fault.Healed, true},
	}
	number := 0
	for _, target := range []struct {
		fault plan.FaultTarget
		pods  int // the number of pods, all of which the fault hits
	}{
		// The targets cover both kinds of workload: Redis is a StatefulSet, and the processors are a Deployment.
		{plan.TargetRedis, 1},
		{plan.TargetProcessor, 2},
	} {
		for _, action := range []plan.FaultAction{plan.ActionKill, plan.ActionRestart, plan.ActionEvict, plan.ActionPause, plan.ActionIsolate} {
			for _, phase := range phases {
				number++
				network := fmt.Sprintf("127.78.%d.", number)
				t.Run(fmt.Sprint(action, " of ", target.fault, " ", phase.name), func(t *testing.T) {
					t.Parallel()
					f := plan.Fault{Name: "fault", Target: target.fault, Action: action, Instances: target.pods}
					if action.Lasts() {
						// During an isolation, each processor must have time to try to connect to every server, even on
						// a busy machine.
						f.For = plan.Duration(2 * time.Second)
					}
					w := newWorld(t, f)
					w.sim.Spec.Processor.Replicas = new(int32(2))
					n := w.nodes(t, network)
					want := target.pods
					for range target.pods {
						n.run(t, resources.ComponentOf(target.fault))
					}
					if action == plan.ActionIsolate && target.fault == plan.TargetProcessor {
						want = len(resources.Servers()) // the agents of all servers inject the isolation
						for _, c := range resources.Servers() {
							n.run(t, c)
						}
					}
					ctx, kill := context.WithCancel(t.Context())
					defer kill()
					first := &mortal{Client: w.Client, killState: phase.at, keepsWrite: phase.after, kill: kill}
					_, stop := w.leadWith(first, ctx)
					<-ctx.Done()
					stop()
					second, _ := w.lead()
					record := w.await(second, fault.Healed)
					if records, _ := second.Records(w.key()); len(records) != 1 {
						t.Errorf("there are %d records", len(records))
					}
					if record.InjectedAt.IsZero() || record.HealedAt.Before(record.InjectedAt) || len(record.Hit) != target.pods {
						t.Errorf("the record is %+v", record)
					}
					if got := n.hits(); got != want {
						t.Errorf("there were %d hits, want %d, one on each pod", got, want)
					}
				})
			}
		}
	}
}

// nodes simulates the nodes and the workload controllers of a cluster: it runs the agents of pods, reports that a
// killed container runs again, and replaces deleted pods.
type nodes struct {
	world *world
	// network is the common prefix of the pods' IP addresses. All relays forward connections to server.
	network, server string
	pods            int

	mu sync.Mutex
	// injected contains all injections, each as the address of a pod and the time.
	injected map[string]bool
	replaced int
	// processors contains the IP addresses of the processors.
	processors []string
}

func (w *world) nodes(t *testing.T, network string) *nodes {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	return &nodes{world: w, network: network, server: server.Listener.Addr().String(), injected: map[string]bool{}}
}

// hits returns the number of hits on all pods. A hit is an injection by an agent, or the replacement of a pod.
func (n *nodes) hits() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.injected) + n.replaced
}

// run creates a pod with an agent. The agent runs until the test ends.
func (n *nodes) run(t *testing.T, c resources.Component) {
	t.Helper()
	n.pods++
	ip := n.network + strconv.Itoa(n.pods)
	process := agenttest.Start(t, "sleep", "300")
	forwarding, err := relay.Listen(t.Context(), net.JoinHostPort(ip, "0"), n.server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = forwarding.Close() })
	a := agent.New(agent.Config{Target: process.Path, Relay: forwarding}, slog.New(slog.DiscardHandler))
	t.Cleanup(a.Close)
	handler := agent.Handler(a, func() (string, error) { return n.world.agents.Token, nil })
	n.world.handle(t, ip, http.HandlerFunc(func(response http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(response, r)
		if r.Method == http.MethodPut {
			// The agent has executed a command. An isolation counts as injected only if it cuts a connection, so open
			// connections.
			n.connect(forwarding.Address())
		}
		if f, ok := a.Fault("fault/0"); ok {
			n.mu.Lock()
			n.injected[fmt.Sprint(ip, f.At)] = true
			n.mu.Unlock()
		}
	}))
	if c == resources.ComponentProcessor {
		n.processors = append(n.processors, ip)
	}
	pod := n.world.Pod(n.world.sim, c, at(ip))
	stop := make(chan struct{})
	var working sync.WaitGroup
	working.Go(func() { n.watch(t, c, pod, process, stop) })
	t.Cleanup(func() {
		close(stop)
		working.Wait()
	})
}

// lasting is a test whose context is not canceled before its cleanup functions are called.
type lasting struct{ testing.TB }

func (lasting) Context() context.Context { return context.Background() }

// watch acts as the kubelet and the workload controller for one pod, until stop is closed.
func (n *nodes) watch(t *testing.T, c resources.Component, pod *corev1.Pod, process *agenttest.Target, stop chan struct{}) {
	t.Helper()
	cluster := *n.world.Cluster
	cluster.T = lasting{cluster.T}
	kubelet := &world{Cluster: &cluster, sim: n.world.sim}
	ended := process.Ended()
	for {
		select {
		case <-stop:
			return
		case <-ended:
			kubelet.restarted(pod)
			ended = nil
		case <-time.After(50 * time.Millisecond):
		}
		err := kubelet.Client.Get(kubelet.T.Context(), client.ObjectKeyFromObject(pod), &corev1.Pod{})
		if apierrors.IsNotFound(err) {
			n.mu.Lock()
			n.replaced++
			n.mu.Unlock()
			*pod = *kubelet.Pod(kubelet.sim, c, ready(time.Now()))
		}
	}
}

// connect opens a connection to a relay (a TCP forwarder) from the address of each processor.
func (n *nodes) connect(relay string) {
	for _, ip := range n.processors {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: time.Second}
		if c, err := dialer.Dial("tcp", relay); err == nil {
			_ = c.Close() // Close fails if the relay has already closed the connection
		}
	}
}
