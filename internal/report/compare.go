package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Comparison lists the differences between two runs.
type Comparison struct {
	Version int `json:"version"`
	// Regression reports whether at least one metric or check became worse.
	Regression bool      `json:"regression"`
	Before     RunOf     `json:"before"`
	After      RunOf     `json:"after"`
	Metrics    []Change  `json:"metrics"`
	Checks     []Differs `json:"checks"`
	Settings   []Differs `json:"settings"`
	runs       [2]*Document
}

// RunOf identifies one of the compared runs.
type RunOf struct {
	Simulation string         `json:"simulation"`
	StartTime  string         `json:"startTime,omitempty"`
	Verdict    ledger.Outcome `json:"verdict"`
}

// Change describes how one metric differs between the runs.
type Change struct {
	// Key identifies the metric on the command line. Name is its display name.
	Key  string `json:"key"`
	Name string `json:"name"`
	// Before and After are the values of the metric, each over a whole run. The unit is seconds, a share or a
	// count. Nil means that the value was not measured.
	Before *float64 `json:"before"`
	After  *float64 `json:"after"`
	// Relative is the change divided by Before. It is nil if Before is 0 or if a value is missing.
	Relative *float64 `json:"relative,omitempty"`
	// Threshold is the tolerated relative change. It is nil for a count, which must not increase at all.
	Threshold *float64 `json:"threshold,omitempty"`
	// P is the probability that the samples would differ at least this much if both runs behaved the same. It is
	// nil if the outcome does not depend on the samples. Windows are the numbers of samples in the two runs. A
	// sample is a window of the timeline or, in the metrics of recovery times, one recovery.
	P       *float64      `json:"p,omitempty"`
	Windows [2]int        `json:"windows,omitzero"`
	Outcome ChangeOutcome `json:"outcome"`

	text    func(float64) string
	samples string // what Windows counts
}

// ChangeOutcome says whether a metric became better or worse.
type ChangeOutcome string

// The possible outcomes of the comparison of a metric.
const (
	// Unchanged means that the change is within the threshold.
	Unchanged ChangeOutcome = "unchanged"
	// Noise means that the change exceeds the threshold, but that the difference between the samples may be due to
	// chance.
	Noise ChangeOutcome = "noise"
	// Undecided means that the change exceeds the threshold, but that there are too few samples to distinguish it
	// from noise.
	Undecided  ChangeOutcome = "undecided"
	Regression ChangeOutcome = "regression"
	Improved   ChangeOutcome = "improved"
)

// Differs describes a check or a setting whose value differs between the runs.
type Differs struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// metric defines a figure that Compare compares, and how to compare it.
type metric struct {
	key, name string
	// total returns the value over a whole run. It returns false if the value was not measured.
	total func(*Document) (float64, bool)
	// thresholdKey is the key under which callers set the threshold. Several metrics may share it. By default it is
	// the key of the metric.
	thresholdKey string
	// window returns the value of the metric in one window of the timeline. These values are the samples of the
	// metric. The function is nil if the metric has no value per window.
	window func(*timeline.Row) (float64, bool)
	// recoveries returns the durations of all recoveries from one fault. They are the samples of the metric. The
	// function is set only in the metrics of recovery times.
	recoveries func(*Document) []float64
	// threshold is the tolerated relative change, and floor is the tolerated absolute change.
	threshold, floor float64
	higherIsBetter   bool
	text             func(float64) string
}

const (
	percent = 0.01
	// The default thresholds. Medians and shares vary less than tail latencies.
	medianThreshold   = 15 * percent
	tailThreshold     = 25 * percent
	shareThreshold    = 2 * percent
	lagThreshold      = 50 * percent
	recoveryThreshold = 50 * percent
	// latencyFloor and lagFloor are changes, in seconds, that are too small to matter. recoveryFloor is a change,
	// in seconds, that can result from the resolution of the timeline and from the timing of pod restarts.
	latencyFloor  = 100e-6
	lagFloor      = 0.1
	recoveryFloor = 5
)

