package rehearsal

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// healPoll is the interval between two checks whether a fault has ended.
const healPoll = 500 * time.Millisecond

// injector injects faults into the pods of one simulation. It implements fault.Injector and fault.Resumer.
type injector struct {
	client client.Client
	core   rest.Interface
	// target returns the current Target of the simulation. Rehearsals.Track may replace it.
	target func() Target
	// evidenceTimeout is how long it may take until the status of a pod shows that the pod was killed.
	evidenceTimeout time.Duration
}

// Inject implements fault.Injector.
func (i *injector) Inject(ctx context.Context, o fault.Occurrence) (fault.Injection, error) {
	pods, of, err := i.pick(ctx, o)
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
	return i.injection(ctx, o, namesOf(pods), of, at)
}

// wait waits for the time healPoll. It returns an error if ctx ends first.
func wait(ctx context.Context) error {
	select {
	case <-time.After(healPoll):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// injection returns the fault.Injection for a fault that is in effect in the pods in hit. of is the number of
// pods from which these were chosen. If a kill had no effect, injection returns an error.
func (i *injector) injection(ctx context.Context, o fault.Occurrence, hit []string, of int, at time.Time) (fault.Injection, error) {
	injection := fault.Injection{Hit: hit, Of: of, At: at}
	if o.Action == plan.ActionKill {
		if err := i.untilKilled(ctx, hit, at); err != nil {
			return fault.Injection{}, err
		}
	}
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

// Resume implements fault.Resumer. If the record does not say whether the fault was injected, Resume looks for
// traces of the fault. If it finds no trace, it injects the fault now.
func (i *injector) Resume(ctx context.Context, r fault.Record) (fault.Injection, error) {
	if r.State == fault.Active {
		return i.injection(ctx, r.Occurrence, r.Hit, r.Of, r.InjectedAt)
	}
	hit, of, at, err := i.traces(ctx, r.Occurrence)
	switch {
	case err != nil:
		return fault.Injection{}, err
	case len(hit) == 0:
		return i.Inject(ctx, r.Occurrence)
	}
	return i.injection(ctx, r.Occurrence, hit, of, at)
}

// traces returns the pods that show signs of having been hit by an occurrence of a fault. Agents know which
// faults they have injected. A pod that was deleted is still terminating, or is missing, or has been replaced
// by a pod that is younger than the occurrence.
func (i *injector) traces(ctx context.Context, o fault.Occurrence) (hit []string, of int, at time.Time, err error) {
	component := resources.ComponentOf(o.Target)
	pods, err := i.podsOf(ctx, component)
	if err != nil {
		return nil, 0, time.Time{}, err
	}
	of = i.target().replicas(component)
	if resources.NeedsAgent(o.Action) {
		hit, at, err = i.injectedByAgents(ctx, o, pods)
		return hit, of, at, err
	}
	due := i.target().Start.Add(o.At)
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil || pod.CreationTimestamp.After(due) {
			hit = append(hit, pod.Name)
		}
	}
	if len(hit) == 0 && len(pods) < of {
		hit = []string{"a pod of " + resources.Name(i.target().Simulation, component) + " that is gone"}
	}
	return hit, of, due, nil
}
