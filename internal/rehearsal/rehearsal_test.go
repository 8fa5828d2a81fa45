package rehearsal_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/agent/agenttest"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/fault/faulttest"
	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/rehearsal"
	"github.com/parking-operator/parking-operator/internal/relay"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

func TestMain(m *testing.M) { os.Exit(apiserver.NewTests(m).Run()) }

// world is an API server with one simulation, and the credentials of the simulation's agents.
type world struct {
	*apiserver.Cluster

	sim    *v1alpha1.ParkingSimulation
	plan   *plan.Plan
	start  time.Time
	agents resources.AgentCredentials
	// https says whether the HTTP servers in the pods use TLS.
	https bool
	// The timeouts are long enough for a busy machine. Tests that wait for a timeout make it shorter.
	timeouts rehearsal.Timeouts

	mu     sync.Mutex
	states []fault.State // the states of the records that were passed to Dependencies.Changed
	// ports maps each port of a real pod to the port at which the test listens.
	ports map[int32]int32
}

// listen listens at a free port, which replaces the given port of the pod with the given IP address.
func (w *world) listen(t *testing.T, ip string, port int32) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	w.redirect(t, port, listener.Addr().String())
	return listener
}

// redirect makes requests to the given port of any pod go to the port in the given address.
func (w *world) redirect(t *testing.T, port int32, address string) {
	t.Helper()
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ports[port] = int32(parsed.Port())
}

// clientPort returns the port at which a component listens in the test. If the component does not listen in the test,
// clientPort returns port 1, where nothing listens.
func (w *world) clientPort(p *plan.Plan, c resources.Component) int32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return cmp.Or(w.ports[resources.ClientPort(p, c)], 1)
}

func (w *world) reported() []fault.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.states)
}

func newWorld(t *testing.T, faults ...plan.Fault) *world {
	t.Helper()
	c := apiserver.New(t)
	sim := c.Simulate("run", nil)
	certificate, key := tlstest.NewAuthority(t, "agent").Issue(t, agent.ServerName)
	sim.Default()
	sim.Spec.Processor.Replicas = new(int32(1))
	return &world{
		Cluster: c, sim: sim, ports: map[int32]int32{}, plan: &plan.Plan{Simulation: "test.run", Seed: 1, Faults: faults}, start: time.Now(),
		timeouts: rehearsal.Timeouts{Evidence: time.Minute, Probe: 3 * time.Second, Agent: time.Minute},
		agents:   resources.AgentCredentials{Token: "the token", Certificate: string(certificate), PrivateKey: string(key)},
	}
}

func (w *world) key() types.NamespacedName { return client.ObjectKeyFromObject(w.sim) }

func (w *world) target() rehearsal.Target {
	return rehearsal.Target{Simulation: w.sim, Plan: w.plan, Start: w.start, Agents: w.agents}
}

func (w *world) suspend(r *rehearsal.Rehearsals) {
	suspended := *w.plan
	suspended.Suspended = true
	w.plan = &suspended
	r.Track(w.key(), w.target())
}

// lead starts an operator that injects the faults as the leader, until the caller calls stop or the test ends.
func (w *world) lead() (r *rehearsal.Rehearsals, stop func()) {
	return w.leadWith(w.Client, context.Background())
}

// leadWith is like lead, but with another client. The operator also stops when ctx ends.
func (w *world) leadWith(c client.Client, ctx context.Context) (r *rehearsal.Rehearsals, stop func()) { //nolint:revive // ctx is rarely given
	core, err := corev1client.NewForConfig(w.Config)
	if err != nil {
		w.T.Fatal(err)
	}
	r = rehearsal.New(rehearsal.Dependencies{
		Client: c, Direct: w.Client, Core: core.RESTClient(), Logger: slog.New(slog.DiscardHandler), Timeouts: w.timeouts,
		ClientPort: w.clientPort,
		Changed: func(_ *v1alpha1.ParkingSimulation, r fault.Record) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.states = append(w.states, r.State)
		},
	})
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.T.Error(err)
		}
	})
	w.T.Cleanup(stop)
	r.Track(w.key(), w.target())
	return r, stop
}

