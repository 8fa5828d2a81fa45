package ledger

import (
	"slices"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Outcome is PASS or FAIL.
type Outcome string

// These are the outcomes of a verdict.
const (
	Pass Outcome = "PASS"
	Fail Outcome = "FAIL"
)

// Verdict says whether a simulation met all the conditions that apply to it, and if it did not, why.
type Verdict struct {
	Outcome Outcome `json:"verdict"`
	// Reasons contains one sentence for each check that did not pass. It leaves out checks that could not be made
	// because another check failed. It also leaves out a sentence that equals Evidence.Aborted, because the sentence of
	// the check CheckRunLength contains that text. Even if the outcome is PASS, Reasons contains Evidence.Unchecked,
	// and one sentence that names the checks that the verdict does not cover. Reasons is never nil.
	Reasons []string `json:"reasons"`
	// Checks contains all checks that apply. A check whose failure can cause other checks to fail comes before them.
	Checks []Check `json:"checks"`
}

// Evidence holds everything on which a verdict is based. A check applies unless the field that it needs is nil. If that
// field is set but contains no data, the check does not pass.
type Evidence struct {
	// Report is the result of the audit. If ReportErr is set, Report is ignored.
	Report Report
	// ReportErr is the error that occurred when the ledger was read.
	ReportErr  error
	Objectives plan.Objectives
	// Running means that the simulation was running while the ledger was read. Then the numbers in the report
	// need not agree with each other.
	Running bool
	// Depths counts the messages in the simulation's queues. InFlight counts the messages that processors hold.
	// A count that could not be read is Unknown.
	Depths   broker.Depths
	InFlight int64
	// DeadReasons contains the reasons of the dead letters that were examined, which may not be all of them.
	DeadReasons []broker.ReasonCount
	// Latencies contains the latencies in the timeline. It is nil if the timeline was not read. Timeline
	// contains the rows from which the latencies were computed.
	Latencies *Latencies
	Timeline  []timeline.Row
	// Planned contains the faults in the plan. Faults contains one account per occurrence of a fault. FaultHistory sums
	// up earlier occurrences that have no account any more.
	Planned      []plan.Fault
	Faults       []fault.Account
	FaultHistory fault.History
	// Aborted says why the run was ended early. It is empty if the run was not ended early.
	Aborted string
	// Interrupted is when someone ended the run before the end of its schedule. It is zero if nobody did. The verdict
	// says nothing about what was due later.
	Interrupted time.Time
	// Entries and Exits say how many events were due by the schedule, and how many of these were missed.
	Entries, Exits *Schedule
	// Load describes the events that were due according to the plan. It is nil if that is unknown, for example because
	// the rates were edited during the run. If Load is nil, only the events that a running generator has counted are
	// treated as due.
	Load *Load
	// Summaries is the number of summaries that the summary API stores. It is nil if the API cannot count the
	// summaries of one simulation.
	Summaries *SummaryCount
	// Unchecked contains one sentence for each optional condition that could not be checked. The verdict can be PASS without
	// these conditions.
	Unchecked []string
	// LedgerOnly means that only the store and the queues were read. Then some checks cannot be made, for example those
	// of faults, because the store does not contain the data for them. The verdict lists these checks as not measured,
	// and can be PASS without them.
	LedgerOnly bool
	// Failures contains the errors that kept the simulation from running as planned. If there are any, the verdict is
	// FAIL.
	Failures []error
}

// Schedule says how well the events of one type kept to their schedule.
type Schedule struct {
	// Due counts the events that were due by the schedule. Missed counts the due events that were never published,
	// because they were skipped as too late or because no generator ran. It does not include Starved, which counts the
	// due exits for which no plate was available.
	Due, Missed, Starved int64
	// Gap is the longest time in which events were due while no generator ran.
	Gap time.Duration
}

// SummaryCount is the number of summaries of this simulation that the summary API stores, or the error that
// occurred when the API was asked for this number.
type SummaryCount struct {
	Held int64
	Err  error
}

// MaxDeadReasons is the maximum number of different dead-letter reasons that a verdict names.
const MaxDeadReasons = 20

// Unknown is the value of a count that could not be determined.
const Unknown = -1

// Evaluate makes all checks that apply to the evidence, and returns the verdict.
func Evaluate(e Evidence) Verdict {
	made, uncovered := makeChecks(e, checks(&e))
	v := Verdict{Outcome: Pass, Checks: made}
	// The message of the check CheckRunLength already says why the run was ended early. So remove a reason that only
	// repeats e.Aborted.
	v.Reasons = slices.DeleteFunc(Messages(v.Checks), func(m string) bool { return m == e.Aborted })
	v.Reasons = append(v.Reasons, e.Unchecked...)
	if len(uncovered) > 0 {
		v.Reasons = append(v.Reasons, notCovered+strings.Join(uncovered, ", "))
	}
	for _, c := range v.Checks {
		if c.Outcome != Passed && !slices.Contains(uncovered, c.Name) {
			v.Outcome = Fail
		}
	}
	return v
}

// notCovered begins the sentence that names the checks that the verdict does not cover.
const notCovered = "not checked, because the store does not contain the data: "

// IsCaveat reports whether a reason only says what was not checked, and is not a cause of the verdict.
func (v *Verdict) IsCaveat(reason string) bool {
	return v.Outcome == Pass || strings.HasPrefix(reason, notCovered)
}

// CertainFailures returns the checks that have failed for good. If there is one, the running simulation is certain to
// fail.
func CertainFailures(e Evidence) []Check {
	e.Running = true
	made, _ := makeChecks(e, slices.DeleteFunc(checks(&e), func(c check) bool { return !c.certain }))
	return slices.DeleteFunc(made, func(c Check) bool { return c.Outcome != Failed })
}

// Messages returns the messages of checks, without empty ones. The result is never nil.
func Messages(list []Check) []string {
	all := []string{}
	for _, c := range list {
		if c.Message != "" {
			all = append(all, c.Message)
		}
	}
	return all
}
