// Package plan defines the plan of a simulation. The plan contains the values that the processes of the simulation need
// at run time. The operator writes the plan to a ConfigMap, which each process sees as a file. When the file is edited,
// running processes apply the changes that need no restart. Package manifest derives a plan from a ParkingSimulation.
package plan

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Plan contains everything that a generator, a processor or an audit must know about its simulation. In a cluster, a
// plan contains no secrets, but the paths of the directories in which secrets are mounted.
type Plan struct {
	// Simulation identifies the simulation on shared brokers and stores. Its form is <namespace>.<name>.
	Simulation string `json:"simulation"`
	// Owner distinguishes the simulation from others that have the same name and use the same RabbitMQ or Redis. The
	// operator sets Owner to the UID of the ParkingSimulation. If Owner is empty, the simulation does not check to whom
	// the queues and the data belong.
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

// Latency returns how long an effect takes at most to become durable in normal operation. For DurabilityWritten, this
// takes milliseconds, and the result is 0. For DurabilitySynced, a server with appendfsync everysec flushes its file
// once a second. An effect may have to wait for two flushes, and for a replica, which confirms once a second.
func (d Durability) Latency() time.Duration {
	if d == DurabilitySynced {
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
	// Stages are periods in which the rate changes linearly. The first stage begins at Rate. Every other stage
	// begins at the rate at which the previous stage ends. After the last stage, the rate stays constant.
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

// Stage is a period in which the rate changes linearly. The field Rate is the rate at the end of the period, in
// events per second.
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

// confirmTime is the time for the broker to confirm an entry, and for the store to record the confirmation. Only then
// can an exit use the plate.
const confirmTime = 500 * time.Millisecond

// ExitDelay returns how much later than the entries the exits start: when the first vehicles may leave. It contains the
// latency of the store three times, because three operations must become durable one after the other: the previous
// record of confirmations, the previous claim of plates, and the claim of the plate itself.
func (p *Plan) ExitDelay() time.Duration {
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
	// WithoutFaults contains objectives for the time in which no fault disturbs the simulation. UnderFaults contains
	// objectives for all other time of the run.
	WithoutFaults PhaseObjectives `json:"withoutFaults,omitzero"`
	UnderFaults   PhaseObjectives `json:"underFaults,omitzero"`
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

// BindingRef says where a process finds the address and the credentials of a server: in a URI, or in the files of a
// directory. The process reads the files each time it connects, so that credentials can be rotated without a restart.
// If both fields are empty, the process uses an in-memory implementation instead of a server.
type BindingRef struct {
	// URI contains one or more URIs of the server, separated by commas. If URI comes from the command line, URI may
	// contain a password. In the plans that the operator writes, URI is empty.
	URI string `json:"uri,omitempty"`
	// SecretDir is a directory that contains a file for each key of a Service Binding. The keys are uri, or host
	// and port; username and password; ca.crt, tls.crt and tls.key. If URI is set as well, the process takes the
	// address from URI, and the credentials from the directory.
	SecretDir string `json:"secretDir,omitempty"`
}

// SummaryAPI says how to reach the summary API.
type SummaryAPI struct {
	// URL is the base URL of the project's summary API, or the full URL of an external API.
	URL string `json:"url,omitempty"`
	// External means that the API is a program of the user. The program receives one POST request per summary, with a
	// JSON object as the body.
	External bool `json:"external,omitempty"`
	// SecretDir is a directory with the credentials for an external API. The directory contains either a file named
	// token, or two files named username and password. It may also contain a file named ca.crt.
	SecretDir string `json:"secretDir,omitempty"`
}

// Exchange returns the name of the simulation's direct exchange. The queues, and the exchange that marks the owner,
// have this name with a suffix such as .entry.0, .retry.entry.0 or .owner.
//
// If the simulation's name ends in .retry or .owner and contains an earlier dot, Exchange appends a dash. Without the
// dash, queues of two simulations could have the same name: both the entry queue of default.a.retry and the retry queue
// for entries of default.a would be called parking.default.a.retry.entry.0. The dash causes no new collision, because
// no simulation's name ends in a dash.
//
// A name such as default.retry needs no dash: only a simulation called default could have queues of the same names. In
// a cluster, the name of every simulation contains a dot. Outside a cluster, "parking simulate" does not start if one
// of its queues already exists.
func (p *Plan) Exchange() string {
	name := "parking." + p.Simulation
	_, own, _ := strings.Cut(p.Simulation, ".")
	if strings.HasSuffix(own, ".retry") || strings.HasSuffix(own, ".owner") {
		name += "-"
	}
	return name
}
