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
	// At is when the occurrence is due, from the start of the schedule. For is how long the fault lasts, or 0
	// for an action without a duration, such as a kill.
	At  time.Duration `json:"at"`
	For time.Duration `json:"for,omitempty"`
	// Instances is the number of instances to hit. If Percent is set, it is the percentage of the target's
	// instances to hit. Draw determines which ones.
	Instances int    `json:"instances,omitempty"`
	Percent   int    `json:"percent,omitempty"`
	Draw      uint64 `json:"draw"`
}

// ID identifies the occurrence within its simulation, such as "redis-crash/3".
func (o *Occurrence) ID() string { return occurrenceID(o.Fault, o.Number) }

func occurrenceID(fault string, number int) string { return fault + "/" + strconv.Itoa(number) }

// Record says what has happened with one occurrence.
type Record struct {
	Occurrence

	// Hit names the instances that were hit, such as "processor-1".
	Hit []string `json:"hit,omitempty"`
	// Of is the number of instances of the target when the fault was injected, including those that were not
	// hit. 0 means that the number is unknown.
	Of int `json:"of,omitempty"`
	// InjectedAt is when the fault took effect. HealedAt is when it ended: a paused or isolated target was
	// released, or a killed one was running again. Both are zero until then.
	InjectedAt time.Time `json:"injectedAt,omitzero"`
	HealedAt   time.Time `json:"healedAt,omitzero"`
	State      State     `json:"state"`
	// Reason says why the occurrence was not injected, or was aborted.
	Reason string `json:"reason,omitempty"`
}

// recoversFrom returns when the recovery from the fault begins. For an action with a duration, that is when the
// fault ends; for any other, when it takes effect. It is zero before that.
func (r *Record) recoversFrom() time.Time {
	if r.Action.Lasts() {
		return r.HealedAt
	}
	return r.InjectedAt
}

// State is the stage that an occurrence has reached.
type State string

// The states.
const (
	// Injecting means that the injector is about to be called, or has been called. The record is stored in this
	// state before the call. Therefore, a process that takes over from a crashed one never injects the
	// occurrence a second time.
	Injecting State = "Injecting"
	// Active means that the fault is in effect.
	Active State = "Active"
	// Healed means that the fault has ended.
	Healed State = "Healed"
	// NotInjected means that the fault could not be injected. Reason says why.
	NotInjected State = "NotInjected"
	// Aborted means that the simulation ended before the occurrence was due, or before the fault had healed by
	// itself.
	Aborted State = "Aborted"
)

// Injector injects faults into the parts of one simulation.
type Injector interface {
	// Inject injects an occurrence, and returns when the fault is in effect. It returns an error if the fault
	// could not be injected. The error says why, in the words of the manifest.
	//
	// A fault with a duration ends by itself after that time, even if this process crashes.
	Inject(context.Context, Occurrence) (Injection, error)
}

// Injection is a fault in effect.
type Injection struct {
	// Of is the number of instances of the target, including those that were not hit. 0 means that the number
	// is unknown.
	Of int
	// Hit names the instances that were hit.
	Hit []string
	// At is when the fault took effect.
	At time.Time
	// Healed waits until the fault has ended, and returns when that was. If ctx ends first, Healed tries to end
	// the fault at once. If the cause of the end is ErrHandedOver, it leaves the fault in effect and returns an
	// error.
	Healed func(ctx context.Context) (time.Time, error)
}
