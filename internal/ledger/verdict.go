package ledger

import (
	"slices"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Outcome is the result of a verdict.
type Outcome string

// The outcomes.
const (
	Pass Outcome = "PASS"
	Fail Outcome = "FAIL"
)

// Verdict says whether a simulation met every condition that its plan sets, and if not, why.
type Verdict struct {
	Outcome Outcome `json:"verdict"`
	// Reasons has one sentence for each check that did not pass, except for those that could not be made
	// because another check did not pass. It is empty, never nil, for PASS.
	Reasons []string `json:"reasons"`
	// Checks are all checks that apply, causes before their consequences.
	Checks []Check `json:"checks"`
}

// Evidence is everything that a verdict is based on. A nil field means that its check does not apply. A
// check that applies and has no data does not pass.
type Evidence struct {
	// Report is the audit of the ledger. It is not used when ReportErr is set.
	Report Report
	// ReportErr is the reason why the ledger could not be read.
	ReportErr  error
	Objectives plan.Objectives
	// Running says that the ledger changed while it was read, so that its numbers need not add up.
	Running bool
	// Depths counts the messages in the simulation's queues, InFlight those that processors hold. A count
	// may be Unknown.
	Depths   broker.Depths
	InFlight int64
	// DeadReasons are the reasons of the dead letters that were read. They may be fewer than the dead
	// letters.
	DeadReasons []broker.ReasonCount
	// Latencies are those of the timeline. They are nil if the timeline was not read. Timeline has the rows of which they
	// were made.
	Latencies *Latencies
	Timeline  []timeline.Row
	// Planned are the faults of the plan, Faults the accounts of their occurrences.
	Planned []plan.Fault
	Faults  []fault.Account
	// Aborted says why the run was ended early. It is empty if it was not.
	Aborted string
	// Entries and Exits compare the generators with their schedule.
	Entries, Exits *Schedule
	// Summaries is the summary API's own count. It is nil when the API has no count of this simulation.
	Summaries *SummaryCount
	// Failures are errors of the simulation itself. Each of them fails the verdict.
	Failures []error
}

// Schedule counts events of one type.
type Schedule struct {
	// Due counts the events that the schedule asked for, Missed those of them that were never attempted.
	Due, Missed int64
}

// SummaryCount is the number of summaries of this simulation that the summary API says it holds, or the
// error of asking for it.
type SummaryCount struct {
	Held int64
	Err  error
}

// MaxDeadReasons is the number of different reasons of dead letters that a verdict names.
const MaxDeadReasons = 20

// Unknown is the value of a count that could not be determined.
const Unknown = -1

// Evaluate makes every check that applies and returns the verdict.
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

// CertainFailures returns the reasons why a running simulation is certain to fail. It
// returns none while the simulation may still pass.
func CertainFailures(e Evidence) []string {
	e.Running = true
	made := makeChecks(e, slices.DeleteFunc(checks(e.Planned), func(c check) bool { return !c.certain }))
	return messages(slices.DeleteFunc(made, func(c Check) bool { return c.Outcome != Failed }))
}

// messages returns the messages of the checks that have one.
func messages(list []Check) []string {
	all := []string{}
	for _, c := range list {
		if c.Message != "" {
			all = append(all, c.Message)
		}
	}
	return all
}