// await waits until the first record has the given state. It returns that record.
func (w *world) await(r *rehearsal.Rehearsals, state fault.State) fault.Record {
	w.T.Helper()
	var first fault.Record
	w.Eventually("the record to be "+string(state), func() error {
		records, ok := r.Records(w.key())
		if !ok || len(records) == 0 {
			return errors.New("there is no record")
		}
		if first = records[0]; first.State != state {
			return fmt.Errorf("the record is %+v", first)
		}
		return nil
	})
	return first
}

// journal returns the records that the ConfigMap of the journal contains.
func (w *world) journal() []fault.Record {
	w.T.Helper()
	records, _ := w.journalAndHistory()
	return records
}

// journalAndHistory returns the records and the history that the ConfigMap of the journal contains.
func (w *world) journalAndHistory() ([]fault.Record, fault.History) {
	w.T.Helper()
	object := &corev1.ConfigMap{}
	if err := w.Client.Get(w.T.Context(), client.ObjectKey{Namespace: w.Namespace, Name: resources.FaultsName(w.sim)}, object); err != nil {
		w.T.Fatal(err)
	}
	var content struct {
		Records []fault.Record
		History fault.History
	}
	if err := json.Unmarshal([]byte(object.Data["journal.json"]), &content); err != nil {
		w.T.Fatal(err)
	}
	return content.Records, content.History
}

// ready returns a function that sets the status of a pod to ready, with a container that has been running since the
// given time.
func ready(since time.Time) func(*corev1.PodStatus) {
	return func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		s.ContainerStatuses = []corev1.ContainerStatus{{
			Name: resources.ContainerParking, Ready: true, ContainerID: "test://" + since.String(), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(since)}},
		}}
	}
}

// serveAgent starts a process, and an agent for this process at the given IP address. The returned function status
// makes a pod ready, with this IP address.
func (w *world) serveAgent(t *testing.T, ip string) (a *agent.Agent, process *agenttest.Target, status func(*corev1.PodStatus)) {
	t.Helper()
	process = agenttest.Start(t, "sleep", "300")
	return w.agentFor(t, process.Path, ip), process, func(s *corev1.PodStatus) {
		ready(time.Now().Add(-time.Hour))(s)
		s.PodIP, s.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	}
}

// agentFor serves an agent at an IP address until the test ends. The parameter target is the value of
// agent.Config.Target.
func (w *world) agentFor(t *testing.T, target, ip string) *agent.Agent {
	t.Helper()
	return w.serve(t, agent.Config{Target: target}, ip)
}

// serve serves an agent at an IP address until the test ends.
func (w *world) serve(t *testing.T, config agent.Config, ip string) *agent.Agent {
	t.Helper()
	a := agent.New(config, slog.New(slog.DiscardHandler))
	t.Cleanup(a.Close)
	w.handle(t, ip, agent.Handler(a, func() (string, error) { return w.agents.Token, nil }))
	return a
}

// tlsConfig returns the TLS settings of the servers that run in pods. All of these servers use the certificate of the
// agents.
func (w *world) tlsConfig(t *testing.T) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(w.agents.Certificate), []byte(w.agents.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
}

// handle serves the given handler at an IP address, at the port of the agents, until the test ends.
func (w *world) handle(t *testing.T, ip string, handler http.Handler) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	ctx, stop := context.WithCancel(context.Background())
	address := net.JoinHostPort(ip, strconv.Itoa(resources.AgentPort))
	server, err := httpserver.Listen(ctx, address, handler, log)
	if err != nil {
		t.Fatal(err)
	}
	server = server.WithTLS(w.tlsConfig(t))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestRehearsals_Eviction_FaultEndsWhenTheNewPodIsReady(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "evict", Target: plan.TargetProcessor, Action: plan.ActionEvict, Instances: 1})
	old := w.Pod(w.sim, resources.ComponentProcessor, ready(time.Now().Add(-time.Hour)))
	r, _ := w.lead()
	injected := w.await(r, fault.Active)
	w.Gone(old)
	if len(injected.Hit) != 1 || injected.Hit[0] != old.Name {
		t.Errorf("pods %v were hit, want %s", injected.Hit, old.Name)
	}
	w.Pod(w.sim, resources.ComponentProcessor, ready(time.Now()))
	w.Pod(w.sim, resources.ComponentProcessor, ready(time.Now()))
	healed := w.await(r, fault.Healed)
	if healed.HealedAt.Before(healed.InjectedAt) {
		t.Errorf("the record is %+v", healed)
	}
	w.Eventually("the journal to have the record", func() error {
		if saved := w.journal(); len(saved) != 1 || saved[0].State != fault.Healed {
			return fmt.Errorf("the journal has %+v", saved)
		}
		return nil
	})
}

