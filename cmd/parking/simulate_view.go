package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/latency"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

const (
	// refreshInterval is how often the picture on a terminal is redrawn, lineInterval how often elsewhere a
	// line is written.
	refreshInterval = 250 * time.Millisecond
	lineInterval    = 5 * time.Second
	// rateWindow is the time over which the present rates are taken.
	rateWindow = 2 * time.Second
)

// view shows a simulation while it runs, on stderr: a picture that is refreshed in place on a terminal, a
// line now and then elsewhere. What is written to it appears beside, so that logs do not tear the picture.
type view struct {
	io.Writer

	screen  *terminal.Screen // nil where nothing can be refreshed
	palette terminal.Palette
	plan    *plan.Plan
}

func newView(stderr *os.File, p *plan.Plan) *view {
	v := &view{Writer: stderr, palette: terminal.PaletteFor(stderr), plan: p}
	if terminal.CanRefresh(stderr) {
		v.screen = terminal.NewScreen(stderr, func() (int, int) { return terminal.Size(stderr) })
		v.Writer = v.screen
	}
	return v
}

// begin says what is about to run.
func (v *view) begin(where [][2]string, notes []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "Simulating %s%s\n", v.palette.Head(v.plan.Simulation), length(v.plan))
	for _, line := range where {
		fmt.Fprintf(&b, "  %s  %s\n", v.palette.Dim(terminal.PadRight(line[0], 9)), line[1])
	}
	for _, note := range notes {
		fmt.Fprintf(&b, "  %s  %s\n", v.palette.Warn(terminal.PadRight("note", 9)), note)
	}
	_, _ = io.WriteString(v, b.String()) // who cannot be shown anything still gets the result
}

func length(p *plan.Plan) string {
	if p.Duration == 0 {
		return " until Ctrl-C"
	}
	return " for " + p.Duration.String()
}

// follow shows the progress until ctx ends.
func (v *view) follow(ctx context.Context, progress func() simulate.Progress) {
	interval := lineInterval
	if v.screen != nil {
		interval = refreshInterval
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var recent window
	recent.add(progress())
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := progress()
		recent.add(now)
		s := snapshot{Progress: now, plan: v.plan, entryRate: recent.rate(entriesOf), exitRate: recent.rate(exitsOf), memory: memoryInUse()}
		if v.screen != nil {
			v.screen.Show(s.picture(v.palette))
		} else {
			_, _ = fmt.Fprintln(v, s.line())
		}
	}
}

// end takes the picture away.
func (v *view) end() {
	if v.screen != nil {
		v.screen.Close()
	}
}

// window holds what was seen in the last moments.
type window struct {
	seen []simulate.Progress
}

func (w *window) add(p simulate.Progress) {
	w.seen = append(w.seen, p)
	for len(w.seen) > 2 && p.At.Sub(w.seen[1].At) >= rateWindow {
		w.seen = w.seen[1:]
	}
}

func entriesOf(p simulate.Progress) int64 { return p.Entries.Published }
func exitsOf(p simulate.Progress) int64   { return p.Exits.Published }

// rate is how many events per second were published within the window.
func (w *window) rate(of func(simulate.Progress) int64) float64 {
	first, last := w.seen[0], w.seen[len(w.seen)-1]
	elapsed := last.At.Sub(first.At).Seconds()
	if elapsed <= 0 {
		return 0
	}
	return float64(of(last)-of(first)) / elapsed
}

// memoryInUse is what the process has from the operating system and has not given back.
func memoryInUse() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	if samples[0].Value.Kind() != metrics.KindUint64 || samples[1].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// snapshot is everything that is shown of one moment.
type snapshot struct {
	simulate.Progress

	plan                *plan.Plan
	entryRate, exitRate float64
	memory              uint64
}

// picture draws the snapshot for a terminal of 80 columns.
func (s snapshot) picture(p terminal.Palette) []string {
	lines := []string{"", s.headline(p), ""}
	lines = append(lines, s.schedule(p)...)
	lines = append(lines, "")
	lines = append(lines, s.outcomes(p)...)
	lines = append(lines, "")
	lines = append(lines, s.latencies(p)...)
	return lines
}

// headline says how far the simulation has come.
func (s snapshot) headline(p terminal.Palette) string {
	head := " " + p.Head(s.Phase.String())
	total := s.plan.Duration.D()
	if s.Phase != simulate.Generating || total == 0 {
		return head + "  " + terminal.Clock(s.Elapsed)
	}
	done := min(s.Elapsed.Seconds()/total.Seconds(), 1)
	return fmt.Sprintf("%s  %s of %s  %s %3.0f %%", head, terminal.Clock(s.Elapsed), terminal.Clock(total),
		p.Good(terminal.Bar(done, 40)), math.Floor(done*100))
}

