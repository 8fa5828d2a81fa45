package rehearsal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/agent/agenttest"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/rehearsal"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func chosen(pods ...*corev1.Pod) []fault.Chosen {
	var list []fault.Chosen
	for _, pod := range pods {
		list = append(list, fault.Chosen{Name: pod.Name, ID: string(pod.UID)})
	}
	return list
}

// takeOver writes the given records to a journal, as if a killed operator had left them. Then it starts a new operator
// as the leader.
func (w *world) takeOver(t *testing.T, records ...fault.Record) *rehearsal.Rehearsals {
	t.Helper()
	w.leave(t, records...)
	r, _ := w.lead()
	return r
}

// leave writes the given records to a journal, as if a killed operator had left them.
func (w *world) leave(t *testing.T, records ...fault.Record) {
	t.Helper()
	next := map[string]int{}
	for _, r := range records {
		next[r.Fault] = r.Number + 1
	}
	text, err := json.Marshal(map[string]any{"progress": fault.Progress{Next: next}, "records": records})
	if err != nil {
		t.Fatal(err)
	}
	w.Create(resources.FaultsConfigMap(w.sim, map[string]string{"journal.json": string(text)}))
}

func record(target plan.FaultTarget, action plan.FaultAction, length time.Duration, pods ...*corev1.Pod) fault.Record {
	o := fault.Occurrence{Fault: "fault", Target: target, Action: action, For: length, Instances: len(pods)}
	return fault.Record{Occurrence: o, State: fault.Injecting, Chosen: chosen(pods...), ChosenAt: time.Now(), Of: len(pods)}
}

// active returns the record r after its fault has taken effect in all chosen pods at the given time.
func active(r fault.Record, at time.Time) fault.Record {
	r.State, r.InjectedAt = fault.Active, at
	for _, c := range r.Chosen {
		r.Hit = append(r.Hit, c.Name)
	}
	return r
}

func (w *world) processor() *corev1.Pod {
	return w.Pod(w.sim, resources.ComponentProcessor, ready(time.Now().Add(-time.Hour)))
}

func (w *world) deletePod(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := w.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	w.Gone(pod)
}

// The first of two chosen pods was deleted and replaced. The next operator must delete the second pod, but not the
// replacement.
func TestResumeFault_FirstOfTwoPodsWasDeleted_DeletesOnlyTheSecond(t *testing.T) {
	for _, action := range []plan.FaultAction{plan.ActionRestart, plan.ActionEvict} {
		t.Run(string(action), func(t *testing.T) {
			w := newWorld(t)
			w.sim.Spec.Processor.Replicas = new(int32(2))
			deleted, other := w.processor(), w.processor()
			w.deletePod(t, deleted)
			w.start = time.Now().Truncate(time.Second)
			replacement := w.processor()
			r := w.takeOver(t, record(plan.TargetProcessor, action, 0, deleted, other))
			injected := w.await(r, fault.Active)
			w.Gone(other)
			if len(injected.Hit) != 2 {
				t.Errorf("pods %v were hit", injected.Hit)
			}
			w.processor()
			w.await(r, fault.Healed)
			w.Exists(replacement, replacement.Name)
		})
	}
}

func TestResumeFault_FaultWasDueLongAgo_IsNotInjected(t *testing.T) {
	w := newWorld(t)
	w.start = time.Now().Add(-5 * time.Minute)
	pod := w.processor()
	late := record(plan.TargetProcessor, plan.ActionRestart, 0, pod)
	late.ChosenAt = w.start
	r := w.takeOver(t, late)
	if got := w.await(r, fault.NotInjected); !strings.Contains(got.Reason, "not running when the fault was due") {
		t.Errorf("the reason is %q", got.Reason)
	}
	w.Exists(pod, pod.Name)
}

// The pod was deleted at an unknown time after it was chosen, so InjectedAt is the time of the choice.
func TestResumeFault_PodsWereChosenLate_InjectedAtIsTheTimeOfTheChoice(t *testing.T) {
	w := newWorld(t)
	w.start = time.Now().Add(-10 * time.Minute)
	pod := w.processor()
	waited := record(plan.TargetProcessor, plan.ActionRestart, 0, pod)
	w.deletePod(t, pod)
	r := w.takeOver(t, waited)
	if got := w.await(r, fault.Active); !got.InjectedAt.Equal(waited.ChosenAt) {
		t.Errorf("injected at %s, want %s", got.InjectedAt, waited.ChosenAt)
	}
}