func TestRehearsals_FaultOnReplicatedSummaryAPI_HitsOnePodAndEndsWhenAllAreReady(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "restart", Target: plan.TargetSummaryAPI, Action: plan.ActionRestart, Instances: 1})
	w.sim.Spec.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{
		Replicas: new(int32(3)), Database: &v1alpha1.SummaryDatabase{SecretRef: v1alpha1.SecretReference{Name: "summaries"}},
	}
	pod := func() *corev1.Pod {
		return w.Pod(w.sim, resources.ComponentSummaries, ready(time.Now().Add(-time.Hour)))
	}
	pods := []*corev1.Pod{pod(), pod(), pod()}
	r, _ := w.lead()
	injected := w.await(r, fault.Active)
	if len(injected.Hit) != 1 || injected.Of != len(pods) {
		t.Fatalf("%v of %d pods were hit, want 1 of %d", injected.Hit, injected.Of, len(pods))
	}
	time.Sleep(time.Second) // in this time, the injector checks the pods twice
	if records, _ := r.Records(w.key()); records[0].State != fault.Active {
		t.Errorf("while only 2 of 3 pods exist, the record is %+v, want an active fault", records[0])
	}
	pod()
	w.await(r, fault.Healed)
}

func TestRehearsals_ImpossibleFaults_AreNotInjected(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fault   plan.Fault
		prepare func(w *world)
		want    string
	}{
		{
			name:  "an eviction that a disruption budget forbids",
			fault: plan.Fault{Target: plan.TargetProcessor, Action: plan.ActionEvict, Instances: 1},
			prepare: func(w *world) {
				w.Pod(w.sim, resources.ComponentProcessor, ready(time.Now()))
				all := intstr.FromString("100%")
				w.Create(&policyv1.PodDisruptionBudget{
					ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "budget"},
					Spec: policyv1.PodDisruptionBudgetSpec{
						MinAvailable: &all, Selector: &metav1.LabelSelector{MatchLabels: resources.Selector(w.sim, resources.ComponentProcessor)},
					},
				})
			},
			want: "budget",
		},
		{
			name:  "a target without pods",
			fault: plan.Fault{Target: plan.TargetRedis, Action: plan.ActionRestart, Instances: 1},
			want:  "no pod of Redis was running",
		},
		{
			name:  "pods of another workload with the labels of the simulation",
			fault: plan.Fault{Target: plan.TargetRedis, Action: plan.ActionRestart, Instances: 1},
			prepare: func(w *world) {
				pod := w.Pod(w.sim, resources.ComponentRedis, ready(time.Now()))
				w.Edit(pod, func() { pod.OwnerReferences[0].Name = "another" })
			},
			want: "no pod of Redis was running",
		},
		{
			name:  "an agent that does not answer",
			fault: plan.Fault{Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1},
			prepare: func(w *world) {
				w.Pod(w.sim, resources.ComponentRedis, func(s *corev1.PodStatus) {
					ready(time.Now())(s)
					s.PodIP, s.PodIPs = "127.77.0.9", []corev1.PodIP{{IP: "127.77.0.9"}}
				})
			},
			want: "reach the agent",
		},
		{
			name:  "the isolation of one of several RabbitMQ nodes",
			fault: plan.Fault{Target: plan.TargetRabbitMQ, Action: plan.ActionIsolate, Instances: 1, For: plan.Duration(time.Second)},
			prepare: func(w *world) {
				w.sim.Spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Replicas: new(int32(3))}
				for range 3 {
					w.Pod(w.sim, resources.ComponentRabbitMQ, ready(time.Now()))
				}
			},
			want: "between RabbitMQ nodes",
		},
		{
			name:  "the isolation from a server that the operator does not run",
			fault: plan.Fault{Target: plan.TargetProcessor, Action: plan.ActionIsolate, Instances: 1, For: plan.Duration(time.Second)},
			prepare: func(w *world) {
				w.sim.Spec.Redis = v1alpha1.RedisSpec{SecretRef: &v1alpha1.SecretReference{Name: "store"}}
				w.Pod(w.sim, resources.ComponentProcessor, ready(time.Now()))
			},
			want: "a server that the operator does not run",
		},
		{
			name:  "the RabbitMQ leader, but no node leads a queue",
			fault: plan.Fault{Target: plan.TargetRabbitMQLeader, Action: plan.ActionRestart, Instances: 1},
			prepare: func(w *world) {
				w.rabbitMQ(t, "127.77.1.1", 0)
				w.rabbitMQ(t, "127.77.1.2", 0)
			},
			want: "no RabbitMQ node leads a queue",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.fault.Name = "fault"
			w := newWorld(t, tt.fault)
			if tt.prepare != nil {
				tt.prepare(w)
			}
			r, _ := w.lead()
			if got := w.await(r, fault.NotInjected); !strings.Contains(got.Reason, tt.want) {
				t.Errorf("the reason is %q, want a reason that contains %q", got.Reason, tt.want)
			}
		})
	}
}

