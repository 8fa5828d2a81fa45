package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

func reportTable(d *report.Document, t *table) []string {
	shown := *d
	shown.Timeline = nil // the table does not show the timeline
	r := terminal.Cleaned(&shown)
	t.banner(r.Verdict, fmt.Sprintf("%s after %s", r.Simulation, terminal.Clock(report.Seconds(r.ElapsedSeconds))))
	t.notes(r.Warnings())
	if r.Ledger != nil {
		t.ledger(*r.Ledger)
	}
	t.rates(r.Rates)
	t.latencies(r.LatencySeconds)
	t.objectives(&r.Verdict)
	t.faults(&r.Run)
	return append(t.lines, "")
}

func auditTable(r auditResult, t *table) []string {
	r = terminal.Cleaned(r)
	t.banner(r.Verdict, r.Simulation)
	t.moving = r.Running
	t.ledger(r.Ledger)
	t.latencies(r.LatencySeconds)
	t.objectives(&r.Verdict)
	t.notes(r.Notes)
	return append(t.lines, "")
}

// table collects the lines of a text table.
type table struct {
	palette terminal.Palette
	columns int  // maximum width of a line, in characters
	moving  bool // the ledger may change while it is read, so its numbers may not add up
	lines   []string
}

// unlimited is the width of a table that is not written to a terminal.
const unlimited = math.MaxInt

// newTable returns a table that fits the width of f if f is a terminal.
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

// paragraph adds a text after a sign such as ✓. If the text is wrapped, all its lines have the same indentation.
func (t *table) paragraph(mark, text string) {
	indent := terminal.Width(mark) + 1
	for i, line := range terminal.Wrap(text, max(t.columns-indent, 1)) {
		if i > 0 {
			mark = strings.Repeat(" ", indent-1)
		}
		t.add(mark + " " + line)
	}
}

// banner adds the verdict and its reasons to the table.
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
		sign := t.palette.Bad("✗")
		if v.IsCaveat(reason) {
			sign = t.palette.Warn("–")
		}
		t.paragraph("  "+sign, reason)
	}
}

// notes appends each note below the table, as a paragraph of its own.
func (t *table) notes(notes []string) {
	for _, note := range notes {
		t.add("")
		t.paragraph("  "+t.palette.Dim("note:"), note)
	}
}

const (
	leftName, leftFigure   = 25, 17
	rightName, rightFigure = 22, 10
	gap                    = "   "
	// bothSides is the width of a line with two counters and the sign ✓ or ✗.
	bothSides = leftName + leftFigure + len(gap) + rightName + rightFigure + 3
)

// ledger adds the numbers of the ledger to the table. It adds nothing if the store has lost data.
func (t *table) ledger(r ledger.Report) {
	if !r.DataKept() {
		return
	}
	t.add("")
	if t.columns >= bothSides {
		t.add(t.palette.Dim(pair("  published and confirmed", "", "took effect", "")))
	}
	for _, e := range report.Equations(&r) {
		t.equation(e)
	}
	t.add("")
	for line := range slices.Chunk(report.Counts(&r), 2) {
		t.counts(line)
	}
	t.lost(r)
}

func (t *table) equation(e report.Equation) {
	mark := t.palette.Good("✓")
	switch {
	case t.moving:
		mark = ""
	case !e.Holds():
		mark = t.palette.Bad("✗")
	}
	if t.columns < bothSides {
		t.add(single("  "+e.Published, e.Left()), single("    "+e.Effect, e.Right())+"  "+mark)
		return
	}
	t.add(pair("  "+e.Published, e.Left(), e.Effect, e.Right()) + "  " + mark)
}

func pair(name1, figure1, name2, figure2 string) string {
	return terminal.PadRight(name1, leftName) + terminal.PadLeft(figure1, leftFigure) + gap +
		terminal.PadRight(name2, rightName) + terminal.PadLeft(figure2, rightFigure)
}

// single formats a line with one counter, for narrow terminals.
func single(name, figure string) string {
	return terminal.PadRight(name, leftName) + terminal.PadLeft(figure, leftFigure)
}

// counts adds a line with one or two counters to the table.
func (t *table) counts(counts []report.Count) {
	cells := [4]string{}
	for i, c := range counts {
		text := c.Text()
		if c.Bad() {
			text = t.palette.Bad(text)
		}
		cells[2*i], cells[2*i+1] = c.Name, text
		if t.columns < bothSides {
			t.add(single("  "+c.Name, text))
		}
	}
	if t.columns >= bothSides {
		t.add(pair("  "+cells[0], cells[1], cells[2], cells[3]))
	}
}

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

