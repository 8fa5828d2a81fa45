package plan

// Fault is a failure that is injected while the simulation runs, once or periodically.
type Fault struct {
	// Name identifies the fault within the plan.
	Name   string      `json:"name"`
	Target FaultTarget `json:"target"`
	Action FaultAction `json:"action"`
	// Instances is how many instances of the target are hit, at least 1. If Percent is set, it is that percentage of
	// them instead, rounded up.
	Instances int `json:"instances,omitempty"`
	Percent   int `json:"percent,omitempty"`
	// At is the instant of the first occurrence, from the start of the schedule.
	At Duration `json:"at"`
	// Every is the interval between occurrences; 0 means that there is only one. Jitter moves each occurrence by at
	// most this much, in either direction.
	Every  Duration `json:"every,omitzero"`
	Jitter Duration `json:"jitter,omitzero"`
	// For is how long Pause and Isolate last.
	For Duration `json:"for,omitzero"`
}

// FaultTarget is what a fault hits.
type FaultTarget string

// The targets.
const (
	TargetRabbitMQ FaultTarget = "RabbitMQ"
	// TargetRabbitMQLeader is the RabbitMQ node that leads most of the simulation's quorum queues.
	TargetRabbitMQLeader FaultTarget = "RabbitMQLeader"
	TargetRedis          FaultTarget = "Redis"
	TargetSummaryAPI     FaultTarget = "SummaryAPI"
	TargetProcessor      FaultTarget = "Processor"
	TargetEntryGenerator FaultTarget = "EntryGenerator"
	TargetExitGenerator  FaultTarget = "ExitGenerator"
)

// FaultAction is what a fault does to its target.
type FaultAction string

// The actions.
const (
	// ActionKill is a crash: SIGKILL, nothing is flushed.
	ActionKill FaultAction = "Kill"
	// ActionRestart is a graceful stop and a start.
	ActionRestart FaultAction = "Restart"
	// ActionEvict deletes pods through the eviction API, which respects disruption budgets.
	ActionEvict FaultAction = "Evict"
	// ActionPause is SIGSTOP, and SIGCONT at the end.
	ActionPause FaultAction = "Pause"
	// ActionIsolate cuts the target off from all other parts of the simulation.
	ActionIsolate FaultAction = "Isolate"
)

// Lasts reports whether a fault with this action lasts for a given time, instead of an instant.
func (a FaultAction) Lasts() bool { return a == ActionPause || a == ActionIsolate }
