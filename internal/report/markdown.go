package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// Markdown returns the report as GitHub Flavored Markdown, for example for a pull request. Of the timeline, it contains
// only the marks.
func (d *Document) Markdown() []byte {
	var b markdown
	mark := "✅"
	if d.Outcome != ledger.Pass {
		mark = "❌"
	}
	b.line("## %s %s: %s", mark, d.Outcome, escapeMarkdown(d.Simulation))
	if len(d.Reasons) > 0 {
		b.line("")
	}
	for _, reason := range d.Reasons {
		b.item(reason)
	}
	b.notes(d.Warnings())
	if objectives := ObjectiveLines(&d.Verdict); len(objectives) > 0 {
		b.table("objective|bound|measured|outcome", "-|-|-|-")
		for _, c := range objectives {
			b.row(c.Name, c.Want, c.Got, outcomeText(c.Outcome))
		}
	}
	b.table("latency|p50|p99|mean", "-|-:|-:|-:")
	for _, l := range d.LatencySeconds.LatencyLines() {
		b.row(l.Name, l.P50, l.P99, l.Mean)
	}
	if unknown := d.LatencySeconds.Unknown(); unknown != "" {
		b.line("")
		b.line("The %s.", unknown)
	}
	b.table("events per second|target|achieved|share|max lag|missed", "-|-:|-:|-:|-:|-:")
	for _, r := range d.Rates.RateLines() {
		b.row(r.Name, r.Target, r.Achieved, r.Share, r.MaxLag, terminal.Count(r.Missed))
	}
	b.faults(&d.Run)
	b.events(d)
	b.ledger(d.Ledger)
	b.line("")
	b.line("<details><summary>%d checks</summary>", len(d.Checks))
	b.table("outcome|check|kind|want|got", "-|-|-|-|-")
	for _, c := range d.Checks {
		b.row(outcomeText(c.Outcome), c.Name, string(c.Kind), c.Want, c.Got)
	}
	b.line("")
	b.line("</details>")
	b.line("<details><summary>Environment</summary>")
	b.table("|", "-|-")
	for _, f := range d.Facts() {
		b.row(f.Name, f.Value)
	}
	if text := d.ManifestText(); text != "" {
		b.line("")
		b.fence(text)
	}
	b.line("")
	b.line("</details>")
	return terminal.CleanLines(b.Bytes())
}

func outcomeText(o ledger.CheckOutcome) string {
	switch o {
	case ledger.Passed:
		return "✓ passed"
	case ledger.Failed:
		return "✗ failed"
	}
	return "? not measured"
}

// ManifestText returns the manifest as indented JSON. It returns "" if the manifest is unknown.
func (d *Document) ManifestText() string {
	var b bytes.Buffer
	if len(d.Environment.Manifest) == 0 || json.Indent(&b, d.Environment.Manifest, "", "  ") != nil {
		return ""
	}
	return b.String() + "\n"
}

// markdown builds a Markdown document line by line.
type markdown struct{ bytes.Buffer }

func (b *markdown) line(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }

// table begins a table. The parameters heads and alignment have one part per column, separated by vertical bars.
func (b *markdown) table(heads, alignment string) {
	b.line("")
	b.line("|%s|", heads)
	b.line("|%s|", alignment)
}

func (b *markdown) row(cells ...string) {
	for i := range cells {
		cells[i] = escapeMarkdown(cells[i])
	}
	b.line("|%s|", strings.Join(cells, "|"))
}

func (b *markdown) notes(notes []string) {
	if len(notes) > 0 {
		b.line("")
	}
	for _, note := range notes {
		b.line("- **Note:** %s", escapeMarkdown(note))
	}
}

func (b *markdown) item(text string) { b.line("- %s", escapeMarkdown(text)) }

