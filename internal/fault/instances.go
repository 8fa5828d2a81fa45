package fault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// Instance is a process or a part of a process into which faults can be injected.
type Instance interface {
	// Name identifies the instance, such as "processor".
	Name() string
	// Stop ends the instance and then starts it again. It returns when the instance has ended. The caller must
	// then call started, which waits until the instance runs again. If crash is true, the instance writes
	// nothing to disk while it ends, and the random number draw determines which unwritten data are lost.
	Stop(ctx context.Context, crash bool, draw uint64) (started func(context.Context) error, err error)
	// Pause stops all activity of the instance until the caller calls release. Isolate cuts the instance off
	// from all others until the caller calls release.
	Pause(context.Context) (release func() error, err error)
	Isolate(context.Context) (release func() error, err error)
}

// startTimeout is the timeout for starting a stopped instance again.
const startTimeout = time.Minute

// Instances is an Injector for instances that run in, or are controlled by, this process.
type Instances struct {
	// ByTarget holds the instances of each target.
	ByTarget map[plan.FaultTarget][]Instance
	// Refused says, for targets without instances, why faults cannot be injected into them.
	Refused map[plan.FaultTarget]string

	mu   sync.Mutex
	busy map[Instance]chan struct{} // closed when the instance is no longer in a fault
}

// Check returns an error if the plan has a fault that cannot be injected.
func (i *Instances) Check(p *plan.Plan) error {
	var errs []error
	for _, f := range p.Faults {
		if err := i.refuse(f.Target); err != nil {
			errs = append(errs, fmt.Errorf("fault %q: %w", f.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (i *Instances) refuse(target plan.FaultTarget) error {
	switch reason := i.Refused[target]; {
	case len(i.ByTarget[target]) > 0:
		return nil
	case reason != "":
		return errors.New(reason)
	}
	return fmt.Errorf("the simulation has no %s", target)
}

// Inject injects the fault into the instances that Occurrence.Pick chooses. It first waits until no other fault
// affects these instances.
func (i *Instances) Inject(ctx context.Context, o Occurrence) (Injection, error) {
	if err := i.refuse(o.Target); err != nil {
		return Injection{}, err
	}
	hit := i.pick(&o)
	for n, instance := range hit {
		if err := i.acquire(ctx, instance); err != nil {
			i.release(hit[:n])
			return Injection{}, err
		}
	}
	var faults []effect
	for n, instance := range hit {
		ends, err := inject(ctx, &o, instance, uint64(n))
		if err != nil {
			err = errors.Join(fmt.Errorf("%s %s: %w", o.Action, instance.Name(), err), end(faults))
			i.release(hit)
			return Injection{}, err
		}
		faults = append(faults, ends)
	}
	return i.injection(&o, hit, faults), nil
}

func (i *Instances) pick(o *Occurrence) []Instance {
	all := i.ByTarget[o.Target]
	var hit []Instance
	for _, index := range o.Pick(len(all)) {
		hit = append(hit, all[index])
	}
	return hit
}

// acquire waits until no other fault affects the instance, and then reserves the instance.
func (i *Instances) acquire(ctx context.Context, instance Instance) error {
	timeout := time.NewTimer(MaxLate)
	defer timeout.Stop()
	for {
		i.mu.Lock()
		if i.busy == nil {
			i.busy = make(map[Instance]chan struct{})
		}
		other, taken := i.busy[instance]
		if !taken {
			i.busy[instance] = make(chan struct{})
			i.mu.Unlock()
			return nil
		}
		i.mu.Unlock()
		select {
		case <-other:
		case <-timeout.C:
			return fmt.Errorf("%s is still affected by another fault", instance.Name())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (i *Instances) release(instances []Instance) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, instance := range instances {
		close(i.busy[instance])
		delete(i.busy, instance)
	}
}

// effect is the effect of a fault on one instance. The function release ends the effect. The function healed
// waits until the instance runs again. Either of them may be nil.
type effect struct {
	release func() error
	healed  func(context.Context) error
}

func inject(ctx context.Context, o *Occurrence, instance Instance, number uint64) (e effect, err error) {
	switch o.Action {
	case plan.ActionKill, plan.ActionRestart, plan.ActionEvict:
		e.healed, err = instance.Stop(ctx, o.Action == plan.ActionKill, o.Draw+number)
	case plan.ActionPause:
		e.release, err = instance.Pause(ctx)
	case plan.ActionIsolate:
		e.release, err = instance.Isolate(ctx)
	default:
		err = fmt.Errorf("unknown action %q", o.Action)
	}
	return e, err
}

// end ends all the effects.
func end(effects []effect) error {
	var errs []error
	for _, e := range effects {
		if e.release != nil {
			errs = append(errs, e.release())
		}
	}
	return errors.Join(errs...)
}

// injection returns the Injection for effects that have just begun. If the effects have a duration, a timer
// ends them, even if nobody calls Healed.
func (i *Instances) injection(o *Occurrence, hit []Instance, effects []effect) Injection {
	injected := Injection{Of: len(i.ByTarget[o.Target]), At: time.Now()}
	for _, instance := range hit {
		injected.Hit = append(injected.Hit, instance.Name())
	}
	released := make(chan struct{})
	var releaseErr error
	release := sync.OnceFunc(func() {
		releaseErr = end(effects)
		close(released)
	})
	timer := time.AfterFunc(o.For, release)
	injected.Healed = func(ctx context.Context) (time.Time, error) {
		defer i.release(hit)
		select {
		case <-released:
		case <-ctx.Done():
			timer.Stop()
			release()
		}
		<-released
		waiting, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		errs := []error{releaseErr}
		for n, e := range effects {
			if e.healed == nil {
				continue
			}
			if err := e.healed(waiting); err != nil {
				errs = append(errs, fmt.Errorf("%s did not start again: %w", hit[n].Name(), err))
			}
		}
		return time.Now(), errors.Join(errs...)
	}
	return injected
}
