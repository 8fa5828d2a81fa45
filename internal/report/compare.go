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

// Comparison says what changed from one run to another.
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

// RunOf identifies a run in a comparison.
type RunOf struct {
	Simulation string         `json:"simulation"`
	StartTime  string         `json:"startTime,omitempty"`
	Verdict    ledger.Outcome `json:"verdict"`
}

// Change is how one metric changed.
type Change struct {
	// Key names the metric on the command line, Name for people.
	Key  string `json:"key"`
	Name string `json:"name"`
	// Before and After are the values of the whole runs: seconds, shares or counts. Nil means not measured.
	Before *float64 `json:"before"`
	After  *float64 `json:"after"`
	// Relative is the change relative to Before. It is nil if Before is 0 or a value is missing.
	Relative *float64 `json:"relative,omitempty"`
	// Threshold is the relative change that is tolerated. It is nil for counts, of which no increase is tolerated.
	Threshold *float64 `json:"threshold,omitempty"`
	// P is the probability of such different windows if both runs behaved the same. Windows are the numbers of
	// windows or, for the recovery from a fault, of recoveries. P is nil if it did not matter.
	P       *float64      `json:"p,omitempty"`
	Windows [2]int        `json:"windows,omitzero"`
	Outcome ChangeOutcome `json:"outcome"`

	text    func(float64) string
	samples string // what Windows counts
}

// ChangeOutcome classifies a change.
type ChangeOutcome string

// The outcomes of a change.
const (
	// Unchanged: the change is within the threshold.
	Unchanged ChangeOutcome = "unchanged"
	// Noise: the change exceeds the threshold, but the windows of both runs overlap too much to call it a change.
	Noise ChangeOutcome = "noise"
	// Undecided: the change exceeds the threshold, but there are too few windows to distinguish it from noise.
	Undecided  ChangeOutcome = "undecided"
	Regression ChangeOutcome = "regression"
	Improved   ChangeOutcome = "improved"
)

// Differs is a check or a setting that differs between the runs.
type Differs struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// metric is what is compared.
type metric struct {
	key, name string
	// total returns the value of a whole run. It reports false if the value was not measured.
	total func(*Document) (float64, bool)
	// thresholdKey is key, unless several metrics share a threshold.
	thresholdKey string
	// window returns the value of one window of the timeline. It is nil for a metric that is not measured in windows.
	window func(*timeline.Row) (float64, bool)
	// recoveries returns the single values of the metric. It is set for the recovery from a fault only.
	recoveries func(*Document) []float64
	// threshold is the relative change that is tolerated, floor the absolute one.
	threshold, floor float64
	higherIsBetter   bool
	text             func(float64) string
}

const (
	percent = 0.01
	// The tolerated changes. Medians and shares vary less than tails.
	medianThreshold   = 15 * percent
	tailThreshold     = 25 * percent
	shareThreshold    = 2 * percent
	lagThreshold      = 50 * percent
	recoveryThreshold = 50 * percent
	// latencyFloor and lagFloor are changes in seconds that matter to no one. recoveryFloor is a change in seconds that
	// one row of the timeline and the pods of another run explain.
	latencyFloor  = 100e-6
	lagFloor      = 0.1
	recoveryFloor = 5
)

// metrics lists what is compared.
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

// ThresholdKeys lists the metrics whose threshold Compare accepts.
func ThresholdKeys() []string {
	var keys []string
	for _, m := range metrics() {
		if m.window != nil {
			keys = append(keys, m.key)
		}
	}
	return append(keys, recoveryKey)
}

// Compare returns what changed from one run to another. Thresholds replaces default thresholds: the relative change
// that is tolerated, by the key of a metric.
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

// compare returns how the metric changed.
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
			c.Outcome = Regression // what is no longer measured may be as bad as can be
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
	// window is the usual length of a window in seconds. Shorter runs have shorter windows, so that there are about
	// minWindows of them.
	window     = 10
	minWindows = 10
	// alpha is the probability of calling noise a change. fewestWindows is the number of windows in each run that the
	// test needs to reach it.
	alpha         = 0.01
	fewestWindows = 5
	// maxGapRows bounds the rows that fill gaps.
	maxGapRows = 10_000
)

// isCount reports whether the metric is a count, which has no noise and no threshold.
func (m *metric) isCount() bool { return m.window == nil && m.recoveries == nil }

// significance compares the samples of both runs by a Mann–Whitney U test. It returns the direction if their difference
// is unlikely to be noise. Most runs have a few recoveries from a fault: then the threshold alone decides.
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
	// The windows must have moved in the direction of the whole: one bad window may move the whole alone.
	difference := median(samples[1].Values) - median(samples[0].Values)
	moved := difference != 0 && difference < 0 == (*c.After < *c.Before)
	if test.P >= alpha || !moved {
		return Noise
	}
	return direction
}

// median returns the middle of sorted values.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// windowOf returns the length of a window for a run, in seconds.
func windowOf(d *Document) int64 {
	return min(max(int64(d.ElapsedSeconds)/minWindows, 1), window)
}

// windows returns the values of the windows of a run that lie inside its schedule.
func (m *metric) windows(d *Document, width int64) []float64 {
	if len(d.Timeline) == 0 {
		return nil
	}
	// Aligned to the first row, so that no window but the last one is shorter.
	first := d.Timeline[0].Second
	rows := slices.Clone(d.Timeline)
	for i := range rows {
		rows[i].Second -= first
	}
	var values []float64
	// Gaps of absurd length get fewer rows.
	filled := fillGaps(rows, max(width, rows[len(rows)-1].Second/maxGapRows))
	for _, row := range timeline.Merge(width, filled...) {
		if row.Second > 0 && float64(row.Second+width) > d.ElapsedSeconds {
			continue // it holds the end of the schedule
		}
		if v, ok := m.window(&row); ok {
			values = append(values, v)
		}
	}
	return values
}

// changedChecks returns the checks whose outcome differs.
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

// changedSettings returns the values of the environment and the manifest that differ, by their path.
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

// settings returns the values of the environment and the manifest by their path.
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

// RelativeText formats the relative change.
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

// NoiseText says how the change was distinguished from noise.
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

// Headline sums the comparison up.
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

// JSON returns the comparison in JSON.
func (c *Comparison) JSON() ([]byte, error) { return encode(c, "  ") }

// Markdown returns the comparison in GitHub Flavored Markdown.
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

// HTML returns the comparison as one self-contained page, whose charts show both runs.
func (c *Comparison) HTML() ([]byte, error) {
	p := newPage(c.runs[1], "Comparison: "+c.After.Simulation)
	p.Comparison, p.Charts = c, c.charts()
	return p.render("comparison")
}

// charts returns the charts of both runs.
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