// paused creates a pod with an agent, and a process that the agent can pause. If length is not 0, the agent pauses the
// process for this time, as the fault with the ID "fault/0".
func (w *world) paused(t *testing.T, ip string, length time.Duration) (pod *corev1.Pod, process *agenttest.Target) {
	t.Helper()
	a, process, status := w.serveAgent(t, ip)
	if length > 0 {
		if _, err := a.Inject(agent.Command{ID: "fault/0", Action: plan.ActionPause, For: length}); err != nil {
			t.Fatal(err)
		}
	}
	return w.Pod(w.sim, resources.ComponentProcessor, status), process
}

// The agent of the second pod does not answer, so the pauses of the first and the third pod must end.
func TestResumeFault_AgentOfOnePodFails_PausesOfOtherPodsEnd(t *testing.T) {
	w := newWorld(t)
	first, firstProcess := w.paused(t, "127.77.7.51", time.Hour)
	second := w.Pod(w.sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		ready(time.Now())(s)
		s.PodIP, s.PodIPs = "127.77.7.52", []corev1.PodIP{{IP: "127.77.7.52"}}
	})
	third, thirdProcess := w.paused(t, "127.77.7.53", time.Hour)
	r := w.takeOver(t, record(plan.TargetProcessor, plan.ActionPause, time.Hour, first, second, third))
	w.await(r, fault.NotInjected)
	if firstProcess.IsStopped() || thirdProcess.IsStopped() {
		t.Errorf("paused: the first pod %t, the third pod %t", firstProcess.IsStopped(), thirdProcess.IsStopped())
	}
}

// The pause of the first pod has ended. The new operator must not pause the second pod alone, because the fault was
// planned for both.
func TestResumeFault_PauseEndedInOnePod_PausesNoOtherPod(t *testing.T) {
	w := newWorld(t)
	first, firstProcess := w.paused(t, "127.77.7.54", time.Millisecond)
	second, secondProcess := w.paused(t, "127.77.7.55", 0)
	w.Eventually("the pause of the first pod to end", func() error {
		if firstProcess.IsStopped() {
			return errors.New("the process is stopped")
		}
		return nil
	})
	r := w.takeOver(t, record(plan.TargetProcessor, plan.ActionPause, time.Hour, first, second))
	if got := w.await(r, fault.NotInjected); !strings.Contains(got.Reason, "ended in pod "+first.Name) {
		t.Errorf("the reason is %q", got.Reason)
	}
	if secondProcess.IsStopped() {
		t.Error("the second pod is paused")
	}
}

// The operator is replaced while it waits for the second agent. The pause of the first pod must last, so that the next
// operator can continue.
func TestResumeFault_OperatorIsReplacedDuringInjection_FirstPodStaysPaused(t *testing.T) {
	w := newWorld(t)
	first, process := w.paused(t, "127.77.7.56", 0)
	const slow = "127.77.7.57"
	asked := make(chan struct{})
	var once sync.Once
	w.handle(t, slow, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		<-r.Context().Done()
	}))
	second := w.Pod(w.sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		ready(time.Now())(s)
		s.PodIP, s.PodIPs = slow, []corev1.PodIP{{IP: slow}}
	})
	w.leave(t, record(plan.TargetProcessor, plan.ActionPause, time.Hour, first, second))
	_, stop := w.lead()
	<-asked
	stop()
	if saved := w.journal(); saved[0].State != fault.Injecting || !process.IsStopped() {
		t.Errorf("paused: %t, the record is %+v", process.IsStopped(), saved[0])
	}
}

// If a fault is in effect, a new operator saves the record of the fault again. This save must not be reported as
// another injection.
func TestResumeFault_FaultInEffect_ReportsOnlyItsEnd(t *testing.T) {
	w := newWorld(t)
	pod := w.processor()
	w.deletePod(t, pod)
	r := w.takeOver(t, active(record(plan.TargetProcessor, plan.ActionPause, time.Second, pod), time.Now().Add(-time.Minute)))
	w.await(r, fault.Healed)
	w.Eventually("the end to be reported", func() error {
		if got := w.reported(); !slices.Equal(got, []fault.State{fault.Healed}) {
			return fmt.Errorf("the states %v were reported", got)
		}
		return nil
	})
}

