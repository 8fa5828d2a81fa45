// Package plan holds what the processes of one simulation need to know at run time. The operator writes a plan to
// a file that the processes mount; they apply edits of the file while they run. Package manifest derives a plan
// from a ParkingSimulation.
package plan

import (
	"math"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
)

// Plan is everything that a generator, a processor or an audit needs to know about its simulation. It contains no
// secrets of a cluster, only the folders that hold them.
type Plan struct {
	// Simulation identifies the simulation on shared brokers and stores: <namespace>.<name>.
	Simulation string `json:"simulation"`
	// Owner distinguishes the simulation from others of the same name, on a RabbitMQ that they share. The operator
	// uses the UID of the ParkingSimulation. If it is empty, ownership of the queues is not checked.
	Owner string `json:"owner,omitempty"`
	// Seed determines plates and draws.
	Seed uint64 `json:"seed"`
	// StartTime is the origin of the schedules. The zero time means the start of the process.
	StartTime time.Time `json:"startTime,omitzero"`
	// Duration ends the schedules; 0 means never.
	Duration Duration `json:"duration,omitzero"`
	// DrainTimeout bounds the time from the end of the schedules to the verdict; 0 means no bound.
	DrainTimeout Duration `json:"drainTimeout,omitzero"`
	// Suspended stops the schedules.
	Suspended bool `json:"suspended,omitempty"`
	// Partitions is the number of entry queues and the number of exit queues.
	Partitions int `json:"partitions"`
	// QueueType is quorum or classic.
	QueueType QueueType `json:"queueType"`

	Entry     Entry     `json:"entry"`
	Exit      Exit      `json:"exit"`
	MaxStay   Duration  `json:"maxStay"`
	Processor Processor `json:"processor"`

	// Faults are injected while the schedules run.
	Faults     []Fault    `json:"faults,omitempty"`
	Objectives Objectives `json:"objectives"`

	RabbitMQ   BindingRef `json:"rabbitmq"`
	Redis      BindingRef `json:"redis"`
	SummaryAPI SummaryAPI `json:"summaryAPI"`
}

// QueueType is a RabbitMQ queue type.
type QueueType string

// The queue types, as the queue argument x-queue-type spells them.
const (
	QueueTypeQuorum  QueueType = "quorum"
	QueueTypeClassic QueueType = "classic"
)

// Arrivals is the arrival process of a schedule.
type Arrivals string

// The arrival processes.
const (
	ArrivalsUniform Arrivals = "Uniform"
	ArrivalsPoisson Arrivals = "Poisson"
)

// Schedule describes the rate of events over time. All replicas share it.
type Schedule struct {
	// Rate is in events per second.
	Rate     int64    `json:"rate"`
	Arrivals Arrivals `json:"arrivals"`
	// Stages are linear ramps. The first starts at Rate, each other one where the previous one ends. After the last
	// stage its rate stays.
	Stages []Stage `json:"stages,omitempty"`
	// Replicas is the number of processes that share the schedule.
	Replicas int `json:"replicas"`
}

// Publishes reports whether the schedule publishes an event at any time.
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

// RateAt returns the rate at time t after the start of the schedule, in events per second. It is 0 before the start.
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

// Events returns the number of events that are due in the first t of the schedule.
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

// Stage is a ramp that reaches Rate, in events per second, after Duration.
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
	// MatchPercent is the percentage of exits that use a plate that entered, from 0 to 100.
	MatchPercent int `json:"matchPercent"`
	// MinStay is the shortest time from a plate's entry to its exit.
	MinStay Duration `json:"minStay"`
}

// Processor is the plan of the processors.
type Processor struct {
	// Concurrency bounds the messages per queue that are processed concurrently.
	Concurrency int `json:"concurrency"`
}

// Objectives are the bounds that the verdict checks. A duration of 0 means no objective.
type Objectives struct {
	// PhaseObjectives apply to the whole run.
	PhaseObjectives
	// WithoutFaults applies to the time in which no fault disturbs the simulation, UnderFaults to the rest.
	WithoutFaults PhaseObjectives `json:"withoutFaults,omitzero"`
	UnderFaults   PhaseObjectives `json:"underFaults,omitzero"`
	// MaxRecovery bounds the time from the end of a fault until the simulation has recovered from it.
	MaxRecovery   Duration `json:"maxRecovery,omitzero"`
	MaxLost       int64    `json:"maxLost"`
	MaxUnexpected int64    `json:"maxUnexpected"`
	// AbortOnFailure ends the run once the verdict can only be FAIL.
	AbortOnFailure bool `json:"abortOnFailure,omitempty"`
}

// PhaseObjectives are objectives of the whole run or of a part of it. 0 means no objective.
type PhaseObjectives struct {
	ProcessingP99 Duration `json:"processingP99,omitzero"`
	EndToEndP99   Duration `json:"endToEndP99,omitzero"`
	// MaxLag bounds how late generators are.
	MaxLag Duration `json:"maxLag,omitzero"`
	// MinAchievedPercent is the least percentage of the due events that have to be published.
	MinAchievedPercent int `json:"minAchievedPercent,omitempty"`
}

// BindingRef says where a process finds the binding of a server. The process reads files again at each connect, so a
// rotation of credentials needs no restart. If both fields are empty, there is no server: the part is in memory.
type BindingRef struct {
	// URI is the address of the server. It may hold a password if a person gave it on a command line. The plan files of
	// the operator have no URI.
	URI string `json:"uri,omitempty"`
	// SecretDir is a folder with one file per key of a Service Binding: uri, or host, port; username, password; ca.crt,
	// tls.crt, tls.key. If URI is set too, it replaces the address in the folder, and the credentials of the folder
	// replace those of URI.
	SecretDir string `json:"secretDir,omitempty"`
}

// SummaryAPI says how to reach the summary API.
type SummaryAPI struct {
	// URL is the base URL of our own API, or the full URL of an external API.
	URL string `json:"url,omitempty"`
	// External means that the API is not ours. It receives one POST request with a JSON object per summary.
	External bool `json:"external,omitempty"`
	// SecretDir is a folder with the credentials of an external API: the file token, or the files username and
	// password, and optionally ca.crt.
	SecretDir string `json:"secretDir,omitempty"`
}

// Partition returns the partition, from 0, of both events of a plate.
func (p *Plan) Partition(plate string) int { return event.PartitionOf(plate, p.Partitions) }

// Exchange returns the name of the simulation's direct exchange.
func (p *Plan) Exchange() string { return "parking." + p.Simulation }
