package ledger

import (
	"fmt"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Outcome is what a verdict comes to.
type Outcome string

// The outcomes.
const (
	Pass Outcome = "PASS"
	Fail Outcome = "FAIL"
)

// Verdict says whether a simulation kept what its plan holds it to, and every reason why not.
type Verdict struct {
	Outcome Outcome  `json:"verdict"`
	Reasons []string `json:"reasons"`
}

// Input is everything that a verdict rests on.
type Input struct {
	Report     Report
	Objectives plan.Objectives
	// Running says that the ledger moved while it was read: a report is then a moment's view.
	Running bool
	// Depths are the messages left in the simulation's queues, InFlight those that processors still hold;
	// Unknown where nobody could tell.
	Depths   broker.Depths
	InFlight int64
	// DeadReasons are why messages were dead-lettered, as far as the dead letters were looked into.
	DeadReasons []broker.ReasonCount
	// ProcessingP99 and EndToEndP99 are the measured latencies; nil means that nothing was measured, and
	// then no objective is held against them.
	ProcessingP99 *time.Duration
	EndToEndP99   *time.Duration
	// SummariesHeld is what the summary API itself says it has stored in this simulation; nil means that
	// it was not asked.
	SummariesHeld *int64
}

// NamedReasons is how many reasons of dead letters a verdict is to name.
const NamedReasons = 20

// Unknown stands for a number of messages that nobody could tell.
const Unknown = -1

// Judge applies every check and gathers the reasons of those that fail, in their order.
func Judge(in Input) Verdict {
	v := Verdict{Outcome: Pass, Reasons: failures(in, checks(in))}
	if len(v.Reasons) > 0 {
		v.Outcome = Fail
	}
	return v
}

// Doomed returns the reasons for which a simulation that is still running will fail whatever comes; none as long as
// it may pass.
func Doomed(in Input) []string {
	in.Running = true
	if !in.Report.DataKept() {
		return failures(in, []check{dataKept})
	}
	return failures(in, facts(in))
}

// failures gathers the reasons of the checks that fail.
func failures(in Input, list []check) []string {
	reasons := []string{}
	for _, check := range list {
		if reason, failed := check(in); failed {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// check is one thing that has to hold. Its reason is one sentence for a person.
type check func(Input) (reason string, failed bool)

// checks lists what has to hold, causes before their consequences.
func checks(in Input) []check {
	if !in.Report.DataKept() {
		// What a store has lost it cannot testify to, and whatever else is wrong may follow from the loss.
		return []check{dataKept}
	}
	// An event that still waits somewhere may yet take effect, or not: nothing is proved before rest.
	return append([]check{restWasReached}, facts(in)...)
}

// facts lists what has to hold at any time, but for what cannot be told while the simulation is running.
func facts(in Input) []check {
	return append(ledgerChecks(in.Running),
		// A dead letter is an event that could not be processed.
		nothingDeadLettered,
		// The objectives are the user's.
		processingInTime,
		effectInTime,
	)
}

// ledgerChecks lists what has to hold in a ledger that is complete.
func ledgerChecks(running bool) []check {
	list := []check{
		// Every event that the broker took responsibility for has to take effect.
		nothingLost,
		// Nothing may count twice, however often it was delivered.
		nothingTakenTwice,
		// An effect without its count would make every other number here worthless.
		nothingUncounted,
		// The intent decides what an exit is held to, so it has to arrive as it was published.
		intentsKept,
		// An exit whose plate was claimed from an entry has to meet that entry.
		nothingUnexpected,
	}
	if running {
		return list // those below compare numbers that were not read at the same moment
	}
	return append(list,
		// A visit that ended has to reach the summary API.
		outboxEmpty,
		// Each ended visit makes exactly one summary.
		oneSummaryPerVisit,
		// The API's own count is the only one that this system does not keep itself.
		summariesHeld,
	)
}

func restWasReached(in Input) (string, bool) {
	waiting := max(in.Depths.Ready, 0) + max(in.Depths.Retry, 0)
	if in.Report.AtRest && waiting == 0 && max(in.InFlight, 0) == 0 {
		return "", false
	}
	var parts []string
	part := func(n int64, one, many string) {
		if n != Unknown {
			parts = append(parts, count(n, one, many))
		}
	}
	part(in.Depths.Ready, "message waits in queues", "messages wait in queues")
	part(in.Depths.Retry, "waits for another attempt", "wait for another attempt")
	part(in.InFlight, "is in processors", "are in processors")
	part(in.Report.Outstanding, "confirmed event is without effect so far", "confirmed events are without effect so far")
	state := "the simulation is not at rest: "
	if in.Running {
		state = "the simulation is running, and nothing is proved before it is at rest; at this moment "
	}
	return state + strings.Join(parts, ", "), true
}

// DataKept reports whether the store still has whatever it had.
func (r *Report) DataKept() bool { return r.DataLostAt == nil && r.ForgottenRuns == 0 }

func dataKept(in Input) (string, bool) {
	what := "the store has lost data of the simulation"
	if at := in.Report.DataLostAt; at != nil {
		what += ", which was noticed at " + at.Format(time.RFC3339)
	}
	return what + ": nobody can tell any more which events took effect, or how often; let it keep its data, with " +
		"appendonly yes and maxmemory-policy noeviction, and run the simulation again", !in.Report.DataKept()
}

func nothingLost(in Input) (string, bool) {
	return fmt.Sprintf("%s lost: confirmed by the broker, but never took effect (%s, %s); at most %d allowed",
		count(in.Report.Lost, "event was", "events were"),
		count(in.Report.MissingEntries, "entry", "entries"),
		count(in.Report.MissingMatched+in.Report.MissingUnmatched, "exit", "exits"),
		in.Objectives.MaxLost), in.Report.Lost > in.Objectives.MaxLost
}

func nothingTakenTwice(in Input) (string, bool) {
	return count(in.Report.TakenTwice, "effect was", "effects were") + " taken more than once",
		in.Report.TakenTwice > 0
}

func nothingUncounted(in Input) (string, bool) {
	return count(in.Report.Uncounted, "event took", "events took") +
		" effect without being counted: the ledger's counters were changed or lost", in.Report.Uncounted > 0
}

func intentsKept(in Input) (string, bool) {
	// While not at rest the shares of outstanding events are positive, so a negative one is a fact at any time.
	changed := max(-in.Report.MissingEntries, 0) + max(-in.Report.MissingMatched, 0) + max(-in.Report.MissingUnmatched, 0)
	return count(changed, "exit was", "exits were") + " processed with another intent than the generator published",
		changed > 0
}

func nothingUnexpected(in Input) (string, bool) {
	return fmt.Sprintf("%s no visit although the plate had entered (unmatched_unexpected); at most %d allowed",
			count(in.Report.UnmatchedUnexpected, "exit found", "exits found"), in.Objectives.MaxUnexpected),
		in.Report.UnmatchedUnexpected > in.Objectives.MaxUnexpected
}

func outboxEmpty(in Input) (string, bool) {
	return count(in.Report.Outbox, "summary waits", "summaries wait") +
		" in the outbox: the summary API has not accepted them", in.Report.Outbox > 0
}

func oneSummaryPerVisit(in Input) (string, bool) {
	ended := in.Report.Matched + in.Report.StrangerMatched
	made := in.Report.SummariesStored + in.Report.Outbox
	return fmt.Sprintf("%s but %s made of them", count(ended, "visit ended", "visits ended"),
		count(made, "summary was", "summaries were")), ended != made
}

func summariesHeld(in Input) (string, bool) {
	if in.SummariesHeld == nil {
		return "", false
	}
	return fmt.Sprintf("the summary API holds %s of this simulation but accepted %d",
		count(*in.SummariesHeld, "summary", "summaries"), in.Report.SummariesStored), *in.SummariesHeld != in.Report.SummariesStored
}

func nothingDeadLettered(in Input) (string, bool) {
	// The broker dead-letters on its own what was delivered too often, which no processor counts.
	dead := max(in.Report.DeadLettered, in.Depths.Dead)
	said := count(dead, "event was", "events were") + " dead-lettered"
	if len(in.DeadReasons) == 0 {
		return said + "; the headers of each say why", dead > 0
	}
	reasons, named := make([]string, 0, len(in.DeadReasons)), int64(0)
	for _, r := range in.DeadReasons {
		reasons = append(reasons, fmt.Sprintf("%d × %.200s", r.Count, r.Reason))
		named += r.Count
	}
	if named < dead {
		reasons = append(reasons, "others")
	}
	return said + ": " + strings.Join(reasons, "; "), dead > 0
}

func processingInTime(in Input) (string, bool) {
	return tooSlow("processing p99", in.ProcessingP99, in.Objectives.ProcessingP99)
}

func effectInTime(in Input) (string, bool) {
	return tooSlow("end-to-end p99", in.EndToEndP99, in.Objectives.EndToEndP99)
}

func tooSlow(what string, measured *time.Duration, objective plan.Duration) (string, bool) {
	if measured == nil || objective == 0 {
		return "", false
	}
	shown := threeDigits(*measured)
	if shown <= objective.D() {
		shown = *measured // rounding would hide the excess
	}
	return fmt.Sprintf("%s is %s, beyond the objective of %s", what, shown, objective), *measured > objective.D()
}

// threeDigits rounds a duration to what a person wants to read of it.
func threeDigits(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
