// Package agent injects faults into the other containers of its pod.
//
// The operator may neither execute commands in a pod nor signal a process on a node. A pod of a simulation with faults
// therefore has an agent: a container of the same user that shares the pod's process namespace. It signals the processes
// of the target when the operator tells it to. To isolate a server or its clients, it forwards the connections to the
// server, and cuts them. A pause and an isolation end by the agent's own timer, whatever happens to the operator; if the
// agent crashes, they end when the next one starts.
package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/relay"
)

// Marker is the path of a mount that marks the container whose processes an agent may signal. Its environment would not
// do: some programs, such as Redis, overwrite theirs with their title.
const Marker = "/run/parking/fault-target"

const (
	// MaxLength bounds how long a pause or an isolation may last.
	MaxLength = 24 * time.Hour
	// maxRemembered bounds the faults that an agent remembers.
	maxRemembered = 1000
)

// Command asks for a fault. A command with an ID that the agent knows has no effect, so that a caller may repeat it.
type Command struct {
	// ID identifies the occurrence within the simulation. It is not in the body of a request, but in its path.
	ID string `json:"-"`
	// Action is Kill, Pause or Isolate.
	Action plan.FaultAction `json:"action"`
	// For is how long a pause or an isolation lasts.
	For time.Duration `json:"forNs,omitempty"`
	// From are the addresses of the clients from which Isolate cuts the target off. It is empty for all clients.
	From []netip.Addr `json:"from,omitempty"`
}

// Fault is a fault that the agent has injected.
type Fault struct {
	// At is when it took effect, Healed when a pause or an isolation ended; the zero time means not yet. A kill has no
	// end here: the kubelet starts the container again.
	At     time.Time `json:"at"`
	Healed time.Time `json:"healed,omitzero"`
}

// ErrBusy means that the target is paused by another fault. The command may be repeated later.
var ErrBusy = errors.New("the target is paused by another fault")

// RejectedError means that a command cannot be executed, whatever the state of the target.
type RejectedError struct{ Reason string }

// Error implements error.
func (e *RejectedError) Error() string { return e.Reason }

// Agent executes commands, one at a time. It is safe for concurrent use.
type Agent struct {
	target string
	relay  *relay.Relay
	log    *slog.Logger

	mu     sync.Mutex
	faults map[string]*Fault
	// active are the pauses and isolations in effect, by the ID of their command.
	active map[string]*effect
}

// effect is a fault that lasts.
type effect struct {
	action plan.FaultAction
	// end ends the fault in the target.
	end   func()
	timer *time.Timer
}

// Config configures an Agent.
type Config struct {
	// Target is the path of a mount that the processes of the target see, such as Marker.
	Target string
	// Relay forwards connections to the target. Without it, the agent cannot isolate the target.
	Relay *relay.Relay
}

// New returns an agent. It resumes what a predecessor that crashed has stopped.
func New(c Config, log *slog.Logger) *Agent {
	Resume(c.Target)
	return &Agent{target: c.Target, relay: c.Relay, log: log, faults: map[string]*Fault{}, active: map[string]*effect{}}
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
	fault, err := a.execute(c)
	if err != nil {
		return Fault{}, err
	}
	a.faults[c.ID] = fault
	a.log.Info("fault injected", "id", c.ID, "action", c.Action, "for", c.For)
	return *fault, nil
}

func (c *Command) validate() error {
	lasts := c.Action == plan.ActionPause || c.Action == plan.ActionIsolate
	switch {
	case c.ID == "" || len(c.ID) > 200:
		return &RejectedError{"the ID of a fault must have 1 to 200 bytes"}
	case c.Action != plan.ActionKill && !lasts:
		return &RejectedError{fmt.Sprintf("an agent can inject Kill, Pause and Isolate, not %q", c.Action)}
	case lasts && (c.For <= 0 || c.For > MaxLength):
		return &RejectedError{fmt.Sprintf("a fault that lasts must last above 0s and up to %s", MaxLength)}
	}
	return nil
}

// execute injects a fault. a.mu is held.
func (a *Agent) execute(c Command) (*Fault, error) {
	switch c.Action {
	case plan.ActionPause:
		return a.pause(c)
	case plan.ActionIsolate:
		if a.relay == nil {
			return nil, &RejectedError{"this agent does not forward the connections of its target, and cannot cut them"}
		}
		return a.begin(c, a.relay.Cut(c.From...)), nil
	}
	at, err := kill(a.target)
	return &Fault{At: at}, err
}

// pause stops the target. a.mu is held.
func (a *Agent) pause(c Command) (*Fault, error) {
	for _, e := range a.active {
		if e.action == plan.ActionPause {
			return nil, ErrBusy
		}
	}
	targets, err := stop(a.target)
	if err != nil {
		return nil, err
	}
	return a.begin(c, func() {
		targets.resume()
		targets.release()
	}), nil
}

// begin registers a fault that lasts, and ends it after its time. a.mu is held.
func (a *Agent) begin(c Command, end func()) *Fault {
	a.active[c.ID] = &effect{action: c.Action, end: end, timer: time.AfterFunc(c.For, func() { a.Heal(c.ID) })}
	return &Fault{At: time.Now()}
}

// Heal ends the fault with an ID, if it is in effect.
func (a *Agent) Heal(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, ok := a.active[id]; ok {
		a.end(id, e)
	}
}

// end ends a fault. a.mu is held.
func (a *Agent) end(id string, e *effect) {
	e.timer.Stop()
	e.end()
	delete(a.active, id)
	f := a.faults[id]
	f.Healed = time.Now()
	a.log.Info("fault ended", "id", id, "action", e.action, "after", f.Healed.Sub(f.At))
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

// Close ends the faults in effect.
func (a *Agent) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, e := range a.active {
		a.end(id, e)
	}
}
