package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// resultTable renders the result of a simulation.
func resultTable(p *plan.Plan, r simulate.Result, t *table) []string {
	t.banner(r.Verdict, fmt.Sprintf("%s after %s", r.Simulation, terminal.Clock(seconds(r.ElapsedSeconds))))
	if r.Ledger != nil {
		t.ledger(*r.Ledger)
	}
	t.rates(r.Rates)
	t.latencies(r.LatencySeconds, p.Objectives)
	return append(t.lines, "")
}

// auditTable renders the result of an audit.
func auditTable(r auditResult, t *table) []string {
	t.banner(r.Verdict, r.Simulation)
	t.moving = r.Running
	t.ledger(r.Ledger)
	for _, note := range r.Notes {
		t.add("")
		t.paragraph("  "+t.palette.Dim("note:"), note)
	}
	return append(t.lines, "")
}

// table collects the lines of a text table.
type table struct {
	palette terminal.Palette
	// columns is the maximum width of a line.
	columns int
	// moving means that the numbers were read at different moments, so that equations need not hold.
	moving bool
	lines  []string
}

// unlimited is the width of an output that is not a terminal.
const unlimited = math.MaxInt

// newTable returns a table that fits the width of f.
func newTable(f *os.File) *table {
	t := &table{palette: terminal.PaletteFor(f), columns: unlimited}
	if terminal.Is(f) {
		t.columns, _ = terminal.Size(f)
	}
	return t
}

func (t *table) add(lines ...string) {
	for _, line := range lines {
		t.lines = append(t.lines, strings.TrimRight(line, " "))
	}
}

// paragraph adds a text with a hanging indent behind its mark.
func (t *table) paragraph(mark, text string) {
	indent := terminal.Width(mark) + 1
	for i, line := range terminal.Wrap(text, max(t.columns-indent, 1)) {
		if i > 0 {
			mark = strings.Repeat(" ", indent-1)
		}
		t.add(mark + " " + line)
	}
}

// banner adds the verdict and its reasons.
func (t *table) banner(v ledger.Verdict, title string) {
	mark := t.palette.GoodBanner(" " + string(v.Outcome) + " ")
	if v.Outcome != ledger.Pass {
		mark = t.palette.BadBanner(" " + string(v.Outcome) + " ")
	}
	t.add("", " "+mark+"  "+t.palette.Head(title))
	if len(v.Reasons) > 0 {
		t.add("")
	}
	for _, reason := range v.Reasons {
		t.paragraph("  "+t.palette.Bad("✗"), reason)
	}
}

// The widths of the columns, and the width of a line that has two names, two figures and a mark.
const (
	leftName, leftFigure   = 25, 17
	rightName, rightFigure = 22, 10
	gap                    = "   "
	bothSides              = leftName + leftFigure + len(gap) + rightName + rightFigure + 3
)

// ledger adds what was published next to what took effect, and the counters. It adds nothing if the store has lost
// data, because the numbers are then incomplete.
func (t *table) ledger(r ledger.Report) {
	if !r.DataKept() {
		return
	}
	t.add("")
	if t.columns >= bothSides {
		t.add(t.palette.Dim(pair("  published and confirmed", "", "took effect", "")))
	}
	t.equation("entries", r.EntriesConfirmed, r.IndeterminateEntries, "recorded", r.EntriesRecorded)
	t.equation("matched exits", r.ExitsMatchedConfirmed, r.IndeterminateMatched, "matched", r.Matched)
	t.equation("unmatched exits", r.ExitsUnmatchedConfirmed, r.IndeterminateUnmatched, "unmatched as expected", r.UnmatchedExpected)
	t.equation("finished visits", r.Matched+r.ExternalMatched, 0, "summaries stored", r.SummariesStored)
	t.add("")
	t.counts(false, count{"lost", r.Lost}, count{"counted twice", r.TakenTwice})
	t.counts(false, count{"unexpectedly unmatched", r.UnmatchedUnexpected}, count{"dead letters", r.DeadLettered})
	t.counts(true, count{"duplicates suppressed", r.DuplicatesSuppressed}, count{"indeterminate", r.Indeterminate})
	t.counts(true, count{"starved draws", r.Starved}, count{"generator runs", r.Runs})
	if r.External() > 0 {
		t.counts(true, count{"external entries", r.ExternalEntries}, count{"external matched", r.ExternalMatched})
		t.counts(true, count{"external unmatched", r.EntryNotFound})
	}
	if !r.AtRest {
		t.counts(false, count{"outstanding", r.Outstanding}, count{"pending summaries", r.Outbox})
	}
	t.lost(r)
}

