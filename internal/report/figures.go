package report

import (
	"cmp"
	"strconv"
	"time"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// Unmeasured is displayed instead of a figure that was not measured.
const Unmeasured = "–"

// Equation compares the number of events that were published with the number that took effect: Confirmed plus
// Indeterminate must equal Effects.
type Equation struct {
	Published string
	// Confirmed is the number of events that the broker confirmed. Indeterminate is the number of events that took
	// effect although no confirmation was recorded.
	Confirmed, Indeterminate int64
	Effect                   string
	Effects                  int64
}

// Holds reports whether the confirmed and the indeterminate events add up to the effects.
func (e Equation) Holds() bool { return e.Confirmed+e.Indeterminate == e.Effects }

// Left formats the left side of the equation: the number of confirmed events plus, if there are any, the number of
// indeterminate events.
func (e Equation) Left() string {
	text := terminal.Count(e.Confirmed)
	if e.Indeterminate > 0 {
		text += " + " + terminal.Count(e.Indeterminate)
	}
	return text
}

// Right returns the right side of the equation, the number of effects, as text.
func (e Equation) Right() string { return terminal.Count(e.Effects) }

// Equations returns the equations that the counters of a ledger must satisfy.
func Equations(r *ledger.Report) []Equation {
	return []Equation{
		{"entries", r.EntriesConfirmed, r.IndeterminateEntries, "recorded", r.EntriesRecorded},
		{"matched exits", r.ExitsMatchedConfirmed, r.IndeterminateMatched, "matched", r.Matched},
		{"unmatched exits", r.ExitsUnmatchedConfirmed, r.IndeterminateUnmatched, "unmatched as expected", r.UnmatchedExpected},
		{"finished visits", r.Matched + r.ExternalMatched, 0, "summaries stored", r.SummariesStored},
	}
}

// Count is a counter of the ledger together with its name.
type Count struct {
	Name string
	N    int64
	// Harmless means that any value is acceptable. Other counters must be 0.
	Harmless bool
}

// Text formats the value of the counter.
func (c Count) Text() string { return terminal.Count(c.N) }

// Bad reports whether the counter should be 0 but is not.
func (c Count) Bad() bool { return c.N != 0 && !c.Harmless }

// Counts returns the counters of a ledger that no equation contains (see Equations). It omits counters that do not
// apply to the run.
func Counts(r *ledger.Report) []Count {
	counts := []Count{
		{Name: "lost", N: r.Lost},
		{Name: "counted twice", N: r.TakenTwice},
		{Name: "unexpectedly unmatched", N: r.UnmatchedUnexpected},
		{Name: "dead letters", N: r.DeadLettered},
		{Name: "duplicates suppressed", N: r.DuplicatesSuppressed, Harmless: true},
		{Name: "indeterminate", N: r.Indeterminate, Harmless: true},
		{Name: "starved draws", N: r.Starved, Harmless: true},
		{Name: "generator runs", N: r.Runs, Harmless: true},
	}
	if r.External() > 0 {
		counts = append(counts,
			Count{Name: "external entries", N: r.ExternalEntries, Harmless: true},
			Count{Name: "external matched", N: r.ExternalMatched, Harmless: true},
			Count{Name: "external unmatched", N: r.EntryNotFound, Harmless: true})
	}
	if !r.AtRest {
		counts = append(counts,
			Count{Name: "outstanding", N: r.Outstanding},
			Count{Name: "pending summaries", N: r.Outbox})
	}
	return counts
}

// RateLine describes the rate of one event type as formatted text.
type RateLine struct {
	Name                            string
	Target, Achieved, Share, MaxLag string
	// Missed is the number of due events that the generator never attempted to publish.
	Missed int64
}

// RateLines returns one line for the rate of entries and one for the rate of exits.
func (r Rates) RateLines() []RateLine {
	return []RateLine{r.Entry.line("entries"), r.Exit.line("exits")}
}

func (r Rate) line(name string) RateLine {
	share := ""
	if r.Target > 0 {
		share = shareText(r.Achieved / r.Target)
	}
	return RateLine{
		Name: name, Target: terminal.Rate(r.Target), Achieved: terminal.Rate(r.Achieved), Share: share,
		MaxLag: terminal.Duration(Seconds(r.MaxLagSeconds)), Missed: r.Missed,
	}
}

// LatencyLine describes one latency distribution as formatted text.
type LatencyLine struct {
	Name, P50, P99, Mean string
}

// LatencyLines formats the latency distributions.
func (l Latencies) LatencyLines() []LatencyLine {
	return []LatencyLine{l.Processing.line("processing"), l.EndToEnd.line("end to end")}
}

// Unknown says how many latencies are unknown, such as "latencies of 17 events are unknown". It returns "" if all are
// known.
func (l Latencies) Unknown() string {
	switch l.Unmeasured {
	case 0:
		return ""
	case 1:
		return "latency of 1 event is unknown"
	}
	return "latencies of " + terminal.Count(l.Unmeasured) + " events are unknown"
}

func (l *Latency) line(name string) LatencyLine {
	line := LatencyLine{Name: name, P50: Unmeasured, P99: Unmeasured, Mean: Unmeasured}
	if l != nil {
		line.P50, line.P99, line.Mean = terminal.Duration(Seconds(l.P50)), terminal.Duration(Seconds(l.P99)), terminal.Duration(Seconds(l.Mean))
	}
	return line
}

// ObjectiveLines returns the checks of the objectives, with Unmeasured for missing values. It omits checks with the
// limit 0, whose counts are in the ledger.
func ObjectiveLines(v *ledger.Verdict) []ledger.Check {
	var lines []ledger.Check
	for _, c := range v.Checks {
		if c.Kind == ledger.Objective && c.Want != "at most 0" {
			c.Got = cmp.Or(c.Got, Unmeasured)
			lines = append(lines, c)
		}
	}
	return lines
}

// Seconds converts a number of seconds to a duration.
func Seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Fact is a named property of a run, such as the version of a server.
type Fact struct{ Name, Value string }

// Facts returns the times of the run, the machines, and the versions of the programs, as names with values. It omits
// unknown values.
func (d *Document) Facts() []Fact {
	facts := []Fact{
		{"start", timeText(d.StartTime)},
		{"end", timeText(d.EndTime)},
		{"elapsed", terminal.Clock(Seconds(d.ElapsedSeconds))},
		{"drain time after the schedule", terminal.Duration(Seconds(d.DrainSeconds))},
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

// timeText formats a time with milliseconds. It returns "" for the zero time.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05.000 UTC")
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
