// Package plan defines the plan of a simulation: the values that its processes need at run time. The operator writes
// the plan to a ConfigMap. Running processes apply the changes that need no restart. Package manifest derives a plan
// from a ParkingSimulation.
package plan

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Plan is everything that a process must know about its simulation. In a cluster, a plan contains no secrets, only the
// directories of mounted Secrets.
type Plan struct {
	// Simulation identifies the simulation on shared brokers and stores. Its form is <namespace>.<name>.
	Simulation string `json:"simulation"`
	// Owner distinguishes simulations of the same name on shared servers. The operator sets it to the UID of the
	// simulation. If Owner is empty, the owner of existing data is not checked.
	Owner string `json:"owner,omitempty"`
	// Seed determines which plates are used and which exits have a matching entry.
	Seed uint64 `json:"seed"`
	// StartTime is when the schedules begin. If StartTime is zero, the schedules begin when the process starts.
	StartTime time.Time `json:"startTime,omitzero"`
	// Duration is how long the schedules last. If Duration is 0, the schedules do not end.
	Duration Duration `json:"duration,omitzero"`
	// DrainTimeout is the maximum time from the end of the schedules to the verdict. If DrainTimeout is 0, this time is
	// not limited.
	DrainTimeout Duration `json:"drainTimeout,omitzero"`
	// Suspended means that the schedules are interrupted.
	Suspended bool `json:"suspended,omitempty"`
	// Partitions is the number of partitions. Each partition has one entry queue and one exit queue.
	Partitions int `json:"partitions"`
	// QueueType is the RabbitMQ type of the queues.
	QueueType QueueType `json:"queueType"`
	// Durability says when the effect of an event counts as durable in Redis.
	Durability Durability `json:"durability,omitempty"`

	Entry     Entry     `json:"entry"`
	Exit      Exit      `json:"exit"`
	MaxStay   Duration  `json:"maxStay"`
	Processor Processor `json:"processor"`

	// Faults contains the faults that are injected while the schedules run.
	Faults     []Fault    `json:"faults,omitempty"`
	Objectives Objectives `json:"objectives"`

	RabbitMQ   BindingRef `json:"rabbitmq"`
	Redis      BindingRef `json:"redis"`
	SummaryAPI SummaryAPI `json:"summaryAPI"`
}

// QueueType is a RabbitMQ queue type.
type QueueType string

// These constants are the types of queues, spelled as in the queue argument x-queue-type.
const (
	QueueTypeQuorum  QueueType = "quorum"
	QueueTypeClassic QueueType = "classic"
)

// Durability says when the effect of an event counts as durable in Redis. The plan file omits the default,
// DurabilityWritten.
type Durability string

const (
	// DurabilityWritten means that the primary has written the effect to its append-only file, and that all connected
	// replicas have received it.
	DurabilityWritten Durability = ""
	// DurabilitySynced means that the primary and all connected replicas have also flushed the effect to disk.
	DurabilitySynced Durability = "Synced"
)

// Latency returns the longest time until an effect is durable in normal operation. The few milliseconds of
// DurabilityWritten count as 0.
func (d Durability) Latency() time.Duration {
	if d == DurabilitySynced {
		// With appendfsync everysec, an effect may wait for two flushes, which takes up to 2 s. A replica also confirms
		// only once a second, so allow 4 s.
		return 4 * time.Second
	}
	return 0
}

// Arrivals says how events are distributed over time.
type Arrivals string

const (
	// ArrivalsUniform spaces events evenly.
	ArrivalsUniform Arrivals = "Uniform"
	// ArrivalsPoisson makes each event independent of the others, with exponentially distributed gaps.
	ArrivalsPoisson Arrivals = "Poisson"
)

// Schedule is the rate of events over time. All replicas of a generator share one schedule.
type Schedule struct {
	// Rate is the rate at the start of the schedule, in events per second.
	Rate     int64    `json:"rate"`
	Arrivals Arrivals `json:"arrivals"`
	// Stages are periods in which the rate changes linearly. The first begins at Rate, every other at the final rate of
	// the previous stage. After the last stage, the rate is constant.
	Stages []Stage `json:"stages,omitempty"`
	// Replicas is the number of processes that share the schedule.
	Replicas int `json:"replicas"`
}

// Publishes reports whether the schedule contains any events.
func (s Schedule) Publishes() bool {
	return s.Rate > 0 || slices.ContainsFunc(s.Stages, func(stage Stage) bool { return stage.Rate > 0 })
}

// FinalRate returns the rate after the last stage, in events per second.
func (s Schedule) FinalRate() int64 {
	if n := len(s.Stages); n > 0 {
		return s.Stages[n-1].Rate
	}
	return s.Rate
}

// PeakRate returns the highest rate of the schedule, in events per second.
func (s Schedule) PeakRate() int64 {
	peak := s.Rate
	for _, stage := range s.Stages {
		peak = max(peak, stage.Rate)
	}
	return peak
}

// RateAt returns the rate at the time t after the start of the schedule, in events per second. If t is negative, the
// result is 0.
func (s Schedule) RateAt(t time.Duration) int64 {
	if t < 0 {
		return 0
	}
	rate := s.Rate
	for _, stage := range s.Stages {
		length := stage.Duration.D()
		if t < length {
			return rate + int64(math.Round(float64(stage.Rate-rate)*float64(t)/float64(length)))
		}
		t -= length
		rate = stage.Rate
	}
	return rate
}

