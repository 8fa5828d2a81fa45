package plan

import "time"

// SteadyTime is how long latency and backlog must stay near their levels from before a fault, so that the simulation
// counts as recovered.
const SteadyTime = 5 * time.Second

// MinEvents is how many events must be measured before a fault, and how many after the fault, to tell whether the
// simulation has recovered.
const MinEvents = 5

// Fault is a failure that is injected while the simulation runs. It may occur once or periodically.
type Fault struct {
	// Name identifies the fault within the plan.
	Name   string      `json:"name"`
	Target FaultTarget `json:"target"`
	Action FaultAction `json:"action"`
	// Instances is the number of instances that the fault hits. If it is 0, Percent applies.
	Instances int `json:"instances,omitempty"`
	// Percent is the percentage of instances that the fault hits, rounded up to a whole instance.
	Percent int `json:"percent,omitempty"`
	// At is the time of the first occurrence of the fault, measured from the start of the schedule.
	At Duration `json:"at"`
	// Every is the interval between occurrences. If it is 0, the fault occurs once.
	Every Duration `json:"every,omitzero"`
	// Jitter is the maximum random time by which an occurrence is moved in either direction.
	Jitter Duration `json:"jitter,omitzero"`
	// For is the duration of a fault with the action Pause or Isolate.
	For Duration `json:"for,omitzero"`
}

// LatestEnd returns the latest time at which the first occurrence of the fault can end, measured from the start of the
// schedule.
func (f *Fault) LatestEnd() time.Duration { return (f.At + f.Jitter + f.For).D() }

// FaultTarget is the part of a simulation that a fault hits.
type FaultTarget string

// The parts of a simulation that a fault can hit.
const (
	TargetRabbitMQ FaultTarget = "RabbitMQ"
	// TargetRabbitMQLeader is the RabbitMQ node that is the leader of the most quorum queues of the simulation.
	TargetRabbitMQLeader FaultTarget = "RabbitMQLeader"
	TargetRedis          FaultTarget = "Redis"
	TargetSummaryAPI     FaultTarget = "SummaryAPI"
	TargetProcessor      FaultTarget = "Processor"
	TargetEntryGenerator FaultTarget = "EntryGenerator"
	TargetExitGenerator  FaultTarget = "ExitGenerator"
)

// FaultAction is what a fault does to its target.
type FaultAction string

// The actions of faults.
const (
	// ActionKill crashes the target with SIGKILL, so that it writes nothing to disk before it ends.
	ActionKill FaultAction = "Kill"
	// ActionRestart stops the target gracefully and starts it again.
	ActionRestart FaultAction = "Restart"
	// ActionEvict deletes pods with the eviction API, which respects disruption budgets.
	ActionEvict FaultAction = "Evict"
	// ActionPause stops the target with SIGSTOP and, after the duration of the fault, resumes it with SIGCONT.
	ActionPause FaultAction = "Pause"
	// ActionIsolate cuts off the target from all other parts of the simulation, for the duration of the fault.
	ActionIsolate FaultAction = "Isolate"
)

// Lasts reports whether faults with this action have a duration.
func (a FaultAction) Lasts() bool { return a == ActionPause || a == ActionIsolate }