// metrics returns the metrics that Compare compares in every run.
func metrics() []metric {
	duration := func(v float64) string { return terminal.Duration(Seconds(v)) }
	latencies := func(name, key string, figure func(*Latency) float64, of func(*Latencies) *Latency, q float64,
		events func(*timeline.Events) histogram.Snapshot, threshold float64,
	) metric {
		return metric{
			key: key, name: name, threshold: threshold, floor: latencyFloor, text: duration,
			total: func(d *Document) (float64, bool) {
				if l := of(&d.LatencySeconds); l != nil {
					return figure(l), true
				}
				return 0, false
			},
			window: func(r *timeline.Row) (float64, bool) {
				v := quantile(q, events)(r)
				return v, !math.IsNaN(v)
			},
		}
	}
	p50 := func(l *Latency) float64 { return l.P50 }
	p99 := func(l *Latency) float64 { return l.P99 }
	ofProcessing := func(l *Latencies) *Latency { return l.Processing }
	ofEndToEnd := func(l *Latencies) *Latency { return l.EndToEnd }
	share := func(name, key string, rate func(*Rates) Rate, of func(*timeline.Row) *timeline.Events) metric {
		return metric{
			key: key, name: name, threshold: shareThreshold, higherIsBetter: true,
			text: func(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) },
			total: func(d *Document) (float64, bool) {
				r := rate(&d.Rates)
				return r.Achieved / r.Target, r.Target > 0
			},
			window: func(r *timeline.Row) (float64, bool) {
				e := of(r)
				return float64(e.Published) / float64(e.Due), e.Due > 0
			},
		}
	}
	lag := func(name, key string, rate func(*Rates) Rate, of func(*timeline.Row) *timeline.Events) metric {
		return metric{
			key: key, name: name, threshold: lagThreshold, floor: lagFloor, text: duration,
			total:  func(d *Document) (float64, bool) { return rate(&d.Rates).MaxLagSeconds, true },
			window: func(r *timeline.Row) (float64, bool) { return of(r).Lag.Seconds(), true },
		}
	}
	count := func(name, key string, n func(*ledger.Report) int64) metric {
		return metric{
			key: key, name: name, text: func(v float64) string { return terminal.Count(int64(v)) },
			total: func(d *Document) (float64, bool) {
				if d.Ledger == nil || !d.Ledger.DataKept() {
					return 0, false
				}
				return float64(n(d.Ledger)), true
			},
		}
	}
	entryRate := func(r *Rates) Rate { return r.Entry }
	exitRate := func(r *Rates) Rate { return r.Exit }
	entry := func(r *timeline.Row) *timeline.Events { return &r.Entry }
	exit := func(r *timeline.Row) *timeline.Events { return &r.Exit }
	return []metric{
		latencies("end-to-end p50", "endToEnd.p50", p50, ofEndToEnd, .50, endToEnd, medianThreshold),
		latencies("end-to-end p99", "endToEnd.p99", p99, ofEndToEnd, .99, endToEnd, tailThreshold),
		latencies("processing p50", "processing.p50", p50, ofProcessing, .50, processing, medianThreshold),
		latencies("processing p99", "processing.p99", p99, ofProcessing, .99, processing, tailThreshold),
		share("entries published of due", "entry.achieved", entryRate, entry),
		share("exits published of due", "exit.achieved", exitRate, exit),
		lag("max lag of entries", "entry.maxLag", entryRate, entry),
		lag("max lag of exits", "exit.maxLag", exitRate, exit),
		count("lost events", "lost", func(r *ledger.Report) int64 { return r.Lost }),
		count("events counted twice", "takenTwice", func(r *ledger.Report) int64 { return r.TakenTwice }),
		count("unexpectedly unmatched exits", "unmatchedUnexpected", func(r *ledger.Report) int64 { return r.UnmatchedUnexpected }),
		count("dead letters", "deadLettered", func(r *ledger.Report) int64 { return r.DeadLettered }),
	}
}

// ThresholdKeys returns the keys of the metrics whose thresholds can be changed.
func ThresholdKeys() []string {
	var keys []string
	for _, m := range metrics() {
		if m.window != nil {
			keys = append(keys, m.key)
		}
	}
	return append(keys, recoveryKey)
}