// Events returns the number of events that are due within the time t after the start of the schedule.
func (s Schedule) Events(t time.Duration) int64 {
	events, rate := 0.0, float64(s.Rate)
	for _, stage := range s.Stages {
		length := min(stage.Duration.D(), t)
		last := rate + (float64(stage.Rate)-rate)*float64(length)/float64(stage.Duration)
		events += (rate + last) / 2 * length.Seconds()
		rate, t = float64(stage.Rate), t-length
	}
	return int64(events + rate*t.Seconds())
}

// Length returns the total duration of the stages.
func (s Schedule) Length() time.Duration {
	var sum time.Duration
	for _, stage := range s.Stages {
		sum += stage.Duration.D()
	}
	return sum
}

// Stage is a period in which the rate changes linearly. Rate is the rate at the end of the period, in events per
// second.
type Stage struct {
	Duration Duration `json:"duration"`
	Rate     int64    `json:"rate"`
}

// Entry is the plan of the entry generators.
type Entry struct {
	Schedule
}

// Exit is the plan of the exit generators.
type Exit struct {
	Schedule
	// MatchPercent is the percentage of exits, from 0 to 100, that use the plate of a vehicle that has entered.
	MatchPercent int `json:"matchPercent"`
	// MinStay is the minimum time between the entry and the exit of a vehicle.
	MinStay Duration `json:"minStay"`
}

// confirmTime is the time to confirm an entry and to record the confirmation. Only then can an exit use the plate.
const confirmTime = 500 * time.Millisecond

// ExitDelay returns the time from the start of the entries to the start of the exits.
func (p *Plan) ExitDelay() time.Duration {
	// Before an exit can use a plate, three writes must become durable one after the other. These are the previous
	// record of confirmed entries, the previous claim of plates, and the claim of this plate.
	return p.Exit.MinStay.D() + confirmTime + 3*p.Durability.Latency()
}

// Processor is the plan of the processors.
type Processor struct {
	// Concurrency is the maximum number of messages of one queue that a processor processes at the same time.
	Concurrency int `json:"concurrency"`
}

// Objectives are the limits that the verdict checks. A duration of 0 means that there is no such limit.
type Objectives struct {
	// The embedded PhaseObjectives apply to the whole run.
	PhaseObjectives
	// WithoutFaults applies to the time in which no fault disturbs the simulation.
	WithoutFaults PhaseObjectives `json:"withoutFaults,omitzero"`
	// UnderFaults applies to all other time of the run.
	UnderFaults PhaseObjectives `json:"underFaults,omitzero"`
	// MaxRecovery is the maximum time that the simulation may need to recover from a fault.
	MaxRecovery   Duration `json:"maxRecovery,omitzero"`
	MaxLost       int64    `json:"maxLost"`
	MaxUnexpected int64    `json:"maxUnexpected"`
	// AbortOnFailure ends the run as soon as the verdict is certain to be FAIL.
	AbortOnFailure bool `json:"abortOnFailure,omitempty"`
}

// PhaseObjectives are objectives for the whole run or a part of it. For each field, 0 means that there is no
// objective.
type PhaseObjectives struct {
	ProcessingP99 Duration `json:"processingP99,omitzero"`
	EndToEndP99   Duration `json:"endToEndP99,omitzero"`
	// MaxLag is the maximum lag of a generator behind its schedule.
	MaxLag Duration `json:"maxLag,omitzero"`
	// MinAchievedPercent is the minimum percentage of the due events that must be published.
	MinAchievedPercent int `json:"minAchievedPercent,omitempty"`
}

// BindingRef says where a process finds the address and credentials of a server. If both fields are empty, the process
// uses an in-memory implementation.
type BindingRef struct {
	// URI contains one or more URIs, separated by commas. It may contain a password from the command line. The operator
	// leaves it empty.
	URI string `json:"uri,omitempty"`
	// SecretDir contains a file for each key of a binding; see docs/operations.md. The process reads the files at each
	// connection attempt. If URI is set, its address replaces the address in the files.
	SecretDir string `json:"secretDir,omitempty"`
}

// SummaryAPI says how to reach the summary API.
type SummaryAPI struct {
	// URL is the base URL of the project's summary API, or the full URL of an external API.
	URL string `json:"url,omitempty"`
	// External means that the API is a program of the user. The program receives one POST request per summary, with a
	// JSON object as the body.
	External bool `json:"external,omitempty"`
	// SecretDir is a directory with the credentials for an external API: the file token, or username and password. The
	// file ca.crt is optional.
	SecretDir string `json:"secretDir,omitempty"`
}

// Exchange returns the name of the simulation's direct exchange. The queues, and the exchange that marks the owner,
// have this name with a suffix such as .entry.0, .retry.entry.0 or .owner.
func (p *Plan) Exchange() string {
	name := "parking." + p.Simulation
	// The simulations default.a and default.a.retry must not share queue names such as parking.default.a.retry.entry.0,
	// which is a retry queue of default.a. So the exchange of default.a.retry gets a dash at its end. No simulation's
	// name ends in a dash.
	//
	// The simulation default.retry needs no dash, because only a simulation called "default" could have the same queue
	// names. In a cluster, every name begins with a namespace. Outside of clusters, "parking simulate" rejects existing
	// queues.
	_, own, _ := strings.Cut(p.Simulation, ".")
	if strings.HasSuffix(own, ".retry") || strings.HasSuffix(own, ".owner") {
		name += "-"
	}
	return name
}
