// Package fault plans the faults of a simulation, injects them, and measures their effects on the simulation.
//
// Data flows in one direction. The function Occurrences computes from the plan when each fault occurs and which
// instances it hits. When an occurrence is due, a Runner passes it to an Injector and keeps a Record of it. An
// Injector only knows how to reach a target. The function Accounts computes from the records and the timeline
// what each occurrence did to the simulation, and when the simulation had recovered from it. Occurrences and
// Accounts are pure functions.
package fault

import (
	"context"
	"strconv"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// Occurrence is one planned injection of a fault. A fault that is injected repeatedly has several occurrences.
type Occurrence struct {
	// Fault is the name of the fault. Number is the number of this occurrence of the fault, counted from 0.
	Fault  string           `json:"fault"`
	Number int              `json:"number"`
	Target plan.FaultTarget `json:"target"`
	Action plan.FaultAction `json:"action"`
	// At is when the occurrence is due, measured from the start of the schedule. For is how long the fault
	// lasts. It is 0 for an action without a duration, such as a kill.
	At  time.Duration `json:"at"`
	For time.Duration `json:"for,omitempty"`
	// Instances is the number of instances to hit. If Percent is set, that percentage of the target's instances
	// is hit instead. The random number Draw determines which instances are hit.
	Instances int    `json:"instances,omitempty"`
	Percent   int    `json:"percent,omitempty"`
	Draw      uint64 `json:"draw"`
}

// ID returns the name and the number of the occurrence, such as "redis-crash/3", which identify it within its
// simulation.
func (o *Occurrence) ID() string { return occurrenceID(o.Fault, o.Number) }

func occurrenceID(fault string, number int) string { return fault + "/" + strconv.Itoa(number) }

// Record says what has happened to one occurrence so far.
type Record struct {
	Occurrence

	// Hit contains the names of the instances that were hit, such as "processor-1".
	Hit []string `json:"hit,omitempty"`
	// Of is the number of instances that the target had when the fault was injected, whether or not they were
	// hit. It is 0 if the number is unknown.
	Of int `json:"of,omitempty"`
	// InjectedAt is when the fault took effect. HealedAt is when the fault ended, that is, when a paused or
	// isolated target was released, or a killed target was running again. Each of them is zero until that has
	// happened.
	InjectedAt time.Time `json:"injectedAt,omitzero"`
	HealedAt   time.Time `json:"healedAt,omitzero"`
	State      State     `json:"state"`
	// Reason says why the occurrence was not injected, or was aborted.
	Reason string `json:"reason,omitempty"`
}

// recoversFrom returns the time from which the recovery is counted. For an action with a duration, it is the
// time at which the fault ended. For any other action, it is the time at which the fault took effect. It is
// zero until that has happened.
func (r *Record) recoversFrom() time.Time {
	if r.Action.Lasts() {
		return r.HealedAt
	}
	return r.InjectedAt
}

// State says how far an occurrence has progressed.
type State string

// The states.
const (
	// Injecting means that the injector is about to be called, or has been called. A record is stored in this
	// state before the call. So a process that takes over from a crashed process sees the record, and never
	// injects the same occurrence a second time.
	Injecting State = "Injecting"
	// Active means that the fault is in effect.
	Active State = "Active"
	// Healed means that the fault has ended.
	Healed State = "Healed"
	// NotInjected means that the fault could not be injected. Reason says why.
	NotInjected State = "NotInjected"
	// Aborted means that the simulation was ended or suspended before the occurrence was due, or before the
	// fault had ended by itself.
	Aborted State = "Aborted"
)

// Injector injects faults into one simulation.
type Injector interface {
	// Inject injects the fault of an occurrence. It returns as soon as the fault is in effect, or with an error
	// if the fault could not be injected. The error explains why to the author of the manifest, in the terms of
	// the manifest.
	//
	// A fault with a duration ends by itself after that time, even if this process crashes.
	Inject(context.Context, Occurrence) (Injection, error)
}

// Injection is a fault that is in effect.
type Injection struct {
	// Of is the number of instances of the target, whether or not they were hit. It is 0 if the number is
	// unknown.
	Of int
	// Hit contains the names of the instances that were hit.
	Hit []string
	// At is when the fault took effect.
	At time.Time
	// Healed waits until the fault has ended, and returns the time at which it ended. If ctx ends first, Healed
	// tries to end the fault at once. But if the cause of ctx is ErrHandedOver, Healed leaves the fault in
	// effect and returns an error.
	Healed func(ctx context.Context) (time.Time, error)
}
