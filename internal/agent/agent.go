// Package agent injects faults into the other containers of its pod.
//
// The operator may neither execute commands in a pod nor signal a process on a node. Therefore each pod of a
// simulation with faults runs an agent. An agent is a container that shares the process namespace of the pod and
// runs as the same user. The target is the container that the agent injects faults into. When the operator asks for
// it, the agent signals the processes of the target. All connections to a server go through its agent, which closes
// them to isolate the server.
//
// A timer in the agent ends each pause and each isolation, even if the operator is down. If the agent crashes, the
// next agent ends them when it starts.
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

// Marker is the path of a volume mount that marks the target container. The agent signals only processes that see
// this mount. An environment variable could not mark these processes, because some programs, such as Redis,
// overwrite their environment in /proc with a process title.
const Marker = "/run/parking/fault-target"

const (
	// MaxLength is the maximum duration of a pause or an isolation.
	MaxLength = 24 * time.Hour
	// maxRemembered is the maximum number of faults that an agent can inject. It is limited because the agent keeps
	// all of them in memory.
	maxRemembered = 1000
)

// Command asks an agent to inject a fault. If the agent has already seen a command with the same ID, it does
// nothing, so callers can safely retry.
type Command struct {
	// ID identifies the fault within the simulation. A request contains the ID in its path, not in its body.
	ID string `json:"-"`
	// Action is Kill, Pause or Isolate.
	Action plan.FaultAction `json:"action"`
	// For is the duration of a pause or an isolation. Kill ignores it.
	For time.Duration `json:"forNs,omitempty"`
	// From lists the IP addresses of clients. Isolate closes the connections of these clients to the target and
	// rejects new ones. If From is empty, Isolate does so for all clients.
	From []netip.Addr `json:"from,omitempty"`
}

// Fault is a fault that the agent has injected.
type Fault struct {
	// At is the time when the fault took effect. Healed is the time when a pause or an isolation ended, and zero
	// before that. After a Kill, Healed stays zero, because it is the kubelet that restarts the container.
	At     time.Time `json:"at"`
	Healed time.Time `json:"healed,omitzero"`
}

// ErrBusy means that another fault has paused the target. The caller can retry later.
var ErrBusy = errors.New("another fault has paused the target")

// RejectedError means that the agent cannot execute the command, even if it is retried.
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
	// active contains the pauses and isolations that have not ended, by the ID of their command.
	active map[string]*effect
}

// effect is a pause or an isolation that has not ended.
type effect struct {
	action plan.FaultAction
	// end resumes the target after a pause, or lets clients connect to it again after an isolation.
	end   func()
	timer *time.Timer
}

// Config configures an Agent.
type Config struct {
	// Target is the path of a mount, such as Marker. Only the processes of the target may see this mount.
	Target string
	// Relay forwards all connections to the target. If it is nil, the agent rejects Isolate.
	Relay *relay.Relay
}

// New returns an agent. First it resumes processes of the target that an earlier agent has left stopped because it
// crashed.
func New(c Config, log *slog.Logger) *Agent {
	Resume(c.Target)
	return &Agent{target: c.Target, relay: c.Relay, log: log, faults: map[string]*Fault{}, active: map[string]*effect{}}
}

// Inject executes a command. It returns when the fault has taken effect.
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

// execute injects a fault. The caller holds a.mu.
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

// pause stops the processes of the target with SIGSTOP. The caller holds a.mu.
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

// begin records that a pause or an isolation has taken effect, and starts the timer that ends it. The caller holds
// a.mu.
func (a *Agent) begin(c Command, end func()) *Fault {
	a.active[c.ID] = &effect{action: c.Action, end: end, timer: time.AfterFunc(c.For, func() { a.Heal(c.ID) })}
	return &Fault{At: time.Now()}
}

// Heal ends a pause or an isolation. It does nothing if the pause or isolation has already ended.
func (a *Agent) Heal(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, ok := a.active[id]; ok {
		a.end(id, e)
	}
}

// end ends a pause or an isolation. The caller holds a.mu.
func (a *Agent) end(id string, e *effect) {
	e.timer.Stop()
	e.end()
	delete(a.active, id)
	f := a.faults[id]
	f.Healed = time.Now()
	a.log.Info("fault ended", "id", id, "action", e.action, "after", f.Healed.Sub(f.At))
}

// Fault returns the fault with the given ID. It returns false if this agent has not injected a fault with this ID.
func (a *Agent) Fault(id string) (Fault, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.faults[id]
	if !ok {
		return Fault{}, false
	}
	return *f, true
}

// Close ends all pauses and isolations.
func (a *Agent) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, e := range a.active {
		a.end(id, e)
	}
}