// rabbitMQ creates the pod of a RabbitMQ node. According to its metrics, the node is the leader of the given number of
// queues.
func (w *world) rabbitMQ(t *testing.T, ip string, leads int) *corev1.Pod {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(resources.RabbitMQMetricsPort)))
	if err != nil {
		t.Fatal(err)
	}
	w.serveHTTPAt(t, listener, func(response http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics/detailed" || r.FormValue("family") != "queue_coarse_metrics" {
			http.NotFound(response, r)
		}
		fmt.Fprintln(response, "# TYPE rabbitmq_detailed_queue_messages gauge")
		for i := range leads {
			fmt.Fprintf(response, "rabbitmq_detailed_queue_messages{vhost=\"/\",queue=\"parking.test.run.entry.%d\"} 0\n", i)
		}
	})
	return w.Pod(w.sim, resources.ComponentRabbitMQ, func(s *corev1.PodStatus) {
		ready(time.Now().Add(-time.Hour))(s)
		s.PodIP, s.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	})
}

func TestRehearsals_TargetIsRabbitMQLeader_HitsTheNodeThatLeadsTheMostQueues(t *testing.T) {
	for name, tls := range map[string]*v1alpha1.TLSSpec{"without TLS": nil, "TLS": {}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, plan.Fault{Name: "leader", Target: plan.TargetRabbitMQLeader, Action: plan.ActionRestart, Instances: 1})
			w.sim.Spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Replicas: new(int32(3)), TLS: tls}
			w.https = tls != nil
			w.rabbitMQ(t, "127.77.1.3", 1)
			leader := w.rabbitMQ(t, "127.77.1.4", 3)
			w.rabbitMQ(t, "127.77.1.5", 2)
			r, _ := w.lead()
			if got := w.await(r, fault.Active); len(got.Hit) != 1 || got.Hit[0] != leader.Name {
				t.Errorf("pods %v were hit, want %s", got.Hit, leader.Name)
			}
		})
	}
}

func TestRehearsals_Kill_FaultEndsWhenTheContainerRunsAgain(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "crash", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1})
	_, process, status := w.serveAgent(t, "127.77.0.1")
	pod := w.Pod(w.sim, resources.ComponentRedis, status)
	r, _ := w.lead()
	process.AwaitKilled(t)
	w.restarted(pod)
	w.await(r, fault.Healed)
}

// restarted changes the status of a pod in the same way as the kubelet after a restart of the container.
func (w *world) restarted(pod *corev1.Pod) {
	w.T.Helper()
	w.restartedAt(pod, time.Now())
}

