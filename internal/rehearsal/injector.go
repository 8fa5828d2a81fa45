package rehearsal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
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
	inject, err := i.action(o)
	if err != nil {
		return fault.Injection{}, err
	}
	at := time.Now()
	for n, pod := range pods {
		hitAt, err := inject(ctx, pod)
		if err != nil {
			return fault.Injection{}, fmt.Errorf("%s%w", alreadyHit(pods[:n]), err)
		}
		at = hitAt
	}
	return i.injection(o, namesOf(pods), at), nil
}

// alreadyHit begins the message about a fault that was injected in part.
func alreadyHit(pods []*corev1.Pod) string {
	if len(pods) == 0 {
		return ""
	}
	return fmt.Sprintf("only %v was hit: ", namesOf(pods))
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

// action returns the function that hits one pod. It returns when the fault took effect.
func (i *injector) action(o fault.Occurrence) (func(context.Context, *corev1.Pod) (time.Time, error), error) {
	switch o.Action {
	case plan.ActionKill, plan.ActionPause:
		agents, err := i.agents()
		if err != nil {
			return nil, err
		}
		command := agent.Command{ID: o.ID(), Action: o.Action, For: o.For}
		return func(ctx context.Context, pod *corev1.Pod) (time.Time, error) {
			f, err := agents.Inject(ctx, agentOf(pod), command)
			if err != nil {
				return time.Time{}, fmt.Errorf("pod %s: %w", pod.Name, err)
			}
			return f.At, nil
		}, nil
	case plan.ActionRestart:
		return i.delete, nil
	case plan.ActionEvict:
		return i.evict, nil
	}
	return nil, fmt.Errorf("the operator cannot inject %s into pods", o.Action)
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
func (i *injector) injection(o fault.Occurrence, hit []string, at time.Time) fault.Injection {
	healed := func(ctx context.Context) (time.Time, error) { return i.untilReady(ctx, o, hit, at) }
	if o.Action == plan.ActionPause {
		healed = func(ctx context.Context) (time.Time, error) { return i.untilResumed(ctx, o, hit) }
	}
	return fault.Injection{Hit: hit, At: at, Healed: healed}
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
		select {
		case <-time.After(healPoll):
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
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
		case slices.Contains(hit, pod.Name) && pod.CreationTimestamp.Time.Before(at) && !restarted(pod, at):
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

// untilResumed waits until the agents have ended a pause. If ctx ends first, it tells them to end it.
func (i *injector) untilResumed(ctx context.Context, o fault.Occurrence, hit []string) (time.Time, error) {
	agents, err := i.agents()
	if err != nil {
		return time.Time{}, err
	}
	var last time.Time
	for _, name := range hit {
		at, err := i.untilPodResumed(ctx, agents, o, name)
		if err != nil {
			return time.Time{}, err
		}
		last = latest(last, at)
	}
	return last, nil
}

func (i *injector) untilPodResumed(ctx context.Context, agents *agent.Client, o fault.Occurrence, name string) (time.Time, error) {
	key := client.ObjectKey{Namespace: i.target().Simulation.Namespace, Name: name}
	for {
		if at, resumed := i.isResumed(ctx, agents, o, key); resumed {
			return at, nil
		}
		select {
		case <-time.After(healPoll):
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), fault.ErrHandedOver) {
				return time.Time{}, fault.ErrHandedOver
			}
			return i.resume(ctx, agents, o, key)
		}
	}
}

// isResumed reports whether a pod is not paused any more, and since when.
func (i *injector) isResumed(ctx context.Context, agents *agent.Client, o fault.Occurrence, key client.ObjectKey) (time.Time, bool) {
	pod := &corev1.Pod{}
	switch err := i.client.Get(ctx, key, pod); {
	case apierrors.IsNotFound(err):
		return time.Now(), true
	case err != nil:
		return time.Time{}, false
	}
	f, err := agents.Fault(ctx, agentOf(pod), o.ID())
	if errors.Is(err, agent.ErrUnknown) { // a new agent has resumed its target when it started
		return time.Now(), true
	}
	return f.Healed, err == nil && !f.Healed.IsZero()
}

// resume ends a pause early, although ctx has ended.
func (i *injector) resume(ctx context.Context, agents *agent.Client, o fault.Occurrence, key client.ObjectKey) (time.Time, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
	defer cancel()
	pod := &corev1.Pod{}
	if err := i.client.Get(ctx, key, pod); err != nil {
		return time.Now(), client.IgnoreNotFound(err)
	}
	return time.Now(), agents.Heal(ctx, agentOf(pod), o.ID())
}

// healTimeout bounds how long the end of a pause may take when a simulation ends.
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
		return i.injection(r.Occurrence, r.Hit, r.InjectedAt), nil
	}
	hit, at, err := i.traces(ctx, r.Occurrence)
	switch {
	case err != nil:
		return fault.Injection{}, err
	case len(hit) == 0:
		return i.Inject(ctx, r.Occurrence)
	}
	return i.injection(r.Occurrence, hit, at), nil
}

// traces returns the pods that an occurrence has hit, as far as that can be seen: agents know what they have injected,
// and deleted pods are terminating or have successors that are younger than the occurrence.
func (i *injector) traces(ctx context.Context, o fault.Occurrence) (hit []string, at time.Time, err error) {
	pods, err := i.podsOf(ctx, resources.ComponentOf(o.Target))
	if err != nil {
		return nil, time.Time{}, err
	}
	due := i.target().Start.Add(o.At)
	if !resources.NeedsAgent(o.Action) {
		for _, pod := range pods {
			if pod.DeletionTimestamp != nil || pod.CreationTimestamp.After(due) {
				hit = append(hit, pod.Name)
			}
		}
		return hit, due, nil
	}
	agents, err := i.agents()
	if err != nil {
		return nil, time.Time{}, err
	}
	for _, pod := range pods {
		f, err := agents.Fault(ctx, agentOf(pod), o.ID())
		if err == nil {
			hit, at = append(hit, pod.Name), latest(at, f.At)
		}
	}
	return hit, at, nil
}