// forbidden is a client that cannot create objects until allowed is true.
type forbidden struct {
	client.Client

	allowed atomic.Bool
}

func (f *forbidden) Create(ctx context.Context, object client.Object, options ...client.CreateOption) error {
	if !f.allowed.Load() {
		return errors.New("the quota is exceeded")
	}
	return f.Client.Create(ctx, object, options...)
}

func TestRehearsalsErr_JournalCannotBeSaved_ReturnsTheErrorUntilASaveSucceeds(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "restart", Target: plan.TargetProcessor, Action: plan.ActionRestart, Instances: 1})
	pod := w.processor()
	c := &forbidden{Client: w.Client}
	r, _ := w.leadWith(c, context.Background())
	w.Eventually("Err to return the error", func() error {
		if err := r.Err(w.key()); err == nil || !strings.Contains(err.Error(), "the quota is exceeded") {
			return errors.New(fmt.Sprint("the error is ", err))
		}
		return nil
	})
	w.Exists(pod, pod.Name)
	c.allowed.Store(true)
	w.await(r, fault.Active)
	if err := r.Err(w.key()); err != nil {
		t.Error(err)
	}
}

// An earlier operator was killed when only the agent of RabbitMQ had injected an isolation. The next operator must make
// the agents of Redis and the summary API inject the isolation, too.
func TestResumeFault_OnlyOneAgentHasInjectedTheIsolation_AllServersRejectTheProcessor(t *testing.T) {
	w := newWorld(t)
	const processor = "127.77.7.9"
	var servers [3]string
	var agents [3]*agent.Agent
	for n, c := range resources.Servers() {
		servers[n], agents[n] = w.relayedBy(t, c, fmt.Sprintf("127.77.7.%d", n+1))
	}
	pod := w.Pod(w.sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		ready(time.Now().Add(-time.Hour))(s)
		s.PodIP, s.PodIPs = processor, []corev1.PodIP{{IP: processor}}
	})
	if _, err := agents[0].Inject(agent.Command{ID: "fault/0", Action: plan.ActionIsolate, For: time.Hour}); err != nil {
		t.Fatal(err)
	}
	r := w.takeOver(t, record(plan.TargetProcessor, plan.ActionIsolate, time.Hour, pod))
	w.await(r, fault.Active)
	for n, server := range servers {
		if connects(t, processor, server) {
			t.Errorf("the processor reaches %s", resources.Servers()[n])
		}
	}
}

func TestResumeFault_PausedPodIsGone_FaultHasEnded(t *testing.T) {
	w := newWorld(t)
	pod := w.processor()
	w.deletePod(t, pod)
	at := time.Now().Add(-10 * time.Second).Truncate(time.Millisecond)
	r := w.takeOver(t, active(record(plan.TargetProcessor, plan.ActionPause, 5*time.Second, pod), at))
	if got := w.await(r, fault.Healed); !got.HealedAt.Equal(at.Add(5 * time.Second)) {
		t.Errorf("healed at %s, injected at %s", got.HealedAt, at)
	}
}

func TestResumeFault_AgentIsUnreachable_FaultCountsAsEndedByTheAgentsTimer(t *testing.T) {
	w := newWorld(t)
	w.timeouts.Evidence = 5 * time.Second
	pod := w.Pod(w.sim, resources.ComponentRedis, func(s *corev1.PodStatus) {
		ready(time.Now())(s)
		s.PodIP, s.PodIPs = "127.77.7.20", []corev1.PodIP{{IP: "127.77.7.20"}}
	})
	at := time.Now().Add(-10 * time.Second).Truncate(time.Millisecond)
	r := w.takeOver(t, active(record(plan.TargetRedis, plan.ActionPause, time.Second, pod), at))
	if got := w.await(r, fault.Healed); !got.HealedAt.Equal(at.Add(time.Second)) {
		t.Errorf("healed at %s, injected at %s", got.HealedAt, at)
	}
}

