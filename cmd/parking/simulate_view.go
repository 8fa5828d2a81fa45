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
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

const (
	// refreshInterval is the interval at which the live view is redrawn.
	refreshInterval = 250 * time.Millisecond
	// lineInterval is the interval of progress lines if stderr is not a terminal.
	lineInterval = 5 * time.Second
	// rateWindow is the period over which the displayed rates are averaged.
	rateWindow = 2 * time.Second
)

// progressView redraws a live view on a terminal, and prints lines otherwise. Loggers must write to the progressView,
// so that log lines appear above the live view.
type progressView struct {
	io.Writer

	screen  *terminal.Screen // nil if stderr is not a terminal that supports redrawing
	palette terminal.Palette
	plan    *plan.Plan
}

func newProgressView(stderr *os.File, p *plan.Plan) *progressView {
	v := &progressView{Writer: stderr, palette: terminal.PaletteFor(stderr), plan: p}
	if terminal.CanRedraw(stderr) {
		v.screen = terminal.NewScreen(stderr, func() (int, int) { return terminal.Size(stderr) })
		v.Writer = v.screen
	}
	return v
}

// begin prints the header: the name of the simulation, the labels with their values, and the notes.
func (v *progressView) begin(pairs [][2]string, notes []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "Simulating %s%s\n", v.palette.Head(v.plan.Simulation), durationText(v.plan))
	for _, line := range pairs {
		fmt.Fprintf(&b, "  %s  %s\n", v.palette.Dim(terminal.PadRight(line[0], 9)), terminal.Clean(line[1]))
	}
	for _, note := range notes {
		fmt.Fprintf(&b, "  %s  %s\n", v.palette.Warn(terminal.PadRight("note", 9)), terminal.Clean(note))
	}
	_, _ = io.WriteString(v, b.String()) // a broken stderr does not stop the simulation
}

// durationText says how long the simulation runs, as the end of a sentence: " for 30s" or " until Ctrl-C".
func durationText(p *plan.Plan) string {
	if p.Duration == 0 {
		return " until Ctrl-C"
	}
	return " for " + p.Duration.String()
}

// showProgress reads the progress at intervals and shows it until ctx ends.
func (v *progressView) showProgress(ctx context.Context, progress func() simulate.Progress) {
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
			v.screen.Show(s.lines(v.palette, columns, rows))
		} else {
			_, _ = fmt.Fprintln(v, s.line())
		}
	}
}

// end removes the live view from the terminal.
func (v *progressView) end() {
	if v.screen != nil {
		v.screen.Close()
	}
}

// window holds the latest Progress values, from which the current rates are computed.
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

// rates holds the scheduled rate (target) and the actual rate (now), in events per second.
type rates struct {
	target, now float64
}

// rates averages the scheduled and the actual rate over the same window.
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

// memoryInUse returns the memory that the Go runtime currently holds from the operating system, in bytes.
func memoryInUse() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	if samples[0].Value.Kind() != metrics.KindUint64 || samples[1].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// snapshot contains the values that the view shows at one moment.
type snapshot struct {
	simulate.Progress

	plan           *plan.Plan
	entries, exits rates
	memory         uint64
}

// lines renders the snapshot for a terminal. It omits blank lines if the terminal has too few rows.
func (s snapshot) lines(p terminal.Palette, columns, rows int) []string {
	sections := [][]string{{s.headline(p, columns)}, s.schedule(p, columns), s.outcomes(p, columns), s.latencies(p, columns)}
	compact := slices.Concat(sections...)
	if len(compact)+len(sections) > rows {
		return compact
	}
	var lines []string
	for _, section := range sections {
		lines = append(append(lines, ""), section...)
	}
	return lines
}

// clock returns the time since the start. While events are generated, it returns at most the duration of the
// simulation.
func (s snapshot) clock() time.Duration {
	if total := s.plan.Duration.D(); total > 0 && s.Phase == simulate.Generating {
		return min(s.Elapsed, total)
	}
	return s.Elapsed
}

// headline renders the phase and the progress.
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
			target = "–" // after the schedule has ended, there is no target rate
		}
		lines = append(lines, row(columns, line.name, target, terminal.Rate(line.rates.now), terminal.Count(line.stats.Published), lag))
	}
	return lines
}

