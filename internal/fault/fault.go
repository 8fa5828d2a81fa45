// Package fault plans the faults of a simulation, injects them, and measures their effects on the simulation. A Runner
// injects the planned occurrences through an Injector, and saves a Record of each occurrence. The function Accounts
// computes their effects from the records and the timeline.
package fault

import (
	"context"
	"errors"
	"strconv"
	"strings"
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
	// The field At is when the occurrence is due, measured from the start of the schedule.
	At time.Duration `json:"at"`
	// The field For is the duration of the fault, or 0 for an action without a duration, such as a kill.
	For time.Duration `json:"for,omitempty"`
	// Instances is the number of instances to hit, unless Percent is set.
	Instances int `json:"instances,omitempty"`
	// Percent is the percentage of the target's instances to hit, or 0.
	Percent int `json:"percent,omitempty"`
	// Draw is a random number that determines which instances are hit.
	Draw uint64 `json:"draw"`
}

// ID returns a text that identifies the occurrence within its simulation, such as "redis-crash/3".
func (o *Occurrence) ID() string { return occurrenceID(o.Fault, o.Number) }

func occurrenceID(fault string, number int) string { return fault + "/" + strconv.Itoa(number) }

// Chosen identifies an instance to hit. If its fields differ from the present state of the instance, the instance has
// been hit.
type Chosen struct {
	// Name is the name of the instance, such as "processor-1".
	Name string `json:"name"`
	// ID identifies the instance behind the name, for example the UID of a pod. Processes identifies its running
	// processes. Both may be empty.
	ID        string `json:"id,omitempty"`
	Processes string `json:"processes,omitempty"`
}

// Names returns the names of the instances.
func Names(instances []Chosen) []string {
	names := make([]string, len(instances))
	for i := range instances {
		names[i] = instances[i].Name
	}
	return names
}

// Choice is the set of instances that one occurrence of a fault hits.
type Choice struct {
	Instances []Chosen
	// Of is the number of instances among which the instances to hit were chosen.
	Of int
	// Incomplete is true if fewer instances run than the plan declares.
	Incomplete bool
}

// Record says what has happened to one occurrence of a fault so far.
type Record struct {
	Occurrence

	// Chosen contains the instances to hit. It is saved before the first instance is hit, and cleared when the state is
	// final.
	Chosen []Chosen `json:"chosen,omitempty"`
	// ChosenAt is when the instances were chosen.
	ChosenAt time.Time `json:"chosenAt,omitzero"`
	// Hit contains the names of the instances that were hit, such as "processor-1". It is empty if the fault had no
	// effect.
	Hit []string `json:"hit,omitempty"`
	// Of is the number of instances among which the fault chose those to hit. It is 0 if the number is unknown.
	Of int `json:"of,omitempty"`
	// InjectedAt is when the fault took effect, or zero before that.
	InjectedAt time.Time `json:"injectedAt,omitzero"`
	// HealedAt is when a paused or isolated target was released, or when a killed target was running again. It is zero
	// before that.
	HealedAt time.Time `json:"healedAt,omitzero"`
	State    State     `json:"state"`
	// Reason says why the occurrence was not injected, or was aborted.
	Reason string `json:"reason,omitempty"`
	// Measured is the final Account, or nil until then. A later measurement may differ, because the timeline loses detail.
	Measured *Account `json:"measured,omitempty"`
	// Baseline describes the operation before the fault. Later faults without a baseline of their own also use it.
	Baseline *Baseline `json:"baseline,omitempty"`
}

// Failure says why the state is NotInjected, for example "was not injected: no pod was running".
func (r *Record) Failure() string {
	if strings.HasPrefix(r.Reason, ErrNoEffect.Error()) {
		return strings.TrimPrefix(r.Reason, "the fault ")
	}
	return "was not injected: " + r.Reason
}

// IsFinal reports whether the fault has ended, or will not be injected.
func (r *Record) IsFinal() bool { return r.State != Injecting && r.State != Active }

// recoversFrom returns when the recovery time begins, or zero if that is unknown. After a kill, the restart of the
// target is part of the recovery.
func (r *Record) recoversFrom() time.Time {
	if r.Action.Lasts() {
		return r.HealedAt
	}
	return r.InjectedAt
}

// State says how far an occurrence has progressed.
type State string

// These are the states of an occurrence of a fault.
const (
	// Injecting means that the fault is due, but not in effect. The record is saved before the choice of instances and
	// again before the first hit; see Resumer.
	Injecting State = "Injecting"
	// Active means that the fault is in effect.
	Active State = "Active"
	// Healed means that the fault has ended.
	Healed State = "Healed"
	// NotInjected means that the fault could not be injected, or had no effect. Record.Reason says why.
	NotInjected State = "NotInjected"
	// Aborted means that the simulation ended or was suspended first, or that the fault did not end as declared.
	// Record.Reason says why.
	Aborted State = "Aborted"
)

// Injector injects faults into one simulation. The author of the manifest reads the errors of an Injector, so these
// errors must use the terms of the manifest.
type Injector interface {
	// Choose selects the instances into which the occurrence is injected. It does not inject the fault.
	Choose(context.Context, Occurrence) (Choice, error)
	// Inject returns as soon as the fault is in effect in all instances of Record.Chosen. If Inject fails, it releases
	// the hit instances, unless the cause of ctx is ErrHandedOver.
	Inject(context.Context, Record) (Injection, error)
}

// Resumer is an Injector whose faults continue if the process that injected them ends. Another process then resumes the
// injection.
type Resumer interface {
	Injector
	// Resume hits the chosen instances that an earlier process did not hit. If late is true, Resume hits none, and
	// returns an error unless all were hit before.
	Resume(ctx context.Context, r Record, late bool) (Injection, error)
}

// ErrNoEffect is what Injection.Healed returns if the fault had no effect. Record.Reason then begins with the text of
// this error.
var ErrNoEffect = errors.New("the fault had no effect")

// Injection is a fault that is in effect. A fault with a duration ends by itself, even if this process crashes.
type Injection struct {
	// The field At is the time at which the fault took effect.
	At time.Time
	// Healed waits for the end of the fault, and returns its time, or zero if unknown. If ctx ends first, Healed ends
	// the fault or, if the cause is ErrHandedOver, returns an error.
	Healed func(ctx context.Context) (time.Time, error)
}
