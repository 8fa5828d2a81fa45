package rehearsal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// healPoll is the interval at which the pods of a fault are observed until they run again.
const healPoll = 500 * time.Millisecond

// injector injects faults into the pods of one simulation. It implements fault.Injector and fault.Resumer.
type injector struct {
	client client.Client
	core   rest.Interface
	// target returns the simulation as it was last tracked.
	target func() Target
}

// Inject implements fault.Injector.
func (i *injector) Inject(ctx context.Context, o fault.Occurrence) (fault.Injection, error) {
	pods, err := i.pick(ctx, o)
	if err != nil {
		return fault.Injection{}, err
	}
	var at time.Time
	switch o.Action {
	case plan.ActionKill, plan.ActionPause, plan.ActionIsolate:
		at, err = i.command(ctx, o, pods)
	case plan.ActionRestart:
		at, err = each(ctx, pods, i.delete)
	case plan.ActionEvict:
		at, err = each(ctx, pods, i.evict)
	default:
		err = fmt.Errorf("the operator cannot inject %s", o.Action)
	}
	if err != nil {
		return fault.Injection{}, err
	}
	return i.injection(ctx, o, namesOf(pods), at)
}

// each hits pods one after the other. It returns when the last one was hit.
func each(ctx context.Context, pods []*corev1.Pod, hit func(context.Context, *corev1.Pod) (time.Time, error)) (at time.Time, err error) {
	for n, pod := range pods {
		if at, err = hit(ctx, pod); err == nil {
			continue
		}
		if n > 0 {
			err = fmt.Errorf("only %v was hit: %w", namesOf(pods[:n]), err)
		}
		return time.Time{}, err
	}
	return at, nil
}

// pick returns the running pods that an occurrence hits. Instances are numbered by the age of their pods, because the
// names of pods of a Deployment are random.
func (i *injector) pick(ctx context.Context, o fault.Occurrence) ([]*corev1.Pod, error) {
	component := resources.ComponentOf(o.Target)
	pods, err := i.podsOf(ctx, component)
	if err != nil {
		return nil, err
	}
	pods = slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil })
	if len(pods) == 0 {
		return nil, fmt.Errorf("no pod of %s was running", o.Target)
	}
	if o.Target == plan.TargetRabbitMQLeader {
		leader, err := leaderOf(ctx, pods)
		return []*corev1.Pod{leader}, err
	}
	byName := map[string]*corev1.Pod{}
	var names []string
	for n, pod := range pods {
		name := fmt.Sprintf("%s-%d", component, n)
		byName[name] = pod
		names = append(names, name)
	}
	var picked []*corev1.Pod
	for _, name := range o.Pick(names) {
		picked = append(picked, byName[name])
	}
	return picked, nil
}

// podsOf returns the pods of a component, the oldest first.
func (i *injector) podsOf(ctx context.Context, c resources.Component) ([]*corev1.Pod, error) {
	sim := i.target().Simulation
	list := &corev1.PodList{}
	if err := i.client.List(ctx, list, client.InNamespace(sim.Namespace), client.MatchingLabels(resources.Selector(sim, c))); err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", c, err)
	}
	var pods []*corev1.Pod
	for n := range list.Items {
		if isMade(&list.Items[n], resources.Name(sim, c)) {
			pods = append(pods, &list.Items[n])
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return pods, nil
}

// isMade reports whether a pod belongs to the workload with a name. Anyone who may create pods can give them the labels
// of a simulation.
func isMade(pod *corev1.Pod, workload string) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return false
	}
	switch owner.Kind {
	case "StatefulSet":
		return owner.Name == workload
	case "ReplicaSet":
		return owner.Name == workload+"-"+pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	}
	return false
}

// command has agents inject an occurrence.
func (i *injector) command(ctx context.Context, o fault.Occurrence, pods []*corev1.Pod) (time.Time, error) {
	agents, err := i.agents()
	if err != nil {
		return time.Time{}, err
	}
	command := agent.Command{ID: o.ID(), Action: o.Action, For: o.For}
	if o.Action == plan.ActionIsolate {
		if command.From, err = i.isolated(o, pods); err != nil {
			return time.Time{}, err
		}
	}
	commanded, err := i.commanded(ctx, o, namesOf(pods))
	if err != nil {
		return time.Time{}, err
	}
	return each(ctx, commanded, func(ctx context.Context, pod *corev1.Pod) (time.Time, error) {
		for {
			f, err := agents.Inject(ctx, agentOf(pod), command)
			switch {
			case err == nil:
				return f.At, nil
			case !errors.Is(err, agent.ErrBusy) || wait(ctx) != nil:
				return time.Time{}, fmt.Errorf("pod %s: %w", pod.Name, err)
			}
		}
	})
}