// A processor that another fault pauses is not ready. The restart must end nevertheless.
func TestRehearsals_RestartFault_EndsWhileAnotherPodIsPaused(t *testing.T) {
	w := newWorld(t)
	w.sim.Spec.Processor.Replicas = new(int32(2))
	restarted := w.processor()
	held, _, status := w.serveAgent(t, "127.77.7.21")
	if _, err := held.Inject(agent.Command{ID: "fault/1", Action: plan.ActionPause, For: time.Hour}); err != nil {
		t.Fatal(err)
	}
	paused := w.Pod(w.sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		status(s)
		s.Conditions = nil
	})
	w.deletePod(t, restarted)
	w.processor()
	pause := active(record(plan.TargetProcessor, plan.ActionPause, time.Hour, paused), time.Now())
	pause.Number = 1
	r := w.takeOver(t, active(record(plan.TargetProcessor, plan.ActionRestart, 0, restarted), time.Now()), pause)
	w.await(r, fault.Healed)
}

// If the clock of a node is behind, the new container seems to have started before the kill. The fault must end
// nevertheless.
func TestRehearsals_KillOnNodeWhoseClockIsBehind_FaultEnds(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "crash", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1})
	_, process, status := w.serveAgent(t, "127.77.7.22")
	pod := w.Pod(w.sim, resources.ComponentRedis, status)
	r, _ := w.lead()
	process.AwaitKilled(t)
	w.restartedAt(pod, time.Now().Add(-30*time.Second))
	w.await(r, fault.Healed)
}

// The isolation succeeds in the agent of RabbitMQ, and fails in the agent of Redis. It is then incomplete, so the agent
// of RabbitMQ must end it.
func TestRehearsals_IsolationFailsInOnePod_EndsInAllPods(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "cut", Target: plan.TargetProcessor, Action: plan.ActionIsolate, Instances: 1, For: plan.Duration(time.Hour)})
	rabbitMQ := w.relayed(t, resources.ComponentRabbitMQ, "127.77.7.31")
	w.Pod(w.sim, resources.ComponentRedis, func(s *corev1.PodStatus) {
		ready(time.Now())(s)
		s.PodIP, s.PodIPs = "127.77.7.32", []corev1.PodIP{{IP: "127.77.7.32"}}
	})
	const processor = "127.77.7.39"
	w.Pod(w.sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		ready(time.Now())(s)
		s.PodIP, s.PodIPs = processor, []corev1.PodIP{{IP: processor}}
	})
	r, _ := w.lead()
	w.await(r, fault.NotInjected)
	if !connects(t, processor, rabbitMQ) {
		t.Error("the processor is still cut off from RabbitMQ")
	}
}

// The agent of RabbitMQ has failed when the simulation is suspended. The other agents must still end the isolation.
func TestRehearsals_SuspendedWhileOneAgentFails_OtherAgentsEndTheIsolation(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "cut", Target: plan.TargetProcessor, Action: plan.ActionIsolate, Instances: 1, For: plan.Duration(time.Hour)})
	const ip, processor = "127.77.7.41", "127.77.7.49"
	var dead atomic.Bool
	w.handle(t, ip, http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		if dead.Load() {
			response.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(response).Encode(agent.Fault{At: time.Now()})
	}))
	w.Pod(w.sim, resources.ComponentRabbitMQ, func(s *corev1.PodStatus) {
		ready(time.Now())(s)
		s.PodIP, s.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	})
	redis := w.relayed(t, resources.ComponentRedis, "127.77.7.42")
	w.Pod(w.sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		ready(time.Now())(s)
		s.PodIP, s.PodIPs = processor, []corev1.PodIP{{IP: processor}}
	})
	r, _ := w.lead()
	w.await(r, fault.Active)
	dead.Store(true)
	w.suspend(r)
	if got := w.await(r, fault.Aborted); got.HealedAt.IsZero() {
		t.Errorf("the record is %+v", got)
	}
	if !connects(t, processor, redis) {
		t.Error("the processor is still cut off from Redis")
	}
}