// Compare returns the differences between two runs. The argument thresholds overrides default thresholds. It maps
// the key of a metric to the tolerated relative change.
func Compare(before, after *Document, thresholds map[string]float64) *Comparison {
	c := &Comparison{
		Version: Version, Before: runOf(before), After: runOf(after), runs: [2]*Document{before, after},
		Checks: changedChecks(before, after), Settings: changedSettings(before, after),
	}
	for _, m := range append(metrics(), faultMetrics(before, after)...) {
		if threshold, ok := thresholds[cmp.Or(m.thresholdKey, m.key)]; ok {
			m.threshold = threshold
		}
		change := m.compare(before, after)
		c.Metrics = append(c.Metrics, change)
		c.Regression = c.Regression || change.Outcome == Regression
	}
	for _, check := range c.Checks {
		c.Regression = c.Regression || check.Before == string(ledger.Passed)
	}
	return c
}

func runOf(d *Document) RunOf {
	return RunOf{Simulation: d.Simulation, StartTime: timeText(d.StartTime), Verdict: d.Outcome}
}

// compare compares the values of the metric in both runs.
func (m *metric) compare(before, after *Document) Change {
	c := Change{Key: m.key, Name: m.name, Outcome: Unchanged, text: m.text, samples: "windows"}
	if m.recoveries != nil {
		c.samples = "recoveries"
	}
	if !m.isCount() {
		c.Threshold = &m.threshold
	}
	was, wasMeasured := m.total(before)
	is, isMeasured := m.total(after)
	if wasMeasured {
		c.Before = &was
	}
	if isMeasured {
		c.After = &is
	}
	if !wasMeasured || !isMeasured {
		if wasMeasured {
			c.Outcome = Regression // assume the worst of a value that is no longer measured
		}
		return c
	}
	difference := is - was
	if was != 0 {
		relative := difference / was
		c.Relative = &relative
	}
	direction := Regression
	if difference < 0 != m.higherIsBetter {
		direction = Improved
	}
	switch {
	case difference == 0:
	case m.isCount():
		c.Outcome = direction
	case math.Abs(difference) <= max(m.floor, m.threshold*math.Abs(was)):
	default:
		c.Outcome = m.significance(&c, before, after, direction)
	}
	return c
}

const (
	// window is the usual length of a window of the timeline, in seconds. A short run has shorter windows, so that
	// it still has about minWindows windows.
	window     = 10
	minWindows = 10
	// alpha is the significance level: the probability of reporting a change if there is only noise. fewestWindows
	// is the minimum number of samples per run with which the test can reach this level.
	alpha         = 0.01
	fewestWindows = 5
	// maxGapRows limits the number of rows that fill gaps in the timeline.
	maxGapRows = 10_000
)

// isCount reports whether the metric is a count. Any change of a count matters, so a count has no threshold and no
// test for noise.
func (m *metric) isCount() bool { return m.window == nil && m.recoveries == nil }

// significance decides with a Mann–Whitney U test whether the samples of both runs differ by more than noise. It
// returns the argument direction if they do, and Noise if they do not. If there are too few samples, it returns
// Undecided. Recovery times are an exception: most runs have few of them, so with too few samples the threshold
// alone decides, and significance returns the argument direction.
func (m *metric) significance(c *Change, before, after *Document, direction ChangeOutcome) ChangeOutcome {
	var was, is []float64
	few := Undecided
	if m.recoveries != nil {
		was, is, few = m.recoveries(before), m.recoveries(after), direction
	} else {
		width := min(windowOf(before), windowOf(after))
		was, is = m.windows(before, width), m.windows(after, width)
	}
	c.Windows = [2]int{len(was), len(is)}
	if min(len(was), len(is)) < fewestWindows {
		return few
	}
	thresholds := &benchmath.Thresholds{CompareAlpha: alpha}
	samples := [2]*benchmath.Sample{benchmath.NewSample(was, thresholds), benchmath.NewSample(is, thresholds)}
	test := benchmath.AssumeNothing.Compare(samples[0], samples[1])
	c.P = &test.P
	// The median of the samples must have changed in the same direction as the total, because a single bad window
	// can change the total.
	difference := median(samples[1].Values) - median(samples[0].Values)
	moved := difference != 0 && difference < 0 == (*c.After < *c.Before)
	if test.P >= alpha || !moved {
		return Noise
	}
	return direction
}

