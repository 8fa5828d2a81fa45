// Package agent injects faults into one container of its pod, the target. The operator uses agents, because it has no
// permission to execute commands in pods.
//
// An agent has the target's user and process namespace, so it can pause or kill the target with signals. To isolate a
// server, its agent cuts the connections of clients, which all pass through the agent. To isolate a client, the agents
// of all servers cut the client's connections.
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

// Marker is the path of a volume mount that marks the target's processes. An environment variable cannot mark Redis,
// which overwrites its environment in /proc.
const Marker = "/run/parking/fault-target"

const (
	// MaxLength is the maximum duration of a pause or an isolation. A timer in the agent ends these faults, even if the
	// operator is down.
	MaxLength = plan.MaxFaultLength
	// maxRemembered is the maximum number of faults that an agent remembers.
	maxRemembered = 1000
	// maxID is the maximum length of a fault's ID, in bytes.
	maxID = 200
)

// Command asks an agent to inject a fault. Callers can safely retry: an agent injects a fault with the same ID only
// once.
type Command struct {
	// ID identifies the fault within the simulation. An HTTP request contains the ID in its path, not in its body.
	ID string `json:"-"`
	// Action is Kill, Pause or Isolate.
	Action plan.FaultAction `json:"action"`
	// The field For is the duration of a pause or an isolation. Kill ignores this field.
	For time.Duration `json:"forNs,omitempty"`
	// From contains the addresses of the clients that Isolate cuts off from the target. If From is empty, Isolate
	// cuts off all clients.
	From []netip.Addr `json:"from,omitempty"`
}

// Fault is a fault that the agent has injected.
type Fault struct {
	// At is the time when the fault took effect.
	At time.Time `json:"at"`
	// Healed is the time when a pause or an isolation ended. Healed is zero before, and always zero for a Kill.
	Healed time.Time `json:"healed,omitzero"`
	// Connections is the number of connections that an isolation has closed or rejected. It is nil for other faults,
	// and in responses of earlier agent versions.
	Connections *int `json:"connections,omitempty"`

	// cancelled is true if Heal was called before Inject. In this case, the agent never injects the fault.
	cancelled bool
}

// ErrBusy means that another fault has paused the target. The caller can retry until that pause has ended.
var ErrBusy = errors.New("another fault has paused the target")

// RejectedError means that the agent cannot execute the command, even if the caller retries.
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
	// The field active contains the pauses and isolations that have not ended, by the ID of their command.
	active map[string]*effect
}

// effect is a pause or an isolation that has not ended.
type effect struct {
	action plan.FaultAction
	// end resumes a paused target, or lets clients connect to an isolated target.
	end func()
	// connections returns how many connections an isolation has closed or rejected so far. It is nil for a pause.
	connections func() int
	timer       *time.Timer
}

// Config configures an Agent.
type Config struct {
	// Target is a mount point that exists only in the target container, such as Marker. It identifies the processes of
	// this container.
	Target string
	// Relay forwards all connections to the target. If Relay is nil, the agent rejects Isolate.
	Relay *relay.Relay
}

// New returns an agent. If an earlier agent crashed during a pause, New first resumes the processes of the target.
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
	switch known, ok := a.faults[c.ID]; {
	case ok && known.cancelled:
		return Fault{}, &RejectedError{"the request to end the fault arrived before the request to inject it"}
	case ok:
		return *known, nil
	}
	fault, err := a.execute(c)
	if err != nil {
		return Fault{}, err
	}
	a.faults[c.ID] = fault
	a.forget()
	a.log.Info("Fault injected", "id", c.ID, "action", c.Action, "for", c.For)
	return *fault, nil
}

// forget removes the oldest fault that is not active, if the agent remembers more than maxRemembered faults. The caller
// holds a.mu.
func (a *Agent) forget() {
	if len(a.faults) <= maxRemembered {
		return
	}
	var earliest string
	for id, f := range a.faults {
		if _, active := a.active[id]; !active && (earliest == "" || f.At.Before(a.faults[earliest].At)) {
			earliest = id
		}
	}
	delete(a.faults, earliest)
}

func (c *Command) validate() error {
	lasts := c.Action == plan.ActionPause || c.Action == plan.ActionIsolate
	switch {
	case c.ID == "" || len(c.ID) > maxID:
		return &RejectedError{fmt.Sprintf("the ID of a fault must have 1 to %d bytes", maxID)}
	case c.Action != plan.ActionKill && !lasts:
		return &RejectedError{fmt.Sprintf("an agent can inject Kill, Pause and Isolate, not %q", c.Action)}
	case lasts && (c.For <= 0 || c.For > MaxLength):
		return &RejectedError{fmt.Sprintf("a pause or an isolation must last longer than 0s, and at most %s", MaxLength)}
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
			return nil, &RejectedError{"this agent does not forward the connections of its target, so it cannot cut them"}
		}
		cut := a.relay.Cut(c.From...)
		return a.begin(c, effect{end: cut.Restore, connections: cut.Connections}), nil
	}
	at, err := kill(a.target)
	return &Fault{At: at}, err
}

// pause suspends the processes of the target with SIGSTOP. The caller holds a.mu.
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
	return a.begin(c, effect{end: func() {
		targets.resume()
		targets.close()
	}}), nil
}

// begin records that a pause or an isolation has taken effect, and starts the timer that ends it. The caller holds
// a.mu.
func (a *Agent) begin(c Command, e effect) *Fault {
	e.action, e.timer = c.Action, time.AfterFunc(c.For, func() { a.Heal(c.ID) })
	a.active[c.ID] = &e
	return &Fault{At: time.Now()}
}

// Heal ends a pause or an isolation that has not ended yet. If the command to inject the fault arrives after Heal, the
// agent rejects the command.
func (a *Agent) Heal(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, ok := a.active[id]; ok {
		a.end(id, e)
		return
	}
	if _, known := a.faults[id]; !known && len(id) <= maxID {
		now := time.Now()
		a.faults[id] = &Fault{At: now, Healed: now, cancelled: true}
		a.forget()
	}
}

// end ends a pause or an isolation. The caller holds a.mu.
func (a *Agent) end(id string, e *effect) {
	log := a.log
	e.timer.Stop()
	e.end()
	delete(a.active, id)
	f := a.faults[id]
	f.Healed = f.At.Add(time.Since(f.At)) // use the monotonic clock, because the wall clock can jump during the fault
	if e.connections != nil {
		f.Connections = new(e.connections())
		log = log.With("connections", *f.Connections)
	}
	log.Info("Fault ended", "id", id, "action", e.action, "after", f.Healed.Sub(f.At))
}

// Fault returns the fault with the given ID. It returns false if this agent has not injected a fault with this ID.
func (a *Agent) Fault(id string) (Fault, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.faults[id]
	if !ok || f.cancelled {
		return Fault{}, false
	}
	now := *f
	if e, active := a.active[id]; active && e.connections != nil {
		now.Connections = new(e.connections())
	}
	return now, true
}

// Close ends all pauses and isolations.
func (a *Agent) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, e := range a.active {
		a.end(id, e)
	}
}
