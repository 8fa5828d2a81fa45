// Package report combines everything that is known about a finished run in one document, and renders the document
// as JSON, Markdown, JUnit XML and HTML. All renderings show the same figures because they are based on the same
// document.
//
// The JSON form is a versioned public format. docs/report.schema.json describes it.
package report

import (
	"encoding/json"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Version is the version of the JSON form. It changes only when readers of the previous version would misread a
// document, not when a field is added.
const Version = 1

// Document is the report of one run.
type Document struct {
	Version int `json:"version"`
	Run
	Environment Environment `json:"environment"`
	// Timeline contains the measurements over time, with the earliest first. It is empty if the timeline could not
	// be read.
	Timeline []timeline.Row `json:"timeline,omitempty"`
}

// New returns the report of a run with the given timeline. It rounds times down to milliseconds, so that all formats
// show the same times.
func New(r Run, e Environment, rows []timeline.Row) Document {
	r.StartTime = r.StartTime.UTC().Truncate(time.Millisecond)
	r.EndTime = r.EndTime.UTC().Truncate(time.Millisecond)
	return Document{Version: Version, Run: r, Environment: e, Timeline: rows}
}

// Run contains the verdict, the times and the measurements of a run.
type Run struct {
	ledger.Verdict
	// Simulation is the name by which the broker and the store identify the simulation.
	Simulation string `json:"simulation"`
	// StartTime is the start of the run. EndTime is the time at which all events were processed, or at which the
	// simulation stopped waiting for them.
	StartTime time.Time `json:"startTime,omitzero"`
	EndTime   time.Time `json:"endTime,omitzero"`
	// ElapsedSeconds is the time from StartTime until the end of the schedule, or until a signal ended the schedule
	// early. DrainSeconds is the remaining time until EndTime.
	ElapsedSeconds float64 `json:"elapsedSeconds"`
	DrainSeconds   float64 `json:"drainSeconds"`
	// CutShort says when and why the run ended before the end of its schedule. It is empty if a failure ended the run.
	CutShort string `json:"cutShort,omitempty"`
	// Ledger is the result of the audit. It is nil if the ledger could not be read.
	Ledger         *ledger.Report  `json:"ledger"`
	Rates          Rates           `json:"rates"`
	LatencySeconds Latencies       `json:"latencySeconds"`
	Objectives     plan.Objectives `json:"objectives"`
	// Faults contains the occurrences of faults in the order in which they were due. Some may be omitted, but never the
	// worst (see fault.Worst).
	Faults []fault.Account `json:"faults,omitempty"`
	// FaultsOmitted is the number of occurrences that were omitted from Faults to limit the size of the report.
	FaultsOmitted int64 `json:"faultsOmitted,omitempty"`
	// FaultTotals sums up all occurrences, including those that were omitted.
	FaultTotals []fault.Total `json:"faultTotals,omitempty"`
}

// Rates are the event rates of entries and exits.
type Rates struct {
	Entry Rate `json:"entry"`
	Exit  Rate `json:"exit"`
}

// Rate compares the scheduled event rate with the achieved one, in events per second.
type Rate struct {
	Target   float64 `json:"target"`
	Achieved float64 `json:"achieved"`
	// Missed is the number of due events that the generator never attempted to publish.
	Missed int64 `json:"missed"`
	// MaxLagSeconds is the maximum delay between the time at which an event was due and its publication.
	MaxLagSeconds float64 `json:"maxLagSeconds"`
}

// Latencies contains latency distributions. A distribution is nil if no event was measured.
type Latencies struct {
	// Processing is the duration of the calls of ProcessMessage.
	Processing *Latency `json:"processing"`
	// EndToEnd is the time from when an event was due until it took effect.
	EndToEnd *Latency `json:"endToEnd"`
	// Unmeasured counts the events that took effect but are missing from EndToEnd. For example, their processor was
	// killed before it stored their latencies, or clock differences made them seem to take effect more than 1 s before
	// they were due.
	Unmeasured int64 `json:"unmeasured"`
}

// LatenciesOf returns the statistics of measured latencies.
func LatenciesOf(l *ledger.Latencies) Latencies {
	return Latencies{Processing: LatencyOf(l.Processing), EndToEnd: LatencyOf(l.EndToEnd), Unmeasured: int64(l.Unmeasured)}
}

// Latency contains statistics of a distribution of durations, in seconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Mean float64 `json:"mean"`
}

// Distribution is a measured distribution of durations, such as a histogram.
type Distribution interface {
	Count() uint64
	Quantile(q float64) time.Duration
	Mean() time.Duration
}

// LatencyOf returns the statistics of a distribution, or nil if no duration was measured.
func LatencyOf(d Distribution) *Latency {
	if d.Count() == 0 {
		return nil
	}
	return &Latency{P50: d.Quantile(.50).Seconds(), P99: d.Quantile(.99).Seconds(), Mean: d.Mean().Seconds()}
}

// InMemory stands in place of a server's version if the simulation keeps its broker or its store in memory.
const InMemory = "in memory"

// Environment describes where a run took place. An empty field means that the value is unknown.
type Environment struct {
	// Parking is the version of the parking program.
	Parking string `json:"parking,omitempty"`
	// RabbitMQ, Redis and Kubernetes are the versions of the servers. The text "in memory" means that no server was
	// used.
	RabbitMQ   string `json:"rabbitmq,omitempty"`
	Redis      string `json:"redis,omitempty"`
	Kubernetes string `json:"kubernetes,omitempty"`
	// Nodes are the machines on which the processes of the simulation ran.
	Nodes []Node `json:"nodes,omitempty"`
	// Manifest is the manifest of the simulation. The values of environment variables in pod templates are
	// redacted.
	Manifest json.RawMessage `json:"manifest,omitempty"`
}

// Node describes a machine.
type Node struct {
	// Name is the name of the Kubernetes node. A machine without a name is the one on which the report was created.
	Name string `json:"name,omitempty"`
	// CPUs is the number of logical processors. MemoryBytes is the size of the memory.
	CPUs         int64  `json:"cpus"`
	MemoryBytes  int64  `json:"memoryBytes,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	// System is the name and the version of the operating system.
	System string `json:"system,omitempty"`
}
