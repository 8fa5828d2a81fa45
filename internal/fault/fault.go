// Package fault plans the faults of a simulation, injects them, and measures their effects on the simulation.
//
// The function Occurrences computes from the plan when each fault is due. When an occurrence is due, a Runner creates a
// Record of the occurrence and calls an Injector, which injects the fault. The function Accounts computes from the
// records and the timeline how each occurrence affected the simulation, and when the simulation had recovered.
// Occurrences and Accounts are pure functions.
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
	// The field At is the time at which the occurrence is due, measured from the start of the schedule. The field For
	// is the duration of the fault, or 0 for an action without a duration, such as a kill.
	At  time.Duration `json:"at"`
	For time.Duration `json:"for,omitempty"`
	// Instances is the number of instances to hit. If Percent is set, that percentage of the target's instances
	// is hit instead. The random number Draw determines which instances are hit.
	Instances int    `json:"instances,omitempty"`
	Percent   int    `json:"percent,omitempty"`
	Draw      uint64 `json:"draw"`
}

// ID returns a text that identifies the occurrence within its simulation, such as "redis-crash/3".
func (o *Occurrence) ID() string { return occurrenceID(o.Fault, o.Number) }

func occurrenceID(fault string, number int) string { return fault + "/" + strconv.Itoa(number) }

// Chosen identifies an instance that an occurrence hits, and describes the state of the instance before the injection.
// An injector compares this state with the present state to find out whether the instance has been hit.
type Chosen struct {
	// Name is the name of the instance, such as "processor-1".
	Name string `json:"name"`
	// The field ID changes when another instance takes over the name. The field Processes changes when a process of the
	// instance restarts. Both fields may be empty.
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
	// final. ChosenAt is when the instances were chosen.
	Chosen   []Chosen  `json:"chosen,omitempty"`
	ChosenAt time.Time `json:"chosenAt,omitzero"`
	// Hit contains the names of the instances that were hit, such as "processor-1". It is empty if the fault had no
	// effect.
	Hit []string `json:"hit,omitempty"`
	// Of is the number of instances among which the fault chose those to hit. It is 0 if the number is unknown.
	Of int `json:"of,omitempty"`
	// InjectedAt is when the fault took effect. HealedAt is when the fault ended, that is, when a paused or isolated
	// target was released, or when a killed target was running again. Each time is zero until its event has happened.
	InjectedAt time.Time `json:"injectedAt,omitzero"`
	HealedAt   time.Time `json:"healedAt,omitzero"`
	State      State     `json:"state"`
	// Reason says why the occurrence was not injected, or was aborted.
	Reason string `json:"reason,omitempty"`
	// Measured is the final Account of the fault, or nil until the Account is final. It is saved, because the timeline
	// loses detail with time and may later yield a different Account.
	Measured *Account `json:"measured,omitempty"`
	// Baseline describes the operation before the fault. The recovery is measured against it. It is saved because the
	// timeline may later lack the rows before the fault. A later fault without a baseline of its own also uses this
	// Baseline.
	Baseline *Baseline `json:"baseline,omitempty"`
}

// Failure says why the state is NotInjected. The text follows the name of the fault, such as "was not injected: …".
func (r *Record) Failure() string {
	if strings.HasPrefix(r.Reason, ErrNoEffect.Error()) {
		return strings.TrimPrefix(r.Reason, "the fault ")
	}
	return "was not injected: " + r.Reason
}

// IsFinal reports whether the fault has ended, or will not be injected.
func (r *Record) IsFinal() bool { return r.State != Injecting && r.State != Active }

// recoversFrom returns the time at which the recovery time begins. For an action with a duration, the recovery time
// begins when the fault has ended. For any other action, the recovery time begins when the fault takes effect. The
// result is zero as long as this time is unknown.
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
	// Injecting means that the fault is due and is not in effect yet. A record in this state is saved twice: before the
	// instances are chosen, and before the chosen instances are hit. So a process that takes over from a crashed
	// process knows which instances may have been hit already; see Resumer.
	Injecting State = "Injecting"
	// Active means that the fault is in effect.
	Active State = "Active"
	// Healed means that the fault has ended.
	Healed State = "Healed"
	// NotInjected means that the fault could not be injected, or had no effect. Record.Reason says why.
	NotInjected State = "NotInjected"
	// Aborted means that the simulation ended or was suspended before the fault had ended, or that the fault did not
	// end as declared, for example because a paused container was restarted. Record.Reason says why.
	Aborted State = "Aborted"
)

// Injector injects faults into one simulation. The author of the manifest reads the errors of an Injector, so these
// errors must use the terms of the manifest.
type Injector interface {
	// Choose selects the instances into which the occurrence is injected. It does not inject the fault.
	Choose(context.Context, Occurrence) (Choice, error)
	// Inject injects a fault into all instances in Record.Chosen. It returns as soon as the fault is in effect in all
	// these instances. If Inject fails, it ends the pause or the isolation of each instance that it has already hit.
	// Exception: if the context ended with the cause ErrHandedOver, Inject leaves these effects in place.
	//
	// A fault with a duration ends by itself after this duration, even if this process crashes.
	Inject(context.Context, Record) (Injection, error)
}

// Resumer is an Injector whose faults continue if the process that injected them ends. Another process then resumes the
// injection.
type Resumer interface {
	Injector
	// Resume continues the injection of a fault that an earlier process began. It hits those chosen instances in the
	// record that were not hit before. If late is true, it hits no further instances, and returns an error unless all
	// instances were hit before.
	Resume(ctx context.Context, r Record, late bool) (Injection, error)
}

// ErrNoEffect means that a fault had no effect, although it was injected. Record.Reason then begins with the text of
// this error.
var ErrNoEffect = errors.New("the fault had no effect")

// Injection is a fault that is in effect.
type Injection struct {
	// The field At is the time at which the fault took effect.
	At time.Time
	// Healed waits until the fault has ended, and returns the time of the end, or zero if that time is unknown. It
	// returns ErrNoEffect if the fault had no effect. If ctx ends while the fault is in effect, Healed tries to end the
	// fault at once. Exception: if the cause of ctx is ErrHandedOver, Healed leaves the fault in effect and returns an
	// error.
	Healed func(ctx context.Context) (time.Time, error)
}
