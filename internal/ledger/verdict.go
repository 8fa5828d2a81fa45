package ledger

import (
	"slices"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Outcome is PASS or FAIL.
type Outcome string

// The outcomes.
const (
	Pass Outcome = "PASS"
	Fail Outcome = "FAIL"
)

// Verdict says whether a simulation met every condition that its plan sets, and if not, why.
type Verdict struct {
	Outcome Outcome `json:"verdict"`
	// Reasons has one sentence for each check that did not pass. It omits checks that could not be made because
	// another check did not pass. For PASS it is empty, but never nil.
	Reasons []string `json:"reasons"`
	// Checks holds all checks that apply. Those that can cause violations of others come first.
	Checks []Check `json:"checks"`
}

// Evidence holds everything that a verdict is based on. If a field is nil, its check does not apply. A check
// that applies but has no data does not pass.
type Evidence struct {
	// Report is the result of the audit. It is ignored if ReportErr is set.
	Report Report
	// ReportErr is the error of reading the ledger.
	ReportErr  error
	Objectives plan.Objectives
	// Running means that the ledger changed while it was read, so that its numbers may not add up.
	Running bool
	// Depths counts the messages in the simulation's queues, and InFlight those that processors hold. A count
	// may be Unknown.
	Depths   broker.Depths
	InFlight int64
	// DeadReasons are the reasons of the dead letters that were read. Not all dead letters may have been read.
	DeadReasons []broker.ReasonCount
	// Latencies are the latencies in the timeline. They are nil if the timeline was not read. Timeline holds
	// the rows from which they were computed.
	Latencies *Latencies
	Timeline  []timeline.Row
	// Planned are the faults in the plan. Faults are the accounts of their occurrences.
	Planned []plan.Fault
	Faults  []fault.Account
	// Aborted says why the run was ended early. It is empty if the run was not ended early.
	Aborted string
	// Entries and Exits compare what the generators published with their schedules.
	Entries, Exits *Schedule
	// Summaries is the number of summaries that the summary API holds. It is nil if the API does not count the
	// summaries of this simulation.
	Summaries *SummaryCount
	// Failures are errors of the simulation itself. Any of them makes the verdict FAIL.
	Failures []error
}

// Schedule compares the events of one type with their schedule.
type Schedule struct {
	// Due counts the events that were due by the schedule. Missed counts those of them that were skipped.
	Due, Missed int64
}

// SummaryCount is the number of summaries that the summary API holds for this simulation, or the error of
// requesting it.
type SummaryCount struct {
	Held int64
	Err  error
}

// MaxDeadReasons is the maximum number of different dead-letter reasons that a verdict names.
const MaxDeadReasons = 20

// Unknown is the value of a count that could not be read.
const Unknown = -1

// Evaluate makes every check that applies to the evidence, and returns the verdict.
func Evaluate(e Evidence) Verdict {
	v := Verdict{Outcome: Pass, Checks: makeChecks(e, checks(e.Planned))}
	v.Reasons = messages(v.Checks)
	for _, c := range v.Checks {
		if c.Outcome != Passed {
			v.Outcome = Fail
		}
	}
	return v
}

// CertainFailures returns the reasons for which a running simulation is already certain to fail. It returns
// none if the simulation may still pass.
func CertainFailures(e Evidence) []string {
	e.Running = true
	made := makeChecks(e, slices.DeleteFunc(checks(e.Planned), func(c check) bool { return !c.certain }))
	return messages(slices.DeleteFunc(made, func(c Check) bool { return c.Outcome != Failed }))
}

func messages(list []Check) []string {
	all := []string{}
	for _, c := range list {
		if c.Message != "" {
			all = append(all, c.Message)
		}
	}
	return all
}
