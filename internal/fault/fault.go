// Package fault plans the faults of a simulation, injects them, and accounts for them.
//
// Data flows one way. Occurrences is a pure function of the plan: it says when which fault hits which instances. A
// Runner hands each occurrence to an Injector when it is due, and keeps a Record of it. An Injector knows how to reach a
// target and nothing else. Accounts is a pure function of the records and the timeline: it says what each occurrence
// did to the simulation, and when the simulation had recovered from it.
package fault

import (
	"context"
	"strconv"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// Occurrence is one planned injection of a fault.
type Occurrence struct {
	// Fault is the name of the fault. Number counts its occurrences from 0.
	Fault  string           `json:"fault"`
	Number int              `json:"number"`
	Target plan.FaultTarget `json:"target"`
	Action plan.FaultAction `json:"action"`
	// At is when it is due, from the start of the schedule. For is how long it lasts; 0 if its action does not last.
	At  time.Duration `json:"at"`
	For time.Duration `json:"for,omitempty"`
	// Instances is how many instances of the target are hit, or Percent which share of them. Draw decides which ones.
	Instances int    `json:"instances,omitempty"`
	Percent   int    `json:"percent,omitempty"`
	Draw      uint64 `json:"draw"`
}

// ID identifies the occurrence within its simulation, such as "redis-crash/3".
func (o *Occurrence) ID() string { return occurrenceID(o.Fault, o.Number) }

func occurrenceID(fault string, number int) string { return fault + "/" + strconv.Itoa(number) }

// Record is what happened with one occurrence.
type Record struct {
	Occurrence

	// Hit names the instances that were hit, such as "processor-1".
	Hit []string `json:"hit,omitempty"`
	// InjectedAt is when the fault took effect, and HealedAt when it ended: when a paused or isolated target was
	// released, or a killed one was running again. They are zero until then.
	InjectedAt time.Time `json:"injectedAt,omitzero"`
	HealedAt   time.Time `json:"healedAt,omitzero"`
	State      State     `json:"state"`
	// Reason says why the occurrence was not injected, or was aborted.
	Reason string `json:"reason,omitempty"`
}

// recoversFrom returns when the recovery from the fault begins: when a fault that lasts ends, and when another one takes
// effect. It is zero before that.
func (r *Record) recoversFrom() time.Time {
	if r.Action.Lasts() {
		return r.HealedAt
	}
	return r.InjectedAt
}

// State is how far an occurrence has come.
type State string

// The states.
const (
	// Injecting: the injector was asked. The record is stored in this state before that, so that a successor of a
	// crashed process never injects an occurrence twice.
	Injecting State = "Injecting"
	// Active: the fault is in effect.
	Active State = "Active"
	// Healed: the fault has ended.
	Healed State = "Healed"
	// NotInjected: the fault could not be injected, for the reason of the record.
	NotInjected State = "NotInjected"
	// Aborted: the simulation ended before the fault healed by itself, or the occurrence was due.
	Aborted State = "Aborted"
)

// Injector injects faults into the parts of one simulation.
type Injector interface {
	// Inject injects an occurrence, and returns when it is in effect. It fails if the fault could not be injected; the
	// error says why, in terms of the manifest.
	//
	// A fault that lasts ends by itself after its time, whatever happens to the caller.
	Inject(context.Context, Occurrence) (Injection, error)
}

// Injection is a fault in effect.
type Injection struct {
	// Hit names the instances that were hit.
	Hit []string
	// At is when the fault took effect.
	At time.Time
	// Healed waits until the fault has ended, and returns when that was. If ctx ends first, it ends the fault at once,
	// as far as it can, unless the cause is ErrHandedOver: then it returns an error.
	Healed func(ctx context.Context) (time.Time, error)
}
