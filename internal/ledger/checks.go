package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// Check says whether a simulation met a condition.
type Check struct {
	// Name identifies the check. It is the same in every verdict.
	Name    string       `json:"name"`
	Kind    Kind         `json:"kind"`
	Outcome CheckOutcome `json:"outcome"`
	// Want describes the condition. Got is the measured value as text, or empty if nothing was measured.
	Want string `json:"want"`
	Got  string `json:"got,omitempty"`
	// Message says why the check did not pass. It is empty if the check passed, or if another sentence in
	// Verdict.Reasons says why.
	Message string `json:"message,omitempty"`
}

// Kind says whether the condition of a check applies to every simulation, or comes from the objectives of the user.
type Kind string

// These are the kinds of checks.
const (
	// Invariant is a condition that every simulation must meet.
	Invariant Kind = "invariant"
	// Objective is a condition that the user sets in spec.objectives.
	Objective Kind = "objective"
)

// CheckOutcome says whether a check passed.
type CheckOutcome string

// These are the outcomes of a check. A verdict is PASS if all checks that it covers have passed.
const (
	Passed      CheckOutcome = "passed"
	Failed      CheckOutcome = "failed"
	NotMeasured CheckOutcome = "notMeasured"
)

// check is one check of the verdict: a condition, and the data that it needs.
type check struct {
	name string
	kind Kind
	// find checks the condition. It returns the zero finding if the condition does not apply to the simulation.
	find func(Evidence) finding
	// certain is true if a violation of the condition is permanent, so that a running simulation is certain to fail.
	certain bool
	// since returns the beginning of the last violation if it lasted until the end of the timeline, and the zero time
	// otherwise. since may be nil.
	since func(*Evidence) time.Time
	// onlyAtRest means that the check is made only when no event is in flight. Otherwise, the numbers that it compares
	// could differ.
	onlyAtRest bool
	// withoutLedger means that the check is made even if the ledger cannot be read.
	withoutLedger bool
	// despiteLoss means that the check is made even after the store has lost data. All other checks then count as not
	// measured, because the loss alone could make them fail.
	despiteLoss bool
	// beyondLedger means that the store and the queues do not contain all data that the check needs.
	beyondLedger bool
}

// finding is the result of one check: its outcome, and the texts for the verdict.
type finding struct {
	outcome            CheckOutcome
	want, got, message string
}

// These are the names of checks. A check that covers only the time without faults, or only the time under faults, has
// the corresponding suffix in its name.
const (
	CheckRunLength     = "run length"
	CheckReadable      = "ledger readable"
	CheckDataKept      = "data kept"
	CheckAtRest        = "at rest"
	CheckLost          = "lost events"
	CheckTakenTwice    = "events counted twice"
	CheckUncounted     = "uncounted effects"
	CheckIntents       = "changed intents"
	CheckUnexpected    = "unexpectedly unmatched exits"
	CheckDeadLetters   = "dead letters"
	CheckOutbox        = "pending summaries"
	CheckOneSummary    = "one summary per visit"
	CheckSummaries     = "summaries in the API"
	CheckEntrySchedule = "entry schedule"
	CheckExitSchedule  = "exit schedule"
	CheckRecovery      = "recovery"
	CheckProcessing    = "processing p99"
	CheckEndToEnd      = "end-to-end p99"
	CheckLag           = "generator lag"
	CheckAchieved      = "achieved rate"
	CheckFailures      = "failures"

	SuffixWithoutFaults = " without faults"
	SuffixUnderFaults   = " under faults"
)

// checkFault is the prefix of the name of a check that concerns one fault.
const checkFault = "fault "

// ConcernsFault reports whether the check with the given name is about a fault or the recovery from faults.
func ConcernsFault(name string) bool {
	return strings.HasPrefix(name, checkFault) || name == CheckRecovery
}