// median returns the median of sorted values.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// windowOf returns the length, in seconds, of the windows into which a run is divided.
func windowOf(d *Document) int64 {
	return min(max(int64(d.ElapsedSeconds)/minWindows, 1), window)
}

// windows returns the value of the metric in each window. It omits windows that extend beyond the schedule of the
// run.
func (m *metric) windows(d *Document, width int64) []float64 {
	if len(d.Timeline) == 0 {
		return nil
	}
	// Windows begin at the first row, so that only the last window can be shorter than the others.
	first := d.Timeline[0].Second
	rows := slices.Clone(d.Timeline)
	for i := range rows {
		rows[i].Second -= first
	}
	var values []float64
	// Fill implausibly long gaps with fewer, wider rows, to limit the memory.
	filled := fillGaps(rows, max(width, rows[len(rows)-1].Second/maxGapRows))
	for _, row := range timeline.Merge(width, filled...) {
		if row.Second > 0 && float64(row.Second+width) > d.ElapsedSeconds {
			continue // the window extends beyond the end of the schedule
		}
		if v, ok := m.window(&row); ok {
			values = append(values, v)
		}
	}
	return values
}

// changedChecks returns the checks whose outcomes differ between the runs.
func changedChecks(before, after *Document) []Differs {
	changed := []Differs{}
	for _, now := range after.Checks {
		i := slices.IndexFunc(before.Checks, func(c ledger.Check) bool { return c.Name == now.Name })
		if i >= 0 && before.Checks[i].Outcome != now.Outcome {
			changed = append(changed, Differs{Name: now.Name, Before: string(before.Checks[i].Outcome), After: string(now.Outcome)})
		}
	}
	return changed
}

// changedSettings returns the settings that differ between the runs. The name of a setting is its path in the
// environment or the manifest.
func changedSettings(before, after *Document) []Differs {
	was, is := settings(before), settings(after)
	paths := maps.Clone(was)
	maps.Copy(paths, is)
	changed := []Differs{}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if was[path] != is[path] {
			changed = append(changed, Differs{Name: path, Before: was[path], After: is[path]})
		}
	}
	return changed
}

// settings returns all values in the environment and the manifest. The keys are their paths.
func settings(d *Document) map[string]string {
	all := map[string]string{}
	text, err := json.Marshal(d.Environment)
	if err != nil {
		return all
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return all
	}
	for _, leaf := range flatten("", value) {
		all[leaf.Name] = leaf.Value
	}
	return all
}

// BeforeText formats the value before the change.
func (c *Change) BeforeText() string { return c.format(c.Before) }

// AfterText formats the value after the change.
func (c *Change) AfterText() string { return c.format(c.After) }

func (c *Change) format(v *float64) string {
	if v == nil {
		return Unmeasured
	}
	return c.text(*v)
}

// RelativeText formats the relative change as a percentage.
func (c *Change) RelativeText() string {
	if c.Relative == nil {
		return ""
	}
	return fmt.Sprintf("%+.1f %%", 100**c.Relative)
}

// ThresholdText formats the threshold.
func (c *Change) ThresholdText() string {
	if c.Threshold == nil {
		return "any"
	}
	return fmt.Sprintf("%.3g %%", 100**c.Threshold)
}

// NoiseText describes the result of the test for noise: the p-value and the numbers of samples.
func (c *Change) NoiseText() string {
	windows := fmt.Sprintf("%d and %d %s", c.Windows[0], c.Windows[1], c.samples)
	switch {
	case c.P != nil:
		return fmt.Sprintf("p = %.2g, %s", *c.P, windows)
	case c.Outcome == Undecided:
		return windows + " are too few"
	}
	return ""
}

