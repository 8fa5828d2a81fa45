package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// healPoll is the interval at which the injector checks whether a fault has ended, and at which it retries an
// injection.
const healPoll = 500 * time.Millisecond

// injector injects faults into the pods of one simulation. It implements fault.Resumer.
type injector struct {
	client client.Client
	core   rest.Interface
	// The field pods sends HTTP requests to pods, to check whether a fault has an effect, and to ask RabbitMQ nodes
	// which queues they lead.
	pods *podhttp.Client
	// clientPort returns the port at which the pods of a component answer clients.
	clientPort func(*plan.Plan, resources.Component) int32
	// target returns the current Target of the simulation. records returns the current records of its faults.
	target   func() Target
	records  func() []fault.Record
	timeouts Timeouts

	mu sync.Mutex
	// reached is the client for the agents of the simulation, or nil before the first request.
	reached *agent.Client
	// credentials are the credentials of the client in reached.
	credentials resources.AgentCredentials
}

// Inject implements fault.Injector.
func (i *injector) Inject(ctx context.Context, r fault.Record) (fault.Injection, error) {
	return i.inject(ctx, attempt{Record: r})
}

// Resume implements fault.Resumer.
func (i *injector) Resume(ctx context.Context, r fault.Record, late bool) (fault.Injection, error) {
	if r.State == fault.Active {
		return i.injection(r, r.InjectedAt), nil
	}
	a := attempt{Record: r, resumed: true}
	if late {
		a.refusal = errLate
	}
	return i.inject(ctx, a)
}

type attempt struct {
	fault.Record

	// resumed is true if an earlier process of the operator may already have injected the fault into some of the pods.
	resumed bool
	// refusal says why the fault must not hit further pods. It is nil if the fault may hit further pods.
	refusal error
}

var errLate = errors.New("the operator was not running when the fault was due")

func (i *injector) inject(ctx context.Context, a attempt) (fault.Injection, error) {
	var at time.Time
	var err error
	switch a.Action {
	case plan.ActionKill, plan.ActionPause, plan.ActionIsolate:
		at, err = i.command(ctx, a)
	case plan.ActionRestart, plan.ActionEvict:
		at, err = i.remove(ctx, a)
	default:
		err = fmt.Errorf("the operator cannot inject %s", a.Action)
	}
	if err == nil && a.Action == plan.ActionKill {
		err = i.untilKilled(ctx, a.Chosen)
	}
	if err != nil {
		return fault.Injection{}, err
	}
	return i.injection(a.Record, at), nil
}

// remove deletes or evicts the chosen pods, and returns when it hit the first pod. If an earlier process hit this pod,
// the time is unknown, so remove returns when the pods were chosen.
func (i *injector) remove(ctx context.Context, a attempt) (first time.Time, err error) {
	var hit []string
	for n := range a.Chosen {
		pod := &a.Chosen[n]
		at := a.ChosenAt
		if !a.resumed || !i.isGone(ctx, pod) {
			if at, err = i.removeOne(ctx, a, pod, n > 0); err != nil {
				return time.Time{}, partly(hit, err)
			}
		}
		hit = append(hit, pod.Name)
		if first.IsZero() {
			first = at
		}
	}
	return first, nil
}

func (i *injector) removeOne(ctx context.Context, a attempt, pod *fault.Chosen, further bool) (time.Time, error) {
	switch {
	case a.refusal != nil:
		return time.Time{}, a.refusal
	case a.Action == plan.ActionEvict && further:
		return i.evictFurther(ctx, pod)
	case a.Action == plan.ActionEvict:
		return i.evict(ctx, pod)
	}
	return i.delete(ctx, pod)
}

// partly wraps an error that occurred after some pods had been hit. The new error names these pods.
func partly(hit []string, err error) error {
	if len(hit) == 0 {
		return err
	}
	return fmt.Errorf("only pods %v were hit: %w", hit, err)
}

// isGone reports whether a chosen pod is terminating, missing or replaced.
func (i *injector) isGone(ctx context.Context, c *fault.Chosen) bool {
	pod, err := i.podOf(ctx, c)
	return errors.Is(err, errReplaced) || err == nil && pod.DeletionTimestamp != nil
}

var errReplaced = errors.New("the pod was deleted or replaced")

// podOf reads the pod that was chosen. It returns errReplaced if that pod does not exist any more.
func (i *injector) podOf(ctx context.Context, c *fault.Chosen) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := i.client.Get(ctx, client.ObjectKey{Namespace: i.target().Simulation.Namespace, Name: c.Name}, pod)
	if apierrors.IsNotFound(err) || err == nil && string(pod.UID) != c.ID {
		err = errReplaced
	}
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", c.Name, err)
	}
	return pod, nil
}

// wait waits for the duration healPoll. It returns an error if ctx ends first.
func wait(ctx context.Context) error {
	select {
	case <-time.After(healPoll):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// injection returns the fault.Injection for a fault that took effect at the given time.
func (i *injector) injection(r fault.Record, at time.Time) fault.Injection {
	injection := fault.Injection{At: at}
	injection.Healed = func(ctx context.Context) (time.Time, error) { return i.untilReady(ctx, r) }
	if r.Action.Lasts() {
		injection.Healed = func(ctx context.Context) (time.Time, error) { return i.untilEnded(ctx, r, at.Add(r.For)) }
	}
	return injection
}

// isHeld reports whether a fault other than the given one is pausing or isolating the pod.
func (i *injector) isHeld(pod string, except *fault.Record) bool {
	return slices.ContainsFunc(i.records(), func(r fault.Record) bool {
		return r.State == fault.Active && r.Action.Lasts() && r.ID() != except.ID() && slices.Contains(r.Hit, pod)
	})
}