// restartedAt changes the status of a pod like the kubelet after a restart of the container at the given time.
func (w *world) restartedAt(pod *corev1.Pod, at time.Time) {
	w.T.Helper()
	w.Eventually("the kubelet to report the restart", func() error {
		if err := w.Client.Get(w.T.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		ready(at)(&pod.Status)
		return w.Client.Status().Update(w.T.Context(), pod)
	})
}

// deletions is a client that records the options with which objects are deleted.
type deletions struct {
	client.Client

	mu      sync.Mutex
	options []client.DeleteOptions
}

func (d *deletions) Delete(ctx context.Context, object client.Object, options ...client.DeleteOption) error {
	d.mu.Lock()
	d.options = append(d.options, *(&client.DeleteOptions{}).ApplyOptions(options))
	d.mu.Unlock()
	return d.Client.Delete(ctx, object, options...)
}

// Without a grace period, the pod could be removed while its processes still run, and a new pod could use the same
// volume at the same time.
func TestRehearsals_Restart_DeletesThePodGracefully(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "restart", Target: plan.TargetRedis, Action: plan.ActionRestart, Instances: 1})
	w.Pod(w.sim, resources.ComponentRedis, ready(time.Now()))
	d := &deletions{Client: w.Client}
	r, _ := w.leadWith(d, context.Background())
	w.await(r, fault.Active)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.options) != 1 || d.options[0].GracePeriodSeconds != nil {
		t.Errorf("the options of the deletions are %+v, want one deletion with the grace period of the pod", d.options)
	}
}

// The agent reports a kill, but the kubelet reports a running container. The kubelet is right, so the fault must not
// count as injected.
func TestRehearsals_KillWithoutEffect_CountsAsNotInjected(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "crash", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1})
	w.timeouts.Evidence = 5 * time.Second
	const ip = "127.77.5.1"
	w.handle(t, ip, http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(response).Encode(agent.Fault{At: time.Now()})
	}))
	w.Pod(w.sim, resources.ComponentRedis, func(s *corev1.PodStatus) {
		ready(time.Now().Add(-time.Hour))(s)
		s.PodIP, s.PodIPs = ip, []corev1.PodIP{{IP: ip}}
		// A restart of the agent's own container does not prove that the target was killed.
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: resources.ContainerAgent, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Now().Add(time.Minute))}},
		})
	})
	r, _ := w.lead()
	const want = "the agent answered that it killed the target, but no container of the pod has ended"
	if got := w.await(r, fault.NotInjected); !strings.Contains(got.Reason, want) {
		t.Errorf("the reason is %q, want a reason that contains %q", got.Reason, want)
	}
}

func TestRehearsals_OperatorIsReplaced_NewOperatorContinuesTheFault(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "pause", Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1, For: plan.Duration(time.Hour)})
	a, process, status := w.serveAgent(t, "127.77.0.2")
	w.Pod(w.sim, resources.ComponentRedis, status)
	first, stop := w.lead()
	before := w.await(first, fault.Active)
	stop()
	if !process.IsStopped() {
		t.Error("the pause ended when the first operator stopped")
	}
	second, _ := w.lead()
	w.await(second, fault.Active)
	a.Heal("pause/0") // Heal ends the pause long before its declared duration has passed
	after := w.await(second, fault.Aborted)
	injected, ok := a.Fault("pause/0")
	if !ok || !injected.At.Equal(before.InjectedAt) || !after.InjectedAt.Equal(before.InjectedAt) || !after.HealedAt.Equal(injected.Healed) {
		t.Errorf("the agent has %+v, the first operator %+v, the second %+v", injected, before, after)
	}
}