// Headline summarizes the comparison in one sentence.
func (c *Comparison) Headline() string {
	var worse, better []string
	for _, m := range c.Metrics {
		switch m.Outcome {
		case Regression:
			worse = append(worse, m.Name)
		case Improved:
			better = append(better, m.Name)
		}
	}
	for _, check := range c.Checks {
		if check.Before == string(ledger.Passed) && !slices.Contains(worse, check.Name) {
			worse = append(worse, check.Name)
		}
	}
	var parts []string
	if len(worse) > 0 {
		parts = append(parts, "regression: "+strings.Join(worse, ", "))
	}
	if len(better) > 0 {
		parts = append(parts, "improved: "+strings.Join(better, ", "))
	}
	if len(parts) == 0 {
		return "no change beyond the thresholds and noise"
	}
	return strings.Join(parts, "; ")
}

// JSON returns the comparison as JSON.
func (c *Comparison) JSON() ([]byte, error) { return encode(c, "  ") }

// Markdown returns the comparison as GitHub Flavored Markdown.
func (c *Comparison) Markdown() []byte {
	var b markdown
	mark := "✅"
	if c.Regression {
		mark = "❌"
	}
	b.line("## %s %s", mark, escapeMarkdown(c.Headline()))
	b.table("|before|after", "-|-|-")
	b.row("simulation", c.Before.Simulation, c.After.Simulation)
	b.row("start", c.Before.StartTime, c.After.StartTime)
	b.row("verdict", string(c.Before.Verdict), string(c.After.Verdict))
	b.table("metric|before|after|change|threshold|outcome|", "-|-:|-:|-:|-:|-|-")
	for i := range c.Metrics {
		m := &c.Metrics[i]
		b.row(m.Name, m.BeforeText(), m.AfterText(), m.RelativeText(), m.ThresholdText(), string(m.Outcome), m.NoiseText())
	}
	b.differences("check", c.Checks)
	b.differences("setting", c.Settings)
	return b.Bytes()
}

func (b *markdown) differences(what string, all []Differs) {
	if len(all) == 0 {
		return
	}
	b.table(what+"|before|after", "-|-|-")
	for _, d := range all {
		b.row(d.Name, d.Before, d.After)
	}
}

// HTML returns the comparison as a self-contained HTML page. Its charts show both runs.
func (c *Comparison) HTML() ([]byte, error) {
	p := newPage(c.runs[1], "Comparison: "+c.After.Simulation)
	p.Comparison, p.Charts = c, c.charts()
	return p.render("comparison")
}

// charts returns charts with one line for each of the two runs.
func (c *Comparison) charts() []Chart {
	before, after := curvesOf(c.runs[0]), curvesOf(c.runs[1])
	if len(before.rows) == 0 && len(after.rows) == 0 {
		return nil
	}
	end := max(before.end, after.end)
	chart := func(title, help string, u unit, value func(*timeline.Row) float64) Chart {
		return newChart(title, help, u, end, []series{before.series("before", "c2 other", value), after.series("after", "c1", value)}, nil, 0)
	}
	published := func(r *timeline.Row) int64 { return r.Entry.Published + r.Exit.Published }
	return []Chart{
		chart("End-to-end latency, p99", "Time from the instant at which an event was due to its effect", latencyUnit(), quantile(.99, endToEnd)),
		chart("End-to-end latency, p50", "The median of the same", latencyUnit(), quantile(.50, endToEnd)),
		chart("Processing latency, p99", "Time to process an event, including failed attempts", latencyUnit(), quantile(.99, processing)),
		chart("Published", "Entries and exits per second", perSecond(), rate(published)),
		chart("Backlog", "Messages in the queues, the most in each interval", events(), gauge(func(r *timeline.Row) *int64 { return r.Ready })),
		chart("Lag", "How late the generators publish, the longest in each interval", lagUnit(),
			func(r *timeline.Row) float64 { return max(r.Entry.Lag, r.Exit.Lag).Seconds() }),
	}
}