// equation adds both sides of an equation, and marks whether they are equal. Indeterminate events took effect, so
// they are added to the left side.
func (t *table) equation(published string, confirmed, indeterminate int64, effect string, effects int64) {
	left := terminal.Count(confirmed)
	if indeterminate > 0 {
		left += " + " + terminal.Count(indeterminate)
	}
	mark := t.palette.Good("✓")
	switch {
	case t.moving:
		mark = ""
	case confirmed+indeterminate != effects:
		mark = t.palette.Bad("✗")
	}
	if t.columns < bothSides {
		t.add(single("  "+published, left), single("    "+effect, terminal.Count(effects))+"  "+mark)
		return
	}
	t.add(pair("  "+published, left, effect, terminal.Count(effects)) + "  " + mark)
}

// pair formats two names with their figures.
func pair(name1, figure1, name2, figure2 string) string {
	return terminal.PadRight(name1, leftName) + terminal.PadLeft(figure1, leftFigure) + gap +
		terminal.PadRight(name2, rightName) + terminal.PadLeft(figure2, rightFigure)
}

// single formats one name with its figure, for narrow terminals.
func single(name, figure string) string {
	return terminal.PadRight(name, leftName) + terminal.PadLeft(figure, leftFigure)
}

type count struct {
	name string
	n    int64
}

// counts adds a line of one or two counts. Unless they are harmless, counts other than 0 are highlighted.
func (t *table) counts(harmless bool, counts ...count) {
	cells := [4]string{}
	for i, c := range counts {
		text := terminal.Count(c.n)
		if c.n != 0 && !harmless {
			text = t.palette.Bad(text)
		}
		cells[2*i], cells[2*i+1] = c.name, text
		if t.columns < bothSides {
			t.add(single("  "+c.name, text))
		}
	}
	if t.columns >= bothSides {
		t.add(pair("  "+cells[0], cells[1], cells[2], cells[3]))
	}
}

// lost adds the identifiers of lost events.
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
	t.add("", t.palette.Dim(row(t.columns, "  events/s", "target", "achieved", "", "max lag")))
	for _, line := range []struct {
		name string
		rate simulate.Rate
	}{{"entries", r.Entry}, {"exits", r.Exit}} {
		share := ""
		if line.rate.Target > 0 {
			share = fmt.Sprintf("%.1f %%", 100*line.rate.Achieved/line.rate.Target)
		}
		t.add(row(t.columns, "  "+line.name, terminal.Rate(line.rate.Target), terminal.Rate(line.rate.Achieved), share,
			terminal.Duration(seconds(line.rate.MaxLagSeconds))))
		if line.rate.Missed > 0 {
			t.paragraph(" ", t.palette.Warn(terminal.Count(line.rate.Missed)+" "+line.name+" were overdue when the schedule ended and were never published"))
		}
	}
}

// notMeasured is shown in place of a figure that was not measured.
const notMeasured = "–"

func (t *table) latencies(l simulate.Latencies, o plan.Objectives) {
	t.add("", t.palette.Dim(row(t.columns, "  latency", "p50", "p99", "mean", "objective")))
	for _, line := range []struct {
		name      string
		latency   *simulate.Latency
		objective plan.Duration
	}{{"processing", l.Processing, o.ProcessingP99}, {"end to end", l.EndToEnd, o.EndToEndP99}} {
		objective := "–"
		if line.objective > 0 {
			objective = terminal.Duration(line.objective.D())
		}
		p50, p99, mean := notMeasured, notMeasured, notMeasured
		if l := line.latency; l != nil {
			p50, p99, mean = terminal.Duration(seconds(l.P50)), terminal.Duration(seconds(l.P99)), terminal.Duration(seconds(l.Mean))
		}
		t.add(row(t.columns, "  "+line.name, p50, p99, mean, objective))
	}
}

// row formats a name and up to four figures. It moves them closer together on narrow terminals.
func row(columns int, name string, figures ...string) string {
	nameWidth, figureWidth := 22, 14
	if columns < nameWidth+4*figureWidth {
		nameWidth = 13
		figureWidth = max((columns-nameWidth)/4, 8)
	}
	var b strings.Builder
	b.WriteString(terminal.PadRight(name, nameWidth))
	for _, figure := range figures {
		b.WriteString(terminal.PadLeft(figure, figureWidth))
	}
	return b.String()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
