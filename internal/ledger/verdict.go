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

// These constants are the outcomes of a verdict.
const (
	Pass Outcome = "PASS"
	Fail Outcome = "FAIL"
)

// Verdict says whether a simulation met all conditions that apply to the simulation.
type Verdict struct {
	Outcome Outcome `json:"verdict"`
	// Reasons contains the messages of the checks that did not pass, then Evidence.Unchecked, then the checks that the
	// verdict does not cover. It is never nil.
	Reasons []string `json:"reasons"`
	// Checks contains all checks that apply, ordered from causes to consequences: a check comes before the checks that
	// its failure can make fail.
	Checks []Check `json:"checks"`
}

// Evidence is what a verdict is based on. A check does not apply if the field that it needs is nil, and does not pass
// if the field contains no data.
type Evidence struct {
	// Report is the result of the audit, which reads the ledger. Report is ignored if ReportErr is set.
	Report Report
	// ReportErr is the error with which the audit failed. It is nil if the audit succeeded.
	ReportErr  error
	Objectives plan.Objectives
	// Running means that the simulation was running while the ledger was read. In this case, the numbers in Report need
	// not agree with each other.
	Running bool
	// Depths counts the messages in the simulation's queues. InFlight counts the messages that processors hold. A count
	// that could not be read is Unknown.
	Depths   broker.Depths
	InFlight int64
	// DeadReasons contains the reasons of the examined dead letters. Further dead letters may exist.
	DeadReasons []broker.ReasonCount
	// Timeline contains the rows of the timeline, and Latencies the latencies in these rows. Latencies is nil if the
	// timeline was not read.
	Latencies *Latencies
	Timeline  []timeline.Row
	// Planned contains the faults in the plan. Faults contains one account per occurrence of a fault. FaultHistory sums
	// up earlier occurrences that no longer have an account.
	Planned      []plan.Fault
	Faults       []fault.Account
	FaultHistory fault.History
	// Aborted describes the failure because of which AbortOnFailure ended the run early. It is empty if the run was not
	// ended in this way.
	Aborted string
	// Interrupted is when someone ended the run before the end of its schedule, or zero. The verdict does not cover
	// later events and faults.
	Interrupted time.Time
	// Entries and Exits say how many events were due by the schedule, and how many of these events were missed.
	Entries, Exits *Schedule
	// Load describes the planned events. It is nil if they are unknown, for example after an edit of the rates. Then
	// only events that a generator counted are due.
	Load *Load
	// Summaries is the number of summaries that the summary API stores. Summaries is nil if the API cannot count the
	// summaries of one simulation.
	Summaries *SummaryCount
	// Unchecked contains one sentence for each optional condition that could not be checked. The verdict can be PASS
	// although these conditions were not checked.
	Unchecked []string
	// LedgerOnly means that only the store and the queues were read. The verdict can be PASS although checks that need
	// other data are not measured.
	LedgerOnly bool
	// Failures contains the errors that kept the simulation from running as planned. If there is an error, the verdict
	// is FAIL.
	Failures []error
}

// Schedule says how well the events of one type kept to their schedule.
type Schedule struct {
	// Due counts the events that were due by the schedule.
	Due int64
	// Missed counts the due events that were skipped as too late, or were due while no generator ran. It excludes
	// Starved.
	Missed int64
	// Starved counts the due exits for which no plate was available.
	Starved int64
	// Gap is the longest time in which events were due while no generator ran.
	Gap time.Duration
}

// SummaryCount is the number of summaries of this simulation that the summary API stores, or the error that occurred
// when the API was asked for this number.
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
	// Remove a reason that only repeats e.Aborted, which the message of the check CheckRunLength contains.
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

// notCovered is the beginning of a reason that lists the checks that were not made.
const notCovered = "not checked, because the store does not contain the data: "

// IsCaveat reports whether a reason only names what was not checked. Every other reason is a cause of the outcome FAIL.
func (v *Verdict) IsCaveat(reason string) bool {
	return v.Outcome == Pass || strings.HasPrefix(reason, notCovered)
}

// CertainFailures returns the failed checks of a running simulation that can no longer pass. If there is such a check,
// the simulation is certain to fail.
func CertainFailures(e Evidence) []Check {
	e.Running = true
	made, _ := makeChecks(e, slices.DeleteFunc(checks(&e), func(c check) bool { return !c.certain }))
	return slices.DeleteFunc(made, func(c Check) bool { return c.Outcome != Failed })
}

// Messages returns the messages of all checks that have one. The result is never nil.
func Messages(list []Check) []string {
	all := []string{}
	for _, c := range list {
		if c.Message != "" {
			all = append(all, c.Message)
		}
	}
	return all
}
