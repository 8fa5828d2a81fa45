package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// command makes agents inject the fault of an occurrence, which hits the given pods.
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

// isolated returns the addresses of the client pods that the agents of all servers must cut off. If the target
// of the isolation is a server, it returns none, because then all clients are cut off from that server.
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

// commanded returns the pods whose agents must inject the fault. Usually, these are the pods that the fault
// hits. But to isolate pods of clients, the agents of all servers must reject connections from these pods.
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

// agents returns a client that can reach the agents of the simulation.
func (i *injector) agents() (*agent.Client, error) {
	credentials := i.target().Agents
	return agent.NewClient(credentials.Token, []byte(credentials.Certificate))
}

func agentOf(pod *corev1.Pod) string {
	return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(resources.AgentPort))
}

// untilEnded waits until the agents have ended a fault. If ctx ends first, it tells them to end the fault.
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

// hasEnded reports whether a fault has ended in one pod, and when it ended.
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

// end tells the agent in one pod to end a fault early. It does so even if ctx has ended. It takes at most
// healTimeout.
func (i *injector) end(ctx context.Context, agents *agent.Client, o fault.Occurrence, key client.ObjectKey) (time.Time, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
	defer cancel()
	pod := &corev1.Pod{}
	if err := i.client.Get(ctx, key, pod); err != nil {
		return time.Now(), client.IgnoreNotFound(err)
	}
	return time.Now(), agents.Heal(ctx, agentOf(pod), o.ID())
}

// healTimeout is the timeout for ending a fault early.
const healTimeout = 5 * time.Second

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// injectedByAgents asks the agents whether they have injected an occurrence of a fault, and returns the pods
// that the fault has hit. If the fault isolates clients, the agents of the servers do not know the pods of
// these clients. In this case, injectedByAgents returns the pods that the fault would hit now.
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
	picked, _, err := i.pick(ctx, o)
	return namesOf(picked), at, err
}