// checks returns all checks, ordered from causes to consequences (see Verdict.Checks).
func checks(e *Evidence) []check {
	list := []check{
		// Fail if the run was ended early, because the other checks then cover only a part of the run.
		{name: CheckRunLength, kind: Invariant, find: notAborted, withoutLedger: true, beyondLedger: true},
		{name: CheckReadable, kind: Invariant, find: ledgerReadable, withoutLedger: true, despiteLoss: true},
		{name: CheckDataKept, kind: Invariant, find: dataKept, certain: true, despiteLoss: true},
		// Fail if an event is in flight, because it is unknown whether this event will take effect.
		{name: CheckAtRest, kind: Invariant, find: atRest},
		// Every event that the broker has confirmed must take effect.
		{name: CheckLost, kind: Objective, find: nothingLost, certain: true},
		// Each event must take effect at most once, however often the event is delivered.
		{name: CheckTakenTwice, kind: Invariant, find: nothingTakenTwice, certain: true},
		// The counters of the ledger must include every effect, because the numbers in the report come from these
		// counters.
		{name: CheckUncounted, kind: Invariant, find: nothingUncounted, certain: true},
		// Each exit must be processed with the intent with which it was published. The intent says whether the
		// generator expects that the exit finds a visit.
		{name: CheckIntents, kind: Invariant, find: intentsKept, certain: true},
		// An exit with the intent "matched" must find a visit: the broker confirmed the entry before the exit was
		// published, and an early exit is retried.
		{name: CheckUnexpected, kind: Objective, find: nothingUnexpected, certain: true},
		// A dead letter is an error, because every message can be processed.
		{name: CheckDeadLetters, kind: Invariant, find: nothingDeadLettered, certain: true},
		// Every summary of a finished visit must reach the summary API.
		{name: CheckOutbox, kind: Invariant, find: outboxEmpty, onlyAtRest: true},
		// Every finished visit must have exactly one summary.
		{name: CheckOneSummary, kind: Invariant, find: oneSummaryPerVisit, onlyAtRest: true},
		// The summary API must store as many summaries as the ledger counts. The two numbers are independent, because
		// the summary API counts its own summaries.
		{name: CheckSummaries, kind: Invariant, find: summariesHeld, onlyAtRest: true, beyondLedger: true},
		// The generators must publish the load that the user has asked for. Otherwise, meeting the objectives would
		// prove nothing.
		{name: CheckEntrySchedule, kind: Invariant, find: entriesOnSchedule, beyondLedger: true},
		{name: CheckExitSchedule, kind: Invariant, find: exitsOnSchedule, beyondLedger: true},
	}
	// Every planned fault must be injected and must end.
	for _, name := range e.faultNames() {
		list = append(list, check{
			name: checkFault + name, kind: Invariant, certain: true, withoutLedger: true, despiteLoss: true, beyondLedger: true,
			find: func(e Evidence) finding { return tookPlace(e, name) },
		})
	}
	list = append(list, check{name: CheckRecovery, kind: Objective, find: recovery, certain: true, withoutLedger: true, beyondLedger: true})
	for _, p := range phases() {
		list = append(list, p.checks()...)
	}
	return append(list,
		check{name: CheckFailures, kind: Invariant, find: nothingFailed, withoutLedger: true, beyondLedger: true},
	)
}