func (t *table) rates(r report.Rates) {
	t.add("", t.palette.Dim(row(t.columns, "  events/s", "target", "achieved", "share", "max lag")))
	for _, line := range r.RateLines() {
		t.add(row(t.columns, "  "+line.Name, line.Target, line.Achieved, line.Share, line.MaxLag))
		if line.Missed > 0 {
			t.paragraph(" ", t.palette.Warn("overdue "+line.Name+" that were never published: "+terminal.Count(line.Missed)))
		}
	}
}

func (t *table) latencies(l report.Latencies) {
	t.add("", t.palette.Dim(row(t.columns, "  latency", "p50", "p99", "mean")))
	for _, line := range l.LatencyLines() {
		t.add(row(t.columns, "  "+line.Name, line.P50, line.P99, line.Mean))
	}
	if unknown := l.Unknown(); unknown != "" {
		t.paragraph(" ", t.palette.Warn("the "+unknown))
	}
}

// objectives adds one line for each objective, with the measured value.
func (t *table) objectives(v *ledger.Verdict) {
	lines := report.ObjectiveLines(v)
	if len(lines) > 0 {
		t.add("", t.palette.Dim("  objectives"))
	}
	marks := map[ledger.CheckOutcome]string{ledger.Passed: t.palette.Good("✓"), ledger.Failed: t.palette.Bad("✗"), ledger.NotMeasured: t.palette.Warn("?")}
	for _, c := range lines {
		t.paragraph("  "+marks[c.Outcome], fmt.Sprintf("%s: %s (%s)", c.Name, c.Got, c.Want))
	}
}

// maxFaultLines is the maximum number of occurrences of faults that the table lists.
const maxFaultLines = 20

// faults adds the worst occurrences of faults to the table. Each takes two lines if one of them does not fit in one
// line.
func (t *table) faults(r *report.Run) {
	shown := *r
	shown.Faults = fault.Worst(r.Faults, maxFaultLines)
	lines := shown.FaultLines()
	if len(lines) == 0 {
		return
	}
	t.add("")
	fits := t.columns >= nameWidth+4*figureWidth &&
		!slices.ContainsFunc(lines, func(l report.FaultLine) bool { return terminal.Width(l.ID)+3 > nameWidth })
	add := func(paint func(string) string, id string, figures ...string) {
		if fits {
			t.add(paint(row(t.columns, "  "+id, figures...)))
			return
		}
		t.add(paint("  " + id))
		for i := range figures {
			figures[i] = terminal.PadLeft(figures[i], len("peak backlog")+1)
		}
		t.add(paint(strings.Join(figures, "")))
	}
	add(t.palette.Dim, "fault", "recovery", "peak p99", "peak backlog", "outcome")
	for _, line := range lines {
		paint := t.palette.Bad
		if line.IsGood() {
			paint = terminal.Palette{}.Good
		}
		add(paint, line.ID, line.Recovery, line.PeakP99, line.PeakBacklog, string(line.Outcome))
	}
	if omitted := int64(len(r.Faults)-len(lines)) + r.FaultsOmitted; omitted > 0 {
		rest := " more; none is worse than the faults listed above"
		// An omitted occurrence is never worse than the worst one in the list.
		if r.FaultsOmitted > 0 {
			rest = " more; the worst fault is listed above"
		}
		t.add("    and " + terminal.Count(omitted) + rest)
	}
}

const nameWidth, figureWidth = 22, 14

// row formats a name and up to four figures as a row of a table. If the terminal has few columns, the cells are
// narrower.
func row(columns int, name string, figures ...string) string {
	nameWidth, figureWidth := nameWidth, figureWidth
	if columns < nameWidth+4*figureWidth {
		nameWidth = 13
		figureWidth = max((columns-nameWidth)/4, 8)
	}
	var b strings.Builder
	b.WriteString(terminal.PadRight(name, nameWidth))
	for _, figure := range figures {
		if terminal.Width(figure) >= figureWidth && !strings.HasSuffix(b.String(), " ") {
			b.WriteByte(' ')
		}
		b.WriteString(terminal.PadLeft(figure, figureWidth))
	}
	return b.String()
}