func (b *markdown) ledger(r *ledger.Report) {
	switch {
	case r == nil:
		b.line("\nThe ledger could not be read.")
		return
	case !r.DataKept():
		b.line("\nThe ledger is incomplete, because the store has lost data.")
		return
	}
	b.table("published and confirmed||took effect||", "-|-:|-|-:|-")
	for _, e := range Equations(r) {
		mark := "✓"
		if !e.Holds() {
			mark = "✗"
		}
		b.row(e.Published, e.Left(), e.Effect, e.Right(), mark)
	}
	b.table("counter|events", "-|-:")
	for _, c := range Counts(r) {
		b.row(c.Name, c.Text())
	}
	if len(r.LostEvents) > 0 {
		b.line("")
		b.line("Lost events:")
		b.line("")
		b.fence(strings.Join(r.LostEvents, "\n") + "\n")
	}
}

// faults appends a table with the occurrences of faults.
func (b *markdown) faults(r *Run) {
	lines := r.FaultLines()
	if len(lines) == 0 {
		return
	}
	b.table("fault|recovery|outcome|at|action|lasted|peak p99|peak lag|peak backlog|redelivered|duplicates|lost", "-|-:|-|-:|-|-:|-:|-:|-:|-:|-:|-:")
	for _, l := range lines {
		b.row(l.ID, l.Recovery, string(l.Outcome), l.At, l.Action, l.Lasted, l.PeakP99, l.PeakLag, l.PeakBacklog, l.Redeliveries, l.Duplicates, l.Lost)
	}
	if omitted := r.OmittedFaults(); omitted != "" {
		b.line("")
		b.line("%s", omitted)
	}
	totals := r.FaultTotalLines()
	if len(totals) == 0 {
		return
	}
	b.table("totals|occurrences|injected|recovered|not recovered|not injected|aborted|mean recovery|slowest|action|redelivered|duplicates", "-|-:|-:|-:|-:|-:|-:|-:|-:|-|-:|-:")
	for _, l := range totals {
		b.row(l.Fault, l.Occurrences, l.Injected, l.Recovered, l.NotRecovered, l.NotInjected, l.Aborted, l.Mean, l.Slowest, l.Action, l.Redeliveries, l.Duplicates)
	}
}

// events appends a table of the notable events of the run, such as lost connections and faults.
func (b *markdown) events(d *Document) {
	notes, omitted := d.notes()
	if len(notes) == 0 {
		return
	}
	b.line("")
	b.line("<details><summary>Events of note (%s)</summary>", terminal.Count(int64(len(notes))))
	b.table("#|at|event|message", "-:|-:|-|-")
	for _, n := range notes {
		b.row(strconv.Itoa(n.Number), n.At, n.Subject+" "+n.Kind, n.Message)
	}
	b.line("")
	if omitted > 0 {
		b.line("The table leaves out %s further events. It keeps failures rather than other events.\n", terminal.Count(omitted))
	}
	b.line("</details>")
}

// fence appends a text as a fenced code block. The fence is longer than any sequence of backquotes in the text.
func (b *markdown) fence(text string) {
	longest, run := 2, 0
	for _, c := range text {
		if c != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	fence := strings.Repeat("`", longest+1)
	b.line("%s\n%s%s", fence, text, fence)
}

// escapeMarkdown makes Markdown display a text literally, on one line. Anyone who can publish events can choose the
// text, so links and mentions must have no effect.
func escapeMarkdown(text string) string {
	var b strings.Builder
	line := strings.Join(strings.Fields(terminal.Clean(text)), " ")
	marker := len(strings.TrimSuffix(listMarker.FindString(line), " ")) - 1
	for i, c := range line {
		if strings.ContainsRune("\\`*_[]<>|#&~$", c) || i == marker {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
		if c == '@' || c == '#' || c == ':' && strings.HasPrefix(line[i:], "://") || c == '.' && wwwPrefix.MatchString(line[:i+1]) {
			// An empty comment breaks up mentions and links. A backslash would not: GitHub removes backslashes before it
			// looks for mentions and links.
			b.WriteString("<!-- -->")
		}
	}
	return b.String()
}

var (
	listMarker = regexp.MustCompile(`^([-+]|\d+[.)])( |$)`)
	wwwPrefix  = regexp.MustCompile(`(?i)\bwww\.$`)
)
