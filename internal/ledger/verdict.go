package ledger

import (
	"fmt"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/latency"
	"github.com/parking-operator/parking-operator/internal/plan"
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
	// Reasons has one sentence for each check that did not pass. It is empty, never nil, for PASS.
	Reasons []string `json:"reasons"`
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
	// Latencies are what the processors measured. They are nil in an audit of the ledger alone.
	Latencies *Latencies
	// Entries and Exits compare the generators with their schedule.
	Entries, Exits *Schedule
	// Summaries is the summary API's own count. It is nil when the API has no count of this simulation.
	Summaries *SummaryCount
	// Failures are errors of the simulation itself. Each of them fails the verdict.
	Failures []error
}

// Latencies are the latencies of the generated events that took effect.
type Latencies struct {
	Processing, EndToEnd latency.Snapshot
	// Unmeasured counts the events whose latencies are unknown. Err says why they are.
	Unmeasured uint64
	Err        error
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

// maxMissed is the share of the due events that may be missed: generators on a busy machine end a little
// late.
const maxMissed = 0.1

// Evaluate runs every check that applies and returns the verdict.
func Evaluate(e Evidence) Verdict {
	v := Verdict{Outcome: Pass, Reasons: failures(e, checks(e))}
	if len(v.Reasons) > 0 {
		v.Outcome = Fail
	}
	return v
}

// CertainFailures returns the reasons why a running simulation will fail whatever happens from now on. It
// returns none while the simulation may still pass.
func CertainFailures(e Evidence) []string {
	e.Running = true
	if !e.Report.DataKept() {
		return failures(e, []check{dataKept})
	}
	return failures(e, certainChecks())
}

// failures returns the reasons of the checks that do not pass, in the order of the checks.
func failures(e Evidence, list []check) []string {
	reasons := []string{}
	for _, check := range list {
		reasons = append(reasons, check(e)...)
	}
	return reasons
}

// check is one condition that a simulation must meet. It returns no reason when the condition is met, and
// otherwise a sentence for each violation, or for the data that it lacks.
type check func(Evidence) []string

// checks lists the conditions, causes before their consequences.
func checks(e Evidence) []check {
	switch {
	case e.ReportErr != nil:
		return []check{ledgerRead, nothingFailed}
	case !e.Report.DataKept():
		// Every other violation may be a consequence of the loss.
		return []check{dataKept}
	}
	// An event that is still on its way may or may not take effect.
	list := append([]check{atRest}, certainChecks()...)
	if !e.Running {
		list = append(list, restChecks()...)
	}
	return append(list,
		// The user's objectives hold only under the load that the user asked for.
		entriesOnSchedule,
		exitsOnSchedule,
		processingP99,
		endToEndP99,
		nothingFailed,
	)
}

// certainChecks lists the conditions that, once violated, stay violated.
func certainChecks() []check {
	return []check{
		// Every event that the broker confirmed takes effect.
		nothingLost,
		// No event takes effect twice, however often it is delivered.
		nothingTakenTwice,
		// Every effect is counted. Otherwise the other numbers here mean nothing.
		nothingUncounted,
		// An exit arrives with the intent that its generator gave it.
		intentsKept,
		// An exit whose plate was claimed from an entry finds the visit of that entry.
		nothingUnexpected,
		// Every message can be processed.
		nothingDeadLettered,
	}
}

// restChecks lists the conditions that compare numbers which are read at different moments.
func restChecks() []check {
	return []check{
		// The summary of every visit that ended reaches the summary API.
		outboxEmpty,
		// Every visit that ended has exactly one summary.
		oneSummaryPerVisit,
		// The summary API counts the same summaries. No other number here comes from outside the ledger.
		summariesHeld,
	}
}

// unless returns the reason when the condition is not met.
func unless(met bool, reason string) []string {
	if met {
		return nil
	}
	return []string{reason}
}

func ledgerRead(e Evidence) []string {
	return []string{"the ledger cannot be read, so it is unknown whether events were lost: " + excerpt.OneLine(e.ReportErr.Error())}
}

func nothingFailed(e Evidence) []string {
	var reasons []string
	for _, err := range e.Failures {
		if err != nil {
			reasons = append(reasons, excerpt.OneLine(err.Error()))
		}
	}
	return reasons
}

func atRest(e Evidence) []string {
	waiting := max(e.Depths.Ready, 0) + max(e.Depths.Retry, 0)
	if e.Report.AtRest && waiting == 0 && max(e.InFlight, 0) == 0 {
		return nil
	}
	var parts []string
	part := func(n int64, one, many string) {
		if n != Unknown {
			parts = append(parts, count(n, one, many))
		}
	}
	part(e.Depths.Ready, "message waits in queues", "messages wait in queues")
	part(e.Depths.Retry, "waits for another attempt", "wait for another attempt")
	part(e.InFlight, "is in processors", "are in processors")
	part(e.Report.Outstanding, "confirmed event has not taken effect", "confirmed events have not taken effect")
	state := "the simulation is not at rest: "
	if e.Running {
		state = "the simulation is still running, so nothing is proved yet: "
	}
	return []string{state + strings.Join(parts, ", ")}
}

// DataKept reports whether the store still has all data that it had made durable.
func (r *Report) DataKept() bool { return r.DataLostAt == nil && r.ForgottenRuns == 0 }

func dataKept(e Evidence) []string {
	what := "the store has lost data of the simulation"
	if at := e.Report.DataLostAt; at != nil {
		what += ", noticed at " + at.Format(time.RFC3339)
	}
	return unless(e.Report.DataKept(), what+": it is unknown which events took effect, and how often; configure the store with "+
		"appendonly yes and maxmemory-policy noeviction, and run the simulation again")
}

func nothingLost(e Evidence) []string {
	return unless(e.Report.Lost <= e.Objectives.MaxLost, fmt.Sprintf(
		"%s lost: confirmed by the broker, but never took effect (%s, %s); at most %d allowed",
		count(e.Report.Lost, "event was", "events were"),
		count(e.Report.MissingEntries, "entry", "entries"),
		count(e.Report.MissingMatched+e.Report.MissingUnmatched, "exit", "exits"),
		e.Objectives.MaxLost))
}

func nothingTakenTwice(e Evidence) []string {
	return unless(e.Report.TakenTwice == 0, count(e.Report.TakenTwice, "event", "events")+" took effect more than once")
}

func nothingUncounted(e Evidence) []string {
	return unless(e.Report.Uncounted == 0, count(e.Report.Uncounted, "event", "events")+
		" took effect without being counted: the counters of the ledger were changed or lost")
}

func intentsKept(e Evidence) []string {
	// Events that have not arrived yet make a share positive, so a negative share is certain at any time.
	changed := max(-e.Report.MissingEntries, 0) + max(-e.Report.MissingMatched, 0) + max(-e.Report.MissingUnmatched, 0)
	return unless(changed == 0, count(changed, "exit was", "exits were")+" processed with a different intent than its generator published")
}

func nothingUnexpected(e Evidence) []string {
	return unless(e.Report.UnmatchedUnexpected <= e.Objectives.MaxUnexpected, fmt.Sprintf(
		"%s no visit although the plate had entered (unmatched_unexpected); at most %d allowed",
		count(e.Report.UnmatchedUnexpected, "exit found", "exits found"), e.Objectives.MaxUnexpected))
}

func outboxEmpty(e Evidence) []string {
	return unless(e.Report.Outbox == 0, count(e.Report.Outbox, "summary waits", "summaries wait")+
		" in the outbox: the summary API has not accepted them")
}

func oneSummaryPerVisit(e Evidence) []string {
	ended := e.Report.Matched + e.Report.ExternalMatched
	made := e.Report.SummariesStored + e.Report.Outbox
	return unless(ended == made, fmt.Sprintf("%s but %s made of them",
		count(ended, "visit ended", "visits ended"), count(made, "summary was", "summaries were")))
}

func summariesHeld(e Evidence) []string {
	switch {
	case e.Summaries == nil:
		return nil
	case e.Summaries.Err != nil:
		return []string{"it is unknown whether the summary API holds every summary: " + excerpt.OneLine(e.Summaries.Err.Error())}
	}
	return unless(e.Summaries.Held == e.Report.SummariesStored, fmt.Sprintf(
		"the summary API holds %s of this simulation but accepted %d",
		count(e.Summaries.Held, "summary", "summaries"), e.Report.SummariesStored))
}

func nothingDeadLettered(e Evidence) []string {
	// The broker itself dead-letters a message that was delivered too often. No processor counts those.
	dead := max(e.Report.DeadLettered, e.Depths.Dead)
	if dead <= 0 {
		return nil
	}
	said := count(dead, "event was", "events were") + " dead-lettered"
	if len(e.DeadReasons) == 0 {
		return []string{said + "; the headers of each give the reason"}
	}
	reasons, named := make([]string, 0, len(e.DeadReasons)), int64(0)
	for _, r := range e.DeadReasons {
		reasons = append(reasons, fmt.Sprintf("%d × %.200s", r.Count, r.Reason))
		named += r.Count
	}
	if named < dead {
		reasons = append(reasons, "others")
	}
	return []string{said + ": " + strings.Join(reasons, "; ")}
}

func entriesOnSchedule(e Evidence) []string { return onSchedule("entries", e.Entries) }

func exitsOnSchedule(e Evidence) []string { return onSchedule("exits", e.Exits) }

func onSchedule(what string, s *Schedule) []string {
	if s == nil || float64(s.Missed) <= maxMissed*float64(s.Due) {
		return nil
	}
	return []string{fmt.Sprintf("the schedule of the %s was not kept: %d of %s missed (%.3g %%)",
		what, s.Missed, count(s.Due, "due event was", "due events were"), 100*float64(s.Missed)/float64(s.Due))}
}

func processingP99(e Evidence) []string {
	return withinObjective("processing p99", e.Objectives.ProcessingP99, e.Latencies, func(l *Latencies) latency.Snapshot { return l.Processing })
}

func endToEndP99(e Evidence) []string {
	return withinObjective("end-to-end p99", e.Objectives.EndToEndP99, e.Latencies, func(l *Latencies) latency.Snapshot { return l.EndToEnd })
}

// withinObjective compares a 99th percentile with its objective. The comparison counts only when it holds
// whatever the latencies of the unmeasured events were.
func withinObjective(what string, objective plan.Duration, l *Latencies, of func(*Latencies) latency.Snapshot) []string {
	if objective == 0 || l == nil {
		return nil
	}
	switch lowest, highest := of(l).Range(.99, l.Unmeasured); {
	case highest <= objective.D():
		return nil
	case lowest > objective.D():
		return []string{fmt.Sprintf("%s is %s, beyond the objective of %s", what, rounded(lowest, objective.D()), objective)}
	}
	unchecked := fmt.Sprintf("%s is unknown, so the objective of %s is not met: ", what, objective)
	if measured := of(l).Count(); measured > 0 {
		unchecked += fmt.Sprintf("only %d of %d events were measured", measured, measured+l.Unmeasured)
	} else {
		unchecked += "no event was measured"
	}
	if l.Err != nil {
		unchecked += ": " + excerpt.OneLine(l.Err.Error())
	}
	return []string{unchecked}
}

// rounded returns d with three digits, or d itself if rounding would hide that it exceeds the limit.
func rounded(d, limit time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	if r := d.Round(unit); r > limit {
		return r
	}
	return d
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