// isolated returns the addresses of clients that an isolation cuts off from all servers; none if it cuts off servers from
// all clients.
func (i *injector) isolated(o fault.Occurrence, pods []*corev1.Pod) ([]netip.Addr, error) {
	spec := &i.target().Simulation.Spec
	component := resources.ComponentOf(o.Target)
	if slices.Contains(resources.Servers(), component) {
		if component == resources.ComponentRabbitMQ && i.target().replicas(component) > 1 {
			return nil, errors.New("the operator cannot cut the connections between RabbitMQ nodes: use one node, or Pause")
		}
		return nil, nil
	}
	if spec.RabbitMQ.ManagedOrDefault() == nil || spec.Redis.ManagedOrDefault() == nil || spec.SummaryAPI.ManagedOrDefault() == nil {
		return nil, fmt.Errorf("%s cannot be isolated from a server that the operator does not run", o.Target)
	}
	var addresses []netip.Addr
	for _, pod := range pods {
		address, err := netip.ParseAddr(pod.Status.PodIP)
		if err != nil {
			return nil, fmt.Errorf("the address of pod %s: %w", pod.Name, err)
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

// commanded returns the pods whose agents inject an occurrence that hits the named pods: those pods, or all servers if
// clients are isolated.
func (i *injector) commanded(ctx context.Context, o fault.Occurrence, hit []string) ([]*corev1.Pod, error) {
	component := resources.ComponentOf(o.Target)
	components, all := []resources.Component{component}, false
	if o.Action == plan.ActionIsolate && !slices.Contains(resources.Servers(), component) {
		components, all = resources.Servers(), true
	}
	var commanded []*corev1.Pod
	for _, c := range components {
		pods, err := i.podsOf(ctx, c)
		if err != nil {
			return nil, err
		}
		commanded = append(commanded, slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return !all && !slices.Contains(hit, p.Name) })...)
	}
	return commanded, nil
}

// wait waits until it is time to ask again, or until ctx ends.
func wait(ctx context.Context) error {
	select {
	case <-time.After(healPoll):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// delete deletes a pod, which stops its processes gracefully.
func (i *injector) delete(ctx context.Context, pod *corev1.Pod) (time.Time, error) {
	uid := pod.UID
	if err := i.client.Delete(ctx, pod, client.Preconditions{UID: &uid}); err != nil {
		return time.Time{}, fmt.Errorf("delete pod %s: %w", pod.Name, err)
	}
	return time.Now(), nil
}

// evict deletes a pod if no disruption budget forbids it.
func (i *injector) evict(ctx context.Context, pod *corev1.Pod) (time.Time, error) {
	uid := pod.UID
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
	}
	// A client would otherwise repeat what a budget forbids for minutes.
	err := i.core.Post().MaxRetries(0).Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("eviction").
		Body(eviction).Do(ctx).Error()
	switch {
	case apierrors.IsTooManyRequests(err):
		return time.Time{}, fmt.Errorf("a disruption budget forbids the eviction of pod %s: %w", pod.Name, err)
	case err != nil:
		return time.Time{}, fmt.Errorf("evict pod %s: %w", pod.Name, err)
	}
	return time.Now(), nil
}

// agents returns a client of the agents.
func (i *injector) agents() (*agent.Client, error) {
	credentials := i.target().Agents
	return agent.NewClient(credentials.Token, []byte(credentials.Certificate))
}

func agentOf(pod *corev1.Pod) string {
	return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(resources.AgentPort))
}

func namesOf(pods []*corev1.Pod) []string {
	names := make([]string, len(pods))
	for n, pod := range pods {
		names[n] = pod.Name
	}
	return names
}

// injection returns a fault in effect in the named pods.
func (i *injector) injection(ctx context.Context, o fault.Occurrence, hit []string, at time.Time) (fault.Injection, error) {
	injection := fault.Injection{Hit: hit, At: at}
	if !o.Action.Lasts() {
		injection.Healed = func(ctx context.Context) (time.Time, error) { return i.untilReady(ctx, o, hit, at) }
		return injection, nil
	}
	commanded, err := i.commanded(ctx, o, hit)
	if err != nil {
		return injection, err
	}
	injection.Healed = func(ctx context.Context) (time.Time, error) { return i.untilEnded(ctx, o, commanded) }
	return injection, nil
}

// untilReady waits until all pods that were hit have been replaced or started again, and the component has as many ready
// pods as it should.
func (i *injector) untilReady(ctx context.Context, o fault.Occurrence, hit []string, at time.Time) (time.Time, error) {
	component := resources.ComponentOf(o.Target)
	for {
		pods, err := i.podsOf(ctx, component)
		if err == nil && isHealed(pods, hit, at, i.target().replicas(component)) {
			return time.Now(), nil
		}
		if err := wait(ctx); err != nil {
			return time.Time{}, err
		}
	}
}

// isHealed reports whether at least want pods are ready, and none of them is as it was before a fault.
func isHealed(pods []*corev1.Pod, hit []string, at time.Time, want int) bool {
	at = at.Truncate(time.Second) // as the times in a status
	ready := 0
	for _, pod := range pods {
		switch {
		case pod.DeletionTimestamp != nil:
			continue
		case slices.Contains(hit, pod.Name) && !restarted(pod, at):
			return false
		case isReady(pod):
			ready++
		}
	}
	return ready >= want
}

// restarted reports whether a container of a pod has started since.
func restarted(pod *corev1.Pod, since time.Time) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil && !s.State.Running.StartedAt.Time.Before(since)
	})
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// untilEnded waits until the agents have ended a fault. If ctx ends first, it tells them to end it.
func (i *injector) untilEnded(ctx context.Context, o fault.Occurrence, commanded []*corev1.Pod) (last time.Time, err error) {
	agents, err := i.agents()
	if err != nil {
		return time.Time{}, err
	}
	for _, pod := range commanded {
		at, err := i.untilEndedIn(ctx, agents, o, client.ObjectKeyFromObject(pod))
		if err != nil {
			return time.Time{}, err
		}
		last = latest(last, at)
	}
	return last, nil
}

