package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// Instance is a process or a part of a process into which faults can be injected.
type Instance interface {
	// Name identifies the instance, such as "processor".
	Name() string
	// Stop ends the instance, and restarts it in the background. The caller must call started, which waits for the
	// restart. A crash may lose data that is not durable yet. The random number draw determines how much.
	Stop(ctx context.Context, crash bool, draw uint64) (started func(context.Context) error, err error)
	// Pause stops all activity of the instance. Isolate cuts the instance off from all others. Both last until the
	// caller calls the returned function.
	Pause(context.Context) (release func() error, err error)
	Isolate(context.Context) (release func() error, err error)
}

// startTimeout is long, so that only an instance that never starts exceeds the timeout. The objective maxRecovery
// limits a slow start.
const startTimeout = 5 * time.Minute

// Targets says which instances the faults of a simulation can hit.
type Targets struct {
	// Instances holds the instances of each target. A missing target is unknown. Faults of a target with an empty list
	// are valid, but are not injected.
	Instances map[plan.FaultTarget][]Instance
}

// Instances is an Injector for instances that this process runs or controls.
type Instances struct {
	Targets Targets
}

// Check returns an error if the plan has a fault whose target is unknown.
func (i *Instances) Check(p *plan.Plan) error {
	var errs []error
	for _, f := range p.Faults {
		if _, known := i.Targets.Instances[f.Target]; !known {
			errs = append(errs, fmt.Errorf("fault %q: %w", f.Name, missing(f.Target)))
		}
	}
	return errors.Join(errs...)
}

func missing(target plan.FaultTarget) error { return fmt.Errorf("the simulation has no %s", target) }

// Choose implements Injector.
func (i *Instances) Choose(_ context.Context, o Occurrence) (Choice, error) {
	all := i.Targets.Instances[o.Target]
	if len(all) == 0 {
		return Choice{}, missing(o.Target)
	}
	choice := Choice{Of: len(all)}
	for _, index := range o.Pick(len(all)) {
		choice.Instances = append(choice.Instances, Chosen{Name: all[index].Name()})
	}
	return choice, nil
}

// Inject implements Injector.
func (i *Instances) Inject(ctx context.Context, r Record) (Injection, error) {
	at := time.Now()
	var hit []Instance
	var faults []effect
	for n, instance := range i.chosen(&r) {
		ends, err := inject(ctx, &r.Occurrence, instance, uint64(n))
		if err != nil {
			return Injection{}, errors.Join(fmt.Errorf("%s %s: %w", r.Action, instance.Name(), err), end(faults))
		}
		hit, faults = append(hit, instance), append(faults, ends)
	}
	if r.Action.Lasts() {
		at = time.Now() // the duration of the fault counts from the time at which all instances are affected
	}
	return injection(&r.Occurrence, hit, faults, at), nil
}

// chosen returns the instances with the names in the field Chosen of a record.
func (i *Instances) chosen(r *Record) []Instance {
	var list []Instance
	for _, instance := range i.Targets.Instances[r.Target] {
		if slices.ContainsFunc(r.Chosen, func(c Chosen) bool { return c.Name == instance.Name() }) {
			list = append(list, instance)
		}
	}
	return list
}

// effect is the effect of a fault on one instance.
type effect struct {
	release func() error                // ends the effect; may be nil
	healed  func(context.Context) error // waits until the instance runs again; may be nil
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

func end(effects []effect) error {
	var errs []error
	for _, e := range effects {
		if e.release != nil {
			errs = append(errs, e.release())
		}
	}
	return errors.Join(errs...)
}

// injection returns the Injection for effects that are in place. A timer ends effects that have a duration.
func injection(o *Occurrence, hit []Instance, effects []effect, at time.Time) Injection {
	injected := Injection{At: at}
	released := make(chan struct{})
	var releaseErr error
	release := sync.OnceFunc(func() {
		releaseErr = end(effects)
		close(released)
	})
	timer := time.AfterFunc(o.For, release)
	injected.Healed = func(ctx context.Context) (time.Time, error) {
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
