// Package report makes one document of everything that is known about a finished run, and renders it as JSON,
// Markdown, JUnit XML and HTML. All renderings show the same figures, because all read the same document.
//
// The JSON form is published and versioned: docs/report.schema.json describes it.
package report

import (
	"encoding/json"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Version is the version of the JSON form. It changes when a reader of the previous version would misread a
// document. New fields do not change it.
const Version = 1

// Document is the report of one run.
type Document struct {
	Version int `json:"version"`
	Run
	Environment Environment `json:"environment"`
	// Timeline is what was measured over time, in ascending order. It is empty if it could not be read.
	Timeline []timeline.Row `json:"timeline,omitempty"`
}

// New returns the report of a run.
func New(r Run, e Environment, rows []timeline.Row) Document {
	return Document{Version: Version, Run: r, Environment: e, Timeline: rows}
}

// Run is the result of a run.
type Run struct {
	ledger.Verdict
	// Simulation is the name of the simulation on the broker and in the store.
	Simulation string `json:"simulation"`
	// StartTime is the start of the run. EndTime is when the simulation had come to rest, or had given up.
	StartTime time.Time `json:"startTime,omitzero"`
	EndTime   time.Time `json:"endTime,omitzero"`
	// ElapsedSeconds is the time from the start to the end of the schedule, or to the signal that ended it.
	// DrainSeconds is the time from then until the simulation was at rest, or gave up.
	ElapsedSeconds float64 `json:"elapsedSeconds"`
	DrainSeconds   float64 `json:"drainSeconds"`
	// Ledger is nil if it could not be read.
	Ledger         *ledger.Report  `json:"ledger"`
	Rates          Rates           `json:"rates"`
	LatencySeconds Latencies       `json:"latencySeconds"`
	Objectives     plan.Objectives `json:"objectives"`
	// Faults are the occurrences of faults, in the order of their injection. FaultsOmitted counts those that were left out
	// to bound the size of the report: the worst ones are kept.
	Faults        []fault.Account `json:"faults,omitempty"`
	FaultsOmitted int             `json:"faultsOmitted,omitempty"`
}

// Rates are the rates of both event types.
type Rates struct {
	Entry Rate `json:"entry"`
	Exit  Rate `json:"exit"`
}

// Rate compares the schedule with what was published, in events per second.
type Rate struct {
	Target   float64 `json:"target"`
	Achieved float64 `json:"achieved"`
	// Missed counts the due events that were never attempted.
	Missed int64 `json:"missed"`
	// MaxLagSeconds is the longest observed time between the time at which an event was due and its
	// publishing.
	MaxLagSeconds float64 `json:"maxLagSeconds"`
}

// Latencies are the time in ProcessMessage, and the time from when an event was due to its effect. A latency
// is nil if no event was measured.
type Latencies struct {
	Processing *Latency `json:"processing"`
	EndToEnd   *Latency `json:"endToEnd"`
	// Unmeasured counts the events that took effect but are missing from EndToEnd, because their processor was killed.
	Unmeasured int64 `json:"unmeasured"`
}

// LatenciesOf returns the figures of latencies.
func LatenciesOf(l *ledger.Latencies) Latencies {
	return Latencies{Processing: LatencyOf(l.Processing), EndToEnd: LatencyOf(l.EndToEnd), Unmeasured: int64(l.Unmeasured)}
}

// Latency is a distribution, in seconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Mean float64 `json:"mean"`
}

// Distribution is a measured distribution of durations.
type Distribution interface {
	Count() uint64
	Quantile(q float64) time.Duration
	Mean() time.Duration
}

// LatencyOf returns the figures of a distribution. It returns nil if no duration was measured.
func LatencyOf(d Distribution) *Latency {
	if d.Count() == 0 {
		return nil
	}
	return &Latency{P50: d.Quantile(.50).Seconds(), P99: d.Quantile(.99).Seconds(), Mean: d.Mean().Seconds()}
}

// Environment is where a run took place. An empty field is unknown.
type Environment struct {
	// Parking is the version of this program.
	Parking string `json:"parking,omitempty"`
	// RabbitMQ, Redis and Kubernetes are the versions of the servers, or "in memory".
	RabbitMQ   string `json:"rabbitmq,omitempty"`
	Redis      string `json:"redis,omitempty"`
	Kubernetes string `json:"kubernetes,omitempty"`
	// Nodes are the machines on which the processes ran.
	Nodes []Node `json:"nodes,omitempty"`
	// Manifest is the ParkingSimulation, without the values of environment variables in pod templates.
	Manifest json.RawMessage `json:"manifest,omitempty"`
}

// Node is a machine.
type Node struct {
	// Name is empty for the machine that made the report.
	Name string `json:"name,omitempty"`
	// CPUs is the number of logical processors, MemoryBytes the size of the memory.
	CPUs         int64  `json:"cpus"`
	MemoryBytes  int64  `json:"memoryBytes,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	// System names the operating system and its version.
	System string `json:"system,omitempty"`
}
