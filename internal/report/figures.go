package report

import (
	"fmt"
	"strconv"
	"time"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// Unmeasured is displayed instead of a figure that was not measured.
const Unmeasured = "–"

// Equation compares the number of events that were published with the number that took effect.
type Equation struct {
	// ConfirmedKey and EffectsKey are the names of the two compared counters in the JSON form.
	ConfirmedKey, EffectsKey string
	Published                string
	// Confirmed is the number of events that the broker confirmed. Indeterminate is the number of events that took
	// effect although no confirmation was recorded. The left side of the equation is the sum of both.
	Confirmed, Indeterminate int64
	Effect                   string
	Effects                  int64
}

// Holds reports whether both sides of the equation are equal.
func (e Equation) Holds() bool { return e.Confirmed+e.Indeterminate == e.Effects }

// Left formats the left side of the equation.
func (e Equation) Left() string {
	text := terminal.Count(e.Confirmed)
	if e.Indeterminate > 0 {
		text += " + " + terminal.Count(e.Indeterminate)
	}
	return text
}

// Right formats the right side of the equation.
func (e Equation) Right() string { return terminal.Count(e.Effects) }

// Equations returns the equations that the counters of a ledger must satisfy.
func Equations(r *ledger.Report) []Equation {
	return []Equation{
		{"entriesConfirmed", "entriesRecorded", "entries", r.EntriesConfirmed, r.IndeterminateEntries, "recorded", r.EntriesRecorded},
		{"exitsMatchedConfirmed", "matched", "matched exits", r.ExitsMatchedConfirmed, r.IndeterminateMatched, "matched", r.Matched},
		{"exitsUnmatchedConfirmed", "unmatchedExpected", "unmatched exits", r.ExitsUnmatchedConfirmed, r.IndeterminateUnmatched, "unmatched as expected", r.UnmatchedExpected},
		{"finishedVisits", "summariesStored", "finished visits", r.Matched + r.ExternalMatched, 0, "summaries stored", r.SummariesStored},
	}
}

// Count is a counter of the ledger together with its name.
type Count struct {
	// Key is the name of the field in the JSON form.
	Key, Name string
	N         int64
	// Harmless means that any value is acceptable. Other counters must be 0.
	Harmless bool
}

// Text formats the value of the counter.
func (c Count) Text() string { return terminal.Count(c.N) }

// Bad reports whether the counter should be 0 but is not.
func (c Count) Bad() bool { return c.N != 0 && !c.Harmless }

// Counts returns the counters of a ledger that are not part of an equation. It omits counters that do not apply to
// the run.
func Counts(r *ledger.Report) []Count {
	counts := []Count{
		{Key: "lost", Name: "lost", N: r.Lost},
		{Key: "takenTwice", Name: "counted twice", N: r.TakenTwice},
		{Key: "unmatchedUnexpected", Name: "unexpectedly unmatched", N: r.UnmatchedUnexpected},
		{Key: "deadLettered", Name: "dead letters", N: r.DeadLettered},
		{Key: "duplicatesSuppressed", Name: "duplicates suppressed", N: r.DuplicatesSuppressed, Harmless: true},
		{Key: "indeterminate", Name: "indeterminate", N: r.Indeterminate, Harmless: true},
		{Key: "starved", Name: "starved draws", N: r.Starved, Harmless: true},
		{Key: "runs", Name: "generator runs", N: r.Runs, Harmless: true},
	}
	if r.External() > 0 {
		counts = append(counts,
			Count{Key: "externalEntries", Name: "external entries", N: r.ExternalEntries, Harmless: true},
			Count{Key: "externalMatched", Name: "external matched", N: r.ExternalMatched, Harmless: true},
			Count{Key: "entryNotFound", Name: "external unmatched", N: r.EntryNotFound, Harmless: true})
	}
	if !r.AtRest {
		counts = append(counts,
			Count{Key: "outstanding", Name: "outstanding", N: r.Outstanding},
			Count{Key: "outbox", Name: "pending summaries", N: r.Outbox})
	}
	return counts
}

// RateLine describes the rate of one event type as formatted text.
type RateLine struct {
	Key, Name                       string
	Target, Achieved, Share, MaxLag string
	// Missed is the number of due events that the generator never attempted to publish.
	Missed int64
}

// RateLines formats the rates.
func (r Rates) RateLines() []RateLine {
	return []RateLine{r.Entry.line("entry", "entries"), r.Exit.line("exit", "exits")}
}

func (r Rate) line(key, name string) RateLine {
	share := ""
	if r.Target > 0 {
		share = fmt.Sprintf("%.1f %%", 100*r.Achieved/r.Target)
	}
	return RateLine{
		Key: key, Name: name, Target: terminal.Rate(r.Target), Achieved: terminal.Rate(r.Achieved), Share: share,
		MaxLag: terminal.Duration(Seconds(r.MaxLagSeconds)), Missed: r.Missed,
	}
}

// LatencyLine describes one latency distribution as formatted text.
type LatencyLine struct {
	Key, Name                 string
	P50, P99, Mean, Objective string
}

// LatencyLines formats the latency distributions with their objectives.
func (r *Run) LatencyLines() []LatencyLine {
	return []LatencyLine{
		r.LatencySeconds.Processing.line("processing", "processing", r.Objectives.ProcessingP99),
		r.LatencySeconds.EndToEnd.line("endToEnd", "end to end", r.Objectives.EndToEndP99),
	}
}

func (l *Latency) line(key, name string, objective plan.Duration) LatencyLine {
	line := LatencyLine{Key: key, Name: name, P50: Unmeasured, P99: Unmeasured, Mean: Unmeasured, Objective: Unmeasured}
	if objective > 0 {
		line.Objective = terminal.Duration(objective.D())
	}
	if l != nil {
		line.P50, line.P99, line.Mean = terminal.Duration(Seconds(l.P50)), terminal.Duration(Seconds(l.P99)), terminal.Duration(Seconds(l.Mean))
	}
	return line
}

// Seconds converts a number of seconds to a duration.
func Seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Fact is a named property of a run, such as the version of a server.
type Fact struct{ Name, Value string }

// Facts returns when and where the run took place. It omits unknown values.
func (d *Document) Facts() []Fact {
	facts := []Fact{
		{"start", timeText(d.StartTime)},
		{"end", timeText(d.EndTime)},
		{"elapsed", terminal.Clock(Seconds(d.ElapsedSeconds))},
		{"time to come to rest", terminal.Duration(Seconds(d.DrainSeconds))},
		{"parking", d.Environment.Parking},
		{"RabbitMQ", d.Environment.RabbitMQ},
		{"Redis", d.Environment.Redis},
		{"Kubernetes", d.Environment.Kubernetes},
	}
	for _, n := range d.Environment.Nodes {
		facts = append(facts, Fact{"machine", n.String()})
	}
	known := facts[:0]
	for _, f := range facts {
		if f.Value != "" {
			known = append(known, f)
		}
	}
	return known
}

// timeText formats a time. It returns "" for the zero time.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// String describes the machine in one line.
func (n Node) String() string {
	text := n.Name
	add := func(separator, part string) {
		if part != "" {
			if text != "" {
				text += separator
			}
			text += part
		}
	}
	cpus := strconv.FormatInt(n.CPUs, 10) + " CPUs"
	if n.CPUs == 1 {
		cpus = "1 CPU"
	}
	add(": ", cpus)
	if n.MemoryBytes > 0 {
		add(", ", terminal.Bytes(uint64(n.MemoryBytes)))
	}
	add(", ", n.Architecture)
	add(", ", n.System)
	return text
}
