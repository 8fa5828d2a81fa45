package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// resultTable shows how a simulation ended.
func resultTable(p *plan.Plan, r simulate.Result, palette terminal.Palette) []string {
	t := table{palette: palette}
	t.banner(r.Verdict, fmt.Sprintf("%s after %s", r.Simulation, terminal.Clock(seconds(r.ElapsedSeconds))))
	t.ledger(r.Ledger)
	t.rates(r.Rates)
	t.latencies(r.LatencySeconds, p.Objectives)
	return append(t.lines, "")
}

// auditTable shows an audit.
func auditTable(r auditResult, palette terminal.Palette) []string {
	t := table{palette: palette}
	t.banner(r.Verdict, r.Simulation)
	t.ledger(r.Ledger)
	for _, note := range r.Notes {
		t.add("", "  "+palette.Dim("note: "+note))
	}
	return append(t.lines, "")
}

// table gathers lines.
type table struct {
	palette terminal.Palette
	lines   []string
}

func (t *table) add(lines ...string) {
	for _, line := range lines {
		t.lines = append(t.lines, strings.TrimRight(line, " "))
	}
}

// banner puts the verdict and its reasons first.
func (t *table) banner(v ledger.Verdict, what string) {
	mark := t.palette.GoodBanner(" " + string(v.Outcome) + " ")
	if v.Outcome != ledger.Pass {
		mark = t.palette.BadBanner(" " + string(v.Outcome) + " ")
	}
	t.add("", " "+mark+"  "+t.palette.Head(what))
	if len(v.Reasons) > 0 {
		t.add("")
	}
	for _, reason := range v.Reasons {
		t.add("  " + t.palette.Bad("✗") + " " + reason)
	}
}

// The columns of the table.
const (
	leftName, leftFigure   = 25, 17
	rightName, rightFigure = 22, 10
)

// ledger sets what was published against what took effect.
func (t *table) ledger(r ledger.Report) {
	t.add("", t.palette.Dim(t.pair("  published and confirmed", "", "took effect", "")))
	t.equation("entries", r.EntriesConfirmed, r.IndeterminateEntries, "recorded", r.EntriesRecorded)
	t.equation("exits to match", r.ExitsMatchedConfirmed, r.IndeterminateMatched, "matched", r.Matched)
	t.equation("exits not to match", r.ExitsUnmatchedConfirmed, r.IndeterminateUnmatched, "unmatched as expected", r.UnmatchedExpected)
	t.equation("visits ended", r.Matched+r.StrangerMatched, 0, "summaries stored", r.SummariesStored)
	t.add("")
	t.counts(false, count{"lost", r.Lost}, count{"taken twice", r.TakenTwice})
	t.counts(false, count{"unmatched unexpectedly", r.UnmatchedUnexpected}, count{"dead letters", r.DeadLettered})
	t.counts(true, count{"duplicates suppressed", r.DuplicatesSuppressed}, count{"indeterminate", r.Indeterminate})
	t.counts(true, count{"starved draws", r.Starved}, count{"generator runs", r.Runs})
	if strangers := r.StrangerEntries + r.StrangerMatched + r.EntryNotFound; strangers > 0 {
		t.counts(true, count{"strangers' entries", r.StrangerEntries}, count{"their exits matched", r.StrangerMatched})
		t.counts(true, count{"their exits not matched", r.EntryNotFound})
	}
	if !r.AtRest {
		t.counts(false, count{"outstanding", r.Outstanding}, count{"summaries waiting", r.Outbox})
	}
	t.lost(r)
}

// equation shows both sides, and whether they are equal. Events beyond a watermark that took effect stand
// on the left.
func (t *table) equation(published string, confirmed, indeterminate int64, effect string, effects int64) {
	left := terminal.Count(confirmed)
	if indeterminate > 0 {
		left += " + " + terminal.Count(indeterminate)
	}
	mark := t.palette.Good("✓")
	if confirmed+indeterminate != effects {
		mark = t.palette.Bad("✗")
	}
	t.add(t.pair("  "+published, left, effect, terminal.Count(effects)) + "  " + mark)
}

// pair aligns two names with their figures.
func (t *table) pair(name1, figure1, name2, figure2 string) string {
	return terminal.PadRight(name1, leftName) + terminal.PadLeft(figure1, leftFigure) + "   " +
		terminal.PadRight(name2, rightName) + terminal.PadLeft(figure2, rightFigure)
}

type count struct {
	name string
	n    int64
}

// counts shows up to two counts. What is not harmless is marked when it is not 0.
func (t *table) counts(harmless bool, counts ...count) {
	cells := [4]string{}
	for i, c := range counts {
		text := terminal.Count(c.n)
		if c.n != 0 && !harmless {
			text = t.palette.Bad(text)
		}
		cells[2*i], cells[2*i+1] = c.name, text
	}
	t.add(t.pair("  "+cells[0], cells[1], cells[2], cells[3]))
}

// lost names the events that were lost.
func (t *table) lost(r ledger.Report) {
	if len(r.LostEvents) == 0 {
		return
	}
	t.add("", "  "+t.palette.Bad("lost events"))
	for _, id := range r.LostEvents {
		t.add("    " + id)
	}
	if rest := r.Lost - int64(len(r.LostEvents)); rest > 0 {
		t.add(fmt.Sprintf("    and %s more", terminal.Count(rest)))
	}
}

func (t *table) rates(r simulate.Rates) {
	t.add("", t.palette.Dim(t.row("  rate, events/s", "target", "achieved", "", "max lag")))
	for _, row := range []struct {
		name string
		rate simulate.Rate
	}{{"entries", r.Entry}, {"exits", r.Exit}} {
		share := ""
		if row.rate.Target > 0 {
			share = fmt.Sprintf("%.1f %%", 100*row.rate.Achieved/row.rate.Target)
		}
		t.add(t.row("  "+row.name, terminal.Rate(row.rate.Target), terminal.Rate(row.rate.Achieved), share, terminal.Duration(seconds(row.rate.MaxLagSeconds))))
		if row.rate.Missed > 0 {
			t.add("  " + t.palette.Warn(terminal.Count(row.rate.Missed)+" "+row.name+" were overdue at the end and never published"))
		}
	}
}

func (t *table) latencies(l simulate.Latencies, o plan.Objectives) {
	t.add("", t.palette.Dim(t.row("  latency", "p50", "p99", "mean", "objective p99")))
	for _, row := range []struct {
		name      string
		latency   simulate.Latency
		objective plan.Duration
	}{{"processing", l.Processing, o.ProcessingP99}, {"end to end", l.EndToEnd, o.EndToEndP99}} {
		objective := "–"
		if row.objective > 0 {
			objective = terminal.Duration(row.objective.D())
		}
		t.add(t.row("  "+row.name, terminal.Duration(seconds(row.latency.P50)), terminal.Duration(seconds(row.latency.P99)),
			terminal.Duration(seconds(row.latency.Mean)), objective))
	}
}

// row aligns a name and four figures.
func (t *table) row(name string, figures ...string) string {
	var b strings.Builder
	b.WriteString(terminal.PadRight(name, 20))
	for _, figure := range figures {
		b.WriteString(terminal.PadLeft(figure, 14))
	}
	return b.String()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