// Redis is replaced while a processor is isolated. The processor must not reach the new Redis until the isolation
// ends.
func TestRehearsals_ServerIsReplacedDuringIsolation_NewServerIsCutOffToo(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "cut", Target: plan.TargetProcessor, Action: plan.ActionIsolate, Instances: 1, For: plan.Duration(time.Hour)})
	const processor, other = "127.77.7.58", "127.77.7.59"
	for n, c := range resources.Servers() {
		w.relayed(t, c, fmt.Sprintf("127.77.7.%d", 51+n))
	}
	w.Pod(w.sim, resources.ComponentProcessor, at(processor))
	r, _ := w.lead()
	w.await(r, fault.Active)
	old := &corev1.PodList{}
	if err := w.Client.List(t.Context(), old, client.InNamespace(w.Namespace), client.MatchingLabels(resources.Selector(w.sim, resources.ComponentRedis))); err != nil {
		t.Fatal(err)
	}
	w.deletePod(t, &old.Items[0])
	redis := w.relayed(t, resources.ComponentRedis, "127.77.7.54")
	w.Eventually("the new Redis to reject the processor", func() error {
		if connects(t, processor, redis) {
			return errors.New("the new Redis accepts connections")
		}
		return nil
	})
	if !connects(t, other, redis) {
		t.Error("another client does not reach the new Redis")
	}
	w.await(r, fault.Active)
	suspended := *w.plan
	suspended.Suspended = true
	w.plan = &suspended
	r.Track(w.key(), w.target())
	w.await(r, fault.Aborted)
	if !connects(t, processor, redis) {
		t.Error("the processor is still cut off from the new Redis")
	}
}

// The server pods are replaced during an isolation. The new agents reject the command to isolate the processor, so the
// isolation ends early.
func TestRehearsals_AgentsOfReplacementPodsRejectTheIsolation_FaultIsAborted(t *testing.T) {
	w := newWorld(t)
	rejecting := http.HandlerFunc(func(response http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			http.Error(response, "no relay", http.StatusUnprocessableEntity)
			return
		}
		http.NotFound(response, r)
	})
	for n, c := range resources.Servers() {
		ip := fmt.Sprintf("127.77.7.%d", 51+n)
		w.Pod(w.sim, c, at(ip))
		w.handle(t, ip, rejecting)
	}
	pod := w.Pod(w.sim, resources.ComponentProcessor, at("127.77.7.58"))
	// 15 s are enough for the operator to send each agent at least one command.
	r := w.takeOver(t, active(record(plan.TargetProcessor, plan.ActionIsolate, 15*time.Second, pod), time.Now()))
	if got := w.await(r, fault.Aborted); !strings.Contains(got.Reason, "the isolated pods may still be able to reach the new pod") || !strings.Contains(got.Reason, "no relay") {
		t.Errorf("the reason is %q", got.Reason)
	}
}

// The budget allows one disruption at a time, as the operator's own budgets do. So the second pod is evicted only after
// the first pod has been replaced.
func TestRehearsals_EvictTwoPods_WaitsForTheBudget(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "evict", Target: plan.TargetProcessor, Action: plan.ActionEvict, Instances: 2})
	w.sim.Spec.Processor.Replicas = new(int32(2))
	one := intstr.FromInt32(1)
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "budget"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: &one, Selector: &metav1.LabelSelector{MatchLabels: resources.Selector(w.sim, resources.ComponentProcessor)},
		},
	}
	w.Create(budget)
	allow := func() {
		w.Eventually("the budget to allow a disruption", func() error {
			if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(budget), budget); err != nil {
				return err
			}
			budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation, DisruptionsAllowed: 1, CurrentHealthy: 2, DesiredHealthy: 1, ExpectedPods: 2}
			return w.Client.Status().Update(t.Context(), budget)
		})
	}
	first, second := w.processor(), w.processor()
	allow()
	r, _ := w.lead()
	w.Eventually("one pod to be evicted", func() error {
		pods := &corev1.PodList{}
		if err := w.Client.List(t.Context(), pods, client.InNamespace(w.Namespace)); err != nil {
			return err
		}
		if len(pods.Items) != 1 {
			return fmt.Errorf("%d pods run", len(pods.Items))
		}
		return nil
	})
	w.processor()
	allow()
	w.await(r, fault.Active)
	w.Gone(first)
	w.Gone(second)
}

// A missing pod must not change which of the other pods a fault hits.
func TestRehearsals_OnePodIsMissing_OtherPodsKeepTheirIndexes(t *testing.T) {
	f := plan.Fault{Name: "leader", Target: plan.TargetRabbitMQ, Action: plan.ActionRestart, Instances: 1}
	w := newWorld(t, f)
	w.sim.Spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Replicas: new(int32(3))}
	var want int
	for o := range fault.Occurrences(w.plan) {
		want = o.Pick(3)[0]
		break
	}
	var hit *corev1.Pod
	for _, index := range []int{want, (want + 1) % 3} {
		pod := w.Pod(w.sim, resources.ComponentRabbitMQ, ready(time.Now()))
		w.Edit(pod, func() { pod.Labels["apps.kubernetes.io/pod-index"] = fmt.Sprint(index) })
		if index == want {
			hit = pod
		}
	}
	r, _ := w.lead()
	if got := w.await(r, fault.Active); got.Hit[0] != hit.Name {
		t.Errorf("pod %v was hit, want %s", got.Hit, hit.Name)
	}
}