// faultNames returns the names of the faults in the plan, and of the faults that occurred before an edit removed them.
func (e *Evidence) faultNames() []string {
	var names []string
	for i := range e.Planned {
		names = append(names, e.Planned[i].Name)
	}
	for i := range e.Faults {
		if name := e.Faults[i].Fault; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for i := range e.FaultHistory.Totals {
		if name := e.FaultHistory.Totals[i].Fault; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// makeChecks evaluates the checks that apply to the evidence. The result uncovered contains the names of the checks
// that the verdict does not cover.
func makeChecks(e Evidence, list []check) (made []Check, uncovered []string) {
	made = []Check{}
	for _, c := range list {
		found := c.find(e)
		if found.outcome == "" {
			continue
		}
		isUncovered := e.LedgerOnly && c.beyondLedger
		if isUncovered {
			uncovered = append(uncovered, c.name)
		}
		if isUncovered || c.isBlocked(e) {
			found = finding{outcome: NotMeasured, want: found.want}
		}
		made = append(made, Check{
			Name: c.name, Kind: c.kind, Outcome: found.outcome, Want: found.want, Got: found.got, Message: found.message,
		})
	}
	return made, uncovered
}

// isBlocked reports whether the check cannot be made with the given evidence.
func (c *check) isBlocked(e Evidence) bool {
	switch {
	case e.ReportErr != nil:
		return !c.withoutLedger
	case !e.Report.DataKept():
		return !c.despiteLoss
	}
	return e.Running && c.onlyAtRest
}

// passIf returns a finding with the outcome Passed if the condition is met. Otherwise, it returns a finding with the
// outcome Failed and the given message.
func passIf(met bool, want, got, message string) finding {
	if met {
		return finding{outcome: Passed, want: want, got: got}
	}
	return finding{outcome: Failed, want: want, got: got, message: message}
}

// noneOf checks that a number is 0.
func noneOf(n int64, message string) finding {
	return passIf(n == 0, "none", number(n), message)
}

// atMost checks that a number does not exceed a limit.
func atMost(n, limit int64, message string) finding {
	return passIf(n <= limit, "at most "+number(limit), number(n), message)
}

func number(n int64) string { return terminal.Count(n) }

func ledgerReadable(e Evidence) finding {
	const want = "the ledger can be read"
	if e.ReportErr == nil {
		return finding{outcome: Passed, want: want, got: "the ledger was read"}
	}
	return finding{outcome: NotMeasured, want: want, message: "the ledger cannot be read, so it is unknown whether events were lost: " + excerpt.OneLine(e.ReportErr.Error())}
}

func nothingFailed(e Evidence) finding {
	var errs []string
	for _, err := range e.Failures {
		if err != nil {
			errs = append(errs, excerpt.OneLine(err.Error()))
		}
	}
	return noneOf(int64(len(errs)), strings.Join(errs, "; "))
}

func atRest(e Evidence) finding {
	const want = "no event is on its way"
	waiting := max(e.Depths.Ready, 0) + max(e.Depths.Retry, 0)
	if e.Report.AtRest && waiting == 0 && max(e.InFlight, 0) == 0 {
		return finding{outcome: Passed, want: want, got: "none"}
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
	found := strings.Join(parts, ", ")
	return finding{outcome: Failed, want: want, got: found, message: state + found}
}

// DataKept reports whether the store still has all durable data.
func (r *Report) DataKept() bool { return r.DataLostAt == nil && r.ForgottenRuns == 0 }

func dataKept(e Evidence) finding {
	const want = "the store keeps all data"
	if e.Report.DataKept() {
		return finding{outcome: Passed, want: want, got: "all data"}
	}
	what := "the store has lost data of the simulation"
	if at := e.Report.DataLostAt; at != nil {
		what += ", noticed at " + at.Format(time.RFC3339)
	}
	return finding{outcome: Failed, want: want, got: "lost data", message: what +
		": it is unknown which events took effect, and how often; if Redis restarted, was flushed, or has evicted keys, " +
		"set appendonly yes and maxmemory-policy noeviction; if the machine of Redis failed, set appendfsync always or redis.durability: Synced; " +
		"if Redis failed over to a replica that lacked effects, set min-replicas-to-write 1; then run the simulation again"}
}

func nothingLost(e Evidence) finding {
	return atMost(e.Report.Lost, e.Objectives.MaxLost, fmt.Sprintf(
		"%s lost: confirmed by the broker, but never took effect (%s, %s); at most %s allowed",
		count(e.Report.Lost, "event was", "events were"),
		count(e.Report.MissingEntries, "entry", "entries"),
		count(e.Report.MissingMatched+e.Report.MissingUnmatched, "exit", "exits"),
		number(e.Objectives.MaxLost)))
}

func nothingTakenTwice(e Evidence) finding {
	return noneOf(e.Report.TakenTwice, count(e.Report.TakenTwice, "event", "events")+" took effect more than once")
}

func nothingUncounted(e Evidence) finding {
	return noneOf(e.Report.Uncounted, count(e.Report.Uncounted, "event", "events")+
		" took effect without being counted: the counters of the ledger were changed or lost")
}

func intentsKept(e Evidence) finding {
	// MissingMatched and MissingUnmatched are confirmed minus processed exits. Exits in flight only increase them, so a
	// negative number proves a changed intent. MissingEntries is never negative.
	changed := max(-e.Report.MissingEntries, 0) + max(-e.Report.MissingMatched, 0) + max(-e.Report.MissingUnmatched, 0)
	return noneOf(changed, count(changed, "exit was", "exits were")+" processed with an intent (matched or unmatched) other than the one that was published")
}

func nothingUnexpected(e Evidence) finding {
	return atMost(e.Report.UnmatchedUnexpected, e.Objectives.MaxUnexpected, fmt.Sprintf(
		"%s found no visit although the plate had entered (unmatched_unexpected); at most %s allowed",
		count(e.Report.UnmatchedUnexpected, "exit", "exits"), number(e.Objectives.MaxUnexpected)))
}

func outboxEmpty(e Evidence) finding {
	return noneOf(e.Report.Outbox, count(e.Report.Outbox, "summary waits", "summaries wait")+
		" in the outbox: the summary API has not accepted them")
}

func oneSummaryPerVisit(e Evidence) finding {
	ended := e.Report.Matched + e.Report.ExternalMatched
	made := e.Report.SummariesStored + e.Report.Outbox
	visits, summaries := count(ended, "visit", "visits"), count(made, "summary", "summaries")
	return passIf(ended == made, "as many summaries as ended visits", visits+", "+summaries, fmt.Sprintf("%s, but %s created",
		count(ended, "visit ended", "visits ended"), count(made, "summary was", "summaries were")))
}

func summariesHeld(e Evidence) finding {
	const want = "every accepted summary"
	switch {
	case e.LedgerOnly:
		return finding{outcome: NotMeasured, want: want}
	case e.Summaries == nil:
		return finding{}
	case e.Summaries.Err != nil:
		return finding{outcome: NotMeasured, want: want, message: "it is unknown whether the summary API holds every summary: " + excerpt.OneLine(e.Summaries.Err.Error())}
	}
	return passIf(e.Summaries.Held == e.Report.SummariesStored, want,
		number(e.Summaries.Held)+" of "+number(e.Report.SummariesStored), fmt.Sprintf(
			"the summary API holds %s of this simulation but accepted %s",
			count(e.Summaries.Held, "summary", "summaries"), number(e.Report.SummariesStored)))
}

func nothingDeadLettered(e Evidence) finding {
	// Use the larger number. DeadLettered lacks messages that the broker itself has dead-lettered. Depths.Dead lacks
	// messages that have left the dead-letter queue.
	dead := max(e.Report.DeadLettered, e.Depths.Dead, 0)
	return noneOf(dead, deadLetterMessage(dead, e.DeadReasons))
}

func deadLetterMessage(dead int64, all []broker.ReasonCount) string {
	said := count(dead, "event was", "events were") + " dead-lettered"
	if len(all) == 0 {
		return said + "; the headers of each message contain the reason"
	}
	reasons, named := make([]string, 0, len(all)), int64(0)
	for _, r := range all {
		reasons = append(reasons, fmt.Sprintf("%s × %.200s", number(r.Count), r.Reason))
		named += r.Count
	}
	if named < dead {
		reasons = append(reasons, "others")
	}
	return said + ": " + strings.Join(reasons, "; ")
}

func entriesOnSchedule(e Evidence) finding { return onSchedule(&e, "entries", e.Entries) }

func exitsOnSchedule(e Evidence) finding { return onSchedule(&e, "exits", e.Exits) }

// maxMissed is the maximum share of due events that generators may miss. On a busy machine, a generator misses some
// events at the end of its schedule.
const maxMissed = 0.1

func onSchedule(e *Evidence, what string, s *Schedule) finding {
	want := fmt.Sprintf("at most %.0f %% of the due events missed", 100*maxMissed)
	switch {
	case e.LedgerOnly:
		return finding{outcome: NotMeasured, want: want}
	case s == nil || e.isInterruptedUnderFault():
		return finding{}
	}
	missed := 0.0
	if s.Due > 0 {
		missed = float64(s.Missed) / float64(s.Due)
	}
	return passIf(missed <= maxMissed, want, fmt.Sprintf("%.3g %%", 100*missed),
		fmt.Sprintf("the schedule of the %s was not kept: %s of %s missed (%.3g %%)",
			what, number(s.Missed), count(s.Due, "due event was", "due events were"), 100*missed))
}

// unmeasured returns a text that says how many events were not measured. The text is empty if all events were measured.
func unmeasured(l *Latencies) string {
	if l.Unmeasured == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s not measured)", count(int64(l.Unmeasured), "event", "events"))
}

// measurement formats a measured duration. It rounds the duration only if the result is on the same side of the limit.
func measurement(d, limit time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	if (d.Round(unit) > limit) == (d > limit) {
		return terminal.Duration(d)
	}
	return terminal.Exact(d)
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return terminal.Count(n) + " " + many
}
