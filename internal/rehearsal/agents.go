package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// command makes agents inject a fault. It returns when the fault hit the first pod or, for a fault with a duration, was
// in effect in all pods.
func (i *injector) command(ctx context.Context, a attempt) (at time.Time, err error) {
	agents, err := i.agents()
	if err != nil {
		return time.Time{}, err
	}
	command := agent.Command{ID: a.ID(), Action: a.Action, For: a.For}
	if a.Action == plan.ActionIsolate {
		if command.From, err = i.isolated(ctx, a); err != nil {
			return time.Time{}, err
		}
	}
	commanded, err := i.commanded(ctx, a.Record)
	if err != nil {
		return time.Time{}, err
	}
	at, err = i.commandAll(ctx, agents, a, commanded, command)
	if err == nil && a.Action.Lasts() {
		err = i.verify(ctx, a, commanded)
	}
	// An agent that did not answer may have injected the fault. So end the fault in all pods, unless another operator
	// takes over.
	if err != nil && a.Action.Lasts() && !fault.IsHandedOver(ctx) {
		_, healErr := forEachPod(commanded, func(c *fault.Chosen) (time.Time, error) { return i.end(ctx, a.Record, c) })
		err = errors.Join(err, healErr)
	}
	return at, err
}

// commandAll sends a command to the agents in the given pods, one after the other. It returns when the fault hit the
// first pod or, for a fault with a duration, was in effect in all pods.
func (i *injector) commandAll(ctx context.Context, agents *agent.Client, a attempt, commanded []fault.Chosen, command agent.Command) (at time.Time, err error) {
	for n := range commanded {
		f, err := i.commandOne(ctx, agents, a, &commanded[n], command)
		if err != nil {
			return time.Time{}, partly(fault.Names(commanded[:n]), err)
		}
		if at.IsZero() || a.Action.Lasts() {
			at = slices.MaxFunc([]time.Time{at, f.At}, time.Time.Compare)
		}
		if !f.Healed.IsZero() {
			a.refusal = fmt.Errorf("the fault ended in pod %s before it was injected in all pods", commanded[n].Name)
		}
	}
	return at, nil
}

// commandOne makes the agent in one pod inject a fault, unless the agent has already injected the fault. It returns the
// state of the fault in this pod.
func (i *injector) commandOne(ctx context.Context, agents *agent.Client, a attempt, c *fault.Chosen, command agent.Command) (agent.Fault, error) {
	pod, err := i.podOf(ctx, c)
	if err != nil {
		return agent.Fault{}, err
	}
	if a.resumed {
		f, err := agents.Fault(ctx, agentOf(pod), command.ID)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, agent.ErrUnknown):
			return agent.Fault{}, fmt.Errorf("pod %s: %w", c.Name, err)
		case a.Action == plan.ActionKill && isKilled(pod, c): // the agent forgot the fault, because the kill restarted the agent, too
			return agent.Fault{At: a.ChosenAt}, nil
		case a.refusal != nil:
			return agent.Fault{}, a.refusal
		}
	}
	for {
		f, err := agents.Inject(ctx, agentOf(pod), command)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, agent.ErrBusy) || wait(ctx) != nil:
			return agent.Fault{}, fmt.Errorf("pod %s: %w", c.Name, err)
		}
	}
}