// A ConfigMap of the user has the name of the journal. The operator must neither change this ConfigMap nor inject a
// fault.
func TestRehearsalsErr_JournalNameIsTaken_ReturnsNameTakenError(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "restart", Target: plan.TargetProcessor, Action: plan.ActionRestart, Instances: 1})
	pod := w.processor()
	theirs := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: resources.FaultsName(w.sim)},
		Data:       map[string]string{"journal.json": `{"records":[]}`},
	}
	w.Create(theirs)
	r, _ := w.lead()
	w.Eventually("Err to return an error", func() error {
		if err := r.Err(w.key()); err == nil {
			return errors.New("the error is nil")
		}
		return nil
	})
	if _, taken := errors.AsType[*apply.NameTakenError](r.Err(w.key())); !taken {
		t.Errorf("the error is %v", r.Err(w.key()))
	}
	w.Exists(pod, pod.Name)
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs); err != nil || len(theirs.OwnerReferences) > 0 {
		t.Errorf("the ConfigMap is %+v, %v", theirs.ObjectMeta, err)
	}
}

// The operator removes records from a journal that is too large. It keeps records of failed or unmeasured faults, and
// counts the removed ones.
func TestRehearsals_LargeJournal_KeepsFailedFaultsAndCountsAll(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "restart", Target: plan.TargetProcessor, Action: plan.ActionRestart, Instances: 1})
	w.processor()
	var records []fault.Record
	size := 0
	for number := 0; size < 905<<10; number++ {
		r := fault.Record{
			Occurrence: fault.Occurrence{Fault: "old", Number: number}, State: fault.Healed, InjectedAt: time.Now(), HealedAt: time.Now(),
			Measured: &fault.Account{Fault: "old", Number: number, Outcome: fault.OutcomeRecovered},
		}
		switch number {
		case 0:
			r.State, r.Reason, r.Measured = fault.NotInjected, "it failed", nil
		case 1:
			r.Measured = nil
		case 2:
			r.Measured.Outcome = fault.OutcomeNotInjected
		}
		if number%50 == 0 {
			r.Hit = []string{strings.Repeat("p", 4000)}
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		size += len(text) + 1
		records = append(records, r)
	}
	w.leave(t, records...)
	first, stop := w.lead()
	w.Eventually("the fault to be injected", func() error {
		for _, r := range w.journal() {
			if r.Fault == "restart" && r.State == fault.Active {
				return nil
			}
		}
		return errors.New("the fault is not in effect")
	})
	for number, r := range w.journal()[:3] {
		if r.Number != number {
			t.Errorf("the record of occurrence %d was removed", number)
		}
	}
	kept, history := w.journalAndHistory()
	if removed := history.Occurrences(); removed == 0 || int64(len(kept))+removed != int64(len(records))+1 {
		t.Errorf("the journal has %d records, and its history counts %d, want a total of %d", len(kept), removed, len(records)+1)
	}
	for _, r := range kept {
		if r.Measured != nil && len(r.Hit)+r.Measured.HitOmitted != len(records[r.Number].Hit) {
			t.Errorf("the record of occurrence %d has %d instances with a name and %d without, want a total of %d", r.Number, len(r.Hit), r.Measured.HitOmitted, len(records[r.Number].Hit))
		}
	}
	if n := len(first.Settle(w.key(), fault.Run{})); n != len(records)+1 {
		t.Errorf("the first operator has %d accounts, want %d", n, len(records)+1)
	}
	stop()
	second, _ := w.lead()
	w.Eventually("the second operator to load the journal", func() error {
		loaded, ok := second.Records(w.key())
		history := second.History(w.key())
		if all := history.Occurrences() + int64(len(loaded)); !ok || all != int64(len(records))+1 {
			return fmt.Errorf("the second operator has %d occurrences, want %d", all, len(records)+1)
		}
		return nil
	})
}