func (i *injector) untilEndedIn(ctx context.Context, agents *agent.Client, o fault.Occurrence, key client.ObjectKey) (time.Time, error) {
	for {
		if at, ended := i.hasEnded(ctx, agents, o, key); ended {
			return at, nil
		}
		if wait(ctx) == nil {
			continue
		}
		if errors.Is(context.Cause(ctx), fault.ErrHandedOver) {
			return time.Time{}, fault.ErrHandedOver
		}
		return i.end(ctx, agents, o, key)
	}
}

// hasEnded reports whether a fault is not in effect any more in a pod, and since when.
func (i *injector) hasEnded(ctx context.Context, agents *agent.Client, o fault.Occurrence, key client.ObjectKey) (time.Time, bool) {
	pod := &corev1.Pod{}
	switch err := i.client.Get(ctx, key, pod); {
	case apierrors.IsNotFound(err):
		return time.Now(), true
	case err != nil:
		return time.Time{}, false
	}
	f, err := agents.Fault(ctx, agentOf(pod), o.ID())
	if errors.Is(err, agent.ErrUnknown) { // faults end with their agent
		return time.Now(), true
	}
	return f.Healed, err == nil && !f.Healed.IsZero()
}

// end ends a fault early, although ctx has ended.
func (i *injector) end(ctx context.Context, agents *agent.Client, o fault.Occurrence, key client.ObjectKey) (time.Time, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
	defer cancel()
	pod := &corev1.Pod{}
	if err := i.client.Get(ctx, key, pod); err != nil {
		return time.Now(), client.IgnoreNotFound(err)
	}
	return time.Now(), agents.Heal(ctx, agentOf(pod), o.ID())
}

// healTimeout bounds how long the early end of a fault may take.
const healTimeout = 5 * time.Second

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Resume implements fault.Resumer. A fault that may not have been injected is injected now, unless a trace of it shows.
func (i *injector) Resume(ctx context.Context, r fault.Record) (fault.Injection, error) {
	if r.State == fault.Active {
		return i.injection(ctx, r.Occurrence, r.Hit, r.InjectedAt)
	}
	hit, at, err := i.traces(ctx, r.Occurrence)
	switch {
	case err != nil:
		return fault.Injection{}, err
	case len(hit) == 0:
		return i.Inject(ctx, r.Occurrence)
	}
	return i.injection(ctx, r.Occurrence, hit, at)
}

// traces returns the pods that an occurrence has hit, as far as that can be seen: agents know what they have injected,
// and deleted pods are terminating or have successors that are younger than the occurrence.
func (i *injector) traces(ctx context.Context, o fault.Occurrence) (hit []string, at time.Time, err error) {
	pods, err := i.podsOf(ctx, resources.ComponentOf(o.Target))
	if err != nil {
		return nil, time.Time{}, err
	}
	if resources.NeedsAgent(o.Action) {
		return i.injectedByAgents(ctx, o, pods)
	}
	due := i.target().Start.Add(o.At)
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil || pod.CreationTimestamp.After(due) {
			hit = append(hit, pod.Name)
		}
	}
	return hit, due, nil
}

// injectedByAgents asks the agents that would inject an occurrence whether they have. If clients are isolated, it is
// assumed that those clients are hit that would be hit now.
func (i *injector) injectedByAgents(ctx context.Context, o fault.Occurrence, pods []*corev1.Pod) (hit []string, at time.Time, err error) {
	agents, err := i.agents()
	if err != nil {
		return nil, time.Time{}, err
	}
	commanded, err := i.commanded(ctx, o, namesOf(pods))
	if err != nil {
		return nil, time.Time{}, err
	}
	for _, pod := range commanded {
		f, err := agents.Fault(ctx, agentOf(pod), o.ID())
		if err == nil {
			hit, at = append(hit, pod.Name), latest(at, f.At)
		}
	}
	if len(hit) == 0 || slices.Contains(namesOf(pods), hit[0]) {
		return hit, at, nil
	}
	picked, err := i.pick(ctx, o)
	return namesOf(picked), at, err
}
