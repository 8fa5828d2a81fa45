package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/metrics"
	"slices"
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
		s := snapshot{Progress: now, plan: v.plan, entries: recent.rates(entriesOf), exits: recent.rates(exitsOf), memory: memoryInUse()}
		if v.screen != nil {
			columns, rows := v.screen.Size()
			v.screen.Show(s.picture(v.palette, columns, rows))
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

func entriesOf(p simulate.Progress) generator.Stats { return p.Entries }
func exitsOf(p simulate.Progress) generator.Stats   { return p.Exits }

// rates are numbers of events per second: those that the schedule asked for, and those that were published.
type rates struct {
	target, now float64
}

// rates are the means over the window, both over the same time, so that they agree on a ramp.
func (w *window) rates(of func(simulate.Progress) generator.Stats) rates {
	first, last := w.seen[0], w.seen[len(w.seen)-1]
	elapsed := last.At.Sub(first.At).Seconds()
	if elapsed <= 0 {
		return rates{target: of(last).Rate}
	}
	return rates{
		target: float64(of(last).Due-of(first).Due) / elapsed,
		now:    float64(of(last).Published-of(first).Published) / elapsed,
	}
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

	plan           *plan.Plan
	entries, exits rates
	memory         uint64
}

// picture draws the snapshot for a terminal. Where there are few rows it does without blank ones.
func (s snapshot) picture(p terminal.Palette, columns, rows int) []string {
	sections := [][]string{{s.headline(p, columns)}, s.schedule(p, columns), s.outcomes(p, columns), s.latencies(p, columns)}
	tight := slices.Concat(sections...)
	if len(tight)+len(sections) > rows {
		return tight
	}
	var lines []string
	for _, section := range sections {
		lines = append(append(lines, ""), section...)
	}
	return lines
}

// clock is the time since the start, but not more than the generators have.
func (s snapshot) clock() time.Duration {
	if total := s.plan.Duration.D(); total > 0 && s.Phase == simulate.Generating {
		return min(s.Elapsed, total)
	}
	return s.Elapsed
}

// headline says how far the simulation has come.
func (s snapshot) headline(p terminal.Palette, columns int) string {
	head := " " + p.Head(s.Phase.String())
	total := s.plan.Duration.D()
	if s.Phase != simulate.Generating || total == 0 {
		return head + "  " + terminal.Clock(s.clock())
	}
	done := s.clock().Seconds() / total.Seconds()
	head += fmt.Sprintf("  %s of %s  ", terminal.Clock(s.clock()), terminal.Clock(total))
	percent := fmt.Sprintf(" %3.0f %%", math.Floor(done*100))
	bar := min(columns-terminal.Width(head)-terminal.Width(percent), 40)
	return head + p.Good(terminal.Bar(done, max(bar, 0))) + percent
}

func (s snapshot) schedule(p terminal.Palette, columns int) []string {
	lines := []string{p.Dim(row(columns, " published", "target/s", "now/s", "total", "lag"))}
	for _, line := range []struct {
		name  string
		stats generator.Stats
		rates rates
	}{{" entries", s.Entries, s.entries}, {" exits", s.Exits, s.exits}} {
		lag := terminal.Duration(line.stats.Lag)
		if line.stats.Lag > time.Second {
			lag = p.Warn(lag)
		}
		target := terminal.Rate(line.rates.target)
		if s.Phase != simulate.Generating {
			target = "–" // nothing more is asked for
		}
		lines = append(lines, row(columns, line.name, target, terminal.Rate(line.rates.now), terminal.Count(line.stats.Published), lag))
	}
	return lines
}

func (s snapshot) outcomes(p terminal.Palette, columns int) []string {
	plain := func(text string) string { return text }
	count := func(n int64, unlessZero func(string) string) string {
		if n == 0 {
			return terminal.Count(n)
		}
		return unlessZero(terminal.Count(n))
	}
	ready, retry, dead, pool := unknown, unknown, unknown, unknown
	if d := s.Depths; d != nil {
		ready, retry, dead = count(d.Ready, plain), count(d.Retry, plain), count(d.Dead, p.Bad)
	}
	if s.Pool != nil {
		pool = count(*s.Pool, plain)
	}
	return figures(columns, []figure{
		{"recorded", "recorded", count(s.outcome(processor.OutcomeRecorded), plain)},
		{"waiting in queues", "in queues", ready},
		{"matched", "matched", count(s.outcome(processor.OutcomeMatched), plain)},
		{"waiting for a retry", "in retry", retry},
		{"unmatched as expected", "unmatched", count(s.outcome(processor.OutcomeUnmatchedExpected), plain)},
		{"in processors", "in processors", count(s.InFlight, plain)},
		{"unmatched unexpectedly", "unexpected", count(s.outcome(processor.OutcomeUnmatchedUnexpected), p.Bad)},
		{"plates available", "plates", pool},
		{"failed attempts", "failed", count(s.outcome(processor.OutcomeFailed), p.Warn)},
		{"starved draws", "starved", count(s.Exits.Starved, p.Warn)},
		{"duplicates suppressed", "duplicates", count(s.outcome(processor.OutcomeDuplicate), plain)},
		{"dead letters", "dead letters", dead},
	})
}

// unknown stands for what a server did not answer.
const unknown = "unknown"

// outcome counts the calls of ProcessMessage that came to it.
func (s snapshot) outcome(o processor.Outcome) int64 {
	return int64(s.Done.Entry.Outcomes[o] + s.Done.Exit.Outcomes[o])
}

// figure is a text with its name, and its name where lines are short.
type figure struct {
	name, short, text string
}

// figures sets figures in two columns.
func figures(columns int, all []figure) []string {
	const left, between, right = 35, 6, 36
	widths, gap, short := [2]int{left, right}, between, false
	if columns < 1+left+between+right {
		gap, short = 3, true
		width := max((columns-1-gap)/2, 20)
		widths = [2]int{width, width}
	}
	var lines []string
	for pair := range slices.Chunk(all, len(widths)) {
		cells := make([]string, 0, len(widths))
		for i, f := range pair {
			name := f.name
			if short {
				name = f.short
			}
			cells = append(cells, name+terminal.PadLeft(f.text, widths[i]-terminal.Width(name)))
		}
		lines = append(lines, " "+strings.Join(cells, strings.Repeat(" ", gap)))
	}
	return lines
}

func (s snapshot) latencies(p terminal.Palette, columns int) []string {
	line := func(name string, l latency.Snapshot, more ...string) string {
		return row(columns, name, append([]string{
			terminal.Duration(l.Quantile(.50)), terminal.Duration(l.Quantile(.99)), terminal.Duration(l.Mean()),
		}, more...)...)
	}
	return []string{
		p.Dim(row(columns, " latency", "p50", "p99", "mean", "memory")),
		line(" processing", s.Done.Processing(), terminal.Bytes(s.memory)),
		line(" end to end", s.Done.EndToEnd()),
	}
}

// line writes the snapshot on one line.
func (s snapshot) line() string {
	clock := terminal.Clock(s.clock())
	if total := s.plan.Duration.D(); total > 0 && s.Phase == simulate.Generating {
		clock += "/" + terminal.Clock(total)
	}
	outcome := func(o processor.Outcome) string { return terminal.Count(s.outcome(o)) }
	rate := func(r rates) string {
		if s.Phase != simulate.Generating {
			return terminal.Rate(r.now) + "/s" // nothing more is asked for
		}
		return terminal.Rate(r.now) + "/s of " + terminal.Rate(r.target)
	}
	text := fmt.Sprintf("%s %s: entries %s, exits %s, recorded %s, matched %s, unmatched as expected %s",
		clock, s.Phase, rate(s.entries), rate(s.exits),
		outcome(processor.OutcomeRecorded), outcome(processor.OutcomeMatched), outcome(processor.OutcomeUnmatchedExpected))
	if s.outcome(processor.OutcomeUnmatchedUnexpected) > 0 {
		text += ", unmatched unexpectedly " + outcome(processor.OutcomeUnmatchedUnexpected)
	}
	waiting := unknown
	if d := s.Depths; d != nil {
		waiting = terminal.Count(d.Ready + d.Retry + s.InFlight)
	}
	return text + fmt.Sprintf(", waiting %s, starved %s, lag %s, processing p99 %s, end to end p99 %s, memory %s",
		waiting, terminal.Count(s.Exits.Starved),
		terminal.Duration(max(s.Entries.Lag, s.Exits.Lag)), terminal.Duration(s.Done.Processing().Quantile(.99)),
		terminal.Duration(s.Done.EndToEnd().Quantile(.99)), terminal.Bytes(s.memory))
}