// The operator crashes after it has saved a record, either before or after it has injected the fault.
func TestRehearsals_OperatorCrashes_NewOperatorInjectsTheFaultOnce(t *testing.T) {
	for _, injected := range []bool{false, true} {
		t.Run("injected="+strconv.FormatBool(injected), func(t *testing.T) {
			w := newWorld(t, plan.Fault{Name: "pause", Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1, For: plan.Duration(time.Second)})
			a, _, status := w.serveAgent(t, "127.77.0.3")
			w.Pod(w.sim, resources.ComponentRedis, status)
			var at time.Time
			if injected {
				f, err := a.Inject(agent.Command{ID: "pause/0", Action: plan.ActionPause, For: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				at = f.At
			}
			var occurrence fault.Occurrence
			for occurrence = range fault.Occurrences(w.plan) {
				break
			}
			text, err := json.Marshal(map[string]any{
				"progress": fault.Progress{Next: map[string]int{"pause": 1}},
				"records":  []fault.Record{{Occurrence: occurrence, State: fault.Injecting}},
			})
			if err != nil {
				t.Fatal(err)
			}
			w.Create(resources.FaultsConfigMap(w.sim, map[string]string{"journal.json": string(text)}))
			r, _ := w.lead()
			record := w.await(r, fault.Healed)
			if injected && !record.InjectedAt.Equal(at) {
				t.Errorf("the fault was injected at %s and at %s", at, record.InjectedAt)
			}
			if records, _ := r.Records(w.key()); len(records) != 1 {
				t.Errorf("there are %d records", len(records))
			}
		})
	}
}

func TestRehearsalsUntrack_PauseInEffect_EndsThePause(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "pause", Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1, For: plan.Duration(time.Hour)})
	_, process, status := w.serveAgent(t, "127.77.0.4")
	w.Pod(w.sim, resources.ComponentRedis, status)
	r, _ := w.lead()
	w.await(r, fault.Active)
	if !process.IsStopped() {
		t.Error("the process runs")
	}
	r.Untrack(w.key())
	w.Eventually("the process to run again", func() error {
		if process.IsStopped() {
			return errors.New("the process is stopped")
		}
		return nil
	})
	w.Eventually("the journal to record the end of the pause", func() error {
		if saved := w.journal(); saved[0].State != fault.Aborted {
			return fmt.Errorf("the journal has %+v", saved)
		}
		return nil
	})
}

func TestRehearsals_SimulationIsSuspendedDuringPauseOfRedis_EndsThePause(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "pause", Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1, For: plan.Duration(time.Hour)})
	_, process, status := w.serveAgent(t, "127.77.0.5")
	w.Pod(w.sim, resources.ComponentRedis, status)
	r, _ := w.lead()
	w.await(r, fault.Active)
	suspended := *w.plan
	suspended.Suspended = true
	w.plan = &suspended
	r.Track(w.key(), w.target())
	record := w.await(r, fault.Aborted)
	if process.IsStopped() || !strings.Contains(record.Reason, "suspended") {
		t.Errorf("stopped: %t, record: %+v", process.IsStopped(), record)
	}
}

// relayPort is the port of a pod at which the agent of a server relays connections.
const relayPort = 8091

// relayed creates a server pod whose agent relays the connections to the server. It returns the address at which
// clients connect.
func (w *world) relayed(t *testing.T, c resources.Component, ip string) (address string) {
	t.Helper()
	address, _ = w.relayedBy(t, c, ip)
	return address
}

func (w *world) relayedBy(t *testing.T, c resources.Component, ip string) (address string, a *agent.Agent) {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	forwarding, err := relay.Listen(t.Context(), net.JoinHostPort(ip, "0"), server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = forwarding.Close() })
	a = w.serve(t, agent.Config{Target: "no-such-target", Relay: forwarding}, ip)
	w.Pod(w.sim, c, func(s *corev1.PodStatus) {
		ready(time.Now().Add(-time.Hour))(s)
		s.PodIP, s.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	})
	return forwarding.Address(), a
}

// connects reports whether a client with the given address can connect to a server.
func connects(t *testing.T, from, server string) bool {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c := http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	response, err := c.Get("http://" + server)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return true
}

