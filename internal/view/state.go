package view

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Phase says how far a simulation has progressed.
type Phase string

// The phases, in chronological order.
const (
	// Running means that the generators publish events.
	Running Phase = "running"
	// Draining means that the generators have stopped, and that the processors process the remaining events.
	Draining Phase = "draining"
	// Auditing means that the ledger is read for the verdict.
	Auditing Phase = "auditing"
	// Finished means that there is a verdict.
	Finished Phase = "finished"
)

// State is the current state of a simulation. A nil pointer means that the value is unknown.
type State struct {
	// Run is the unique identifier of the run of the simulation.
	Run        string `json:"run"`
	Simulation string `json:"simulation"`
	// Version is the version of the program that created the state.
	Version string `json:"version,omitempty"`
	Phase   Phase  `json:"phase"`
	// At is the time at which the state was read. StartedAt is the start of the schedules of entries and exits.
	At        time.Time `json:"at"`
	StartedAt time.Time `json:"startedAt,omitzero"`
	// DurationSeconds is the length of the schedules. 0 means that the schedules have no end.
	DurationSeconds float64 `json:"durationSeconds"`

	Verdict    Verdict    `json:"verdict"`
	Objectives Objectives `json:"objectives"`
	Entry      Generator  `json:"entry"`
	Exit       Generator  `json:"exit"`
	Queues     Queues     `json:"queues"`
	// Faults contains the latest occurrences of faults, at most maxFaults, in the order in which they were due. Hit
	// names at most maxHit instances; HitOmitted counts the others.
	Faults []fault.Account `json:"faults"`
	// Ledger is the result of the latest audit.
	Ledger *ledger.Report `json:"ledger"`
	// Unmeasured counts the events that took effect but are missing from the latencies. It is nil until the run has
	// finished and its measurements are stored.
	Unmeasured *int64 `json:"unmeasured"`
}

// The method now returns the time at which the state was read, by the clock that also timed the rows. It returns the
// local time if the state contains no time.
func (s *State) now() time.Time {
	if s.At.IsZero() {
		return time.Now()
	}
	return s.At
}

// Verdict says whether the run passes or fails. Before the run ends, it contains what is already certain.
type Verdict struct {
	// Outcome is PASS, FAIL, or empty while the verdict is undecided.
	Outcome ledger.Outcome `json:"outcome,omitempty"`
	// Final is true if the verdict is based on the audit at the end of the run.
	Final bool `json:"final"`
	// Reasons are sentences that explain why the outcome is FAIL.
	Reasons []string `json:"reasons"`
}

// Objectives are the objectives of the simulation. A latency of 0 means that there is no objective for this latency.
type Objectives struct {
	ProcessingP99Seconds float64 `json:"processingP99Seconds"`
	EndToEndP99Seconds   float64 `json:"endToEndP99Seconds"`
	MaxLost              int64   `json:"maxLost"`
	MaxUnexpected        int64   `json:"maxUnexpected"`
}

// ObjectivesOf returns the objectives of a plan.
func ObjectivesOf(o *plan.Objectives) Objectives {
	return Objectives{
		ProcessingP99Seconds: o.ProcessingP99.D().Seconds(), EndToEndP99Seconds: o.EndToEndP99.D().Seconds(),
		MaxLost: o.MaxLost, MaxUnexpected: o.MaxUnexpected,
	}
}

// Generator contains the counts of all generators of one event type.
type Generator struct {
	// TargetRate and AchievedRate are mean rates since the start, in events per second. Rate is the current rate of
	// the schedule.
	Rate         float64 `json:"rate"`
	TargetRate   float64 `json:"targetRate"`
	AchievedRate float64 `json:"achievedRate"`
	// Due is the number of events that have become due according to the schedule.
	Due int64 `json:"due"`
	// Published is the number of events that were sent to the broker.
	Published int64 `json:"published"`
	// Missed is the number of events that the generators never tried to publish.
	Missed int64 `json:"missed"`
	// Starved is the number of exits that were not published because no plate was available.
	Starved int64 `json:"starved"`
	// LagSeconds is how long the next event to publish has been overdue.
	LagSeconds float64 `json:"lagSeconds"`
}

// Queues says how much is waiting: messages in RabbitMQ, and plates for which an exit can be published.
type Queues struct {
	// Ready is the number of messages in the event queues, without those that processors hold.
	Ready *int64 `json:"ready"`
	// Retrying is the number of messages in the retry queues.
	Retrying *int64 `json:"retrying"`
	// DeadLetters is the number of messages in the dead-letter queue.
	DeadLetters *int64 `json:"deadLetters"`
	// InFlight is the number of messages that are delivered to processors but not settled.
	InFlight *int64 `json:"inFlight"`
	// Pool is the number of plates that are available to exits.
	Pool *int64 `json:"pool"`
}

// These constants limit the size of a state, because each update sends the state to all clients.
const (
	// maxFaults is the maximum number of faults in a state.
	maxFaults = 100
	// maxHit is the maximum number of instances that the field Hit of a fault lists.
	maxHit = 5
)

// cachedState caches the state or error of a source for maxAge. Concurrent callers share one call, even if the source
// does not respond.
type cachedState struct {
	source  Source
	version string
	maxAge  time.Duration

	mu      sync.Mutex
	state   State
	err     error
	fetched time.Time
}

// get returns the cached state or error if it is less than maxAge old. Otherwise, it calls the source.
func (c *cachedState) get(ctx context.Context) (State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fetched.IsZero() || time.Since(c.fetched) >= c.maxAge {
		c.state, c.err = c.fetch(ctx)
		c.fetched = time.Now()
	}
	return c.state, c.err
}

// fetch calls the source. It completes the call even if ctx ends, because other callers may wait for the result too.
func (c *cachedState) fetch(ctx context.Context) (State, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stateTimeout)
	defer cancel()
	state, err := c.source.State(ctx)
	if err != nil {
		return State{}, err
	}
	if state.Verdict.Reasons == nil {
		state.Verdict.Reasons = []string{} // encoded as [] instead of null
	}
	if state.Faults == nil {
		state.Faults = []fault.Account{}
	}
	state.Faults = fault.Abridge(state.Faults[max(0, len(state.Faults)-maxFaults):], maxHit)
	state.Version = cmp.Or(state.Version, c.version)
	return state, nil
}

func (c *cachedState) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fetched = time.Time{}
}
