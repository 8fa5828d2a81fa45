// Package agent injects faults into the other containers of its pod.
//
// The operator may neither execute commands in a pod nor signal a process on a node. A pod of a simulation with faults
// therefore has an agent: a container of the same user that shares the pod's process namespace. It signals the processes
// of the target when the operator tells it to. A paused target is resumed by the agent's own timer, whatever happens to
// the operator, and by the next agent if this one crashes.
package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// Marker is the path of a mount that marks the container whose processes an agent may signal. Its environment would not
// do: some programs, such as Redis, overwrite theirs with their title.
const Marker = "/run/parking/fault-target"

const (
	// MaxPause bounds how long a target may be paused.
	MaxPause = time.Hour
	// maxRemembered bounds the faults that an agent remembers.
	maxRemembered = 1000
)

// Command asks for a fault. A command with an ID that the agent knows has no effect, so that a caller may repeat it.
type Command struct {
	// ID identifies the occurrence within the simulation. It is not in the body of a request, but in its path.
	ID string `json:"-"`
	// Action is Kill or Pause.
	Action plan.FaultAction `json:"action"`
	// For is how long a pause lasts.
	For time.Duration `json:"forNs,omitempty"`
}

// Fault is a fault that the agent has injected.
type Fault struct {
	// At is when it took effect, Healed when a pause ended; the zero time means not yet. A kill has no end here: the
	// kubelet starts the container again.
	At     time.Time `json:"at"`
	Healed time.Time `json:"healed,omitzero"`
}

// RejectedError means that a command cannot be executed, whatever the state of the target.
type RejectedError struct{ Reason string }

// Error implements error.
func (e *RejectedError) Error() string { return e.Reason }

// Agent executes commands, one at a time. It is safe for concurrent use.
type Agent struct {
	target string
	log    *slog.Logger

	mu     sync.Mutex
	faults map[string]*Fault
	paused *pause
}

// pause is a pause in effect.
type pause struct {
	targets processes
	fault   *Fault
	timer   *time.Timer
}

// New returns an agent for the processes that see a mount at a path, such as Marker. It resumes what a predecessor that
// crashed has stopped.
func New(target string, log *slog.Logger) *Agent {
	Resume(target)
	return &Agent{target: target, log: log, faults: map[string]*Fault{}}
}

// Inject executes a command and returns the fault, which is then in effect.
func (a *Agent) Inject(c Command) (Fault, error) {
	if err := c.validate(); err != nil {
		return Fault{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.faults[c.ID]; ok {
		return *known, nil
	}
	if len(a.faults) >= maxRemembered {
		return Fault{}, &RejectedError{fmt.Sprintf("this agent has injected %d faults, and can inject no more until its pod is replaced", maxRemembered)}
	}
	if a.paused != nil {
		return Fault{}, errors.New("the target is paused by another fault")
	}
	fault, err := a.execute(c)
	if err != nil {
		return Fault{}, err
	}
	a.faults[c.ID] = fault
	a.log.Info("fault injected", "id", c.ID, "action", c.Action, "for", c.For)
	return *fault, nil
}

func (c *Command) validate() error {
	switch {
	case c.ID == "" || len(c.ID) > 200:
		return &RejectedError{"the ID of a fault must have 1 to 200 bytes"}
	case c.Action != plan.ActionKill && c.Action != plan.ActionPause:
		return &RejectedError{fmt.Sprintf("an agent can inject Kill and Pause, not %q", c.Action)}
	case c.Action == plan.ActionPause && (c.For <= 0 || c.For > MaxPause):
		return &RejectedError{fmt.Sprintf("a pause must be above 0s and up to %s", MaxPause)}
	}
	return nil
}

// execute injects a fault. a.mu is held.
func (a *Agent) execute(c Command) (*Fault, error) {
	if c.Action == plan.ActionKill {
		at, err := kill(a.target)
		return &Fault{At: at}, err
	}
	targets, err := stop(a.target)
	if err != nil {
		return nil, err
	}
	fault := &Fault{At: time.Now()}
	a.paused = &pause{targets: targets, fault: fault, timer: time.AfterFunc(c.For, func() { a.resume(fault) })}
	return fault, nil
}

// resume ends a pause. It does nothing if the pause has ended.
func (a *Agent) resume(f *Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.paused == nil || a.paused.fault != f {
		return
	}
	a.paused.targets.resume()
	a.paused.targets.release()
	a.paused.timer.Stop()
	a.paused = nil
	f.Healed = time.Now()
	a.log.Info("the target runs again", "paused", f.Healed.Sub(f.At))
}

// Heal ends the fault with an ID at once, if it is in effect.
func (a *Agent) Heal(id string) {
	a.mu.Lock()
	f := a.faults[id]
	a.mu.Unlock()
	if f != nil {
		a.resume(f)
	}
}

// Fault returns the fault with an ID. It returns false if this agent has not injected it.
func (a *Agent) Fault(id string) (Fault, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.faults[id]
	if !ok {
		return Fault{}, false
	}
	return *f, true
}

// Close ends the pause in effect.
func (a *Agent) Close() {
	a.mu.Lock()
	p := a.paused
	a.mu.Unlock()
	if p != nil {
		a.resume(p.fault)
	}
}