// isolated returns the addresses of the clients that an isolation cuts off. Nil means all clients.
func (i *injector) isolated(ctx context.Context, a attempt) ([]netip.Addr, error) {
	spec := &i.target().Simulation.Spec
	component := resources.ComponentOf(a.Target)
	if slices.Contains(resources.Servers(), component) {
		if component == resources.ComponentRabbitMQ && i.target().replicas(component) > 1 {
			return nil, errors.New("the operator cannot cut the connections between RabbitMQ nodes: use one node, or the action Pause")
		}
		return nil, nil
	}
	if spec.RabbitMQ.ManagedOrDefault() == nil || spec.Redis.ManagedOrDefault() == nil || spec.SummaryAPI.ManagedOrDefault() == nil {
		return nil, fmt.Errorf("%s cannot be isolated from a server that the operator does not run", a.Target)
	}
	var addresses []netip.Addr
	for n := range a.Chosen {
		pod, err := i.podOf(ctx, &a.Chosen[n])
		if err != nil {
			return nil, err
		}
		address, err := netip.ParseAddr(pod.Status.PodIP)
		if err != nil {
			return nil, fmt.Errorf("parse the address of pod %s: %w", pod.Name, err)
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

// commanded returns the pods whose agents inject the fault. For an isolation of clients, these are all servers.
func (i *injector) commanded(ctx context.Context, r fault.Record) ([]fault.Chosen, error) {
	if hitsItself(&r) {
		return r.Chosen, nil
	}
	var commanded []fault.Chosen
	for _, c := range resources.Servers() {
		pods, err := i.podsOf(ctx, c)
		if err != nil {
			return nil, err
		}
		for _, pod := range pods {
			commanded = append(commanded, chosen(pod))
		}
	}
	return commanded, nil
}

// hitsItself reports whether the agents in the hit pods inject the fault. For an isolation of clients, the agents of
// the servers inject it.
func hitsItself(r *fault.Record) bool {
	return r.Action != plan.ActionIsolate || slices.Contains(resources.Servers(), resources.ComponentOf(r.Target))
}

// agents returns a client for the agents of the simulation. It reuses the client until the credentials change.
func (i *injector) agents() (*agent.Client, error) {
	credentials := i.target().Agents
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.reached != nil && i.credentials == credentials {
		return i.reached, nil
	}
	reached, err := agent.NewClient(credentials.Token, []byte(credentials.Certificate), i.timeouts.Agent)
	if err != nil {
		return nil, err
	}
	i.reached, i.credentials = reached, credentials
	return reached, nil
}

func agentOf(pod *corev1.Pod) string {
	return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(resources.AgentPort))
}

// untilEnded returns when the last agent ended a fault. Agents end the fault by themselves at plannedEnd. If ctx ends
// first, untilEnded ends the fault, unless another operator takes over.
func (i *injector) untilEnded(ctx context.Context, r fault.Record, plannedEnd time.Time) (time.Time, error) {
	commanded, err := i.commanded(context.WithoutCancel(ctx), r)
	for ; err != nil; commanded, err = i.commanded(context.WithoutCancel(ctx), r) {
		if wait(ctx) != nil {
			return plannedEnd, err
		}
	}
	cutting, stop := context.WithCancel(ctx)
	var kept sync.WaitGroup
	var uncut error
	if !hitsItself(&r) {
		kept.Go(func() { uncut = i.keepCut(cutting, r, commanded, plannedEnd) })
	}
	at, err := forEachPod(commanded, func(c *fault.Chosen) (time.Time, error) {
		for {
			if at, ended, err := i.hasEnded(ctx, r, c, plannedEnd); ended {
				return at, err
			}
			if wait(ctx) == nil {
				continue
			}
			if fault.IsHandedOver(ctx) {
				return time.Time{}, fault.ErrHandedOver
			}
			return i.end(ctx, r, c)
		}
	})
	stop()
	kept.Wait()
	err = errors.Join(err, uncut)
	if err == nil && ctx.Err() == nil && !hitsItself(&r) && i.cutNothing(ctx, &r, commanded) {
		err = fmt.Errorf("%w: the relays in front of the servers saw no connection from the isolated pods", fault.ErrNoEffect)
	}
	return at, err
}

// keepCut keeps an isolation of clients in effect even if server pods are replaced. It returns an error if clients
// might still reach a server at the last check.
func (i *injector) keepCut(ctx context.Context, r fault.Record, commanded []fault.Chosen, until time.Time) (uncut error) {
	cut := map[string]fault.Chosen{}
	for wait(ctx) == nil && time.Now().Before(until) {
		servers, err := i.commanded(ctx, r)
		if err != nil {
			continue
		}
		var failures []error
		for _, server := range servers {
			isCommanded := slices.ContainsFunc(commanded, func(c fault.Chosen) bool { return c.ID == server.ID })
			again, err := i.ensureCut(ctx, r, &server, isCommanded, until)
			if again {
				cut[server.ID] = server
			}
			failures = append(failures, err)
		}
		// Agents may end the isolation up to earlyTolerance early.
		if ctx.Err() == nil && time.Until(until) > earlyTolerance {
			uncut = errors.Join(failures...)
		}
	}
	if fault.IsHandedOver(ctx) {
		return uncut
	}
	for _, c := range cut {
		_, _ = i.end(ctx, r, &c) // if this call fails, the timer of the agent ends the fault
	}
	return uncut
}

// ensureCut makes sure that a server rejects the isolated clients, or returns an error. The first result says whether
// it sent the agent a command.
func (i *injector) ensureCut(ctx context.Context, r fault.Record, server *fault.Chosen, isCommanded bool, until time.Time) (again bool, err error) {
	pod, err := i.podOf(ctx, server)
	if errors.Is(err, errReplaced) {
		return false, nil // the pod is gone, so no client can reach it
	}
	if err != nil {
		return false, err
	}
	_, err = i.ask(ctx, pod, r.ID())
	switch {
	case errors.Is(err, agent.ErrUnknown):
		again, err = true, i.cutAgain(ctx, r, pod, until)
	case isCommanded, !resources.IsReady(pod):
		return false, nil // the isolated clients cannot connect: the agent rejects them, or the pod is not ready yet
	}
	if err != nil && !errors.Is(err, errReplaced) {
		return again, fmt.Errorf("the isolated pods may still be able to reach the new pod %s: %w", pod.Name, err)
	}
	return again, nil
}

// cutAgain commands an agent to reject the isolated clients until the given time.
func (i *injector) cutAgain(ctx context.Context, r fault.Record, pod *corev1.Pod, until time.Time) error {
	agents, err := i.agents()
	if err != nil {
		return err
	}
	from, err := i.isolated(ctx, attempt{Record: r})
	if err != nil {
		return err
	}
	_, err = agents.Inject(ctx, agentOf(pod), agent.Command{ID: r.ID(), Action: r.Action, For: time.Until(until), From: from})
	return err
}

// forEachPod calls f for all pods at the same time. It returns the latest time and all errors.
func forEachPod(pods []fault.Chosen, f func(*fault.Chosen) (time.Time, error)) (last time.Time, err error) {
	times, errs := make([]time.Time, len(pods)), make([]error, len(pods))
	var calls sync.WaitGroup
	for n := range pods {
		calls.Go(func() { times[n], errs[n] = f(&pods[n]) })
	}
	calls.Wait()
	for _, at := range times {
		last = slices.MaxFunc([]time.Time{last, at}, time.Time.Compare)
	}
	return last, errors.Join(errs...)
}

// hasEnded reports whether and when a fault has ended in one pod. The agent ends the fault by itself at the time
// plannedEnd. An earlier end is an error.
func (i *injector) hasEnded(ctx context.Context, r fault.Record, c *fault.Chosen, plannedEnd time.Time) (at time.Time, ended bool, err error) {
	pod, err := i.podOf(ctx, c)
	var f agent.Fault
	if err == nil {
		f, err = i.ask(ctx, pod, r.ID())
	}
	now := time.Now()
	switch {
	case err == nil && !f.Healed.IsZero():
		return f.Healed, true, early(c, f.Healed.Sub(f.At), r.For)
	case err == nil && r.Action == plan.ActionPause && c.Processes != "" && processesOf(pod) != c.Processes:
		return now, true, fmt.Errorf("a container of pod %s was restarted during the pause, probably because its liveness probe failed", c.Name)
	case err == nil:
		return time.Time{}, false, nil
	case errors.Is(err, agent.ErrUnknown), errors.Is(err, errReplaced): // the agent that injected the fault has stopped
		if !hitsItself(&r) {
			// The isolation lasts until the planned end, because keepCut repeats it with the new agent of the server.
			return plannedEnd, now.After(plannedEnd), nil
		}
		// The fault ended when its agent stopped, at an unknown time. Use the latest possible time: the planned end or,
		// before that, the current time.
		at := slices.MinFunc([]time.Time{now, plannedEnd}, time.Time.Compare)
		return at, true, early(c, at.Sub(plannedEnd.Add(-r.For)), r.For)
	}
	// If the agent does not answer, the fault counts as ended at its planned end. Report the end only when
	// Timeouts.Evidence has passed since the planned end, because the agent may still answer.
	return plannedEnd, now.After(plannedEnd.Add(i.timeouts.Evidence)), nil
}

func early(c *fault.Chosen, lasted, want time.Duration) error {
	if lasted >= want-earlyTolerance {
		return nil
	}
	return fmt.Errorf("the fault ended in pod %s after %s instead of %s, probably because its agent was stopped", c.Name, lasted.Round(10*time.Millisecond), field.Duration(want))
}

// earlyTolerance is how much earlier than planned a fault may end. The tolerance is needed because clocks differ.
const earlyTolerance = time.Second

func (i *injector) ask(ctx context.Context, pod *corev1.Pod, id string) (agent.Fault, error) {
	agents, err := i.agents()
	if err != nil {
		return agent.Fault{}, err
	}
	return agents.Fault(ctx, agentOf(pod), id)
}

// end tells the agent in one pod to end a fault early, even if ctx has ended. It takes at most healTimeout.
func (i *injector) end(ctx context.Context, r fault.Record, c *fault.Chosen) (time.Time, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
	defer cancel()
	agents, err := i.agents()
	if err != nil {
		return time.Now(), err
	}
	pod, err := i.podOf(ctx, c)
	if err == nil {
		err = agents.Heal(ctx, agentOf(pod), r.ID())
	}
	if errors.Is(err, errReplaced) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("end the fault in pod %s: %w", c.Name, err)
	}
	return time.Now(), err
}

const healTimeout = 5 * time.Second