func (s snapshot) outcomes(p terminal.Palette, columns int) []string {
	plain := func(text string) string { return text }
	// count formats a number. It applies the style only if the number is not 0.
	count := func(n int64, style func(string) string) string {
		if n == 0 {
			return terminal.Count(n)
		}
		return style(terminal.Count(n))
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
		{"unexpectedly unmatched", "unexpected", count(s.outcome(processor.OutcomeUnmatchedUnexpected), p.Bad)},
		{"plates available", "plates", pool},
		{"failed attempts", "failed", count(s.outcome(processor.OutcomeFailed), p.Warn)},
		{"starved draws", "starved", count(s.Exits.Starved, p.Warn)},
		{"duplicates suppressed", "duplicates", count(s.outcome(processor.OutcomeDuplicate), plain)},
		{"dead letters", "dead letters", dead},
	})
}

// unknown is the text that is shown if a server did not report a number.
const unknown = "unknown"

// outcome returns the number of entries and exits that ended with the given outcome.
func (s snapshot) outcome(o processor.Outcome) int64 {
	return int64(s.Done.Entry.Outcomes[o] + s.Done.Exit.Outcomes[o])
}

// figure is a value with its name. The name has a short form for narrow terminals.
type figure struct {
	name, short, value string
}

// figures renders two figures per line. On a narrow terminal, it uses the short names.
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
			cells = append(cells, name+terminal.PadLeft(f.value, widths[i]-terminal.Width(name)))
		}
		lines = append(lines, " "+strings.Join(cells, strings.Repeat(" ", gap)))
	}
	return lines
}

func (s snapshot) latencies(p terminal.Palette, columns int) []string {
	line := func(name string, d histogram.Snapshot, more ...string) string {
		return row(columns, name, append([]string{measured(d, d.Quantile(.50)), measured(d, d.Quantile(.99)), measured(d, d.Mean())}, more...)...)
	}
	return []string{
		p.Dim(row(columns, " latency", "p50", "p99", "mean", "memory")),
		line(" processing", s.Done.Processing(), terminal.Bytes(s.memory)),
		line(" end to end", s.Done.EndToEnd()),
	}
}

// measured formats a percentile or a mean of latencies. If no latency was measured, it returns report.Unmeasured.
func measured(of histogram.Snapshot, figure time.Duration) string {
	if of.Count() == 0 {
		return report.Unmeasured
	}
	return terminal.Duration(figure)
}

func p99(of histogram.Snapshot) string { return measured(of, of.Quantile(.99)) }

func (s snapshot) line() string {
	clock := terminal.Clock(s.clock())
	if total := s.plan.Duration.D(); total > 0 && s.Phase == simulate.Generating {
		clock += "/" + terminal.Clock(total)
	}
	outcome := func(o processor.Outcome) string { return terminal.Count(s.outcome(o)) }
	rate := func(r rates) string {
		if s.Phase != simulate.Generating {
			return terminal.Rate(r.now) + "/s" // the schedule is over, so there is no target rate
		}
		return terminal.Rate(r.now) + "/s of " + terminal.Rate(r.target)
	}
	text := fmt.Sprintf("%s %s: entries %s, exits %s, recorded %s, matched %s, unmatched as expected %s",
		clock, s.Phase, rate(s.entries), rate(s.exits),
		outcome(processor.OutcomeRecorded), outcome(processor.OutcomeMatched), outcome(processor.OutcomeUnmatchedExpected))
	if s.outcome(processor.OutcomeUnmatchedUnexpected) > 0 {
		text += ", unexpectedly unmatched " + outcome(processor.OutcomeUnmatchedUnexpected)
	}
	waiting := unknown
	if d := s.Depths; d != nil {
		waiting = terminal.Count(d.Ready + d.Retry + s.InFlight)
	}
	return text + fmt.Sprintf(", waiting %s, starved draws %s, lag %s, processing p99 %s, end to end p99 %s, memory %s",
		waiting, terminal.Count(s.Exits.Starved),
		terminal.Duration(max(s.Entries.Lag, s.Exits.Lag)), p99(s.Done.Processing()),
		p99(s.Done.EndToEnd()), terminal.Bytes(s.memory))
}