func TestRehearsals_Isolate_CutsOffOnlyTheTarget(t *testing.T) {
	const isolated, other = "127.77.3.1", "127.77.3.2"
	for i, tt := range []struct {
		target plan.FaultTarget
		// client says whether RabbitMQ, Redis and the summary API, in this order, answer a pod of the target. If the
		// target is a server, the pod is a processor.
		client [3]bool
		other  [3]bool // whether the same servers answer a client outside the simulation
	}{
		{plan.TargetProcessor, [3]bool{}, [3]bool{true, true, true}},
		{plan.TargetEntryGenerator, [3]bool{}, [3]bool{true, true, true}},
		{plan.TargetExitGenerator, [3]bool{}, [3]bool{true, true, true}},
		{plan.TargetRabbitMQ, [3]bool{false, true, true}, [3]bool{false, true, true}},
		{plan.TargetRabbitMQLeader, [3]bool{false, true, true}, [3]bool{false, true, true}},
		{plan.TargetRedis, [3]bool{true, false, true}, [3]bool{true, false, true}},
		{plan.TargetSummaryAPI, [3]bool{true, true, false}, [3]bool{true, true, false}},
	} {
		t.Run(string(tt.target), func(t *testing.T) {
			w := newWorld(t, plan.Fault{Name: "cut", Target: tt.target, Action: plan.ActionIsolate, Instances: 1, For: plan.Duration(time.Hour)})
			var servers [3]string
			for n, c := range resources.Servers() {
				servers[n] = w.relayed(t, c, fmt.Sprintf("127.77.2.%d", 10*i+n+1))
			}
			component := resources.ComponentOf(tt.target)
			if slices.Contains(resources.Servers(), component) {
				component = resources.ComponentProcessor
			}
			w.Pod(w.sim, component, at(isolated))
			r, _ := w.lead()
			w.await(r, fault.Active)
			for n, server := range servers {
				if got := connects(t, isolated, server); got != tt.client[n] {
					t.Errorf("%s reaches %s: %t", component, resources.Servers()[n], got)
				}
				if got := connects(t, other, server); got != tt.other[n] {
					t.Errorf("another client reaches %s: %t", resources.Servers()[n], got)
				}
			}
			w.suspend(r)
			w.await(r, fault.Aborted)
			for n, server := range servers {
				if !connects(t, isolated, server) {
					t.Errorf("%s does not reach %s after the isolation", component, resources.Servers()[n])
				}
			}
		})
	}
}

// The operator must hit the same targets in the same order as the command "parking simulate", whose test expects the
// same hits.
func TestRehearsals_SameSeed_HitsTheSameTargetsAsSimulate(t *testing.T) {
	sim, err := manifest.ReadFile("../fault/testdata/targets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	resolved, faulty := manifest.Resolve(sim)
	if err := faulty.Err(); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.sim.Spec, w.plan.Faults = resolved.Simulation.Spec, resolved.Plan.Faults
	w.plan.Seed, w.plan.Duration = resolved.Plan.Seed, resolved.Plan.Duration
	pods := map[plan.FaultTarget][]*corev1.Pod{}
	for i, target := range []plan.FaultTarget{plan.TargetRedis, plan.TargetRabbitMQ} {
		_, _, status := w.serveAgent(t, fmt.Sprintf("127.77.4.%d", i+1))
		pods[target] = []*corev1.Pod{w.Pod(w.sim, resources.ComponentOf(target), status)}
	}
	add := func(target plan.FaultTarget, n int) {
		for range n {
			pods[target] = append(pods[target], w.Pod(w.sim, resources.ComponentOf(target), ready(time.Now())))
		}
		slices.SortFunc(pods[target], func(a, b *corev1.Pod) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
		})
	}
	add(plan.TargetProcessor, 3)
	add(plan.TargetEntryGenerator, 2)
	w.start = time.Now()
	r, _ := w.lead()
	want := faulttest.Planned(w.plan, map[plan.FaultTarget]int{plan.TargetProcessor: 3, plan.TargetEntryGenerator: 2})
	var got []string
	w.Eventually("all faults to be injected", func() error {
		records, _ := r.Records(w.key())
		for _, record := range records[len(got):] {
			if record.InjectedAt.IsZero() {
				return fmt.Errorf("fault %s is %s %s", record.ID(), record.State, record.Reason)
			}
			var indexes []int
			for _, name := range record.Hit {
				indexes = append(indexes, slices.IndexFunc(pods[record.Target], func(p *corev1.Pod) bool { return p.Name == name }))
			}
			got = append(got, faulttest.Hit(record.Fault, record.Number, record.Target, indexes))
			if record.Action.Lasts() {
				continue
			}
			// Replace the deleted pods, as the workload controller does.
			pods[record.Target] = slices.DeleteFunc(pods[record.Target], func(p *corev1.Pod) bool { return slices.Contains(record.Hit, p.Name) })
			add(record.Target, len(record.Hit))
		}
		if len(got) < len(want) {
			return fmt.Errorf("%d of %d faults were injected", len(got), len(want))
		}
		return nil
	})
	if !slices.Equal(got, want) {
		t.Errorf("the faults hit\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