func (s snapshot) schedule(p terminal.Palette) []string {
	lines := []string{p.Dim(columns(" published", "target/s", "now/s", "total", "lag"))}
	for _, row := range []struct {
		name  string
		stats generator.Stats
		rate  float64
	}{{" entries", s.Entries, s.entryRate}, {" exits", s.Exits, s.exitRate}} {
		lag := terminal.Duration(row.stats.Lag)
		if row.stats.Lag > time.Second {
			lag = p.Warn(lag)
		}
		lines = append(lines, columns(row.name, terminal.Rate(row.stats.Rate), terminal.Rate(row.rate), terminal.Count(row.stats.Published), lag))
	}
	return lines
}

// columns aligns a name and up to four figures.
func columns(name string, figures ...string) string {
	var b strings.Builder
	b.WriteString(terminal.PadRight(name, 22))
	for _, figure := range figures {
		b.WriteString(terminal.PadLeft(figure, 14))
	}
	return b.String()
}

func (s snapshot) outcomes(p terminal.Palette) []string {
	outcome := func(o processor.Outcome) int64 { return int64(s.Done.Entry.Outcomes[o] + s.Done.Exit.Outcomes[o]) }
	rows := [][2]figure{
		{{"recorded", outcome(processor.OutcomeRecorded), nil}, {"waiting in queues", s.Depths.Ready, nil}},
		{{"matched", outcome(processor.OutcomeMatched), nil}, {"waiting for a retry", s.Depths.Retry, nil}},
		{{"unmatched as expected", outcome(processor.OutcomeUnmatchedExpected), nil}, {"in processors", s.InFlight, nil}},
		{{"unmatched unexpectedly", outcome(processor.OutcomeUnmatchedUnexpected), p.Bad}, {"plates available", s.Pool, nil}},
		{{"failed attempts", outcome(processor.OutcomeFailed), p.Warn}, {"starved draws", s.Exits.Starved, p.Warn}},
		{{"duplicates suppressed", outcome(processor.OutcomeDuplicate), nil}, {"dead letters", s.Depths.Dead, p.Bad}},
	}
	lines := make([]string, 0, len(rows))
	for _, row := range rows {
		lines = append(lines, " "+row[0].draw(35)+"      "+row[1].draw(36))
	}
	return lines
}

// figure is a count with its name, and the color that it has when it is not 0.
type figure struct {
	name  string
	count int64
	paint func(string) string
}

func (f figure) draw(width int) string {
	text := terminal.Count(f.count)
	if f.count != 0 && f.paint != nil {
		text = f.paint(text)
	}
	return terminal.PadRight(f.name, 24) + terminal.PadLeft(text, width-24)
}

func (s snapshot) latencies(p terminal.Palette) []string {
	row := func(name string, l latency.Snapshot, more ...string) string {
		return columns(name, append([]string{
			terminal.Duration(l.Quantile(.50)), terminal.Duration(l.Quantile(.99)), terminal.Duration(l.Mean()),
		}, more...)...)
	}
	return []string{
		p.Dim(columns(" latency", "p50", "p99", "mean", "memory")),
		row(" processing", s.Done.Processing(), terminal.Bytes(s.memory)),
		row(" end to end", s.Done.EndToEnd()),
	}
}

// line writes the snapshot on one line.
func (s snapshot) line() string {
	clock := terminal.Clock(s.Elapsed)
	if total := s.plan.Duration.D(); total > 0 && s.Phase == simulate.Generating {
		clock += "/" + terminal.Clock(total)
	}
	outcome := func(o processor.Outcome) string {
		return terminal.Count(int64(s.Done.Entry.Outcomes[o] + s.Done.Exit.Outcomes[o]))
	}
	text := fmt.Sprintf("%s %s: entries %s/s of %s, exits %s/s of %s, recorded %s, matched %s, unmatched as expected %s",
		clock, s.Phase, terminal.Rate(s.entryRate), terminal.Rate(s.Entries.Rate), terminal.Rate(s.exitRate), terminal.Rate(s.Exits.Rate),
		outcome(processor.OutcomeRecorded), outcome(processor.OutcomeMatched), outcome(processor.OutcomeUnmatchedExpected))
	if n := s.Done.Exit.Outcomes[processor.OutcomeUnmatchedUnexpected]; n > 0 {
		text += ", unmatched unexpectedly " + terminal.Count(int64(n))
	}
	return text + fmt.Sprintf(", waiting %s, starved %s, lag %s, processing p99 %s, end to end p99 %s, memory %s",
		terminal.Count(s.Depths.Ready+s.Depths.Retry+s.InFlight), terminal.Count(s.Exits.Starved),
		terminal.Duration(max(s.Entries.Lag, s.Exits.Lag)), terminal.Duration(s.Done.Processing().Quantile(.99)),
		terminal.Duration(s.Done.EndToEnd().Quantile(.99)), terminal.Bytes(s.memory))
}
